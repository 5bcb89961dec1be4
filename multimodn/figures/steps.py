"""One patient's predictions step by step, with all outputs of a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.figures.panels import MARKERS
from multimodn.figures.picture import Picture
from multimodn.figures.shared import Chosen, apart, calm, check, choose, new_figure, only_patient, pick, shorten, slug
from multimodn.figures.theme import Theme
from multimodn.figures.trajectory import (
    COLUMNS,
    Line,
    ends_of,
    is_probability,
    name_steps,
    outputs_of,
    words_for,
    written,
)
from multimodn.findings.numbers import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_OUTPUTS = 8


def trajectory_lines(
    trajectory: pd.DataFrame, task: str | None = None, output: str | None = None, *, patient: object | None = None
) -> Picture:
    """Draws the predictions of one patient step by step, a line for each output of a task, such as its classes.

    Args:
        trajectory: The frame of `MultiModN.trajectory`.
        task: Default: the first.
        output: Default: all that are probabilities, at most eight.
        patient: Whose; may be left out where the frame holds one patient.

    Raises:
        StudyError: If task or output is unknown, or one of several patients is to be named.
        DataError: If the patient has no rows.
    """
    check(trajectory, COLUMNS, "a trajectory")
    name, rows = only_patient(trajectory, patient, "A trajectory")
    task = pick(rows["task"], task, "task")
    names = outputs_of(rows, task)
    if output is None:
        probable = [one for one in names if is_probability(choose(rows, task, one))]
        names = (probable or names)[:MOST_OUTPUTS]
    else:
        names = [pick(pd.Series(names), output, f"output of task '{task}'")]
    chosen = [choose(rows, task, one) for one in names]
    lines = [Line.of(one.output, one.rows) for one in chosen]
    is_share = is_probability(chosen[0])
    moved = [
        f"{words_for(one)} from {written(line, 0, is_share=is_share)} to {written(line, -1, is_share=is_share)}"
        for one, line in zip(chosen, lines, strict=True)
    ]
    n_steps = len(lines[0].values) - 1
    return Picture(
        slug("trajectory", task, output, name),
        f"{shorten(task, 40)}: predictions of patient {shorten(name)}, step by step",
        f"n = 1 (patient {shorten(name, 40)}), {counted(n_steps, 'step')}: the prediction before any modality is known "
        f"(prior), and after each modality has been read, from left to right. There is no interval: these are one "
        f"patient's predictions.",
        f"Patient {name}: {'; '.join(moved[:4])}.",
        lambda theme: _draw_lines(lines, chosen, is_share, theme),
        pd.concat([one.rows for one in chosen]),
    )


def _draw_lines(lines: Sequence[Line], chosen: Sequence[Chosen], is_share: bool, theme: Theme) -> Figure:
    longest = max(map(len, lines[0].ticks))
    figure = new_figure(2.9 + 0.045 * longest)
    axes = figure.add_subplot()
    calm(axes, theme, grid="y")
    steps = np.arange(len(lines[0].values))
    low, high = ends_of(np.concatenate([line.values for line in lines]), is_share=is_share)
    ends = apart(np.nan_to_num([line.values[-1] for line in lines]), 0.07 * (high - low))
    for k, line in enumerate(lines):
        colour = theme.series[k % len(theme.series)]
        axes.plot(steps, line.values, "-", color=colour, lw=1.8)
        axes.plot(steps, line.values, MARKERS[k % len(MARKERS)], ms=5, mew=1.2, mec=colour, mfc=theme.paper)
        at = (steps[-1] + 0.035 * len(steps), ends[k])
        leader = ([steps[-1] + 0.012 * len(steps), at[0] - 0.004 * len(steps)], [line.values[-1], ends[k]])
        axes.plot(*leader, color=colour, lw=0.7, alpha=0.6, clip_on=False)
        name = "" if len(lines) == 1 else f"{shorten(line.name.replace('survival@', 'up to '), 18)}: "
        axes.annotate(
            f"{name}{written(line, -1, is_share=is_share)}",
            at,
            va="center",
            size=8.5,
            color=theme.ink,
            annotation_clip=False,
        )
    axes.set_xlim(-0.25, max(len(steps) - 1, 1) + 0.02 * len(steps))
    axes.set_ylim(min(low, ends.min()), max(high, ends.max()))
    name_steps(axes, lines[0].ticks, len(steps))
    axes.set_ylabel(shorten(words_for(chosen[0]) if len(lines) == 1 else _together(chosen, is_share), 36))
    if is_share:
        axes.yaxis.set_major_formatter("{x:.0%}")
    return figure


def _together(chosen: Sequence[Chosen], is_share: bool) -> str:
    if all(one.output.startswith("survival@") for one in chosen):
        return f"{chosen[0].task}: chance of no event"
    return f"probability, {chosen[0].task}" if is_share else chosen[0].task
