"""Who is in a cohort: the patterns in which modalities occur, and the outcomes of each task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.errors import DataError
from multimodn.figures.picture import Picture
from multimodn.figures.shared import WIDTH, calm, name_rows, new_figure, shorten
from multimodn.figures.theme import Theme
from multimodn.findings.names import pattern_words
from multimodn.findings.numbers import counted, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PATTERNS = 16
"""Patterns that are drawn one by one; the others are one bar."""
MOST_MODALITIES = 40
MOST_TASKS = 30
MOST_OUTCOMES = 8
"""Outcomes of a task that are told apart; the rarest beyond them are one."""
ROW, BARS = 0.2, 1.35  # inches: of a modality, and of the bars above
LEAST_LABELLED = 0.012  # of a bar, for each letter of a label in it


@dataclass(frozen=True)
class _Patterns:
    """Columns of the figure: patterns by frequency, and at last what is left of them.

    Attributes:
        names: Modalities from top to bottom.
        sizes: Patients who have each.
        has: ``(patterns, modalities)``.
        counts: Patients of each pattern.
        n_patients: All of them.
        n_others: Patterns that are not drawn one by one.
        others: Patients of these.
        n_names_out: Modalities that are not drawn.
    """

    names: list[str]
    sizes: NDArray[np.int64]
    has: NDArray[np.bool_]
    counts: NDArray[np.int64]
    n_patients: int
    n_others: int
    others: int
    n_names_out: int


def patterns_chart(presence: pd.DataFrame, *, most: int = MOST_PATTERNS) -> Picture:
    """Draws which modalities occur together, and in how many patients: an UpSet plot.

    Args:
        presence: Bool, patients x modalities.
        most: Patterns that are drawn one by one.

    Raises:
        DataError: If there are no patients or no modalities.

    References:
        Lex et al. (2014), UpSet: visualization of intersecting sets, https://doi.org/10.1109/TVCG.2014.2346248
    """
    if presence.empty:
        raise DataError("Nothing to draw: there are no patients, or no modalities. Give patients x modalities.")
    found = _patterns(presence, most)
    complete = int(presence.all(axis=1).sum())
    rarest = int(np.argmin(found.sizes))
    rest = (
        f" The hatched bar joins {counted(found.n_others, 'rarer pattern')}, {counted(found.others, 'patient')}."
        if found.n_others
        else ""
    )
    left_out = (
        f" {counted(found.n_names_out, 'modality')} that most patients have not drawn." if found.n_names_out else ""
    )
    return Picture(
        "patterns",
        "Which modalities patients have",
        f"n = {counted(found.n_patients, 'patient')}. Each column is a pattern: a filled dot is a modality that its "
        f"patients have, a ring one that they lack; the bar above counts them. Bars at the left count who has a "
        f"modality at all.{rest}{left_out} These are counts; there is no interval.",
        f"{complete:,} of {counted(found.n_patients, 'patient')} ({percent(complete / found.n_patients)}) have all "
        f"{presence.shape[1]} modalities. Fewest have {found.names[rarest]}: {found.sizes[rarest]:,}.",
        lambda theme: _draw_patterns(found, theme),
        _pattern_table(found),
    )


def _patterns(presence: pd.DataFrame, most: int) -> _Patterns:
    matrix = presence.to_numpy(dtype=bool)
    shown = np.sort(np.argsort(matrix.sum(0), kind="stable")[:MOST_MODALITIES])  # rare ones make the patterns
    distinct, counts = np.unique(matrix, axis=0, return_counts=True)
    order = np.lexsort((distinct.sum(1), counts))[::-1]
    one_by_one = order if len(order) <= most + 1 else order[:most]
    return _Patterns(
        [str(name) for name in presence.columns[shown]],
        matrix[:, shown].sum(0),
        distinct[one_by_one][:, shown],
        counts[one_by_one],
        len(presence),
        len(order) - len(one_by_one),
        int(len(presence) - counts[one_by_one].sum()),
        presence.shape[1] - len(shown),
    )


def _pattern_table(found: _Patterns) -> pd.DataFrame:
    names = [pattern_words([name for name, one in zip(found.names, row, strict=True) if one], found.names)
             for row in found.has]  # fmt: skip
    rows: list[tuple[str, int | None, int]] = list(zip(names, found.has.sum(1), found.counts, strict=True))
    if found.n_others:
        rows.append((f"{found.n_others} other patterns", None, found.others))
    table = pd.DataFrame(rows, columns=["pattern", "modalities", "patients"])
    return table.assign(modalities=table["modalities"].astype("Int64"), share=table["patients"] / found.n_patients)


def _draw_patterns(found: _Patterns, theme: Theme) -> Figure:
    n_rows, n_columns = len(found.names), len(found.counts) + (found.n_others > 0)
    figure = new_figure(BARS + ROW * n_rows + 0.45, WIDTH)
    letters = max(len(shorten(name)) for name in found.names)
    grid = figure.subplots(
        2, 2, squeeze=False, width_ratios=(0.8 + 0.06 * letters, max(2.0, min(0.34 * n_columns, 4.8))),
        height_ratios=(BARS, ROW * n_rows),
    )  # fmt: skip
    grid[0, 0].set_axis_off()
    _draw_sizes(grid[1, 0], found, theme)
    _draw_counts(grid[0, 1], found, theme, n_columns)
    _draw_dots(grid[1, 1], found, theme, n_columns)
    return figure


def _draw_sizes(axes: Axes, found: _Patterns, theme: Theme) -> None:
    calm(axes, theme, grid="")
    rows = np.arange(len(found.names))
    axes.barh(rows, found.sizes, height=0.62, color=theme.band)
    for row, size in zip(rows, found.sizes, strict=True):
        axes.annotate(f"{size:,}", (size, row), (-3, 0), textcoords="offset points", ha="right", va="center", size=7.5)
    axes.set_xlim(1.22 * found.n_patients, 0)
    axes.yaxis.tick_right()
    name_rows(axes, found.names)
    axes.set_xticks([0, found.n_patients], ["0", f"{found.n_patients:,}"])
    axes.set_xlabel("patients who have it")


def _draw_counts(axes: Axes, found: _Patterns, theme: Theme, n_columns: int) -> None:
    calm(axes, theme, grid="y")
    axes.bar(np.arange(len(found.counts)), found.counts, width=0.62, color=theme.low)
    every = [*found.counts]
    if found.n_others:
        every.append(found.others)
        axes.bar(n_columns - 1, found.others, width=0.62, color=theme.band, hatch="////", edgecolor=theme.faint, lw=0)
    for column, count in enumerate(every):
        axes.annotate(f"{count:,}", (column, count), (0, 2), textcoords="offset points", ha="center", size=7.5)
    axes.set_xlim(-0.6, max(n_columns, 4) - 0.4)
    axes.set_xticks([])
    axes.locator_params(axis="y", nbins=4, integer=True)
    axes.set_ylim(0, 1.14 * max(every))
    axes.set_ylabel("patients")
    axes.tick_params(axis="y", labelsize=8, labelcolor=theme.faint)


def _draw_dots(axes: Axes, found: _Patterns, theme: Theme, n_columns: int) -> None:
    calm(axes, theme, grid="")
    for row in range(0, len(found.names), 2):
        axes.axhspan(row - 0.5, row + 0.5, color=theme.grid, alpha=0.45, lw=0)
    columns, rows = np.nonzero(~found.has)
    axes.plot(columns, rows, "o", ms=5, mfc=theme.paper, mec=theme.band, mew=1.0)
    columns, rows = np.nonzero(found.has)
    axes.plot(columns, rows, "o", ms=6, mfc=theme.low, mec=theme.low, mew=1.0)
    for column, has in enumerate(found.has):
        if has.any():
            ends = np.flatnonzero(has)[[0, -1]]
            axes.plot([column, column], ends, "-", color=theme.low, lw=1.4, zorder=1)
    axes.set_xlim(-0.6, max(n_columns, 4) - 0.4)
    axes.set_ylim(len(found.names) - 0.4, -0.6)
    axes.set_yticks([])
    axes.set_xticks([n_columns - 1] if found.n_others else [], [f"{found.n_others}\nothers"] if found.n_others else [])


def outcomes_chart(outcomes: pd.DataFrame) -> Picture:
    """Draws how frequent the outcomes of each task are.

    Args:
        outcomes: ``task``, ``outcome`` (in order; empty = unknown) and ``patients``, their number.

    Raises:
        DataError: If there are no rows.
    """
    if outcomes.empty:
        raise DataError("Nothing to draw: no task has outcomes. Give patients with labels.")
    tasks = list(dict.fromkeys(outcomes["task"].astype(str)))
    parts = {task: _merged(outcomes[outcomes["task"].astype(str) == task]) for task in tasks[:MOST_TASKS]}
    n = int(outcomes.groupby("task", sort=False)["patients"].sum().max())
    known = {task: int(part.loc[part["outcome"] != "", "patients"].sum()) for task, part in parts.items()}
    left_out = f" {counted(len(tasks) - len(parts), 'task')} more not drawn." if len(tasks) > len(parts) else ""
    fewest = min(known, key=lambda task: known[task])
    return Picture(
        "outcomes",
        "Outcomes of each task",
        f"n = {counted(n, 'patient')}. A bar for each task, shared out by what is known of its patients; at the "
        f"right, how many are labelled. Hatched: no label, so that the patient counts neither in training nor in "
        f"scores of this task. These are counts; there is no interval.{left_out}",
        f"Outcomes of {counted(len(parts), 'task')} in {counted(n, 'patient')}. Fewest labels: {fewest}, "
        f"{known[fewest]:,}.",
        lambda theme: _draw_outcomes(parts, known, n, theme),
        outcomes.reset_index(drop=True),
    )


def _merged(part: pd.DataFrame) -> pd.DataFrame:
    """Joins the rarest outcomes of a task, if it has many, and puts the unknown last."""
    unknown = part[part["outcome"].isna() | (part["outcome"] == "")]
    known = part.drop(unknown.index)
    if len(known) > MOST_OUTCOMES:
        keep = known["patients"].nlargest(MOST_OUTCOMES - 1).index
        rare = known.drop(keep)
        joined = pd.DataFrame({"outcome": [f"{len(rare)} others"], "patients": [int(rare["patients"].sum())]})
        known = pd.concat([known.loc[known.index.isin(keep)], joined])
    return pd.concat([known, unknown.assign(outcome="")])[["outcome", "patients"]].reset_index(drop=True)


def _draw_outcomes(parts: dict[str, pd.DataFrame], known: dict[str, int], n: int, theme: Theme) -> Figure:
    figure = new_figure(0.34 * len(parts) + 0.6)
    axes = figure.add_subplot()
    calm(axes, theme, grid="")
    for row, (task, part) in enumerate(parts.items()):
        left = 0
        for k, (outcome, patients) in enumerate(zip(part["outcome"], part["patients"], strict=True)):
            _segment(axes, theme, row, left / n, patients / n, str(outcome), k)
            left += patients
        axes.annotate(f"{known[task]:,}", (1.01, row), va="center", size=8, color=theme.faint, annotation_clip=False)
    name_rows(axes, list(parts))
    axes.set_xlim(0, 1.06)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    axes.set_xlabel(f"share of {counted(n, 'patient')}")
    return figure


def _segment(axes: Axes, theme: Theme, row: int, left: float, width: float, outcome: str, k: int) -> None:
    if not outcome:
        axes.barh(row, width, left=left, height=0.66, color=theme.paper, hatch="////", edgecolor=theme.band, lw=0)
        return
    share = (0.15, 0.45, 0.75, 0.3, 0.95, 0.6, 0.0, 0.5)[k % MOST_OUTCOMES]
    fill, ink = theme.amount(share)
    axes.barh(row, width, left=left, height=0.66, color=fill, edgecolor=theme.paper, lw=1.2)
    room = int(width / LEAST_LABELLED)
    text = shorten(outcome, max(room, 4))
    if len(text) <= room:
        axes.text(left + width / 2, row, text, ha="center", va="center", size=7.5, color=ink)
