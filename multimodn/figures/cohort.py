"""Who is in a cohort: the patterns in which modalities occur, and the outcomes of each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.errors import DataError
from multimodn.figures.axes import label_point, name_rows, new_figure, style_axes
from multimodn.figures.picture import Picture
from multimodn.figures.theme import Theme
from multimodn.figures.wording import not_shown, shorten
from multimodn.findings.names import pattern_words
from multimodn.findings.numbers import counted, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PATTERNS = 16  # that are drawn one by one; the others are counted beside them
MOST_MODALITIES, MOST_TASKS = 40, 30
MOST_OUTCOMES = 8  # of a task, with a segment each; the rarest beyond them are one
ROW, BARS = 0.2, 1.35  # inches: of a modality, and of the bars above
LEAST_LABELLED = 0.012  # of a bar, for each letter of a label in it


@dataclass(frozen=True)
class UpSet:
    """Columns of an UpSet plot: presence patterns by frequency."""

    names: Sequence[str]  # modalities from top to bottom
    has: NDArray[np.bool_]  # whether each pattern holds each modality ``(patterns, modalities)``
    counts: NDArray[np.int64]  # patients of each pattern, by outcome where bars are divided, ``(patterns, outcomes)``
    n_others: int  # patterns that are not drawn one by one
    n_other_patients: int


def draw_upset(bars: Axes, dots: Axes, upset: UpSet, theme: Theme, colours: Sequence[str]) -> None:
    """Draws bars of patients over the modalities of each pattern; other patterns are only counted.

    ``colours``: of each outcome in a bar, from bottom to top. Lex et al. (2014), UpSet: visualization of intersecting
    sets, https://doi.org/10.1109/TVCG.2014.2346248
    """
    n_rows, n_columns = len(upset.names), len(upset.counts) + (upset.n_others > 0)
    columns, tops = np.arange(len(upset.counts)), upset.counts.cumsum(axis=1)
    style_axes(bars, theme, grid="y")
    for top, part, colour in zip(tops.T, upset.counts.T, colours, strict=True):
        bars.bar(columns, part, 0.62, bottom=top - part, color=colour)
    for column, count in zip(columns, tops[:, -1], strict=True):
        bars.annotate(f"{count:,}", (column, count), (0, 2), textcoords="offset points", ha="center", size=7.5)
    bars.locator_params(axis="y", nbins=4, integer=True)
    bars.set_ylim(0, 1.14 * tops[:, -1].max())
    bars.set_ylabel("patients")
    bars.tick_params(axis="y", labelsize=8, labelcolor=theme.faint)
    style_axes(dots, theme, grid="")
    for k in range(0, n_rows, 2):
        dots.axhspan(k - 0.5, k + 0.5, color=theme.grid, alpha=0.45, lw=0)
    dots.plot(*np.nonzero(~upset.has), "o", ms=5, mfc=theme.paper, mec=theme.band, mew=1.0)
    dots.plot(*np.nonzero(upset.has), "o", ms=6, mfc=theme.low, mec=theme.low, mew=1.0)
    for column, has in zip(columns, upset.has, strict=True):
        if has.any():
            dots.plot([column, column], np.flatnonzero(has)[[0, -1]], "-", color=theme.low, lw=1.4, zorder=1)
    for axes in (bars, dots):
        axes.set_xlim(-0.6, max(n_columns, 4) - 0.4)
        axes.set_xticks([])
    dots.set_ylim(n_rows - 0.4, -0.6)
    dots.set_yticks([])
    if upset.n_others:
        dots.set_xticks([n_columns - 1], [f"{upset.n_others:,} others\nn = {upset.n_other_patients:,}"])


def patterns_chart(presence: pd.DataFrame, *, most: int = MOST_PATTERNS) -> Picture:
    """Draws which modalities occur together, and in how many patients: an UpSet plot of patients x modalities."""
    if presence.empty:
        raise DataError("Nothing to draw: there are no patients, or no modalities. Give patients x modalities.")
    matrix, n = presence.to_numpy(dtype=bool), len(presence)
    shown = np.sort(np.argsort(matrix.sum(0), kind="stable")[:MOST_MODALITIES])  # rare ones make the patterns
    names, sizes = [str(name) for name in presence.columns[shown]], matrix[:, shown].sum(0)
    distinct, counts = np.unique(matrix, axis=0, return_counts=True)
    order = np.lexsort((distinct.sum(1), counts))[::-1]
    kept = order if len(order) <= most + 1 else order[:most]
    n_others, n_other_patients = len(order) - len(kept), int(n - counts[kept].sum())
    upset = UpSet(names, distinct[kept][:, shown], counts[kept][:, None], n_others, n_other_patients)
    n_complete, rarest = int(matrix.all(axis=1).sum()), int(np.argmin(sizes))
    return Picture(
        "patterns",
        "Presence of modalities",
        f"n = {counted(n, 'patient')}. Each column is a pattern: filled dot, modality present; ring, absent; bar, "
        "number of patients. Left: patients with each modality; counts, no "
        f"interval.{not_shown(n_others, 'rarer pattern', f'(n = {n_other_patients:,})')}"
        f"{not_shown(presence.shape[1] - len(shown), 'modality', 'present in most patients')}",
        f"{n_complete:,} of {counted(n, 'patient')} ({percent(n_complete / n)}) have all {presence.shape[1]} "
        f"modalities. Fewest have {names[rarest]}: {sizes[rarest]:,}.",
        lambda theme: _draw_patterns(upset, sizes, n, theme),
        _pattern_table(upset, n),
    )


def _pattern_table(upset: UpSet, n_patients: int) -> pd.DataFrame:
    names = [[name for name, one in zip(upset.names, row, strict=True) if one] for row in upset.has]
    words = [pattern_words(one, upset.names) for one in names]
    rows: list[tuple[str, int | None, int]] = list(zip(words, map(len, names), upset.counts[:, 0], strict=True))
    if upset.n_others:
        rows.append((f"{upset.n_others} other patterns", None, upset.n_other_patients))
    table = pd.DataFrame(rows, columns=["pattern", "modalities", "patients"])
    return table.assign(modalities=table["modalities"].astype("Int64"), share=table["patients"] / n_patients)


def _draw_patterns(upset: UpSet, sizes: NDArray[np.int64], n_patients: int, theme: Theme) -> Figure:
    n_columns, letters = len(upset.counts) + (upset.n_others > 0), max(len(shorten(name)) for name in upset.names)
    heights, widths = (BARS, ROW * len(upset.names)), (0.8 + 0.06 * letters, max(2.0, min(0.34 * n_columns, 4.8)))
    figure = new_figure(sum(heights) + 0.45)
    grid = figure.subplots(2, 2, squeeze=False, width_ratios=widths, height_ratios=heights)
    grid[0, 0].set_axis_off()
    draw_upset(grid[0, 1], grid[1, 1], upset, theme, [theme.low])
    axes = grid[1, 0]
    style_axes(axes, theme, grid="")
    axes.barh(np.arange(len(sizes)), sizes, height=0.62, color=theme.band)
    for row, size in enumerate(sizes.tolist()):
        label_point(axes, f"{size:,}", (size, row), -3, size=7.5)
    axes.set_xlim(1.22 * n_patients, 0)
    axes.yaxis.tick_right()
    name_rows(axes, upset.names)
    axes.set_xticks([0, n_patients], ["0", f"{n_patients:,}"])
    axes.set_xlabel("patients with the modality")
    return figure


def outcomes_chart(outcomes: pd.DataFrame) -> Picture:
    """Draws how frequent outcomes are: ``task``, ``outcome`` (in order; empty = unknown) and their ``patients``."""
    if outcomes.empty:
        raise DataError("Nothing to draw: no task has outcomes. Give patients with labels.")
    tasks = list(dict.fromkeys(outcomes["task"].astype(str)))
    parts = {task: _merge_rare(outcomes[outcomes["task"].astype(str) == task]) for task in tasks[:MOST_TASKS]}
    n = int(outcomes.groupby("task", sort=False)["patients"].sum().max())
    labelled = {task: int(part.loc[part["outcome"] != "", "patients"].sum()) for task, part in parts.items()}
    fewest = min(labelled, key=lambda task: labelled[task])
    return Picture(
        "outcomes",
        "Outcomes of each task",
        f"n = {counted(n, 'patient')}. Share of each outcome; right: number of labelled patients. Hatched: no label, "
        f"not used in training or scores of the task; counts, no interval.{not_shown(len(tasks) - len(parts), 'task')}",
        f"Outcomes of {counted(len(parts), 'task')} in {counted(n, 'patient')}. Fewest labels: {fewest}, "
        f"{labelled[fewest]:,}.",
        lambda theme: _draw_outcomes(parts, labelled, n, theme),
        outcomes.reset_index(drop=True),
    )


def _merge_rare(part: pd.DataFrame) -> pd.DataFrame:
    """Joins the rarest outcomes of a task, if it has many, and puts the unknown last."""
    unknown = part[part["outcome"].isna() | (part["outcome"] == "")]
    outcomes = part.drop(unknown.index)
    if len(outcomes) > MOST_OUTCOMES:
        keep = outcomes["patients"].nlargest(MOST_OUTCOMES - 1).index
        rare = outcomes.drop(keep)
        joined = pd.DataFrame({"outcome": [f"{len(rare)} others"], "patients": [int(rare["patients"].sum())]})
        outcomes = pd.concat([outcomes.loc[outcomes.index.isin(keep)], joined])
    return pd.concat([outcomes, unknown.assign(outcome="")])[["outcome", "patients"]].reset_index(drop=True)


def _draw_outcomes(parts: dict[str, pd.DataFrame], labelled: dict[str, int], n: int, theme: Theme) -> Figure:
    figure = new_figure(0.34 * len(parts) + 0.6)
    axes = figure.add_subplot()
    style_axes(axes, theme, grid="")
    for row, (task, part) in enumerate(parts.items()):
        left = 0
        for k, (outcome, patients) in enumerate(zip(part["outcome"], part["patients"], strict=True)):
            _segment(axes, theme, row, left / n, patients / n, str(outcome), k)
            left += patients
        axes.annotate(f"{labelled[task]:,}", (1.01, row), va="center", size=8, color=theme.faint, annotation_clip=False)
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
