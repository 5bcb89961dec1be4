"""Performance of the model of a report."""

from __future__ import annotations

import pandas as pd

from multimodn.figures.performance import groups_chart, main_rows, overall_chart, steps_chart
from multimodn.findings import sentences
from multimodn.findings.names import metric_name
from multimodn.findings.numbers import interval
from multimodn.report.content import ReportContent
from multimodn.report.html.page import Block, DataTable, Prose, Section, Subsection
from multimodn.report.sections.words import drawn


def performance_section(content: ReportContent) -> Section:
    """Reports scores overall, after each step, by presence pattern and by subgroup."""
    performance = content.get("performance")
    if performance is None:
        return Section("performance", "Performance", [Prose(content.why_not("performance"), "absent")])
    patterns = main_rows(performance, "pattern")["group"]
    blocks: list[Block] = [
        Prose(sentences.PERFORMANCE),
        drawn(overall_chart, performance),
        DataTable("All metrics of each task, over all labelled patients.", _every(performance), is_folded=True),
        Subsection("performance-steps", "After each step", [drawn(steps_chart, performance)]),
    ]
    by_pattern: Block = Prose(
        "No presence pattern is frequent enough among these patients for scores of its own.", "absent"
    )
    if patterns.isin(list(content.patterns)).any():
        by_pattern = drawn(groups_chart, performance, "pattern", content.names)
    by_subgroup: Block = Prose("The study names no subgroups to compare, such as subgroups: [clinical.sex].", "absent")
    if not main_rows(performance, "subgroup").empty:
        by_subgroup = drawn(groups_chart, performance, "subgroup")
    blocks.append(Subsection("performance-patterns", "By presence pattern", [by_pattern]))
    blocks.append(Subsection("performance-subgroups", "By subgroup", [by_subgroup]))
    return Section("performance", "Performance", blocks)


def _every(performance: pd.DataFrame) -> pd.DataFrame:
    rows = performance[performance["by"] == "overall"]
    numbers = [rows[name].astype(float) for name in ("value", "low", "high")]
    texts = [interval(*one) for one in zip(*numbers, strict=True)]
    columns = {"task": rows["task"], "metric": rows["metric"].map(metric_name), "value, 95% interval": texts}
    return pd.DataFrame(columns | {"n": rows["n"]})
