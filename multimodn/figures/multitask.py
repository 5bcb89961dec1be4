"""What tasks do to each other: how often they pull apart, and what each gains from the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multimodn.figures.panels import Panel, draw_panels
from multimodn.figures.picture import Picture
from multimodn.figures.shared import MOST_ROWS, calm, check, name_rows, new_figure, shorten, spanned
from multimodn.figures.theme import Theme
from multimodn.findings.names import metric_name
from multimodn.findings.numbers import counted, percent, signed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONFLICTS = ("task", "other", "cosine", "conflict", "n")
GAINS = ("task", "metric", "joint", "single", "gain", "low", "high", "n")
MOST_TASKS = 12
CELL, AROUND = 0.4, 0.85  # inches
DASH = "\u2013"


def conflict_map(conflicts: pd.DataFrame, *, most: int = MOST_TASKS) -> Picture:
    """Draws in how many training batches each two tasks pull the patient state in different directions.

    Args:
        conflicts: The frame of `multimodn.evaluate.performance.task_conflicts.conflicts`.
        most: Tasks that are drawn, the first ones.

    Raises:
        DataError: If there is nothing to draw.
    """
    check(conflicts, CONFLICTS, "conflicts between tasks")
    names = list(dict.fromkeys([*conflicts["task"].astype(str), *conflicts["other"].astype(str)]))
    known = conflicts[conflicts["n"] > 0].sort_values("conflict", ascending=False, kind="stable")
    alt = "No two tasks have labels of the same patients."
    if len(known):
        worst = known.iloc[0]
        alt = (
            f"The tasks that pull apart most often are {worst['task']} and {worst['other']}, in "
            f"{percent(worst['conflict'])} of batches."
        )
    left_out = f" {counted(len(names) - most, 'task')} more not drawn." if len(names) > most else ""
    return Picture(
        "conflicts",
        "Do tasks pull in different directions?",
        f"n = {spanned(conflicts['n'])} training batches of two tasks. Share of batches in which a step for one task "
        f"is a step against the other: the cosine of their gradients at the patient states is negative; below it in a "
        f"cell the mean cosine. A dash: no patient has labels of both. There is no interval.{left_out}",
        alt,
        lambda theme: _draw_map(conflicts, names[:most], theme),
        conflicts,
    )


def _draw_map(conflicts: pd.DataFrame, names: list[str], theme: Theme) -> Figure:
    from matplotlib.patches import Rectangle

    n = len(names)
    figure = new_figure(CELL * max(n - 1, 1) + AROUND)
    axes = figure.add_subplot()
    calm(axes, theme, grid="")
    places = {name: k for k, name in enumerate(names)}
    for line in conflicts.itertuples():
        i, j = (places.get(str(name)) for name in (line.task, line.other))
        if i is None or j is None:
            continue
        fill, ink, text = theme.band, theme.ink, DASH
        if int(str(line.n)):
            share, cosine = float(str(line.conflict)), float(str(line.cosine))
            fill, ink = theme.amount(share)
            text = f"{percent(share)}\n{signed(cosine)}"
        axes.add_patch(Rectangle((min(i, j) - 0.47, max(i, j) - 0.46), 0.94, 0.92, color=fill, lw=0))
        axes.text(min(i, j), max(i, j), text, ha="center", va="center", size=7.5, color=ink, linespacing=1.1)
    name_rows(axes, names)
    axes.set_xlim(-0.6, max(n, 8) - 0.4)
    axes.set_ylim(n - 0.45, 0.45 if n > 1 else -0.55)
    axes.set_xticks(
        np.arange(n - 1), [shorten(name, 16) for name in names[:-1]], rotation=40, ha="right", rotation_mode="anchor"
    )
    return figure


def gain_chart(gains: pd.DataFrame, *, most: int = MOST_ROWS) -> Picture:
    """Draws how much better each task is predicted by the model of all tasks than by a model of its own.

    Args:
        gains: The frame of `multimodn.evaluate.baselines.single_task.task_gains`.
        most: Tasks that are drawn, the first ones.

    Raises:
        DataError: If there is nothing to draw.
    """
    check(gains, GAINS, "gains of tasks")
    metrics: list[str] = [str(name) for name in gains["metric"].unique()]
    panels = [_panel(metric, gains[gains["metric"].astype(str) == metric]) for metric in metrics]
    names = [str(name) for name in gains["task"].unique()]
    told = ", ".join(f"{line.task} {signed(float(str(line.gain)), 3)}" for line in gains.head(4).itertuples())
    left_out = f" {counted(len(names) - most, 'task')} more not drawn." if len(names) > most else ""
    return Picture(
        "task-gains",
        "Does a task gain from the others?",
        f"n = {spanned(gains['n'])} labelled test patients. The model of all tasks minus a model of this task alone, "
        f"with the same settings, on the same patients; right of 0: trained together is better. Lines are 95% "
        f"intervals over patients (paired bootstrap).{left_out}",
        f"Gain by training together: {told}.",
        lambda theme: draw_panels(theme, panels, names[:most], [""], row_height=0.26),
        gains,
    )


def _panel(metric: str, rows: pd.DataFrame) -> Panel:
    points: Any = pd.DataFrame({"row": rows["task"].astype(str), "mark": "", "value": rows["gain"]})
    points = points.assign(low=rows["low"], high=rows["high"])
    return Panel(lambda longest: shorten(f"gain in {metric_name(metric)}", longest), "◀ worse    better ▶", points)
