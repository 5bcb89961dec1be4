"""Which absent modality is expected to help most: for a patient, and for a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.figures.picture import Picture
from multimodn.figures.shared import (
    MOST_ROWS,
    Floats,
    calm,
    check,
    digits_for,
    limits,
    name_rows,
    new_figure,
    of_patient,
    pick,
    shorten,
    slug,
)
from multimodn.figures.theme import Theme
from multimodn.findings.numbers import MINUS, counted, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST = 0.01
"""Length of the axis, at least: a gain of next to nothing is no long bar."""

EVERY_TASK = "all"
"""The task whose gains are shares, see `multimodn.explain.acquisition.next_modality`."""

COLUMNS = ("task", "modality", "gain", "cost", "rank")


def next_chart(
    following: pd.DataFrame, task: str | None = None, *, patient: object | None = None, most: int = MOST_ROWS
) -> Picture:
    """Draws what to measure next: for a patient the absent modalities by gain, for a cohort how often each is first.

    Args:
        following: The frame of `MultiModN.next`.
        task: Default: the first.
        patient: Default: the cohort, or the only patient there is.
        most: Modalities that are drawn.

    Raises:
        StudyError: If the task is unknown.
        DataError: If there is nothing to draw, or the patient has no rows.
    """
    check(following, COLUMNS, "what to measure next")
    task = pick(following["task"], task, "task")
    rows = following[following["task"].astype(str) == task]
    if patient is not None:
        rows = of_patient(rows, patient)
    if rows.index.nunique() == 1:
        return _of_patient(rows, task, most)
    return _of_cohort(rows, task, most)


def _of_patient(rows: pd.DataFrame, task: str, most: int) -> Picture:
    rows = rows.sort_values("rank", kind="stable")
    patient, shown = str(rows.index[0]), rows.head(most)
    gain = shown["gain"].to_numpy(dtype=np.float64)
    digits = digits_for(gain, most=5)
    costs = shown["cost"].to_numpy(dtype=np.float64)
    has_costs = len(np.unique(costs[np.isfinite(costs)])) > 1
    notes = [f"{value:.{digits}f}".replace("-", MINUS) for value in gain]
    if has_costs:
        notes = [f"{note}   cost {cost:g}" for note, cost in zip(notes, costs, strict=True)]
    names = [str(name) for name in shown["modality"]]
    if task == EVERY_TASK:
        what, unit = "the loss of a task, on average over tasks, is", "share of the loss without any modality"
    else:
        what, unit = f"the loss of '{shorten(task, 40)}' is", "nats"
    by = "gain for its cost" if has_costs else "gain"
    caption = (
        f"n = 1 patient ({shorten(patient, 40)}), who lacks {counted(len(rows), 'modality')}; ranked by {by}, first "
        f"on top. Gain: how much {what} expected to fall when the modality is read ({unit}). It is an estimate "
        f"without an interval, and says nothing about what a measurement means for the patient."
    )
    return Picture(
        slug("next", task, patient),
        f"{shorten(task, 40)}: what to measure next in patient {shorten(patient)}",
        caption + _left_out(len(rows) - len(shown)),
        f"Patient {patient}: measure {names[0]} first, expected gain {notes[0]}.",
        lambda theme: _draw(names, gain, notes, f"expected drop in loss, {unit}", theme),
        rows,
    )


def _of_cohort(rows: pd.DataFrame, task: str, most: int) -> Picture:
    first = rows[rows["rank"] == 1]
    counts = pd.DataFrame(
        {
            "first": first.groupby("modality")["gain"].size(),
            "lacking": rows.groupby("modality")["gain"].size(),
            "gain": rows.groupby("modality")["gain"].median(),
        }
    )
    counts["first"] = counts["first"].fillna(0).astype(int)
    counts = counts.sort_values(["first", "gain"], ascending=False, kind="stable")
    n, shown = rows.index.nunique(), counts.head(most)
    names = [str(name) for name in shown.index]
    notes = [f"{row.first:,} of {row.lacking:,} who lack it" for row in shown.itertuples()]
    return Picture(
        slug("next", task),
        f"{shorten(task, 40)}: what to measure next, over the cohort",
        f"n = {counted(n, 'patient')} who lack a modality. Bars: for how many of them a modality is the first to be "
        f"measured, by its expected gain for this task. These are counts; there is no interval."
        f"{_left_out(len(counts) - len(shown))}",
        f"Of {counted(n, 'patient')}, first to be measured: "
        + ", ".join(f"{name} for {percent(k / n)}" for name, k in zip(names[:3], shown["first"], strict=False))
        + ".",
        lambda theme: _draw(
            names, shown["first"].to_numpy(dtype=np.float64), notes, "patients for whom it is the first", theme
        ),
        counts.rename_axis("modality").reset_index(),
    )


def _left_out(n: int) -> str:
    return f" {counted(n, 'modality')} of lower rank not drawn." if n > 0 else ""


def _draw(names: Sequence[str], sizes: Floats, notes: Sequence[str], axis: str, theme: Theme) -> Figure:
    figure = new_figure(0.28 * len(names) + 0.75)
    axes = figure.add_subplot()
    calm(axes, theme)
    rows = np.arange(len(names))
    known = np.nan_to_num(sizes)
    axes.barh(rows[:1], known[:1], 0.58, color=theme.low)
    axes.barh(rows[1:], known[1:], 0.58, color=theme.low, alpha=0.5)
    axes.axvline(0, color=theme.faint, lw=1.0)
    for k, note in enumerate(notes):
        axes.annotate(
            note, (max(known[k], 0.0), k), (5, 0), textcoords="offset points", va="center", size=8.5, color=theme.ink,
            weight="bold" if k == 0 else "normal",
        )  # fmt: skip
    room = 0.025 * max(map(len, notes))
    axes.set_xlim(limits(np.append(known, 0.0), 0.02 if known.min() >= 0 else 0.06, room, LEAST))
    name_rows(axes, names)
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.set_xlabel(axis)
    return figure
