"""Conformal prediction sets in a report: their coverage, overall and by presence pattern, and the set of a patient."""

from __future__ import annotations

import numpy as np
import pandas as pd

from multimodn.findings import sentences
from multimodn.findings.frames import CoverageFrame
from multimodn.findings.numbers import INFINITY, MINUS, counted, interval, joined, percent
from multimodn.report.content import ReportContent, TaskInfo
from multimodn.report.html.page import Block, DataTable, Listing, Prose, Subsection
from multimodn.report.sections.words import few_rows, more_rows

COHORT = "Their level is {level}; they were calibrated on patients whom the model was not trained on."
HELD_OUT = (
    "Their level is {level}; they were calibrated on patients held out in training. As these patients chose when "
    "training stopped, their predictions are slightly too good, and sets may be slightly too small."
)
MEMBERS = (
    " Each member of the ensemble is calibrated on the patients that it was not trained on: {proven} coverage is "
    "proven, {level} is usual."
)
MOST_CLASSES = 6  # classes of a set that are named


def sets_part(content: ReportContent) -> Subsection:
    """Reports the coverage of conformal prediction sets, overall and by presence pattern."""
    name, title = "calibration-sets", "Conformal prediction sets"
    coverage = content.get("coverage")
    if coverage is None:
        return Subsection(name, title, [Prose(content.why_not("coverage"), "absent")])
    level = float(coverage["level"].iloc[0])
    has_times = any(task.scale == "log-risk" for task in content.tasks)
    conditions = [*sentences.CONFORMAL_CONDITIONS, *([sentences.CONFORMAL_SURVIVAL] if has_times else [])]
    short = coverage[~coverage["reached"].astype(bool)]
    text = f"In {len(short)} of {counted(len(coverage), 'row')} of the table the interval lies below {percent(level)}; "
    text += "by chance up to one in forty would."
    caption = (
        f"Coverage of {percent(level)} conformal prediction sets, with 95% intervals (Clopper and Pearson; for "
        "survival, patients are weighted by the inverse probability of having been observed)."
    )
    shown, typed = few_rows(coverage), CoverageFrame.of(coverage)
    calibrated_on = COHORT if typed.source == "cohort" else HELD_OUT + (MEMBERS if typed.n_members > 1 else "")
    blocks: list[Block] = [
        Prose(sentences.CONFORMAL),
        Prose(calibrated_on.format(level=percent(level), proven=percent(2 * level - 1))),
        Listing(conditions),
        Prose(text, "caution" if (short["pattern"] == "all").any() else "plain"),
        DataTable(caption, _coverage(content, shown)),
    ]
    return Subsection(name, title, [*blocks, *more_rows(coverage, shown)])


def _coverage(content: ReportContent, coverage: pd.DataFrame) -> pd.DataFrame:
    tasks = {task.name: task for task in content.tasks}
    rows = coverage.to_dict("records")
    above = np.where(coverage["reached"].astype(bool), "above", "below")
    return pd.DataFrame(
        {
            "task": [f"{row['task']}: {row['output']}" if row["output"] else row["task"] for row in rows],
            "patients with": [content.pattern_words(row["pattern"]) for row in rows],
            "n": [row["n"] for row in rows],
            "coverage": [interval(row["coverage"], row["low"], row["high"]) for row in rows],
            "compared with the level": np.where(coverage["within"].astype(bool), "within chance", above),
            "mean size": [_size(tasks.get(row["task"]), float(row["size"])) for row in rows],
            "abstained": [percent(float(row["abstained"])) for row in rows],
            "method": [row["method"].replace("+", ", ") for row in rows],
            "calibration patients": ["" if np.isnan(n) else f"{n:,.0f}" for n in coverage["n_calibration"]],
        }
    )


def _size(task: TaskInfo | None, size: float) -> str:
    if task is None or not np.isfinite(size):
        return "infinite" if np.isinf(size) else ""
    if task.scale == "log-odds":
        return f"{size:.1f} classes"
    return f"{size:.3g} wide" if task.scale == "units" else f"at least {size:,.4g}"


def set_words(rows: pd.DataFrame, task: TaskInfo) -> str:
    """Words the set of one patient and task; ``rows`` of `MultiModN.conformal`."""
    if rows.empty:
        return ""
    if rows["in_set"].notna().all():
        labels = rows["output"].astype(str)
        units = labels.map(lambda name: name.rpartition("=")[0] if task.kind == "multilabel" else "")
        return joined([_classes(str(label), part) for label, part in rows.groupby(units, sort=False)], MOST_CLASSES)
    low, high, abstains = float(rows["low"].iloc[0]), float(rows["high"].iloc[0]), bool(rows["abstain"].iloc[0])
    if np.isnan(high):
        return "abstains: no time can be given" if abstains else f"no event before {low:,.4g}"
    words = f"{low:.4g} to {high:.4g}".replace("-", MINUS).replace("inf", INFINITY)
    return f"abstains: {words}, no narrower than without any modality" if abstains else words


def _classes(label: str, rows: pd.DataFrame) -> str:
    names = rows.loc[rows["in_set"].astype(bool), "output"].astype(str)
    if not rows["abstain"].iloc[0]:
        return joined(names, MOST_CLASSES, last="or")
    of = f"{label}: " if label else ""
    return f"{of}abstains, {'every class is in the set' if len(names) else 'no class fits'}"
