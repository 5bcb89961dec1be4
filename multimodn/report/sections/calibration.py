"""Calibration of a report's model, what a decision by it is worth, and its conformal prediction sets."""

from __future__ import annotations

import numpy as np
import pandas as pd

from multimodn.figures.calibration import MOST_OUTPUTS, calibration_chart
from multimodn.figures.decision import decision_chart
from multimodn.findings import sentences
from multimodn.findings.names import output_words
from multimodn.findings.numbers import interval
from multimodn.report.content import ReportContent
from multimodn.report.html.page import Block, DataTable, Prose, Section, Subsection
from multimodn.report.sections.sets import sets_part
from multimodn.report.sections.words import MOST_TASKS, drawn, few_rows, left_out, more_rows

DECISION = (
    "A decision curve asks whether it is better to treat, or to test further, the patients whose predicted probability "
    "lies above a threshold, than all patients or none. The threshold expresses how many unnecessary treatments are "
    "acceptable for one necessary treatment; people choose it, not the model."
)


def calibration_section(content: ReportContent) -> Section:
    """Compares predictions with what was observed, and reports decision curves and conformal prediction sets."""
    curve, predicted, slopes = (content.get(name) for name in ("calibration", "predicted", "slopes"))
    if curve is None or predicted is None:
        blocks: list[Block] = [Prose(content.why_not("calibration"), "absent")]
    else:
        blocks = [Prose(sentences.CALIBRATION), *(Prose(text) for text in sentences.calibration(content.findings))]
        blocks += _curves(curve, predicted)
        if slopes is not None:
            blocks.append(DataTable("Slope, intercept and calibration error with 95% intervals.", _slopes(slopes)))
        blocks += _by_pattern(content)
    return Section("calibration", "Calibration and decisions", [*blocks, _decisions(content), sets_part(content)])


def _curves(curve: pd.DataFrame, predicted: pd.DataFrame) -> list[Block]:
    sizes = curve.groupby("task", sort=False)["output"].nunique()
    tasks = [str(task) for task in sizes.index]
    shown = tasks[:MOST_TASKS]
    single = [task for task in shown if sizes[task] == 1]
    groups = [single[k : k + MOST_OUTPUTS] for k in range(0, len(single), MOST_OUTPUTS)]
    groups += [[task] for task in shown if sizes[task] > 1]
    return [*(drawn(calibration_chart, curve, predicted, group) for group in groups), *left_out(tasks)]


def _by_pattern(content: ReportContent) -> list[Block]:
    """The same numbers by presence pattern, where any pattern is frequent enough."""
    rows = content.get("calibration_by_pattern")
    if rows is None or not rows["pattern"].isin(list(content.patterns)).any():
        return [Prose("No presence pattern is frequent enough among these patients for its own calibration.", "absent")]
    shown = few_rows(rows)
    table = _slopes(shown)
    table.insert(2, "patients with", [content.pattern_words(str(name)) for name in shown["pattern"]])
    caption = "Slope, intercept and calibration error by presence pattern."
    return [DataTable(caption, table, is_folded=True), *more_rows(rows, shown)]


def _decisions(content: ReportContent) -> Subsection:
    curve, tasks = content.get("decision"), [task.name for task in content.tasks if task.scale == "log-odds"]
    if not tasks:
        text = "No task predicts probabilities of classes, on which a decision could be based."
        blocks: list[Block] = [Prose(text, "absent")]
    elif curve is None:
        blocks = [Prose(content.why_not("decision"), "absent")]
    else:
        scored = [task for task in tasks if (curve["task"] == task).any()]
        drawings = [drawn(decision_chart, curve, [task]) for task in scored[:MOST_TASKS]]
        blocks = [Prose(DECISION), *drawings, *left_out(scored)]
    return Subsection("calibration-decisions", "Decision curves", blocks)


def _slopes(slopes: pd.DataFrame) -> pd.DataFrame:
    slope, intercept = _with_interval(slopes, "slope"), _with_interval(slopes, "intercept")
    both = zip(slope, intercept, strict=True)
    table = pd.DataFrame(
        {
            "task": slopes["task"],
            "output": slopes["output"].map(output_words),
            "slope": [one or ("predictions alike" if other else "too few outcomes") for one, other in both],
            "intercept": [text or "too few outcomes" for text in intercept],
            "calibration error": slopes["ece"],
        }
    )
    if "ece_chance" in slopes:
        table["by chance alone"] = slopes["ece_chance"]
    return table.assign(n=slopes["n"])


def _with_interval(slopes: pd.DataFrame, name: str) -> list[str]:
    columns = [slopes[f"{name}{end}"].astype(float) for end in ("", "_low", "_high")]
    return ["" if np.isnan(one[0]) else interval(*one) for one in zip(*columns, strict=True)]
