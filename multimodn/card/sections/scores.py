"""Sections on what was measured on the test patients."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from multimodn.card.facts import Facts
from multimodn.card.scores import LEVEL, Scores
from multimodn.card.sections.data import pattern_words
from multimodn.card.wording import patients, rows_of
from multimodn.findings.markdown import Markup, code, escaped, heading, items, listed, prose, table
from multimodn.findings.names import metric_name
from multimodn.findings.numbers import FEW, FEWEST, count, counted, counts, interval, number

CALIBRATION = ("ece", "calibration_slope", "calibration_intercept")
"""Metrics that the section on calibration tells for each output."""
MOST_NAMED = 5
NOT_COMPARED = "Not compared yet"
NOTHING = "There are no test patients to measure this on."
SCALES = {"log-odds": "log-odds", "units": "the units of the target", "log-risk": "log-risk"}


def performance_section(facts: Facts, scores: Scores) -> list[str]:
    """Tells every metric of every task, and the main one by subgroup and by pattern."""
    lines = heading("9. Performance on test patients")
    if scores.performance.empty:
        few = f"There are {FEW} test patients: no number is told of them." if facts.n_test else NOTHING
        return lines + prose(few)
    frame = scores.performance
    every = frame[(frame["by"] == "overall") & ~frame["metric"].isin(CALIBRATION)]
    rows = [
        (row.task, metric_name(row.metric), interval(row.value, row.low, row.high), count(int(row.n)))
        for row in rows_of(every)
        if row.n >= FEWEST
    ]
    n_draws = frame.n_resamples
    lines += prose(
        f"{patients(facts.n_test)} whom the weights were not learned from, each with all that they have. Brackets hold "
        f"95% percentile intervals of {n_draws:,} resamples of these patients; {code('no interval')} means that "
        "patients or outcomes are too few. They do not tell how the model would vary with other training patients."
    )
    lines += table(["Task", "Metric", "Value", "Patients"], rows, 2)
    lines += [*_subgroups(facts, scores), *_patterns(facts, scores)]
    return lines


def _subgroups(facts: Facts, scores: Scores) -> list[str]:
    lines = heading("By subgroup", 3)
    named = facts.model.study.subgroups
    if not named:
        return lines + prose(f"The study names no columns to compare by ({code('subgroups')}).")
    if scores.subgroups_failed:
        return lines + prose("The columns that the study names could not be read for each patient.")
    rows, left = _group_rows(scores.of("subgroup"), named)
    if not rows:
        return lines + prose(
            f"{listed(named)}: no group has enough test patients and outcomes for a score with an interval."
        )
    whose = scores.performance.tertiles
    return [
        *lines,
        *prose(f"Numbers are cut at the tertiles of the {escaped(whose)}." if whose else ""),
        *table(["Task", "Group", "Value", "Patients"], rows, 2),
        *prose(f"{counted(left, 'score')} of groups with too few patients or outcomes not told." if left else ""),
    ]


def _patterns(facts: Facts, scores: Scores) -> list[str]:
    lines, found = heading("By what patients have", 3), scores.of("pattern")
    if found["group"].str.startswith("other patterns").all():
        return lines + prose("No combination of modalities has enough test patients and outcomes to be told apart.")
    rows, left = _group_rows(found, names=list(facts.presence.columns))
    return [
        *lines,
        *table(["Task", "Modalities", "Value", "Patients"], rows, 2),
        *prose(
            "Combinations of too few patients or outcomes are pooled.",
            f"{counted(left, 'score')} of groups that are still too small not told." if left else "",
        ),
    ]


def _group_rows(
    frame: pd.DataFrame, columns: Sequence[str] = (), names: Sequence[str] = ()
) -> tuple[list[tuple[object, ...]], int]:
    """Rows of the groups whose scores have intervals, and how many have none."""
    rows: list[tuple[object, ...]] = []
    left = 0
    whole = frame["group"].map(lambda group: _column_of(str(group), columns))
    for (task, _), part in frame[frame["n"] > 0].groupby(["task", whole], sort=False):
        # groups of one column add up to the labelled patients: a small one must not follow from the others
        for row, n in zip(rows_of(part), counts(part["n"].astype(int).tolist()), strict=True):
            if np.isnan(row.low) or row.n < FEWEST:
                left += 1
                continue
            name = _pattern_name(row.group, names) if row.by == "pattern" else row.group
            rows.append((task, name, interval(row.value, row.low, row.high), n))
    return rows, left


def _pattern_name(name: str, names: Sequence[str]) -> str:
    found = re.fullmatch(r"other patterns \((\d+)\)", name)
    return (
        f"other patients ({found.group(1)}), pooled" if found else pattern_words(np.isin(names, name.split("+")), names)
    )


def _column_of(group: str, columns: Sequence[str]) -> str:
    """Names the column that a subgroup comes from; patterns are one whole."""
    return max((name for name in columns if group.startswith(name)), key=len, default="")


def calibration_section(facts: Facts, scores: Scores) -> list[str]:
    """Tells slopes and intercepts."""
    lines = heading("10. Calibration on test patients")
    if scores.calibration.empty:
        return lines + prose(NOTHING if not facts.n_test else f"There are {FEW} test patients.")
    rows = []
    for row in rows_of(scores.calibration):
        if row.n < FEWEST:
            continue
        slope, intercept = (
            interval(value, low, high).replace("undefined", "too few")
            for value, low, high in (
                (row.slope, row.slope_low, row.slope_high),
                (row.intercept, row.intercept_low, row.intercept_high),
            )
        )
        chance = "" if np.isnan(row.ece_chance) else f" ({number(row.ece_chance)})"
        error = "" if np.isnan(row.ece) else f"{number(row.ece)}{chance}"
        rows.append((row.task, row.output, slope, intercept, error, count(int(row.n))))
    return [
        *lines,
        *table(["Task", "Output", "Slope (ideal 1)", "Intercept (ideal 0)", "Error (by chance)", "Patients"], rows, 2),
        *prose(
            "Slope: below 1, predictions are too extreme; above 1, too timid. Intercept: how much higher outcomes are "
            "than predicted, in log-odds, units or log of observed over expected events. Error: mean distance of "
            "observed from predicted in bins of equally many patients; in brackets what it would be by chance if "
            "predictions were right. Too few: fewer than 5 patients of either outcome, or predictions all alike.",
        ),
    ]


def contributions_section(facts: Facts, scores: Scores) -> list[str]:
    """Tells which modalities move predictions."""
    lines = heading("11. What the predictions rest on")
    if scores.summary.empty:
        return lines + prose(NOTHING if not facts.n_test else f"There are {FEW} test patients.")
    found = scores.summary[scores.summary["n"] >= FEWEST]
    rows: list[tuple[object, ...]] = []
    for task, part in found.groupby("task", sort=False):
        sizes = part.groupby("modality", sort=False).agg(size=("mean_abs", "mean"), n=("n", "max"))
        sizes = sizes.sort_values("size", ascending=False, kind="stable")
        for name, row in sizes.head(MOST_NAMED).iterrows():
            rows.append((task, name, number(float(row["size"]), 3), count(int(row["n"]))))
    exact = "exact" if len(facts.presence.columns) <= 10 else "sampled"
    scales = dict.fromkeys(SCALES[scale] for scale in scores.scales.values())
    return [
        *lines,
        *prose(
            f"How much each modality moves predictions from the prior, on average over those of "
            f"{scores.n_explained:,} test patients who have it, and over the outputs of a task ({exact} "
            f"Shapley values; {listed(scales)}). "
            "This is what the model uses, not what causes an outcome, nor how much better predictions become.",
        ),
        *table(["Task", "Modality", "Mean size", "Patients"], rows, 2),
        *prose(f"The {MOST_NAMED} largest of each task; modalities that {FEW} test patients have are left out."),
    ]


def sets_section(facts: Facts, scores: Scores) -> list[str]:
    """Tells how often conformal sets held the truth."""
    lines = heading("12. Prediction sets")
    if getattr(facts.model, "sets", None) is None:
        return lines + prose("No conformal sets were calibrated: single predictions come without a stated reliability.")
    if scores.coverage.empty:
        return lines + prose("Conformal sets were calibrated, and there are no test patients to check them on.")
    rows = []
    for row in rows_of(scores.coverage[scores.coverage["pattern"] == "all"]):
        if row.n < FEWEST:
            continue
        value = interval(row.coverage, row.low, row.high)
        label = row.task if row.output == row.task or not row.output else f"{row.task}: {row.output}"
        rows.append((label, value, f"{row.size:.3g}", f"{row.abstained:.0%}", count(int(row.n))))
    return [
        *lines,
        *prose(f"Sets that promise to hold the truth for {LEVEL:.0%} of patients, on the test patients:"),
        *table(["Task", "Held the truth (95%)", "Mean size", "Tell nothing", "Patients"], rows),
        *prose(
            "Size: classes in the set, width of the interval, or the time that is promised to be survived. The promise "
            "is for new patients like these, over all of them; it is void where the reasons for missing data change.",
        ),
    ]


def baselines_section(baselines: pd.DataFrame | None, sentences: Sequence[str] | None) -> list[str]:
    """Compares with simple models, if that was asked."""
    from multimodn.findings.names import arm_name

    lines = heading("13. Comparison with simple models")
    if baselines is None or baselines.empty:
        return lines + prose(
            f"{NOT_COMPARED}: whether a regression would do as well is not known. "
            f"{code('multimodn report RUN')} trains simple models beside this one and adds the comparison here."
        )
    rows = []
    for row in rows_of(baselines[baselines["by"] == "overall"]):
        if row.n < FEWEST:
            continue
        ours = row.arm == "ours"
        difference = Markup("") if ours else escaped(interval(row.difference, row.difference_low, row.difference_high))
        value = interval(row.value, row.low, row.high)
        rows.append((row.task, arm_name(str(row.arm)), metric_name(row.metric), value, difference, count(int(row.n))))
    return [
        *lines,
        *items(escaped(text) for text in sentences or []),
        *prose(
            "All were trained on the same patients and predict the same test patients, who are resampled together; "
            "differences are this model's minus the other's."
        ),
        *table(["Task", "Model", "Metric", "Value", "Difference", "Patients"], rows, 3),
    ]
