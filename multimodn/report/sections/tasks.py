"""What the tasks of a report do to each other: whether they pull apart, and what each gains from the others."""

from __future__ import annotations

import pandas as pd

from multimodn.figures.multitask import conflict_map, gain_chart
from multimodn.findings.numbers import interval, joined, percent
from multimodn.report.findings import Findings
from multimodn.report.html.page import Block, Part, Prose, Section
from multimodn.report.sections.words import drawn

TASKS = (
    "All tasks read one patient state. In training each asks to move it; two tasks conflict in a batch of patients "
    "where a step for the one is a step against the other. Tasks that have nothing to do with each other conflict in "
    "about half of the batches by chance; conflict in far more says that they hinder each other, in far fewer that "
    "they ask for the same. It was measured on training patients with the finished model, and tells nothing about "
    "scores."
)
MOST, OFTEN = 3, 0.5


def tasks_section(found: Findings) -> Section:
    """Tells how often tasks conflict, and what each gains, where that was asked."""
    conflicts, gains = found.get("conflicts"), found.get("gains")
    blocks: list[Block] = []
    if conflicts is None:
        blocks.append(Prose(found.why_not("conflicts"), "absent"))
    else:
        blocks += [Prose(TASKS), Prose(_worst(conflicts)), drawn(conflict_map, conflicts)]
    if gains is None:
        by_gain: list[Block] = [Prose(found.why_not("gains"), "absent")]
    else:
        by_gain = [Prose(_gained(gains)), drawn(gain_chart, gains)]
    return Section("tasks", "Tasks together", [*blocks, Part("tasks-gains", "What a task gains", by_gain)])


def _worst(conflicts: pd.DataFrame) -> str:
    known = conflicts[conflicts["n"] > 0].sort_values("conflict", ascending=False, kind="stable")
    if known.empty:
        return "No patient has labels of two tasks, so that tasks do not meet on a patient."
    often = known[known["conflict"] > OFTEN].head(MOST)
    named = [
        f"{one} and {other} ({percent(float(share))})"
        for one, other, share in zip(often["task"], often["other"], often["conflict"], strict=True)
    ]
    mean = percent(float(known["conflict"].mean()))
    if not named:
        return f"On average two tasks conflict in {mean} of batches; no two do in more than half."
    return f"On average two tasks conflict in {mean} of batches; in more than half: {joined(named)}."


def _gained(gains: pd.DataFrame) -> str:
    columns = [gains["task"].astype(str), *(gains[name].astype(float) for name in ("gain", "low", "high"))]
    said: dict[str, list[str]] = {}
    for task, gain, low, high in zip(*columns, strict=True):
        unknown = low != low
        words = "cannot be told" if unknown else "gains" if low > 0 else "loses" if high < 0 else "neither, clearly"
        said.setdefault(words, []).append(f"{task} {interval(gain, low, high)}")
    listed = "; ".join(f"{words}: {joined(said[words])}" for words in said)
    return (
        f"A model of each task alone was trained with the same settings on the same patients. Score of the model of "
        f"all tasks less that of the task alone: {listed}. One training of each: another could differ."
    )
