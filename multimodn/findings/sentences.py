"""What the page, the model card and the terminal say of findings: plain sentences, no markup; they only render them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from multimodn.findings.experts import ExpertUse
from multimodn.findings.findings import (
    SIGNIFICANT,
    SLOPES,
    Comparison,
    Difference,
    Findings,
    OutputCalibration,
    Score,
    Standing,
)
from multimodn.findings.names import BEST, LATE, arm_name, metric_name, pattern_words
from multimodn.findings.numbers import FEWEST, count, counted, interval, joined, number, percent

MOST_GROUPS = 4  # groups that a sentence names
WIDE = 0.2  # width of an interval, between chance and 1, from which it says little
RESEARCH_TOOL = "multimodn is a research tool and no medical device."
PERFORMANCE = (
    "AUROC and C-index are the probability that, of two patients, the one with the event (or the earlier event) gets "
    "the higher prediction: 0.5 is chance, 1 is perfect. R² is the share of variance that is predicted, 0 for none. "
    "The 95% interval says how much a score would vary with other patients like these, not with another training."
)
CALIBRATION = (
    "Calibration compares predicted with observed: of patients with a predicted probability of 30%, 30% should have "
    "the event. Slope below 1: overconfident (predictions too extreme); above 1: underconfident (too moderate). "
    "Intercept above 0: the event is more frequent than predicted. The calibration error is the mean distance between "
    "observed and predicted in bins of equally many patients; with few patients it is above 0 by chance alone, and "
    "beside it is what it would be on average if the predictions were right."
)
CONTRIBUTIONS = (
    "A contribution is a Shapley value: how far a modality moves a patient's prediction from the prior, averaged over "
    "all orders in which the patient's modalities could be read. The contributions of a patient add up to prediction "
    "minus prior on the link scale: log-odds for classes, the target's units for numbers, log-risk for survival."
)
NOT_CAUSAL = "This is what the model uses; it is not what causes an outcome, nor by how much a score improves."
CONFORMAL = (
    "A conformal prediction set contains the true outcome of a chosen share of patients: one or several classes, an "
    "interval of a number, or a time before which no event is expected. The less is known of a patient, the larger the "
    "set. Where it is uninformative (all classes or none, an interval as wide as without any modality, a time of 0), "
    "the model abstains."
)
CONFORMAL_CONDITIONS = (
    "What is guaranteed: the coverage over patients like the calibration patients, also among patients with the same "
    "modalities.",
    "When: if at least 50 calibration patients had exactly these modalities (method 'own'), whatever the reasons for "
    "missing data, as long as they stay the same. Otherwise (methods 'exact' and 'nested') patients with more "
    "modalities were used, with some hidden: only if missingness depends neither on the outcome nor on the values.",
    "What is not guaranteed: anything about a single patient; anything where missingness depends on the outcome "
    "(missing not at random) and its reasons change, or where patients differ in other ways. No method can guarantee "
    "that, and these numbers cannot show it.",
)
CONFORMAL_SURVIVAL = "Survival: guaranteed only with many patients, and if censoring does not depend on the prognosis."
SIMPLE_MODELS = (
    "Simple models were trained on the same patients as this one, chose their settings on these alone, and predict the "
    "same test patients, who are resampled together. Late ridge fusion is the mean of one ridge regression for each "
    "modality that a patient has. The best single modality is the best of these regressions in inner folds of the "
    "training patients. Differences are this model's score minus the other's."
)
SKIPPED = (
    "A modality that a patient lacks is skipped and leaves the state unchanged. An empty cell of a modality that is "
    "there counts as the average training patient's (0 on the scale that the network sees)."
)
MISSINGNESS = {
    "neutral": "A prediction may not learn the outcome from which modalities a patient has, or which cells are empty: "
    "training corrects for missingness that depends on the outcome, and outputs are calibrated for each subset of "
    "modalities.",
    "informative": "The model is told which modalities a patient has, and uses it. Its predictions hold only where "
    "modalities are missing for the same reasons as in the training data.",
    "off": "Absent modalities are skipped, and nothing else is done. Predictions may rest on which modalities a "
    "patient has, and can be wrong where they are missing for other reasons than in the training data.",
}


EXPERTS = (
    "Beside the network there are experts, simple models of single modalities. Predictions add up what the network and "
    "the experts say, with weights that were fitted on held-out patients; 0 is no part."
)
NO_EXPERTS = "There are no experts: the network predicts alone."


def score(found: Score) -> str:
    """Writes ``death: AUROC 0.79 (0.64 to 0.94), n = 120``."""
    text = interval(found.value, found.low, found.high)
    return f"{found.task}: {metric_name(found.metric)} {text}, n = {found.n:,}"


def best_and_worst(found: Findings) -> list[str]:
    """Names the tasks with the highest and the lowest score, among those that can be compared, and R² of numbers."""
    known = [one for one in found.scores if not np.isnan(one.value)]
    ranked = sorted((one for one in known if one.chance == 0.5), key=lambda one: -one.value)
    ranked = [one for one in ranked if one.has_interval] or ranked
    texts = [f"{score(one)}." for one in known if one.metric == "r2"][:3]
    if len(ranked) > 1:
        texts.insert(0, f"Highest: {score(ranked[0])}. Lowest: {score(ranked[-1])}.")
    elif ranked:
        texts.insert(0, f"{score(ranked[0])}.")
    return [" ".join([*texts, "95% intervals in brackets."])] if texts else []


def score_cautions(found: Findings) -> list[str]:
    """Says which scores have no interval, include chance, or have a wide interval."""
    unsure = [one.task for one in found.scores if not one.has_interval]
    chance = [one.task for one in found.scores if one.includes_chance]
    wide = [one.task for one in found.scores if one.high - one.low > WIDE and one.task not in chance]
    return [
        *_of(unsure, "Too few patients or outcomes for an interval of {}: the score is unreliable."),
        *_of(chance, "Predictions of {} are not shown to be better than chance."),
        *_of(wide, f"Performance on {{}} is known only roughly: intervals are wider than {WIDE:g}."),
    ]


def _of(tasks: Iterable[str], text: str) -> list[str]:
    names = list(dict.fromkeys(tasks))
    return [text.format(joined(names))] if names else []


def _slope(one: OutputCalibration) -> str:
    name = one.task if one.output == one.task else f"{one.task}, {one.output}"
    return f"{name} (slope {number(one.slope)}, {number(one.slope_low)} to {number(one.slope_high)})"


def calibration(found: Findings) -> list[str]:
    """Says in one sentence in which way predictions clearly depart from what was observed, task by task."""
    words: dict[str, list[str]] = {}
    tasks = dict.fromkeys(one.task for one in found.calibration)
    for task in tasks:
        outputs = [one for one in found.calibration if one.task == task]
        known = [one for one in outputs if one.has_interval]
        name = task if len(known) in (0, len(outputs)) else f"{task} ({len(known)} of {len(outputs)} outputs)"
        words.setdefault(_departure(known), []).append(name)
    said = [f"predictions of {joined(names)} {text}" for text, names in words.items()]
    if not said:
        return []
    slopes = [one.slope for one in found.calibration if not np.isnan(one.slope)]
    ends = " to ".join(dict.fromkeys([number(min(slopes)), number(max(slopes))])) if slopes else ""
    return [f"Calibration: {'; '.join(said)}." + (f" Slopes (1 is ideal): {ends}." if ends else "")]


def _departure(known: Sequence[OutputCalibration]) -> str:
    if not known:
        return "cannot be judged: too few outcomes"
    checks: dict[str, Callable[[OutputCalibration], bool]] = {
        "overconfident": lambda one: one.slope_high < 1,
        "underconfident": lambda one: one.slope_low > 1,
        "too low on average": lambda one: one.intercept_low > 0,
        "too high on average": lambda one: one.intercept_high < 0,
    }
    found = [text for text, check in checks.items() if any(map(check, known))]
    return f"are {joined(found)}" if found else "do not differ from what was observed by more than chance"


def miscalibrated(found: Findings) -> list[str]:
    """Names the outputs whose predictions are clearly overconfident or underconfident, with their slopes."""
    named = _of((_slope(one) for one in found.calibration if one.slope_high < 1), "overconfident for {}")
    named += _of((_slope(one) for one in found.calibration if one.slope_low > 1), "underconfident for {}")
    return [f"Predictions are {'; '.join(named)}."] if named else []


def unusual_slopes(found: Findings) -> list[str]:
    """Names the outputs whose slope is outside of `SLOPES`, possibly by chance."""
    far = [_slope(one) for one in found.calibration if one.has_unusual_slope]
    return _of(far, f"Possibly by chance, the slope is outside {SLOPES[0]:g} to {SLOPES[1]:g} for {{}}.")


def unknown_calibration(found: Findings) -> list[str]:
    """Names the tasks whose calibration is unknown."""
    known = {one.task for one in found.calibration if not np.isnan(one.slope)}
    lacking = [one.task for one in found.calibration if one.task not in known]
    return _of(lacking, "The calibration of {} is unknown: too few outcomes.")


def coverage(found: Findings) -> list[str]:
    """Says how many patients conformal prediction sets covered, and how often the model abstained."""
    if not found.coverage:
        return []
    shares = _range([one.coverage for one in found.coverage])
    abstained = _range([one.abstained for one in found.coverage])
    several = ", depending on the task" if " to " in shares + abstained else ""
    level = percent(found.coverage[0].level)
    return [f"{level} conformal prediction sets covered {shares} of patients and abstained for {abstained}{several}."]


def _range(shares: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys([percent(min(shares)), percent(max(shares))]))


def low_coverage(found: Findings) -> list[str]:
    """Names the tasks whose conformal prediction sets covered clearly fewer patients than their level."""
    short = [one.task for one in found.coverage if not one.reached]
    return _of(short, "Conformal prediction sets of {} covered fewer patients than their level (see Calibration).")


def experts(found: ExpertUse) -> list[str]:
    """Says how much network and experts count in each task, and which modalities have no expert, and why.

    Small counts in the reasons are hidden.
    """
    if not found.weights:
        return [NO_EXPERTS]
    own = [one for one in found.weights if one.has_expert]
    weighed = "; ".join(f"{one.task} {number(one.network)} and {number(one.experts)}" for one in own)
    alone = _of((one.task for one in found.weights if not one.has_expert), "The network predicts {} alone.")
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in found.left_out:
        if one.task is not None:
            reasons.setdefault((one.modality, one.reason), []).append(one.task)
    modalities: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (modality, reason), tasks in reasons.items():
        modalities.setdefault((reason, tuple(tasks)), []).append(modality)
    lacking = [
        f"of {joined(names)} for {joined(tasks)} ({_without_small_counts(reason)})"
        for (reason, tasks), names in modalities.items()
    ]
    trees: dict[str, list[str]] = {}
    for one in found.left_out:
        if one.task is None:
            trees.setdefault(one.reason, []).append(one.modality)
    no_trees = [f"No boosted trees of {joined(names)}: {reason}." for reason, names in trees.items()]
    return [
        *([EXPERTS, f"Weights of network and experts: {weighed}."] if own else []),
        *alone,
        *([f"There is no expert {'; '.join(lacking)}."] if lacking else []),
        *no_trees,
    ]


def _without_small_counts(reason: str) -> str:
    return re.sub(rf"\b[1-{FEWEST - 1}]\b", lambda found: count(int(found[0])), reason)


def contributions(found: Findings) -> list[str]:
    """Names the modalities that contribute most, by the number of tasks."""
    first: dict[str, str] = {}
    for one in found.contributions:
        first.setdefault(one.task, one.modality)
    if len({one.modality for one in found.contributions}) < 2:
        return []
    counts = {name: list(first.values()).count(name) for name in first.values()}
    most = sorted(counts.items(), key=lambda item: -item[1])
    named = joined((f"{name} ({counted(n, 'task')})" for name, n in most), 4)
    return [f"Largest mean contribution: {named}. {NOT_CAUSAL}"]


def fusion(found: Findings) -> list[str]:
    """Says in one sentence of all tasks how this model compares with the best single modality and late ridge fusion."""
    if not found.comparisons:
        return []
    overall = [one for task in found.comparisons for one in task.overall]
    by_arm = {arm: [one for one in overall if one.arm == arm] for arm in (BEST, LATE)}
    parts = [f"compared with {arm_name(arm)} it is {_sides(rows)}" for arm, rows in by_arm.items() if rows]
    if not parts:
        return ["This model could not be compared with simple models."]
    text = f"This model and simple models: {'; '.join(parts)}."
    if by_arm[BEST] and not any(one.side > 0 and not one.is_lost for one in by_arm[BEST]):
        is_adjusted = any(one.side > 0 for one in by_arm[BEST])
        adjusted = "After adjustment for all comparisons, these" if is_adjusted else "These"
        text += f" {adjusted} patients do not show that multimodal fusion helped."
    return [text]


def _sides(rows: Sequence[Difference]) -> str:
    adjusted = " (no longer so after adjustment for all comparisons)"
    kinds = {
        "better for {}": [one for one in rows if one.side > 0 and not one.is_lost],
        f"better for {{}}{adjusted}": [one for one in rows if one.side > 0 and one.is_lost],
        "not clearly different for {}": [one for one in rows if one.has_interval and not one.side],
        f"worse for {{}}{adjusted}": [one for one in rows if one.side < 0 and one.is_lost],
        "worse for {}": [one for one in rows if one.side < 0 and not one.is_lost],
        "not comparable for {}, where patients or outcomes are too few": [one for one in rows if not one.has_interval],
    }
    return ", ".join(text.format(joined(one.task for one in each)) for text, each in kinds.items() if each)


def comparison(found: Comparison) -> str:
    """Says for one task whether fusion helped, whether a ridge regression does as well, and for whom.

    "Helped", "better" and "clearly" mean that the 95 % interval of the paired difference excludes 0; where Holm's
    adjustment for all comparisons takes that back, the sentence says so. Models other than late ridge fusion and the
    best single modality are named only if they clearly differ.
    """
    value = number(found.ours.value)
    start = f"{found.task}: {metric_name(found.ours.metric)} {value} in {found.ours.n:,} test patients"
    if not found.overall:
        return f"{start}; no baseline could predict this task."
    if not any(one.has_interval for one in found.overall):
        return f"{start}; too few of them, or of their outcomes, to say whether fusion helped."
    arms = {one.arm: one for one in found.overall}
    texts = [_fusion(arms[BEST], found.best_single)] if BEST in arms else []
    texts += [_ridge(arms[LATE])] if LATE in arms else []
    texts += [
        f"it is {'better' if one.side > 0 else 'worse'} than {arm_name(arm)} ({_gap(one)})"
        for arm, one in arms.items()
        if arm not in {BEST, LATE} and one.side
    ]
    return "; ".join([start, *texts, *_groups(found)]) + "."


def _fusion(one: Difference, best: str) -> str:
    single = f"the best single modality ({best})" if best else "the best single modality"
    if not one.has_interval:
        return f"whether fusion helped beyond {single} is not known"
    words = {
        1: f"{'may have helped' if one.is_lost else 'helped'}: better than",
        0: f"made no clear difference: {'as good as' if one.is_close else 'neither better nor worse than'}",
        -1: "did not help: worse than",
    }
    return f"multimodal fusion {words[one.side]} {single} with {_gap(one)}"


def _ridge(one: Difference) -> str:
    if not one.has_interval:
        return "it cannot be compared with late ridge fusion"
    words = {
        1: "better than late ridge fusion with",
        0: "a ridge regression does as well, as far as these patients show: late ridge fusion has",
        -1: "a ridge regression does better: late ridge fusion has",
    }
    return f"{words[one.side]} {_gap(one)}"


def _gap(one: Difference) -> str:
    text = f"{number(one.value)}, difference {interval(one.difference, one.low, one.high, is_signed=True)}"
    return f"{text}, no longer clear after adjustment for all comparisons" if one.is_lost else text


def standing(found: Standing) -> str:
    """Says for one task of a cross-validation which arm is best, or which are tied.

    Best is an arm that is better than every other, by an interval over patients and one over folds.
    """
    start = f"{found.task}: {arm_name(found.arm)} has the highest {metric_name(found.metric)}, {number(found.value)}"
    if not found.rivals:
        return f"{start}; there is no other arm."
    level = [one for one in found.rivals if one.verdict != "better"][:MOST_GROUPS]
    gaps = joined(interval(one.difference, one.low, one.high, 3) for one in level or found.rivals[:1])
    if found.is_best:
        ahead = f"ahead of {arm_name(found.rivals[0].arm)} by {gaps}"
        return f"{start}, and is best: {ahead}" + (", and of all others." if len(found.rivals) > 1 else ".")
    n_more = sum(one.verdict != "better" for one in found.rivals) - len(level)
    more = f", and with {n_more} more" if n_more else ""
    word = "difference" if len(level) == 1 else "differences"
    return f"{start}, but is tied with {joined(arm_name(one.arm) for one in level)}: {word} {gaps}{more}."


def _groups(found: Comparison) -> list[str]:
    """For whom this model clearly differs from the two that matter."""
    looked = [one for one in found.groups if one.arm in (BEST, LATE) and one.has_interval]
    if not looked:
        return ["no group is large enough to compare on its own"]
    n_groups = counted(len({one.group for one in looked}), "group")
    clear = [one for one in looked if one.side]
    if not clear:
        whom = "either" if len({one.arm for one in looked}) > 1 else arm_name(looked[0].arm)
        return [f"it does not clearly differ from {whom} in any of {n_groups}"]
    texts = []
    for side, word, arm in ((1, "better", LATE), (1, "better", BEST), (-1, "worse", LATE), (-1, "worse", BEST)):
        those = [one for one in clear if (one.side, one.arm) == (side, arm)]
        if those:
            named = "; ".join(f"{group(one, found.seen)} (n = {one.n:,})" for one in those[:MOST_GROUPS])
            more = f" and {len(those) - MOST_GROUPS} more" if len(those) > MOST_GROUPS else ""
            texts.append(f"clearly {word} than {arm_name(arm)} in {named}{more}")
    kept = sum(one.p_adjusted < SIGNIFICANT for one in clear)
    texts[-1] += f" ({len(looked)} comparisons in {n_groups}, of which one in twenty would be clear by chance; "
    texts[-1] += f"{kept} of {len(clear)} remain after adjustment)"
    return texts


def group(one: Difference, seen: Sequence[str]) -> str:
    """Names a group of patients: ``labs.sex = f``, ``patients with all but protein``."""
    return one.group if one.modalities is None else f"patients with {pattern_words(one.modalities, seen)}"
