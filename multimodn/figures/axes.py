"""What figures share: an empty figure, plain axes, names of rows, room for labels, bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multimodn.figures.theme import Theme
from multimodn.figures.wording import LONGEST, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

WIDTH = 7.0  # inches: a column of a page
MOST_ROWS = 20


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Makes an empty figure whose parts make room for their labels."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.06, wspace=0.03))


def style_axes(axes: Axes, theme: Theme, grid: str = "x") -> None:
    """Takes frame and tick marks away, and draws a thin grid along an axis (``x``, ``y``, or empty for none)."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        axis.label.set_fontsize(8.5)
        if grid == name:
            axis.grid(visible=True)
    axes.tick_params(axis="x", labelsize=8.5, labelcolor=theme.faint)


def name_rows(axes: Axes, names: Sequence[str], longest: int = LONGEST) -> None:
    """Writes names beside rows 0, 1, ..., the first on top."""
    axes.set_yticks(np.arange(len(names)), [shorten(name, longest) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)


def axis_limits(values: Floats, left: float = 0.06, right: float = 0.06, least: float = 0.0) -> tuple[float, float]:
    """Returns ends of an axis that hold all finite ``values``; margins are shares of their span, at least ``least``."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    span = max(high - low, least, 1e-6 * max(abs(low), abs(high), 1e-6))
    if high - low < span:
        low = 0.0 if low == 0 else (low + high - span) / 2  # sizes start at 0
        high = low + span
    return low - left * span, high + right * span


def spread_labels(values: Floats, gap: float) -> Floats:
    """Moves labels as little as is needed (least squares) so that neighbours are ``gap`` apart."""
    from sklearn.isotonic import isotonic_regression

    order = np.argsort(values, kind="stable")
    steps = gap * np.arange(len(values))
    placed = np.empty_like(values)
    placed[order] = isotonic_regression(values[order] - steps) + steps
    return placed


def label_point(axes: Axes, text: str, point: tuple[float, float], gap: float = 5, **style: Any) -> None:
    """Writes a text ``gap`` points right of a point, or left of it where ``gap`` is negative."""
    style = {"ha": "left" if gap > 0 else "right", "va": "center", "size": 8} | style
    axes.annotate(text, point, (gap, 0), textcoords="offset points", **style)


def draw_bars(
    theme: Theme,
    names: Sequence[str],
    sizes: Floats,
    notes: Sequence[str],
    axis: str,
    colours: Sequence[tuple[str, float]],
    *,
    low: Floats | None = None,
    high: Floats | None = None,
    least: float = 0.0,
    longest: int = LONGEST,
) -> Figure:
    """Draws horizontal bars from 0, the first on top, with notes at their ends.

    ``axis`` names the sizes; ``colours``: colour and opacity of each bar; ``low`` and ``high``: ends of intervals;
    ``least``: length of the axis, at least; ``longest``: letters of a name.
    """
    figure = new_figure(0.275 * len(names) + 0.75)
    axes = figure.add_subplot()
    style_axes(axes, theme)
    rows, ends = np.arange(len(names)), sizes if high is None else np.fmax(sizes, high)
    axes.barh(rows, sizes, 0.58, color=colours)
    if low is not None and high is not None:
        axes.hlines(rows, low, high, color=theme.ink, lw=1.4)
    axes.axvline(0, color=theme.faint, lw=1.0)
    for k, note in enumerate(notes):
        label_point(axes, note, (sizes[k] if sizes[k] < 0 else ends[k], k), 5 if sizes[k] >= 0 else -5)
    room = 0.024 * max(map(len, notes)) + 0.02
    left, right = (room if is_used else 0.02 for is_used in ((sizes < 0).any(), (sizes >= 0).any()))
    axes.set_xlim(axis_limits(np.concatenate([sizes, ends, [0.0]]), left, right, least))
    name_rows(axes, names, longest)
    axes.set_xlabel(axis)
    return figure
