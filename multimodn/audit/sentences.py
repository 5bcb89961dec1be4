"""What the findings of an audit mean and what to do, in plain language."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

from multimodn.audit.findings import Dependence, Shift, TaskAudit, is_high
from multimodn.audit.independence import ALPHA, NEGLIGIBLE
from multimodn.errors import shown

BLIND, POWER = 0.25, 0.8
"""Where a difference in presence must be this large to be noticed with this chance, silence proves little."""

MOST_NAMED = 4  # modalities or patterns in a sentence

LIMIT = (
    "What no audit can see: missingness that depends on the missing value itself, among patients with the same outcome "
    "(self-masking). No data show what was never measured; ask the people who order the measurements."
)


def stratum_name(stratum: int, n_strata: int) -> str:
    """Names a stratum of the outcome: ``low`` or ``high`` of two, else its place and half, such as ``3/4 high``."""
    half = "high" if is_high(stratum, n_strata) else "low"
    return half if n_strata == 2 else f"{stratum + 1}/{n_strata} {half}"


def task_verdict(task: TaskAudit, n_tests: int) -> str:
    """Words the findings about a task: alarms, holes, patterns without labels, and what to do.

    Args:
        task: The findings.
        n_tests: Pairs of task and modality among which p is corrected.
    """
    alarms = [found for found in task.modalities if found.alarm]
    sentences = _alarmed(task, alarms) if alarms else _silent(task, n_tests)
    sentences += _holes(task) + _unlabelled(task)
    return " ".join(sentences)


def shift_verdict(shifts: Sequence[Shift]) -> str:
    """Words the differences of patterns between parts of the split and between groups."""
    sentences = []
    for shift in shifts:
        what = "the parts of the split" if shift.by == "split" else "groups"
        if shift.note:
            sentences.append(shift.note)
        elif not shift.shifted:
            sentences.append(f"Patterns do not differ between {what} beyond chance or by more than a little.")
        else:
            sentences.append(f"Patterns differ between {what}: {_widest(shift)}. {_advice(shift)}")
    return " ".join(sentences) or "There are no parts or groups to compare."


def _alarmed(task: TaskAudit, alarms: list[Dependence]) -> list[str]:
    worst = sorted(alarms, key=lambda found: -found.cramers_v)
    named = "; ".join(_difference(found) for found in worst[:MOST_NAMED])
    more = f"; and {len(worst) - MOST_NAMED} more" if len(worst) > MOST_NAMED else ""
    return [
        f"Alarm: whether a patient has {' or '.join(repr(found.modality) for found in worst[:MOST_NAMED])} depends on "
        f"the outcome of '{task.task}' ({named}{more}).",
        f"{_auroc(task)} A model that sees presence learns this shortcut.",
        "Keep `missingness: neutral` (the default); use `informative` only if modalities go missing for the same "
        "reasons where the model will be used.",
    ]


def _silent(task: TaskAudit, n_tests: int) -> list[str]:
    if sum(n > 0 for n in task.strata) < 2:
        return [f"Nothing can be said about '{task.task}': its labels do not fall into groups of outcome."]
    if task.auroc.low is not None and task.auroc.low >= 0.5 + NEGLIGIBLE / 2:
        return [
            f"No single modality raises an alarm for '{task.task}', but together they tell the outcome: {_auroc(task)} "
            "Keep `missingness: neutral` (the default)."
        ]
    silence = f"No modality raises an alarm for '{task.task}'. {_auroc(task)}"
    blind = noticeable(task.n_low, task.n_high, n_tests)
    if blind < BLIND:
        return [f"{silence} Any mode of training is fine."]
    return [
        f"{silence} But with {task.n_low:,} low and {task.n_high:,} high outcomes a difference in presence of less "
        f"than about {100 * min(blind, 1.0):.0f} points would hardly be noticed: `missingness: neutral` (the default) "
        "is the safe choice."
    ]


def noticeable(n_low: int, n_high: int, n_tests: int) -> float:
    """Returns the difference in presence that raises an alarm with a chance of `POWER`.

    For two shares around one half, and for the strictest of n corrected tests, hence an upper bound.

    Example:
        >>> round(noticeable(500, 500, n_tests=20), 2)
        0.14
    """
    if not n_low or not n_high:
        return 1.0
    normal = NormalDist()
    standard_error: float = 0.5 * (1 / n_low + 1 / n_high) ** 0.5
    return (normal.inv_cdf(1 - ALPHA / 2 / n_tests) + normal.inv_cdf(POWER)) * standard_error


def _auroc(task: TaskAudit) -> str:
    found = task.auroc
    if found.value is None:
        return f"What presence alone predicts cannot be estimated: {found.note}."
    if found.note:
        return f"Presence alone predicts nothing (AUROC .50): {found.note}."
    number = f"AUROC {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
    if found.low is not None and found.low <= 0.5:
        return f"Presence alone predicts nothing that holds for patients left out ({number})."
    return f"Presence alone predicts it with {number}."


def _difference(found: Dependence) -> str:
    if found.present_low is None or found.present_high is None:
        return f"'{found.modality}': Cramér's V {found.cramers_v:.2f}"
    low, high = found.present_low, found.present_high
    text = f"'{found.modality}': {low:.0%} of the low outcomes have it, {high:.0%} of the high ones"
    return text if abs(high - low) >= NEGLIGIBLE else f"{text}, and it differs within these halves"


def _holes(task: TaskAudit) -> list[str]:
    """Patterns whose patients, with everyone who has as much, show no example of an outcome."""
    if not task.holes:
        return []
    n_of = {found.pattern: found.n for found in task.patterns}
    strata: dict[str, list[int]] = {}
    for hole in task.holes:
        if hole.is_pattern and hole.labelled:
            strata.setdefault(hole.subset, []).append(hole.stratum)
    if not strata:
        return []
    largest = sorted(strata, key=lambda name: -n_of[name])
    named = "; ".join(
        f"{name} (n = {n_of[name]:,}): no {_strata_words(strata[name], len(task.strata))}"
        for name in largest[:MOST_NAMED]
    )
    more = f"; and {len(largest) - MOST_NAMED} more" if len(largest) > MOST_NAMED else ""
    n = sum(n_of[name] for name in largest)
    return [
        f"Holes: for {len(largest)} pattern(s) with {n:,} of {task.n:,} patients there is no labelled example of some "
        f"outcome ({named}{more}). Predictions there rest on patients with other patterns."
    ]


def _strata_words(strata: list[int], n_strata: int) -> str:
    return shown([stratum_name(stratum, n_strata) for stratum in sorted(strata)], MOST_NAMED) + " outcome"


def _unlabelled(task: TaskAudit) -> list[str]:
    if not task.unlabelled:
        return []
    return [
        f"Nobody has a label in {len(task.unlabelled)} pattern(s): {shown(task.unlabelled, MOST_NAMED)}. Predictions "
        "there cannot be checked with these data."
    ]


def _widest(shift: Shift) -> str:
    """The modality whose presence differs most between two parts."""
    name, shares = max(shift.presence, key=lambda item: max(item[1]) - min(item[1]))
    low, high = shares.index(min(shares)), shares.index(max(shares))
    return (
        f"'{name}' is there for {shares[low]:.0%} in {shift.parts[low]} and {shares[high]:.0%} in {shift.parts[high]}"
    )


def _advice(shift: Shift) -> str:
    if shift.by == "split":
        return (
            "Scores of the test part then speak of its own patterns: read them by pattern, or split at random, "
            "stratified, if the parts are not given by the question."
        )
    return "A model of the `informative` mode may learn the site through presence: keep `neutral`, and score by group."
