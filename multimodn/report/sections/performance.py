"""How well the model of a report predicts."""

from __future__ import annotations

import pandas as pd

from multimodn.figures.performance import groups_chart, main_rows, overall_chart, steps_chart
from multimodn.findings.names import metric_name
from multimodn.findings.numbers import interval
from multimodn.report.findings import Findings
from multimodn.report.html.page import Block, Numbers, Part, Prose, Section
from multimodn.report.sections.words import drawn

INTRODUCTION = (
    "AUROC and C-index are the chance that of two patients the one with the worse outcome gets the higher prediction: "
    "0.5 is a coin, 1 is perfect. R² is the share of the variance that is predicted, 0 for nothing. Each score is "
    "given with a 95% interval that says how much it would change with other patients like these."
)


def performance_section(found: Findings) -> Section:
    """Scores tasks overall, after every step, by pattern and by subgroup."""
    performance = found.get("performance")
    if performance is None:
        return Section("performance", "Performance", [Prose(found.why_not("performance"), "absent")])
    patterns = main_rows(performance, "pattern")["group"]
    blocks: list[Block] = [
        Prose(INTRODUCTION),
        drawn(overall_chart, performance),
        Numbers("Every metric of each task, over all labelled patients.", _every(performance), is_folded=True),
        Part("performance-steps", "After every step", [drawn(steps_chart, performance)]),
    ]
    if patterns.str.startswith("other patterns").all():
        text = "No pattern of modalities is frequent enough among these patients to be scored by itself."
        by_pattern: Block = Prose(text, "absent")
    else:
        by_pattern = drawn(groups_chart, performance, "pattern", found.names)
    blocks.append(Part("performance-patterns", "By what patients have", [by_pattern]))
    if main_rows(performance, "subgroup").empty:
        text = "The study names no subgroups, such as subgroups: [clinical.sex], to be compared here."
        by_subgroup: Block = Prose(text, "absent")
    else:
        by_subgroup = drawn(groups_chart, performance, "subgroup")
    blocks.append(Part("performance-subgroups", "By subgroup", [by_subgroup]))
    return Section("performance", "Performance", blocks)


def _every(performance: pd.DataFrame) -> pd.DataFrame:
    rows = performance[performance["by"] == "overall"]
    numbers = [rows[name].astype(float) for name in ("value", "low", "high")]
    return pd.DataFrame(
        {
            "task": rows["task"],
            "metric": [metric_name(str(metric)) for metric in rows["metric"]],
            "value, 95% interval": [interval(*one) for one in zip(*numbers, strict=True)],
            "n": rows["n"],
        }
    )
