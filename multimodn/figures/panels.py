"""Panels of rows with points and intervals, side by side: one shape for several figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.figures.shared import WIDTH, calm, limits, name_rows, new_figure, shorten
from multimodn.figures.theme import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "oDs^vPXd"
TITLE_PER_INCH = 10.5  # letters
KEY_INCHES = 0.2
LEAST_SPAN = 1e-3
NOTE_ROOM = 0.014  # of a panel as wide as the figure, for a letter of a note
ROOM = 0.36  # of a row, on each side, for the marks of several kinds


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: What stands over it, in as many letters as there is room for.
        axis: What its values are.
        points: ``row`` (a name), ``mark`` (its kind), ``value``, ``low``, ``high`` (NaN = no interval).
        unit: Panels of the same unit get the same limits; empty = its own.
        notes: For a row, words at its right end.
    """

    title: Callable[[int], str]
    axis: str
    points: pd.DataFrame
    unit: str = ""
    notes: Mapping[str, str] | None = None


def draw_panels(
    theme: Theme,
    panels: Sequence[Panel],
    rows: Sequence[str],
    marks: Sequence[str],
    *,
    is_stem: bool = False,
    row_height: float = 0.22,
) -> Figure:
    """Draws panels in up to three columns that share their rows.

    Args:
        theme: Colours.
        panels: What to draw.
        rows: Names of the rows, from top to bottom.
        marks: Names of the kinds of points; more than one are told apart by place, marker, colour and a key.
        is_stem: Whether a thin line leads from 0 to each point, where there is one kind of points.
        row_height: Inches of a row with one mark.
    """
    n_columns = 2 if len(panels) == 4 else min(len(panels), 3)
    n_lines, has_key = -(-len(panels) // n_columns), len(marks) > 1
    height = row_height * len(rows) * (1 + 0.4 * (len(marks) - 1)) + 0.75
    figure = new_figure(height * n_lines + KEY_INCHES * has_key)
    ratios = [KEY_INCHES] * has_key + [height] * n_lines
    grid = figure.add_gridspec(n_lines + has_key, n_columns, height_ratios=ratios)
    label_inches = 0.075 * max(len(shorten(name)) for name in rows)
    letters = max(int((WIDTH - label_inches) / n_columns * TITLE_PER_INCH), 12)
    first: Axes | None = None
    for k, panel in enumerate(panels):
        axes = figure.add_subplot(grid[k // n_columns + has_key, k % n_columns], sharey=first)
        first = first or axes
        _draw(axes, theme, panel, rows, marks, is_stem)
        name_rows(axes, rows)
        axes.tick_params(axis="y", labelleft=k % n_columns == 0)
        axes.set_title(panel.title(letters), size=9)
        axes.set_xlim(_ends(panel, panels, n_columns))
        axes.locator_params(axis="x", nbins=(9, 6, 4)[n_columns - 1])
        below = panels[min(k + n_columns, len(panels) - 1)]
        if k + n_columns >= len(panels) or panel.axis != below.axis:
            axes.set_xlabel(panel.axis)
    if has_key:
        _key(figure.add_subplot(grid[0, :]), theme, marks)
    return figure


def _ends(panel: Panel, panels: Sequence[Panel], n_columns: int) -> tuple[float, float]:
    """Returns the ends of a panel's axis: those of all panels of its unit, 0, and room for notes."""
    same = [other.points for other in panels if other is panel or (panel.unit and other.unit == panel.unit)]
    every = pd.concat(same)[["value", "low", "high"]].to_numpy(dtype=np.float64)
    right = 0.07
    if panel.notes:
        right = NOTE_ROOM * max(map(len, panel.notes.values())) * n_columns + 0.05
    return limits(
        np.append(every, 0.0), 0.07 if every[np.isfinite(every)].min(initial=0.0) < 0 else 0.02, right, LEAST_SPAN
    )


def _draw(axes: Axes, theme: Theme, panel: Panel, rows: Sequence[str], marks: Sequence[str], is_stem: bool) -> None:
    calm(axes, theme)
    axes.axvline(0, color=theme.faint, lw=1.0, zorder=1)
    places = {name: k for k, name in enumerate(rows)}
    reach = min(ROOM, 0.15 * (len(marks) - 1))
    aside = np.linspace(-reach, reach, len(marks))
    for m, mark in enumerate(marks):
        points = panel.points[(panel.points["mark"] == mark) & panel.points["row"].isin(places)]
        y = points["row"].map(places).to_numpy(dtype=np.float64) + aside[m]
        value, low, high = (points[name].to_numpy(dtype=np.float64) for name in ("value", "low", "high"))
        colour = theme.series[m % len(theme.series)]
        if is_stem and len(marks) == 1:
            axes.hlines(y, 0, np.nan_to_num(value), color=colour, lw=1.0, alpha=0.45)
        axes.hlines(y, low, high, color=colour, lw=2.0 if len(marks) < 3 else 1.4, alpha=0.55)
        face = colour if m % 2 == 0 else theme.paper
        axes.plot(value, y, MARKERS[m % len(MARKERS)], ms=4.5, mew=1.2, mec=colour, mfc=face, ls="")
    for row, note in (panel.notes or {}).items():
        if row in places:
            axes.text(
                0.995, places[row], note, transform=axes.get_yaxis_transform(), ha="right", va="center", size=7.5,
                color=theme.faint,
            )  # fmt: skip


def _key(axes: Axes, theme: Theme, marks: Sequence[str]) -> None:
    """Names the kinds of points."""
    axes.set_axis_off()
    for m, mark in enumerate(marks):
        colour = theme.series[m % len(theme.series)]
        face = colour if m % 2 == 0 else theme.paper
        axes.plot([], [], MARKERS[m % len(MARKERS)], ms=5, mew=1.2, mec=colour, mfc=face, label=shorten(mark, 20))
    axes.legend(
        loc="center right", bbox_to_anchor=(1.0, 0.5), ncols=min(len(marks), 4), fontsize=8, handletextpad=0.1,
        columnspacing=1.2, borderaxespad=0.0,
    )  # fmt: skip
