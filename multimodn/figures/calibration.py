"""Calibration curves: observed against predicted outcomes, over a histogram of the predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.errors import DataError
from multimodn.figures.axes import Floats, new_figure, style_axes
from multimodn.figures.picture import Picture
from multimodn.figures.selection import OutputRows, chances_of_events, in_words, pick_name, require_columns
from multimodn.figures.theme import Theme
from multimodn.figures.wording import not_shown, shorten, slug, spanned
from multimodn.findings.names import event_words, survival_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("task", "output", "predicted", "observed", "low", "high", "n")
PREDICTED = ("task", "output", "value")
MOST_OUTPUTS = 6
N_BARS = 20
SQUARE, HISTOGRAM, AROUND = 1.85, 0.5, 0.85  # inches
LEAST_REACH = 0.2  # of an axis of probabilities: a rare outcome is drawn larger, but not at any size


@dataclass(frozen=True)
class _CalibrationPanel:
    output: str
    title: str
    curve: pd.DataFrame
    predicted: Floats
    ends: tuple[float, float]
    is_probability: bool


def calibration_chart(
    curve: pd.DataFrame, predicted: pd.DataFrame, tasks: Sequence[str] | None = None, *, most: int = MOST_OUTPUTS
) -> Picture:
    """Draws observed against predicted outcomes, and how often each prediction was made; a panel for each output.

    ``curve`` is the frame of `calibration_curve`, ``predicted`` the predictions that it was made of. Default: the first
    task; of more than ``most`` outputs, those with the widest predictions.
    """
    require_columns(curve, COLUMNS, "a calibration curve")
    require_columns(predicted, PREDICTED, "predictions")
    predicted = chances_of_events(predicted, ["value"])
    curve = chances_of_events(curve, ["predicted", "observed", "low", "high"])
    wanted = [pick_name(curve["task"], task, "task") for task in tasks or [str(curve["task"].iloc[0])]]
    rows = curve[curve["task"].astype(str).isin(wanted) & curve["observed"].notna()]
    if rows.empty:
        raise DataError(f"Nothing to draw: no outcome of task '{', '.join(wanted)}' was observed.")
    values = {key: part.to_numpy(dtype=np.float64) for key, part in predicted.groupby(["task", "output"])["value"]}
    curves = dict(list(rows.groupby(["task", "output"], sort=False)))
    widest = sorted(curves, key=lambda key: -float(np.std(values[key])))[:most]
    panels = [_panel(str(key[0]), str(key[1]), curves[key], values[key]) for key in curves if key in widest]
    drawn = pd.concat([panel.curve for panel in panels])
    furthest = drawn.iloc[int(np.argmax((drawn["observed"] - drawn["predicted"]).abs()))]
    sizes = pd.Series([len(panel.predicted) for panel in panels])
    methods = ", ".join(dict.fromkeys(_method(panel) for panel in panels))
    return Picture(
        slug("calibration", *wanted),
        f"{shorten(', '.join(wanted), 60)}: calibration curve",
        f"n = {spanned(sizes)} labelled patients. Points: observed against mean predicted outcome in bins of "
        f"{spanned(drawn['n'])} patients, with 95% intervals ({methods}); dashed line: perfect calibration. Bars: "
        f"distribution of the predictions.{not_shown(len(curves) - len(panels), 'output')}",
        f"Calibration of {', '.join(panel.title for panel in panels)}. Furthest from perfect: predicted "
        f"{furthest['predicted']:.2f}, observed {furthest['observed']:.2f}.",
        lambda theme: _draw(panels, theme),
        in_words(drawn[[*COLUMNS]].reset_index(drop=True)),
    )


def _method(panel: _CalibrationPanel) -> str:
    if survival_time(panel.output) is not None:
        return "Kaplan-Meier with Greenwood's variance"
    return "Wilson" if panel.is_probability else "Student's t"


def _panel(task: str, output: str, curve: pd.DataFrame, values: Floats) -> _CalibrationPanel:
    every = np.concatenate([values, curve[["observed", "low", "high"]].to_numpy(dtype=np.float64).ravel()])
    every = every[np.isfinite(every)]
    is_probability = bool(every.min() >= 0 and every.max() <= 1)
    if not is_probability:
        margin = 0.04 * max(float(np.ptp(every)), 1e-6)
        ends = (float(every.min()) - margin, float(every.max()) + margin)
    else:
        low, high = np.floor(every.min() * 10) / 10, np.ceil(every.max() * 10) / 10
        ends = (float(max(0.0, min(low, high - LEAST_REACH))), float(min(1.0, max(high, low + LEAST_REACH))))
    title = OutputRows(curve, task, output, "", []).quantity
    title = title if survival_time(output) is None else f"{task}: {event_words(output)}"
    return _CalibrationPanel(output, title, curve, values, ends, is_probability)


def _draw(panels: Sequence[_CalibrationPanel], theme: Theme) -> Figure:
    n_columns = min(len(panels), 3)
    n_lines = -(-len(panels) // n_columns)
    figure = new_figure((SQUARE + HISTOGRAM + AROUND) * n_lines)
    heights = [size for _ in range(n_lines) for size in (SQUARE, HISTOGRAM)]
    grid = figure.subplots(2 * n_lines, 3, squeeze=False, height_ratios=heights)
    for axes in grid.flat:
        axes.set_visible(False)
    for k, panel in enumerate(panels):
        line, column = divmod(k, n_columns)
        upper, lower = grid[2 * line : 2 * line + 2, column]
        _draw_curve(upper, panel, theme)
        _draw_histogram(lower, panel, theme)
        if column == 0:
            upper.set_ylabel("observed")
            lower.set_ylabel("patients")
        if panel.is_probability:
            upper.yaxis.set_major_formatter("{x:.0%}")
            lower.xaxis.set_major_formatter("{x:.0%}")
    return figure


def _draw_curve(axes: Axes, panel: _CalibrationPanel, theme: Theme) -> None:
    axes.set_visible(True)
    style_axes(axes, theme, grid="y")
    axes.xaxis.grid(visible=True)
    axes.axline((panel.ends[0], panel.ends[0]), slope=1, color=theme.faint, lw=1.0, ls=(0, (4, 3)))
    curve = panel.curve.sort_values("predicted")
    x, y, low, high = curve[["predicted", "observed", "low", "high"]].to_numpy(dtype=np.float64).T
    axes.vlines(x, low, high, color=theme.low, lw=2.0, alpha=0.5)
    axes.plot(x, y, "o", color=theme.low, ms=4.5, mew=0)
    axes.set_xlim(panel.ends)
    axes.set_ylim(panel.ends)
    axes.tick_params(axis="y", labelsize=8, labelcolor=theme.faint)
    axes.tick_params(axis="x", labelbottom=False)
    axes.locator_params(nbins=5)
    axes.set_title(shorten(panel.title, 30), size=9)


def _draw_histogram(axes: Axes, panel: _CalibrationPanel, theme: Theme) -> None:
    axes.set_visible(True)
    style_axes(axes, theme, grid="")
    counts, edges = np.histogram(panel.predicted, N_BARS, panel.ends)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=theme.band, edgecolor=theme.paper, lw=0.6)
    axes.set_xlim(panel.ends)
    axes.set_yticks([0, int(counts.max())], ["0", f"{counts.max():,}"])
    axes.tick_params(axis="y", labelsize=7.5, labelcolor=theme.faint)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("predicted")
