"""One patient's prediction, from the prior by the contribution of each modality to what is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import expit

from multimodn.errors import StudyError, did_you_mean
from multimodn.figures.axes import MOST_ROWS, Floats, axis_limits, label_point, new_figure, style_axes
from multimodn.figures.picture import Picture
from multimodn.figures.selection import (
    OutputRows,
    only_patient,
    pick_name,
    require_columns,
    select_output,
    visible_modalities,
)
from multimodn.figures.theme import Theme
from multimodn.figures.wording import digits_for, shorten, slug
from multimodn.findings.names import lower_class
from multimodn.findings.numbers import counted, percent, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("task", "output", "modality", "contribution", "prior", "prediction")
MOST_ABSENT = 12
LEAST_SPAN = 0.6  # of the axis, on log-odds and log-risk: contributions that hardly matter shall not look large
PROBABILITIES = (  # ticks of an axis that is too long for every tenth, denser ones first
    (0.01, 0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 0.99),
    (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999),
    (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999),
    (0.001, 0.5, 0.999),
    (0.5,),
)
BAR, ROW, GREY_ROW = 0.58, 0.28, 0.75  # of a row, inches, rows


@dataclass(frozen=True)
class _Steps:
    """Bars from top to bottom; each starts where the one above it ends."""

    chosen: OutputRows
    patient: str
    names: list[str]
    sizes: Floats
    errors: Floats
    prior: float
    prediction: float
    absent: list[str]

    @property
    def starts(self) -> Floats:
        ends: Floats = self.prior + np.concatenate([[0.0], self.sizes]).cumsum()
        return ends[:-1]

    def table(self) -> pd.DataFrame:
        columns = {"start": self.starts, "contribution": self.sizes, "end": self.starts + self.sizes}
        table = pd.DataFrame({"modality": self.names} | columns)
        return pd.concat([table, pd.DataFrame({"modality": self.absent})], ignore_index=True)

    def value(self, link: float) -> str:
        """Writes a prediction: its probability where there is one, with decimals where both ends look alike."""
        if self.chosen.scale != "log-odds":
            return f"{link:.3g}"
        ends = {percent(float(expit(end))) for end in (self.prior, self.prediction)}
        return percent(float(expit(link)), 1 if len(ends) == 1 and self.prior != self.prediction else 0)


def waterfall(
    contributions: pd.DataFrame,
    task: str | None = None,
    output: str | None = None,
    *,
    patient: object | None = None,
    order: Sequence[str] | None = None,
    most: int = MOST_ROWS,
) -> Picture:
    """Draws how a patient's prediction arises: a bar for each modality, from the prior to the prediction.

    Default: the only patient, the first task, and the output that is predicted highest (of an ordinal task, the middle
    one). ``order``: modality names from top to bottom, default: by size; the smallest beyond ``most`` are one bar.
    """
    require_columns(contributions, COLUMNS, "a waterfall")
    task = pick_name(contributions["task"], task, "task")
    of_task = contributions[contributions["task"].astype(str) == task]
    name, rows = only_patient(contributions if patient is None else of_task, patient, "A waterfall")
    chosen = select_output(rows, task, output or _highest(rows, task))
    every = visible_modalities(contributions, task)  # the modalities of other patients, of which this one lacks some
    steps = _steps(chosen, name, every, order, most)
    largest = [f"{one} {signed(size)}" for one, size in zip(steps.names[:3], steps.sizes[:3], strict=True)]
    return Picture(
        slug("waterfall", chosen.task, chosen.output, name),
        f"{chosen.named(40)}: contributions in patient {shorten(name)}",
        _caption(steps),
        f"{chosen.quantity} of patient {name}: from {steps.value(steps.prior)} before any modality to "
        f"{steps.value(steps.prediction)}. Largest contributions: {', '.join(largest)}.",
        lambda theme: _draw(steps, theme),
        steps.table(),
    )


def _highest(rows: pd.DataFrame, task: str | None) -> str | None:
    """Names the output with the largest prediction, unless the outputs are those of an ordinal task."""
    chosen = select_output(rows, task)
    if lower_class(chosen.output) is not None:
        return chosen.output
    of_task = rows[rows["task"].astype(str) == chosen.task]
    values = of_task["prediction"].to_numpy(dtype=np.float64)
    return str(of_task["output"].iloc[int(np.nanargmax(values))]) if np.isfinite(values).any() else chosen.output


def _steps(chosen: OutputRows, patient: str, every: Sequence[str], order: Sequence[str] | None, most: int) -> _Steps:
    rows = chosen.rows.assign(modality=chosen.rows["modality"].astype(str)).set_index("modality")
    sizes = rows["contribution"].astype(float)
    errors = rows["standard_error"].astype(float) if "standard_error" in rows else sizes * 0
    absent = [name for name in every if name not in sizes.index]
    if order is None:
        names = sizes.abs().sort_values(ascending=False, kind="stable").index.tolist()
    else:
        if unknown := [name for name in order if name not in every]:
            raise StudyError(f"Unknown modality '{unknown[0]}' in `order`.{did_you_mean(unknown[0], every)}")
        names = [*(name for name in order if name in sizes.index), *(name for name in sizes.index if name not in order)]
    n_joined = len(names) - most + 1 if len(names) > most else 0
    smallest = sizes.abs().sort_values(kind="stable").index[:n_joined].tolist()
    kept = [name for name in names if name not in smallest]
    shown, spread = (np.asarray(column[kept], dtype=np.float64) for column in (sizes, errors))
    if smallest:
        kept = [*kept, f"{len(smallest)} smaller ones"]
        shown = np.append(shown, sizes[smallest].sum())
        spread = np.append(spread, np.sqrt((errors[smallest] ** 2).sum()))
    prior, prediction = float(rows["prior"].iloc[0]), float(rows["prediction"].iloc[0])
    return _Steps(chosen, patient, kept, shown, spread, prior, prediction, absent)


def _draw(steps: _Steps, theme: Theme) -> Figure:
    n_bars, grey = len(steps.names), steps.absent[:MOST_ABSENT]
    if len(steps.absent) > MOST_ABSENT:
        grey = [*grey[:-1], f"and {len(steps.absent) - MOST_ABSENT + 1} more"]
    rows = n_bars + 2 + (0.6 + GREY_ROW * len(grey) if grey else 0.0)
    figure = new_figure(ROW * rows + 1.0)
    axes = figure.add_subplot()
    style_axes(axes, theme)
    ends = np.concatenate([[steps.prior], steps.starts + steps.sizes, [steps.prediction]])
    axes.set_xlim(axis_limits(ends, 0.14, 0.14, 0.0 if steps.chosen.scale == "units" else LEAST_SPAN))
    axes.set_ylim(rows - 0.4, -0.7)
    _draw_bars(axes, steps, theme)
    _draw_ends(axes, steps, theme)
    greys = n_bars + 2.2 + GREY_ROW * np.arange(len(grey))
    labels = ["prior", *map(shorten, steps.names), "prediction", *map(shorten, grey)]
    axes.set_yticks([*range(n_bars + 2), *greys], labels)
    for label in axes.get_yticklabels()[n_bars + 2 :]:
        label.set(color=theme.faint, size=8)
    for k in (0, n_bars + 1):
        axes.get_yticklabels()[k].set_fontweight("bold")
    if grey:
        axes.axhspan(greys[0] - 0.55, greys[-1] + 0.55, color=theme.grid, alpha=0.45, lw=0)
        place: Any = {"transform": axes.get_yaxis_transform(), "ha": "center", "va": "center"}
        axes.text(0.5, float(greys.mean()), "absent: not used", size=8, color=theme.faint, **place)
    axes.set_xlabel(f"◀ decrease        {steps.chosen.axis()}        increase ▶")
    if steps.chosen.scale == "log-odds":
        _probabilities(axes, theme)
    return figure


def _draw_bars(axes: Axes, steps: _Steps, theme: Theme) -> None:
    """Draws bars that point where they push, with their numbers, and a thin line from each to the next."""
    from matplotlib.patches import Polygon

    span = abs(np.subtract(*axes.get_xlim()))
    digits = digits_for(steps.sizes)
    for k, (start, size, error) in enumerate(zip(steps.starts, steps.sizes, steps.errors, strict=True)):
        y, end = k + 1, start + size
        tip = end - np.sign(size) * min(abs(size), 0.012 * span)
        corners = [(start, y - BAR / 2), (tip, y - BAR / 2), (end, y), (tip, y + BAR / 2), (start, y + BAR / 2)]
        colour = theme.high if size > 0 else theme.low
        axes.add_patch(Polygon(corners, closed=True, facecolor=colour, lw=0))
        axes.plot([end, end], [y, y + 1], color=theme.faint, lw=0.8, alpha=0.6)
        reach = 1.96 * error
        if reach > 0.004 * span:
            axes.plot([end - reach, end + reach], [y, y], color=theme.ink, lw=1.0)
        side = 1 if size >= 0 else -1
        style = {"color": colour if size else theme.faint, "bbox": {"facecolor": theme.paper, "lw": 0, "pad": 0.5}}
        label_point(axes, signed(size, digits), (end + side * reach, y), 4 * side, size=8.5, **style)
    axes.plot([steps.prior, steps.prior], [0, 1], color=theme.faint, lw=0.8, alpha=0.6)


def _draw_ends(axes: Axes, steps: _Steps, theme: Theme) -> None:
    """Marks prior and prediction with their values."""
    last = len(steps.names) + 1
    axes.plot([steps.prior] * 2, [0, last], color=theme.faint, lw=0.9, ls=(0, (2, 2)), zorder=0.5)
    for y, value, marker, weight in ((0, steps.prior, "o", "normal"), (last, steps.prediction, "D", "bold")):
        axes.plot(value, y, marker, ms=6, mew=1.4, mec=theme.ink, mfc=theme.ink if y else theme.paper)
        label_point(axes, steps.value(value), (value, y), 8, size=9, weight=weight)


def _probabilities(axes: Axes, theme: Theme) -> None:
    """Writes probabilities along the top, as many as have room."""
    low, high = axes.get_xlim()
    for shares in (*(np.arange(step, 1.0, step) for step in (0.01, 0.02, 0.05, 0.1)), *map(np.array, PROBABILITIES)):
        places = np.log(shares / (1 - shares))
        is_inside = (low <= places) & (places <= high)
        shares, places = shares[is_inside], places[is_inside]
        if np.diff(places).min(initial=np.inf) > 0.085 * (high - low):
            break
    top = axes.secondary_xaxis("top")
    top.set_xticks(places, [percent(share) for share in shares.tolist()])
    top.spines["top"].set_visible(False)
    top.tick_params(length=0, labelsize=8.5, labelcolor=theme.faint)
    top.set_xlabel("probability", size=8.5)


def _caption(steps: _Steps) -> str:
    text = (
        f"Patient {shorten(steps.patient, 40)}, n = {counted(len(steps.chosen.rows), 'modality')}. Bars: contribution "
        f"of each modality (Shapley value), from the prediction without any modality ({steps.value(steps.prior)}) to "
        f"the prediction ({steps.value(steps.prediction)})."
    )
    if steps.absent:
        text += f" Grey: {counted(len(steps.absent), 'absent modality')}."
    if (steps.errors > 0).any():
        return f"{text} Orders were sampled; lines: 95% intervals, where wide enough to be seen."
    return f"{text} Exact values, no interval."
