"""A cohort's contributions: every patient a point, and how much each modality moves predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.figures.axes import MOST_ROWS, Floats, axis_limits, name_rows, new_figure, style_axes
from multimodn.figures.forest import Panel, draw_panels, draw_rows
from multimodn.figures.picture import Picture
from multimodn.figures.selection import OutputRows, pick_name, require_columns, rows_of_patient, select_output
from multimodn.figures.theme import Theme
from multimodn.figures.wording import digits_for, not_shown, shorten, slug, spanned
from multimodn.findings.numbers import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_POINTS = 300
MOST_PANELS = 12
BINS = 120
CONTRIBUTIONS = ("task", "output", "modality", "contribution")
SUMMARY = ("task", "output", "group", "modality", "n", "mean_abs", "mean_abs_low", "mean_abs_high")


@dataclass(frozen=True)
class _Swarm:
    """Points by row, the modality that moves predictions most on top."""

    chosen: OutputRows
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
    summary: pd.DataFrame,
    patient: object | None = None,
    most: int = MOST_ROWS,
    seed: int = 0,
) -> Picture:
    """Draws the contributions of a cohort: a row for each modality, a point for each patient who has it.

    ``summary`` is that of `summarise`, without groups; ``patient`` is marked; ``seed``: of which 300 points are drawn.
    Default: the first task and output; of an ordinal task, the middle output.
    """
    require_columns(contributions, CONTRIBUTIONS, "contributions")
    chosen = select_output(contributions, task, output)
    require_columns(summary, SUMMARY, "a summary of contributions")
    of_output = select_output(summary, chosen.task, chosen.output).rows
    of_output = of_output.sort_values("mean_abs", ascending=False, kind="stable")
    shown = of_output.head(most)
    rng = np.random.default_rng(seed)
    values = dict(list(chosen.rows.groupby(chosen.rows["modality"].astype(str))["contribution"]))
    points = [_sample(values[name].dropna().to_numpy(dtype=np.float64), rng) for name in shown["modality"].astype(str)]
    every = np.concatenate(points)
    heights = [_heights(each, every, rng) for each in points]
    marked = None
    if patient is not None:
        marked = rows_of_patient(chosen.rows, patient).set_index("modality")["contribution"].astype(float)
    n_patients = chosen.rows.index.nunique()
    largest = [f"{row.modality} {row.mean_abs:.2g}" for row in shown.head(4).itertuples()]
    swarm = _Swarm(chosen, shown, points, heights, marked, str(patient), n_patients, len(of_output) - len(shown))
    return Picture(
        slug("beeswarm", chosen.task, chosen.output, patient),
        f"{chosen.named(40)}: contributions of each modality",
        _caption(swarm),
        f"Contributions to {chosen.quantity} in {counted(n_patients, 'patient')}. Mean absolute contribution: "
        f"{', '.join(largest)}.",
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
    figure = new_figure((0.4 if n_rows <= 10 else 0.32) * n_rows + 0.85)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3.2, 1])
    names = [str(name) for name in swarm.summary["modality"]]
    style_axes(left, theme)
    left.axvline(0, color=theme.faint, lw=1.0, zorder=1)
    for k, (values, heights) in enumerate(zip(swarm.points, swarm.heights, strict=True)):
        for sign, colour in ((values > 0, theme.high), (values <= 0, theme.low)):
            left.plot(values[sign], k + 0.38 * heights[sign], ".", ms=4.8, mew=0, color=colour, alpha=0.5, zorder=2)
    if swarm.marked is not None:
        marked = swarm.marked.reindex(names).to_numpy()
        left.plot(marked, np.arange(n_rows), "D", ms=6.5, mew=1.3, mec=theme.ink, mfc=theme.paper, zorder=4)
    left.set_xlim(axis_limits(np.append(np.concatenate(swarm.points), 0.0), least=0.05))
    left.locator_params(axis="x", nbins=6)
    left.set_xlabel(f"◀ decrease     contribution ({swarm.chosen.scale or 'link scale'})     increase ▶")
    digits = digits_for(swarm.summary["mean_abs"].to_numpy(dtype=np.float64))
    notes = {n: _size(size, digits) for n, size in zip(names, swarm.summary["mean_abs"].tolist(), strict=True)}
    panel = Panel("", "mean |contribution|", _mean_points(swarm.summary).assign(mark=""), notes=notes)
    draw_rows(right, theme, panel, names, is_stem=True)
    right.set_xlabel(panel.axis)
    right.locator_params(axis="x", nbins=2)
    name_rows(left, names)
    return figure


def _mean_points(summary: pd.DataFrame) -> pd.DataFrame:
    names = {"group": "mark", "mean_abs": "value", "mean_abs_low": "low", "mean_abs_high": "high"}
    points = pd.DataFrame(summary[[*names]]).rename(columns=names)
    return points.assign(row=summary["modality"].astype(str))


def _size(value: float, digits: int) -> str:
    is_tiny = 0 < value < 0.5 * 10.0**-digits
    return f"<{10.0**-digits:.{digits}f}" if is_tiny else f"{value:.{digits}f}"


def _caption(swarm: _Swarm) -> str:
    sizes = swarm.summary["n"].astype(int)
    text = (
        f"n = {counted(swarm.n_patients, 'patient')}, {spanned(sizes)} with each modality. Left: contribution in each "
        "patient who has the modality"
    )
    text += f" (at most {MOST_POINTS} points, drawn at random)" if sizes.max() > MOST_POINTS else ""
    text += f"; diamonds: patient {shorten(swarm.patient, 40)}" if swarm.marked is not None else ""
    text += ". Right: mean absolute contribution with 95% interval (bootstrap over patients)."
    return text + not_shown(swarm.n_left_out, "modality", "with smaller contributions")


def importance(
    summary: pd.DataFrame,
    task: str | None = None,
    output: str | None = None,
    *,
    groups: Sequence[str] | None = None,
    most: int = MOST_ROWS,
) -> Picture:
    """Draws how much each modality moves predictions: mean |contribution|, a panel for each task and output.

    ``summary`` is the frame of `summarise`; its groups, such as classes or sites, are drawn beside each other. Default:
    all tasks, outputs and groups.
    """
    require_columns(summary, SUMMARY, "a summary of contributions")
    rows = summary.assign(**{name: summary[name].astype(str) for name in ("task", "output", "group", "modality")})
    for column, wanted in (("task", task), ("output", output)):
        if wanted is not None:
            rows = rows[rows[column] == pick_name(rows[column], wanted, column)]
    marks = [pick_name(rows["group"], name, "group") for name in groups or dict.fromkeys(rows["group"])]
    rows = rows[rows["group"].isin(marks)]
    sizes = rows.groupby("modality", sort=False)["mean_abs"].mean().sort_values(ascending=False, kind="stable")
    names = sizes.index.tolist()
    parts = list(rows.groupby(["task", "output"], sort=False))
    panels = []
    for (name, each), part in parts[:MOST_PANELS]:
        chosen = select_output(summary, str(name), str(each))
        scale = chosen.scale.replace("units", "") or chosen.task
        points = _mean_points(part)
        lines = (chosen.task, chosen.output) if chosen.output != chosen.task else None
        panels.append(Panel(chosen.quantity, "mean |contribution|", points, title_lines=lines, scale=scale))
    return Picture(
        slug("importance", task, output, *(groups or [])),
        "Mean contribution of each modality" + (f": {shorten(task, 40)}" if task else ""),
        f"Mean absolute contribution on the link scale, in patients who have the modality (n = {spanned(rows['n'])}), "
        "with 95% intervals (bootstrap over patients): how far a modality moves predictions, not whether they are "
        f"right.{not_shown(len(names) - most, 'modality', 'with smaller contributions')}"
        f"{not_shown(len(parts) - len(panels), 'output')}",
        "Mean absolute contribution, largest first: " + ", ".join(f"{n} {sizes[n]:.2g}" for n in names[:4]) + ".",
        lambda theme: draw_panels(theme, panels, names[:most], marks, is_stem=len(marks) == 1),
        rows,
    )
