"""Conflicts between the tasks of a report, and what each gains from being trained with the others."""

from __future__ import annotations

import pandas as pd

from multimodn.figures.multitask import conflict_map, gain_chart
from multimodn.findings.numbers import interval, joined, percent
from multimodn.report.content import ReportContent
from multimodn.report.html.page import Block, Prose, Section, Subsection
from multimodn.report.sections.words import drawn

TASKS = (
    "All tasks share one patient state. Two tasks conflict in a batch of patients where the gradients of their losses "
    "point in opposite directions. Unrelated tasks conflict in about half of the batches by chance; in far more, they "
    "hinder each other, in far fewer, they support each other. It was measured on training patients with the final "
    "model, and says nothing about scores."
)
MOST, OFTEN = 3, 0.5


def tasks_section(content: ReportContent) -> Section:
    """Reports how often tasks conflict, and what each gains, if that was asked for."""
    conflicts, gains = content.get("conflicts"), content.get("gains")
    blocks: list[Block] = []
    if conflicts is None:
        blocks.append(Prose(content.why_not("conflicts"), "absent"))
    else:
        blocks += [Prose(TASKS), Prose(_worst(conflicts)), drawn(conflict_map, conflicts)]
    if gains is None:
        by_gain: list[Block] = [Prose(content.why_not("gains"), "absent")]
    else:
        by_gain = [Prose(_gained(gains)), drawn(gain_chart, gains)]
    return Section(
        "tasks", "Tasks together", [*blocks, Subsection("tasks-gains", "Gain from training tasks together", by_gain)]
    )


def _worst(conflicts: pd.DataFrame) -> str:
    known = conflicts[conflicts["n"] > 0].sort_values("conflict", ascending=False, kind="stable")
    if known.empty:
        return "No patient has labels of two tasks, so that no two can conflict."
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
        words = "unknown" if unknown else "gains" if low > 0 else "loses" if high < 0 else "no clear difference"
        said.setdefault(words, []).append(f"{task} {interval(gain, low, high)}")
    listed = "; ".join(f"{words}: {joined(said[words])}" for words in said)
    return (
        "A model of each task alone was trained with the same settings on the same patients. Score of the model of all "
        f"tasks less that of the single-task model: {listed}. Each was trained once: another training could differ."
    )
