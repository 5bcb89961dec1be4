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
    blocks: list[Block] = [Prose(content.why_not("conflicts"), "absent")]
    if conflicts is not None:
        blocks = [Prose(TASKS), Prose(_worst(conflicts)), drawn(conflict_map, conflicts)]
    by_gain: list[Block] = [Prose(content.why_not("gains"), "absent")]
    if gains is not None:
        by_gain = [Prose(_gained(gains)), drawn(gain_chart, gains)]
    blocks.append(Subsection("tasks-gains", "Gain from training tasks together", by_gain))
    return Section("tasks", "Tasks together", blocks)


def _worst(conflicts: pd.DataFrame) -> str:
    known = conflicts[conflicts["n"] > 0].sort_values("conflict", ascending=False, kind="stable")
    if known.empty:
        return "No patient has labels of two tasks, so that no two can conflict."
    often = known[known["conflict"] > OFTEN].head(MOST)
    named = [f"{row['task']} and {row['other']} ({percent(row['conflict'])})" for row in often.to_dict("records")]
    ends = f"in more than half: {joined(named)}" if named else "no two do in more than half"
    return f"On average two tasks conflict in {percent(float(known['conflict'].mean()))} of batches; {ends}."


def _gained(gains: pd.DataFrame) -> str:
    tasks: dict[str, list[str]] = {}
    for row in gains.astype({"gain": float, "low": float, "high": float}).to_dict("records"):
        gain, low, high = row["gain"], row["low"], row["high"]
        words = "unknown" if low != low else "gains" if low > 0 else "loses" if high < 0 else "no clear difference"
        tasks.setdefault(words, []).append(f"{row['task']} {interval(gain, low, high)}")
    listed = "; ".join(f"{words}: {joined(names)}" for words, names in tasks.items())
    return (
        "A model of each task alone was trained with the same settings on the same patients. Score of the model of all "
        f"tasks less that of the single-task model: {listed}. Each was trained once: another training could differ."
    )
