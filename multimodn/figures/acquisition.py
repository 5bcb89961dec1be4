"""Which absent modality to measure next: for a patient, and for a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.figures.axes import MOST_ROWS, Floats, draw_bars
from multimodn.figures.picture import Picture
from multimodn.figures.selection import pick_name, require_columns, rows_of_patient
from multimodn.figures.theme import Theme
from multimodn.figures.wording import digits_for, not_shown, shorten, slug
from multimodn.findings.numbers import MINUS, counted, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST = 0.01  # length of the axis, at least: a gain of next to nothing is no long bar
EVERY_TASK = "all"  # its gains are shares, see `multimodn.explain.acquisition.next_modality`
COLUMNS = ("task", "modality", "gain", "cost", "rank")


def next_chart(
    following: pd.DataFrame, task: str | None = None, *, patient: object | None = None, most: int = MOST_ROWS
) -> Picture:
    """Draws what to measure next: for a patient the absent modalities by gain, for a cohort how often each is first.

    ``following`` is the frame of `MultiModN.next`. Default: the first task, and the cohort or its only patient.
    """
    require_columns(following, COLUMNS, "the next modality")
    task = pick_name(following["task"], task, "task")
    rows = following[following["task"].astype(str) == task]
    if patient is not None:
        rows = rows_of_patient(rows, patient)
    return (_of_patient if rows.index.nunique() == 1 else _of_cohort)(rows, task, most)


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
    loss, unit = f"the loss of '{shorten(task, 40)}'", "nats"
    if task == EVERY_TASK:
        loss, unit = "the loss (mean over tasks)", "share of the loss without any modality"
    caption = (
        f"n = 1 patient ({shorten(patient, 40)}), {counted(len(rows), 'absent modality')}, ranked by "
        f"gain{' per cost' if has_costs else ''}: expected decrease of {loss} with the modality ({unit}). An estimate "
        "without an interval; not a statement on the clinical value of a measurement."
    )
    return Picture(
        slug("next", task, patient),
        f"{shorten(task, 40)}: what to measure next in patient {shorten(patient)}",
        caption + not_shown(len(rows) - len(shown), "modality", "of lower rank"),
        f"Patient {patient}: first {names[0]}, expected gain {notes[0]}.",
        lambda theme: _draw(names, gain, notes, f"expected decrease of the loss ({unit})", theme),
        rows,
    )


def _of_cohort(rows: pd.DataFrame, task: str, most: int) -> Picture:
    counts = rows.groupby("modality")["gain"].agg(["size", "median"]).set_axis(["lacking", "gain"], axis=1)
    counts.insert(0, "first", rows[rows["rank"] == 1].groupby("modality").size().reindex(counts.index, fill_value=0))
    counts = counts.sort_values(["first", "gain"], ascending=False, kind="stable")
    n, shown = rows.index.nunique(), counts.head(most)
    names, sizes = [str(name) for name in shown.index], shown["first"].to_numpy(dtype=np.float64)
    often = [f"{name} for {percent(k / n)}" for name, k in zip(names[:3], shown["first"], strict=False)]
    notes = [f"{row.first:,} of {row.lacking:,} who lack it" for row in shown.itertuples()]
    return Picture(
        slug("next", task),
        f"{shorten(task, 40)}: what to measure next, over the cohort",
        f"n = {counted(n, 'patient')} who lack a modality. Bars: number of patients for whom the modality has the "
        "highest expected gain for this task; counts, no "
        f"interval.{not_shown(len(counts) - len(shown), 'modality', 'of lower rank')}",
        f"Next modality of {counted(n, 'patient')}: {', '.join(often)}.",
        lambda theme: _draw(names, sizes, notes, "patients for whom it ranks first", theme),
        counts.rename_axis("modality").reset_index(),
    )


def _draw(names: Sequence[str], sizes: Floats, notes: Sequence[str], axis: str, theme: Theme) -> Figure:
    colours = [(theme.low, 0.5 if k else 1.0) for k in range(len(names))]
    figure = draw_bars(theme, names, np.nan_to_num(sizes), notes, axis, colours, least=LEAST)
    for text in (figure.axes[0].get_yticklabels()[0], figure.axes[0].texts[0]):
        text.set_fontweight("bold")
    return figure
