"""How well the model of a report predicts, and whether its predictions mean what they say."""

from __future__ import annotations

import pandas as pd

from multimodn.report.figures.calibration import MOST_OUTPUTS, calibration_chart
from multimodn.report.figures.forest import metric_words
from multimodn.report.figures.performance import (
    groups_chart,
    interval_words,
    main_rows,
    overall_chart,
    steps_chart,
)
from multimodn.report.findings import Findings
from multimodn.report.page import Block, Numbers, Part, Prose, Section
from multimodn.report.sections_words import MOST_TASKS, drawn, left_out

INTRODUCTION = (
    "AUROC and C-index are the chance that of two patients the one with the worse outcome gets the higher prediction: "
    "0.5 is a coin, 1 is perfect. R² is the share of the variance that is predicted, 0 for nothing. Each score is "
    "given with a 95% interval that says how much it would change with other patients like these."
)
CALIBRATION = (
    "A model is calibrated if of the patients with a predicted chance of 30%, 30% have the outcome. A slope below 1 "
    "says that predictions are too extreme, above 1 that they are too timid; an intercept above 0 that outcomes are "
    "more frequent than predicted. The calibration error is the mean distance from the diagonal; with few patients it "
    "is above 0 by chance alone."
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
            "metric": [metric_words(str(metric)) for metric in rows["metric"]],
            "value, 95% interval": [interval_words(*one) for one in zip(*numbers, strict=True)],
            "n": rows["n"],
        }
    )


def calibration_section(found: Findings) -> Section:
    """Compares predictions with what was observed."""
    curve, predicted, slopes = found.get("calibration"), found.get("predicted"), found.get("slopes")
    if curve is None or predicted is None:
        return Section("calibration", "Calibration", [Prose(found.why_not("calibration"), "absent")])
    sizes = curve.groupby("task", sort=False)["output"].nunique()
    tasks = [str(task) for task in sizes.index]
    shown = tasks[:MOST_TASKS]
    single = [task for task in shown if sizes[task] == 1]
    groups = [single[k : k + MOST_OUTPUTS] for k in range(0, len(single), MOST_OUTPUTS)]
    groups += [[task] for task in shown if sizes[task] > 1]
    blocks: list[Block] = [Prose(CALIBRATION)]
    blocks += [drawn(calibration_chart, curve, predicted, group) for group in groups]
    blocks += left_out(tasks)
    if slopes is not None:
        blocks.append(Numbers("Slope, intercept and calibration error (ece) with 95% intervals.", _slopes(slopes)))
    return Section("calibration", "Calibration", blocks)


def _slopes(slopes: pd.DataFrame) -> pd.DataFrame:
    def written(name: str) -> list[str]:
        columns = [slopes[f"{name}{end}"].astype(float) for end in ("", "_low", "_high")]
        texts = [interval_words(*one) for one in zip(*columns, strict=True)]
        return ["too few outcomes" if text == "undefined" else text for text in texts]

    found = pd.DataFrame({"task": slopes["task"], "output": slopes["output"], "slope": written("slope")})
    is_survival = slopes["output"].str.startswith("survival@")
    found["slope"] = found["slope"].mask(is_survival, "")
    return found.assign(
        intercept=pd.Series(written("intercept"), slopes.index).mask(is_survival, ""), ece=slopes["ece"], n=slopes["n"]
    )
