"""Forest plots: named rows with points and intervals, in panels side by side; the shape of most figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.figures.axes import WIDTH, axis_limits, name_rows, new_figure, style_axes
from multimodn.figures.theme import Theme
from multimodn.figures.wording import shorten
from multimodn.findings.names import CHANCE, metric_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "oDs^vPXd"
TITLE_PER_INCH = 10.5  # letters
ROW, AROUND, KEY = 0.22, 0.75, 0.2  # inches: a row with one kind of points, title and axis, key
ROOM = 0.36  # of a row, on each side, for the points of several kinds
SKILL = 0.3  # how far an axis reaches beyond the value of chance, at least


@dataclass(frozen=True)
class Panel:
    """One panel of ``points``: ``row`` (a name), ``mark`` (its kind), ``value``, ``low``, ``high`` (NaN = no interval).

    Optionally they have ``inner_low`` and ``inner_high``, a thicker interval inside the other.
    """

    title: str
    axis: str  # what its values are
    points: pd.DataFrame
    title_lines: tuple[str, str] | None = None  # two that replace a title that is too long
    reference: float | None = 0.0  # where a vertical line stands; None = nowhere
    reach: float = 1e-3  # how far the axis reaches beyond the reference, at least
    is_centred: bool = False  # whether the reference is in the middle of the axis
    scale: str = ""  # panels of the same scale get the same limits; empty = its own
    notes: Mapping[str, str] | None = None  # for a row, words at its right end


def metric_panel(title: str, metric: str, rows: pd.DataFrame, notes: Mapping[str, str] | None = None) -> Panel:
    """Makes a panel of one kind of points for scores: its line is the value of chance, if the metric has one.

    Panels of metrics with the same value of chance share their limits. Rows: ``row``, ``value``, ``low``, ``high``.
    """
    chance = CHANCE.get(metric)
    scale = metric if chance is None else f"chance {chance}"
    points = rows.assign(mark="")
    return Panel(title, metric_name(metric), points, reference=chance, reach=SKILL, scale=scale, notes=notes)


def merge_rows(lists: Sequence[Sequence[str]]) -> list[str]:
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


def draw_panels(
    theme: Theme,
    panels: Sequence[Panel],
    rows: Sequence[str],
    marks: Sequence[str] = ("",),
    *,
    is_stem: bool = False,
    is_connected: bool = False,
    is_range: bool = False,
    row_height: float = ROW,
) -> Figure:
    """Draws panels in up to three columns that share their rows, named from top to bottom; see `draw_rows`.

    Several ``marks``, kinds of points, differ in place, marker and colour, and have a key. ``row_height``: inches of a
    row with one kind of points.
    """
    n_columns = 2 if len(panels) == 4 else min(len(panels), 3)
    n_lines, has_key = -(-len(panels) // n_columns), len(marks) > 1
    height = row_height * len(rows) * (1.0 if is_range else 1 + 0.4 * (len(marks) - 1)) + AROUND
    figure = new_figure(height * n_lines + KEY * has_key)
    grid = figure.add_gridspec(n_lines + has_key, n_columns, height_ratios=[KEY] * has_key + [height] * n_lines)
    letters = max(int((WIDTH - 0.075 * max(len(shorten(name)) for name in rows)) / n_columns * TITLE_PER_INCH), 12)
    first: Axes | None = None
    for k, panel in enumerate(panels):
        axes = figure.add_subplot(grid[k // n_columns + has_key, k % n_columns], sharey=first)
        first = first or axes
        draw_rows(axes, theme, panel, rows, marks, is_stem=is_stem, is_connected=is_connected, is_range=is_range)
        axes.tick_params(axis="y", labelleft=k % n_columns == 0)
        title = shorten(panel.title, letters)
        if panel.title_lines and len(panel.title) > letters:
            title = "\n".join(shorten(line, letters) for line in panel.title_lines)
        axes.set_title(title, size=9)
        axes.set_xlim(_ends([one for one in panels if one is panel or (panel.scale and one.scale == panel.scale)]))
        axes.locator_params(axis="x", nbins=(9, 6, 4)[n_columns - 1])
        below = panels[min(k + n_columns, len(panels) - 1)]
        axes.set_xlabel(panel.axis if k + n_columns >= len(panels) or panel.axis != below.axis else "")
    if has_key:
        draw_key(figure.add_subplot(grid[0, :]), theme, marks)
    return figure


def _ends(panels: Sequence[Panel]) -> tuple[float, float]:
    """Returns the ends of an axis that holds all points of panels, and their reference."""
    values = pd.concat([panel.points[["value", "low", "high"]] for panel in panels]).to_numpy(dtype=np.float64).ravel()
    reference, is_lowest = panels[0].reference, False
    if reference is not None:
        is_lowest = not (values < reference).any()
        values = np.append(values, [reference, reference + panels[0].reach])
        if panels[0].is_centred:
            values = np.append(values, 2 * reference - values)
    return axis_limits(values, 0.02 if is_lowest else 0.06, 0.06)


def draw_rows(
    axes: Axes,
    theme: Theme,
    panel: Panel,
    rows: Sequence[str],
    marks: Sequence[str] = ("",),
    *,
    colours: Sequence[str] | None = None,
    is_stem: bool = False,
    is_connected: bool = False,
    is_range: bool = False,
) -> None:
    """Draws the points of a panel with their intervals beside rows, and its notes at their right ends.

    Title and axis are left to the caller. ``marks``: kinds of points, above each other in a row; ``colours``: of each
    kind, default: the series of the theme. A thin line leads from 0 to each point (``is_stem``), from row to row
    (``is_connected``), or from the lowest to the highest of all kinds, which then stand on it (``is_range``).
    """
    style_axes(axes, theme)
    name_rows(axes, rows)
    axes.set_xlim(_ends([panel]))
    if panel.reference is not None:
        axes.axvline(panel.reference, color=theme.faint, lw=1.0, zorder=1)
    places = {name: k for k, name in enumerate(rows)}
    every = panel.points[panel.points["row"].isin(places)]
    if is_range:
        spread = every.groupby("row")["value"].agg(["min", "max"])
        axes.hlines(spread.index.map(places), spread["min"], spread["max"], color=theme.band, lw=3.0, zorder=1)
    reach = 0.0 if is_range else min(ROOM, 0.15 * (len(marks) - 1))
    for m, (mark, aside) in enumerate(zip(marks, np.linspace(-reach, reach, len(marks)), strict=True)):
        points = every[every["mark"] == mark]
        y = points["row"].map(places).to_numpy(dtype=np.float64) + (aside if len(marks) > 1 else 0.0)
        value, low, high = (points[name].to_numpy(dtype=np.float64) for name in ("value", "low", "high"))
        marker, colour, face = _mark(theme, m, colours)
        if is_stem:
            axes.hlines(y, 0, np.nan_to_num(value), color=colour, lw=1.0, alpha=0.45)
        if is_connected:
            axes.plot(value, y, "-", color=colour, lw=1.0, alpha=0.45)
        axes.hlines(y, low, high, color=colour, lw=2.0 if len(marks) < 3 else 1.4, alpha=0.55)
        if "inner_low" in points:
            axes.hlines(y, points["inner_low"], points["inner_high"], color=colour, lw=6.0, alpha=0.35)
        axes.plot(value, y, marker, ms=4.5, mew=1.2, mec=colour, mfc=face, ls="")
    for row, note in (panel.notes or {}).items():
        if row in places:  # outside the axes, which make room for it
            axes.text(
                1.02, places[row], note, transform=axes.get_yaxis_transform(), va="center", size=8, color=theme.faint
            )


def _mark(theme: Theme, m: int, colours: Sequence[str] | None = None) -> tuple[str, str, str]:
    """Returns marker, colour and filling of a kind of points."""
    colour = (colours or theme.series)[m % len(colours or theme.series)]
    return MARKERS[m % len(MARKERS)], colour, colour if m % 2 == 0 else theme.paper


def draw_key(
    axes: Axes,
    theme: Theme,
    marks: Sequence[str],
    *,
    colours: Sequence[str] | None = None,
    most_columns: int = 4,
    is_left: bool = False,
) -> None:
    """Names the kinds of points, at a side of axes that hold nothing else."""
    axes.set_axis_off()
    for m, mark in enumerate(marks):
        marker, colour, face = _mark(theme, m, colours)
        axes.plot([], [], marker, ms=5, mew=1.2, mec=colour, mfc=face, label=mark)
    axes.legend(
        loc="center left" if is_left else "center right", ncols=min(len(marks), most_columns), fontsize=8,
        handletextpad=0.1, columnspacing=1.2, borderaxespad=0.0,
    )  # fmt: skip
