"""Dots with intervals beside named rows, in panels that share the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.figures.shared import Floats, calm, name_rows, new_figure, shorten
from multimodn.figures.theme import Theme
from multimodn.findings.names import CHANCE, metric_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, AROUND = 0.215, 0.78  # inches


@dataclass(frozen=True)
class Forest:
    """A column of a forest plot: values of rows by name."""

    task: str
    metric: str
    points: pd.DataFrame


def merged(lists: Sequence[Sequence[str]]) -> list[str]:
    """Joins ordered names to one order: each new name stands behind the one that it follows."""
    joined: list[str] = []
    for names in lists:
        place = 0
        for name in names:
            if name in joined:
                place = max(place, joined.index(name) + 1)
            else:
                joined.insert(place, name)
                place += 1
    return joined


def draw_forests(
    panels: Sequence[Forest], names: Sequence[str], theme: Theme, *, is_connected: bool = False, has_sizes: bool = False
) -> Figure:
    """Draws panels in up to three columns that share their rows.

    Args:
        panels: What to draw.
        names: Names of the rows, from top to bottom.
        theme: Colours.
        is_connected: Whether a thin line leads from row to row.
        has_sizes: Whether the numbers of patients stand at the right ends.
    """
    n_columns = 2 if len(panels) in (2, 4) else min(len(panels), 3)
    n_lines = -(-len(panels) // n_columns)
    figure = new_figure((ROW * len(names) + AROUND) * n_lines)
    grid = figure.subplots(n_lines, n_columns, sharey=True, squeeze=False)
    ends = _ends(panels)
    for axes, panel in zip(grid.flat, panels, strict=False):
        points = panel.points[panel.points["row"].isin(list(names))]
        forest(axes, theme, points, names, panel.metric, is_connected=is_connected)
        axes.set_xlim(ends[CHANCE.get(panel.metric, panel.metric)])
        axes.set_title(shorten(panel.task, 60 // n_columns), size=9)
        axes.set_xlabel(metric_name(panel.metric))
        axes.locator_params(axis="x", nbins=8 - n_columns)
        for name, n in zip(points["row"], points["n"], strict=True) if has_sizes else ():
            note(axes, list(names).index(name), f"n {n:,}", theme.faint)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    return figure


def note(axes: Axes, row: int, text: str, colour: str, size: float = 7.5) -> None:
    """Writes at the right end of a row, outside the axes, which make room for it."""
    place = axes.get_yaxis_transform()
    axes.text(1.02, row, text, transform=place, ha="left", va="center", size=size, color=colour, clip_on=False)


def _ends(panels: Sequence[Forest]) -> dict[object, tuple[float, float]]:
    """Ends of the axis for each kind of metric: panels of the same kind can be compared."""
    found: dict[object, list[Floats]] = {}
    for panel in panels:
        kind = CHANCE.get(panel.metric, panel.metric)
        found.setdefault(kind, []).append(panel.points[["value", "low", "high"]].to_numpy(dtype=np.float64).ravel())
    return {
        kind: _limits(np.concatenate(values), kind if isinstance(kind, float) else None)
        for kind, values in found.items()
    }


def _limits(values: Floats, chance: float | None) -> tuple[float, float]:
    known = np.append(values[np.isfinite(values)], [] if chance is None else [chance, chance + 0.3])
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    margin = 0.05 * max(high - low, 1e-6)
    return low - margin, high + margin


def forest(
    axes: Axes,
    theme: Theme,
    points: pd.DataFrame,
    names: Sequence[str],
    metric: str,
    *,
    size: float = 4.5,
    is_connected: bool = False,
) -> None:
    """Draws dots with intervals beside rows, and the line of no skill."""
    calm(axes, theme)
    places: Mapping[str, int] = {name: k for k, name in enumerate(names)}
    y = points["row"].map(places).to_numpy(dtype=np.float64)
    value, low, high = (points[name].to_numpy(dtype=np.float64) for name in ("value", "low", "high"))
    if metric in CHANCE:
        axes.axvline(CHANCE[metric], color=theme.faint, lw=1.0, zorder=1)
    if is_connected:
        axes.plot(value, y, "-", color=theme.low, lw=1.0, alpha=0.45)
    axes.hlines(y, low, high, color=theme.low, lw=2.2, alpha=0.5)
    axes.plot(value, y, "o", ms=size, mew=0, color=theme.low, ls="")
    name_rows(axes, names, 34)
    axes.set_xlim(*_limits(np.concatenate([value, low, high]), CHANCE.get(metric)))
