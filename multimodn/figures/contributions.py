"""A cohort's contributions: every patient a point, and how much each modality moves predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.figures.panels import Panel, draw_panels
from multimodn.figures.picture import Picture
from multimodn.figures.shared import (
    MOST_ROWS,
    Chosen,
    Floats,
    calm,
    check,
    choose,
    digits_for,
    limits,
    name_rows,
    new_figure,
    of_patient,
    pick,
    shorten,
    slug,
    spanned,
)
from multimodn.figures.theme import Theme
from multimodn.findings.numbers import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 300
MOST_PANELS = 12
BINS = 120
CONTRIBUTIONS = ("task", "output", "modality", "contribution")
SUMMARY = ("task", "output", "group", "modality", "n", "mean_abs", "mean_abs_low", "mean_abs_high")


@dataclass(frozen=True)
class _Swarm:
    """Points by row, the modality that moves predictions most on top."""

    chosen: Chosen
    summary: pd.DataFrame
    points: list[Floats]
    heights: list[Floats]
    marked: pd.Series[float] | None
    patient: str
    n_patients: int
    n_left_out: int


def beeswarm(
    contributions: pd.DataFrame,
    task: str | None = None,
    output: str | None = None,
    *,
    summary: pd.DataFrame | None = None,
    patient: object | None = None,
    most: int = MOST_ROWS,
    seed: int = 0,
) -> Picture:
    """Draws the contributions of a cohort: a row for each modality, a point for each patient who has it.

    Args:
        contributions: The frame of `MultiModN.contributions`.
        task: Default: the first.
        output: Default: the first; of an ordinal task, the middle one.
        summary: The frame of `summarise`, without groups; default: computed here.
        patient: One to be marked.
        most: Modalities that are drawn.
        seed: Seed of which 300 points are drawn where there are more.

    Raises:
        StudyError: If task or output is unknown.
        DataError: If there is nothing to draw, or the patient has no rows.
    """
    check(contributions, CONTRIBUTIONS, "contributions")
    chosen = choose(contributions, task, output)
    if summary is None:
        from multimodn.explain.summary import summarise

        summary = summarise(chosen.rows[[*CONTRIBUTIONS]])
    check(summary, SUMMARY, "a summary of contributions")
    of_output = choose(summary, chosen.task, chosen.output).rows.sort_values("mean_abs", ascending=False, kind="stable")
    shown = of_output.head(most)
    rng = np.random.default_rng(seed)
    values = dict(list(chosen.rows.groupby(chosen.rows["modality"].astype(str))["contribution"]))
    points = [_sample(values[name].dropna().to_numpy(dtype=np.float64), rng) for name in shown["modality"].astype(str)]
    every = np.concatenate(points)
    heights = [_heights(each, every, rng) for each in points]
    marked = None
    if patient is not None:
        marked = of_patient(chosen.rows, patient).set_index("modality")["contribution"].astype(float)
    n_patients = chosen.rows.index.nunique()
    swarm = _Swarm(chosen, shown, points, heights, marked, str(patient), n_patients, len(of_output) - len(shown))
    return Picture(
        slug("beeswarm", chosen.task, chosen.output, patient),
        f"{chosen.named(40)}: how each modality moves predictions",
        _caption(swarm),
        f"Contributions to {chosen.quantity} of {counted(n_patients, 'patient')}. By mean absolute contribution: "
        + ", ".join(f"{row.modality} {row.mean_abs:.2g}" for row in shown.head(4).itertuples())
        + ".",
        lambda theme: _draw(swarm, theme),
        of_output,
    )


def _sample(values: Floats, rng: np.random.Generator) -> Floats:
    return values if len(values) <= MOST_POINTS else rng.choice(values, MOST_POINTS, replace=False)


def _heights(values: Floats, every: Floats, rng: np.random.Generator) -> Floats:
    """Moves points of the same place apart, -1 to 1: the more there are, the further."""
    low, high = float(every.min()), float(every.max())
    bins = ((values - low) / max(high - low, 1e-12) * BINS).astype(int)
    rank = pd.Series(bins).groupby(bins).cumcount().to_numpy()
    offset = (rank + 1) // 2 * np.where(rank % 2, 1.0, -1.0)
    widest: float = np.abs(offset).max(initial=0.0)
    return np.asarray((offset + rng.uniform(-0.4, 0.4, len(offset))) / max(widest, 8.0), dtype=np.float64)


def _draw(swarm: _Swarm, theme: Theme) -> Figure:
    n_rows = len(swarm.points)
    row = 0.4 if n_rows <= 10 else 0.32
    figure = new_figure(row * n_rows + 0.85)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3.2, 1])
    for axes in (left, right):
        calm(axes, theme)
        axes.axvline(0, color=theme.faint, lw=1.0, zorder=1)
    for k, (values, heights) in enumerate(zip(swarm.points, swarm.heights, strict=True)):
        for is_high, colour in ((True, theme.high), (False, theme.low)):
            of_sign = (values > 0) == is_high
            left.plot(
                values[of_sign], k + 0.38 * heights[of_sign], ".", ms=4.8, mew=0, color=colour, alpha=0.5, zorder=2
            )
    if swarm.marked is not None:
        names = [str(name) for name in swarm.summary["modality"]]
        at = swarm.marked.reindex(names).to_numpy()
        left.plot(at, np.arange(n_rows), "D", ms=6.5, mew=1.3, mec=theme.ink, mfc=theme.paper, zorder=4)
    left.set_xlim(limits(np.append(np.concatenate(swarm.points), 0.0), least=0.05))
    left.locator_params(axis="x", nbins=6)
    left.set_xlabel(f"◀ lower     contribution, {swarm.chosen.scale or 'link scale'}     higher ▶")
    name_rows(left, [str(name) for name in swarm.summary["modality"]])
    _draw_means(right, swarm.summary, theme)
    return figure


def _draw_means(axes: Axes, summary: pd.DataFrame, theme: Theme) -> None:
    mean, low, high = (summary[f"mean_abs{end}"].to_numpy(dtype=np.float64) for end in ("", "_low", "_high"))
    rows = np.arange(len(mean))
    axes.hlines(rows, 0, mean, color=theme.faint, lw=1.0, alpha=0.5)
    axes.hlines(rows, low, high, color=theme.ink, lw=2.0, alpha=0.55)
    axes.plot(mean, rows, "o", ms=4.5, mew=0, color=theme.ink)
    axes.set_xlim(limits(np.append(np.concatenate([mean, high]), 0.0), 0.03, 0.42, 0.002))
    axes.set_xlabel("mean |contribution|")
    axes.locator_params(axis="x", nbins=2)
    digits = digits_for(mean)
    for k in rows.tolist():
        end = np.nanmax([mean[k], high[k]])
        axes.annotate(
            _size(mean[k], digits), (end, k), (5, 0), textcoords="offset points", va="center", size=8, color=theme.ink
        )


def _size(value: float, digits: int) -> str:
    is_tiny = 0 < value < 0.5 * 10.0**-digits
    return f"<{10.0**-digits:.{digits}f}" if is_tiny else f"{value:.{digits}f}"


def _caption(swarm: _Swarm) -> str:
    sizes = swarm.summary["n"].astype(int)
    text = (
        f"n = {counted(swarm.n_patients, 'patient')}, of whom {spanned(sizes)} have each modality. Left: a point is "
        f"the contribution of a modality for one patient who has it; right of the line it raises the prediction, left "
        f"of it it lowers it."
    )
    if sizes.max() > MOST_POINTS:
        text += f" At most {MOST_POINTS} points of a modality are drawn, chosen at random."
    if swarm.marked is not None:
        text += f" Diamonds: patient {shorten(swarm.patient, 40)}."
    text += " Right: mean absolute contribution, with its 95% interval over patients (bootstrap)."
    if swarm.n_left_out:
        text += f" {counted(swarm.n_left_out, 'modality')} with smaller contributions not drawn."
    return text


def importance(
    summary: pd.DataFrame,
    task: str | None = None,
    output: str | None = None,
    *,
    groups: Sequence[str] | None = None,
    most: int = MOST_ROWS,
) -> Picture:
    """Draws how much each modality moves predictions: mean |contribution|, a panel for each task and output.

    Args:
        summary: The frame of `summarise`; its groups, such as classes or sites, are drawn beside each other.
        task: Default: all tasks.
        output: Default: all outputs.
        groups: Default: all groups.
        most: Modalities that are drawn.

    Raises:
        StudyError: If task, output or a group is unknown.
        DataError: If there is nothing to draw.
    """
    check(summary, SUMMARY, "a summary of contributions")
    rows = summary.assign(**{name: summary[name].astype(str) for name in ("task", "output", "group", "modality")})
    for column, wanted in (("task", task), ("output", output)):
        if wanted is not None:
            rows = rows[rows[column] == pick(rows[column], wanted, column)]
    marks = [pick(rows["group"], name, "group") for name in groups or dict.fromkeys(rows["group"])]
    rows = rows[rows["group"].isin(marks)]
    sizes = rows.groupby("modality", sort=False)["mean_abs"].mean().sort_values(ascending=False, kind="stable")
    names = sizes.index.tolist()
    parts = list(rows.groupby(["task", "output"], sort=False))
    panels = []
    for (name, each), part in parts[:MOST_PANELS]:
        chosen = choose(summary, str(name), str(each))
        points = pd.DataFrame({"row": part["modality"], "mark": part["group"], "value": part["mean_abs"]})
        points = points.assign(low=part["mean_abs_low"], high=part["mean_abs_high"])
        panels.append(
            Panel(chosen.title, "mean |contribution|", points, chosen.scale.replace("units", "") or chosen.task)
        )
    n_left_out = max(len(names) - most, 0)
    return Picture(
        slug("importance", task, output, *(groups or [])),
        "How much each modality moves predictions" + (f": {shorten(task, 40)}" if task else ""),
        _importance_caption(rows, marks, n_left_out, len(parts) - len(panels)),
        "Mean absolute contribution, largest first: " + ", ".join(f"{n} {sizes[n]:.2g}" for n in names[:4]) + ".",
        lambda theme: draw_panels(theme, panels, names[:most], marks, is_stem=True),
        rows,
    )


def _importance_caption(rows: pd.DataFrame, marks: Sequence[str], n_rows_out: int, n_panels_out: int) -> str:
    text = (
        f"Mean absolute contribution among the patients who have a modality (n = {spanned(rows['n'])}), on the "
        f"link scale of each task, with 95% intervals over patients (bootstrap). It says how far a modality moves "
        f"predictions, not whether that is right. Modalities are sorted by the mean of all panels."
    )
    if len(marks) > 1:
        text += f" {counted(len(marks), 'group')} side by side."
    if n_rows_out:
        text += f" {counted(n_rows_out, 'modality')} with smaller contributions not drawn."
    if n_panels_out:
        text += f" {counted(n_panels_out, 'output')} more not drawn: name a task."
    return text
