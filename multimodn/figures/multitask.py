"""How tasks affect each other: conflicts between their gradients, and the gain by training them together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.figures.axes import MOST_ROWS, name_rows, new_figure, style_axes
from multimodn.figures.forest import Panel, draw_panels
from multimodn.figures.picture import Picture
from multimodn.figures.selection import require_columns
from multimodn.figures.theme import Theme
from multimodn.figures.wording import not_shown, shorten, spanned
from multimodn.findings.names import metric_name
from multimodn.findings.numbers import percent, signed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONFLICTS = ("task", "other", "cosine", "conflict", "n")
GAINS = ("task", "metric", "joint", "single", "gain", "low", "high", "n")
MOST_TASKS = 12
CELL, AROUND = 0.4, 0.85  # inches
DASH = "\u2013"


def conflict_map(conflicts: pd.DataFrame, *, most: int = MOST_TASKS) -> Picture:
    """Draws the share of training batches in which the gradients of two tasks conflict."""
    require_columns(conflicts, CONFLICTS, "conflicts between tasks")
    names = list(dict.fromkeys([*conflicts["task"].astype(str), *conflicts["other"].astype(str)]))
    common = conflicts[conflicts["n"] > 0].sort_values("conflict", ascending=False, kind="stable")
    alt = "No two tasks have labels of the same patients."
    if len(common):
        one, other, share = common.iloc[0][["task", "other", "conflict"]]
        alt = f"The most frequent conflict: {one} and {other}, in {percent(share)} of batches."
    return Picture(
        "conflicts",
        "Gradient conflicts between tasks",
        f"n = {spanned(conflicts['n'])} training batches of two tasks. Share of batches in which their gradients at "
        "the patient states conflict (negative cosine), and below it the mean cosine. Dash: no patient has both "
        f"labels; no interval.{not_shown(len(names) - most, 'task')}",
        alt,
        lambda theme: _draw_map(conflicts, names[:most], theme),
        conflicts,
    )


def _draw_map(conflicts: pd.DataFrame, names: list[str], theme: Theme) -> Figure:
    from matplotlib.patches import Rectangle

    n = len(names)
    figure = new_figure(CELL * max(n - 1, 1) + AROUND)
    axes = figure.add_subplot()
    style_axes(axes, theme, grid="")
    places = {name: k for k, name in enumerate(names)}
    for row in conflicts.itertuples():
        i, j = (places.get(str(name)) for name in (row.task, row.other))
        if i is None or j is None:
            continue
        fill, ink, text = theme.band, theme.ink, DASH
        if int(str(row.n)):
            share, cosine = float(str(row.conflict)), float(str(row.cosine))
            fill, ink = theme.amount(share)
            text = f"{percent(share)}\n{signed(cosine)}"
        axes.add_patch(Rectangle((min(i, j) - 0.47, max(i, j) - 0.46), 0.94, 0.92, color=fill, lw=0))
        axes.text(min(i, j), max(i, j), text, ha="center", va="center", size=7.5, color=ink, linespacing=1.1)
    name_rows(axes, names)
    axes.set_xlim(-0.6, max(n, 8) - 0.4)
    axes.set_ylim(n - 0.45, 0.45 if n > 1 else -0.55)
    below = [shorten(name, 16) for name in names[:-1]]
    axes.set_xticks(np.arange(n - 1), below, rotation=40, ha="right", rotation_mode="anchor")
    return figure


def gain_chart(gains: pd.DataFrame, *, most: int = MOST_ROWS) -> Picture:
    """Draws how much better tasks are predicted by the model of all tasks than by models of their own."""
    require_columns(gains, GAINS, "gains of tasks")
    names = [str(name) for name in gains["task"].unique()]
    points = gains.assign(row=gains["task"].astype(str), mark="", value=gains["gain"])
    panels = [
        Panel(f"gain in {metric_name(str(metric))}", "◀ worse    better ▶", part)
        for metric, part in points.groupby("metric", sort=False)
    ]
    first = zip(gains["task"][:4], gains["gain"], strict=False)
    listed = ", ".join(f"{task} {signed(gain, 3)}" for task, gain in first)
    return Picture(
        "task-gains",
        "Gain by training all tasks together",
        f"n = {spanned(gains['n'])} labelled test patients. The model of all tasks minus a model of this task alone "
        "with the same settings; right of 0: better together. Lines: 95% intervals (paired bootstrap over "
        f"patients).{not_shown(len(names) - most, 'task')}",
        f"Gain by training together: {listed}.",
        lambda theme: draw_panels(theme, panels, names[:most], row_height=0.26),
        gains,
    )
