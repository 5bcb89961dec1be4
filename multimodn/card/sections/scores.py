"""Sections on what was measured on the test patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from multimodn.card.facts import CardFacts
from multimodn.card.scores import CardScores
from multimodn.card.wording import patients, rows_of
from multimodn.explain.contributions import MAX_MODALITIES
from multimodn.findings import sentences
from multimodn.findings.findings import Findings
from multimodn.findings.frames import Patterns
from multimodn.findings.markdown import code, escaped, heading, items, listed, prose, table
from multimodn.findings.names import OURS, arm_name, metric_name, output_words, pattern_words
from multimodn.findings.numbers import FEW, FEWEST, cell, count, counted, counts, interval, number, percent

CALIBRATION = ("ece", "calibration_slope", "calibration_intercept")  # metrics of the section on calibration
MOST_NAMED = 5
NOT_COMPARED = "Not compared yet"
SCALES = {"log-odds": "log-odds", "units": "the units of the target", "log-risk": "log-risk"}


def _no_scores(facts: CardFacts) -> list[str]:
    few = f"There are {FEW} test patients: no number about them is reported."
    return prose(few if facts.n_test else "There are no test patients to measure this on.")


def performance_section(facts: CardFacts, scores: CardScores) -> list[str]:
    """Reports every metric of every task, and the main one by subgroup and by presence pattern."""
    lines = heading("9. Performance")
    frame = scores.performance
    if frame.empty:
        return lines + _no_scores(facts)
    every = frame[(frame["by"] == "overall") & ~frame["metric"].isin(CALIBRATION)]
    rows = [
        (row.task, metric_name(row.metric), interval(row.value, row.low, row.high), count(int(row.n)))
        for row in rows_of(every)
        if row.n >= FEWEST
    ]
    return [
        *lines,
        *prose(
            f"{patients(facts.n_test)} whom the model was not trained on, each with all their modalities. In brackets: "
            f"95% percentile intervals of {frame.n_resamples:,} bootstrap resamples of these patients; "
            f"{code('no interval')}: too few patients or outcomes.",
            sentences.PERFORMANCE,
        ),
        *table(["Task", "Metric", "Value", "Patients"], rows, 2),
        *_subgroups(facts, scores),
        *_patterns(facts, scores),
    ]


def _subgroups(facts: CardFacts, scores: CardScores) -> list[str]:
    lines, named = heading("By subgroup", 3), facts.model.study.subgroups
    if not named:
        return lines + prose(f"The study names no columns to compare by ({code('subgroups')}).")
    if scores.subgroups_failed:
        return lines + prose("The columns that the study names could not be read for each patient.")
    rows, left = _group_rows(scores.of("subgroup"), columns=named)
    if not rows:
        return lines + prose(
            f"{listed(named)}: no group has enough test patients and outcomes for a score with an interval."
        )
    whose = scores.performance.tertiles
    return [
        *lines,
        *prose(f"Numbers are cut at the tertiles of the {escaped(whose)}." if whose else ""),
        *table(["Task", "Group", "Value", "Patients"], rows, 2),
        *prose(f"{counted(left, 'score')} of groups with too few patients or outcomes not shown." if left else ""),
    ]


def _patterns(facts: CardFacts, scores: CardScores) -> list[str]:
    lines, found, patterns = heading("By presence pattern", 3), scores.of("pattern"), scores.performance.patterns
    if not found["group"].isin(list(patterns)).any():
        return lines + prose("No combination of modalities has enough test patients and outcomes for its own score.")
    rows, left = _group_rows(found, patterns, facts.presence.columns.tolist())
    return [
        *lines,
        *table(["Task", "Modalities", "Value", "Patients"], rows, 2),
        *prose(
            "Combinations with too few patients or outcomes are pooled.",
            f"{counted(left, 'score')} of groups that are still too small not shown." if left else "",
        ),
    ]


def _group_rows(
    frame: pd.DataFrame, patterns: Patterns | None = None, modalities: Sequence[str] = (), columns: Sequence[str] = ()
) -> tuple[list[tuple[object, ...]], int]:
    """Rows of the groups whose scores have intervals, and how many have none."""
    rows: list[tuple[object, ...]] = []
    patterns, left = patterns or {}, 0
    of_group = {group: [name for name in columns if str(group).startswith(name)] for group in frame["group"]}
    whole = frame["group"].map(lambda group: max(of_group[group], key=len, default=""))  # patterns are one whole
    for (task, _), part in frame[frame["n"] > 0].groupby(["task", whole], sort=False):
        # groups of one column add up to the labelled patients: a small one must not follow from the others
        for row, n in zip(rows_of(part), counts(part["n"].astype(int).tolist()), strict=True):
            if np.isnan(row.low) or row.n < FEWEST:
                left += 1
                continue
            name = pattern_words(patterns[row.group], modalities) if row.group in patterns else row.group
            rows.append((task, name, interval(row.value, row.low, row.high), n))
    return rows, left


def calibration_section(facts: CardFacts, scores: CardScores, found: Findings) -> list[str]:
    """Reports slopes, intercepts and calibration errors."""
    lines = heading("10. Calibration")
    if scores.calibration.empty:
        return lines + _no_scores(facts)
    rows = []
    for row in rows_of(scores.calibration[scores.calibration["n"] >= FEWEST]):
        slope = interval(row.slope, row.slope_low, row.slope_high).replace("undefined", "too few")
        intercept = interval(row.intercept, row.intercept_low, row.intercept_high).replace("undefined", "too few")
        chance = "" if np.isnan(row.ece_chance) else f" ({number(row.ece_chance)})"
        error = "" if np.isnan(row.ece) else f"{number(row.ece)}{chance}"
        rows.append((row.task, output_words(row.output), slope, intercept, error, count(int(row.n))))
    too_few = "Too few: fewer than 5 patients with or without the event, or predictions all alike."
    return [
        *lines,
        *prose(*map(escaped, sentences.calibration(found))),
        *table(["Task", "Output", "Slope (ideal 1)", "Intercept (ideal 0)", "Error (by chance)", "Patients"], rows, 2),
        *prose(sentences.CALIBRATION, too_few),
    ]


def contributions_section(facts: CardFacts, scores: CardScores, found: Findings) -> list[str]:
    """Reports which modalities contribute to predictions."""
    lines = heading("11. Contributions of modalities")
    if scores.summary.empty:
        return lines + _no_scores(facts)
    seen: dict[str, int] = {}
    rows = []
    for one in found.contributions:
        seen[one.task] = seen.get(one.task, 0) + 1
        if seen[one.task] <= MOST_NAMED:
            rows.append((one.task, one.modality, number(one.size, 3), count(one.n)))
    exact = "exact" if len(facts.presence.columns) <= MAX_MODALITIES else "sampled"
    scales = listed(dict.fromkeys(SCALES[scale] for scale in scores.scales.values()))
    return [
        *lines,
        *prose(
            f"Mean absolute contribution over those of {scores.n_explained:,} test patients who have the modality, and "
            f"over the outputs of a task ({exact} Shapley values; {scales}). {sentences.NOT_CAUSAL}"
        ),
        *table(["Task", "Modality", "Mean size", "Patients"], rows, 2),
        *prose(f"The {MOST_NAMED} largest of each task, without modalities that {FEW} test patients have."),
    ]


def sets_section(facts: CardFacts, scores: CardScores, found: Findings) -> list[str]:
    """Reports the coverage of conformal prediction sets."""
    lines = heading("12. Conformal prediction sets")
    if facts.model.trained.conformal_scores is None:
        return lines + prose("No conformal prediction sets were calibrated: single predictions have no known coverage.")
    if scores.coverage.empty:
        return lines + prose("Conformal prediction sets were calibrated; there are no test patients to check them on.")
    rows = [
        (
            one.task if one.output in (one.task, "") else f"{one.task}: {one.output}",
            interval(one.coverage, one.low, one.high),
            cell(one.size),
            percent(one.abstained),
            count(one.n),
        )
        for one in found.coverage
    ]
    return [
        *lines,
        *prose(*map(escaped, sentences.coverage(found))),
        *table(["Task", "Coverage (95% interval)", "Mean size", "Abstained", "Patients"], rows),
        *prose(
            "Size: classes in the set, width of the interval, or the time before which no event is expected. "
            "The coverage is guaranteed for new patients like these, over all of them, and only as long as the reasons "
            "for missing data do not change."
        ),
    ]


def baselines_section(found: Findings, comparisons: Sequence[str]) -> list[str]:
    """Compares with simple models, if that was asked for."""
    lines = heading("13. Comparison with simple models")
    if not found.comparisons:
        return lines + prose(
            f"{NOT_COMPARED}: whether a regression would do as well is unknown. "
            f"{code('multimodn report RUN')} trains simple models and adds the comparison here."
        )
    rows = [
        (
            one.task,
            arm_name(one.arm),
            metric_name(one.metric),
            interval(one.value, one.value_low, one.value_high),
            "" if one.arm == OURS else interval(one.difference, one.low, one.high),
            count(one.n),
        )
        for task in found.comparisons
        for one in (task.ours, *task.overall)
    ]
    return [
        *lines,
        *items(escaped(text) for text in comparisons),
        *prose(sentences.SIMPLE_MODELS),
        *table(["Task", "Model", "Metric", "Value", "Difference", "Patients"], rows, 3),
    ]
