"""Sentences on the findings of an audit: what they mean and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

from multimodn.audit.findings import CellDependence, Dependence, PresenceAuroc, Shift, TaskAudit, is_high
from multimodn.audit.independence import ALPHA, NEGLIGIBLE
from multimodn.base.task import Task
from multimodn.errors import shown
from multimodn.findings.numbers import counted, interval, joined

BLIND, POWER = 0.25, 0.8  # where a difference must be so large to be detected so often, silence proves little
MOST_NAMED = 4  # modalities or patterns in a sentence

LIMIT = (
    "What no audit can see: missingness that depends on the missing value itself, among patients with the same "
    "outcome (self-masking). No data show what was never measured; ask the people who order the measurements."
)
KEEP = "Keep `missingness: neutral` (the default)"
EMPTY_ADVICE = (
    "Keep `missingness: neutral` (the default): it corrects for which cells are empty, where every outcome has empty "
    "and filled cells; other modes may learn this shortcut. Where some outcome has none, find out why, and leave the "
    "column out if the reason does not hold where the model will be used."
)


def half_names(task: Task, strata: Sequence[int]) -> tuple[str, str]:
    """Names the lower and the upper half of a task's outcomes: ``with death = no`` and ``with death = yes``.

    Strata of which there are no patients, such as combinations of labels, are named only where a half has no others.
    """
    names, n = task.stratum_names, task.n_strata
    if task.link_scale == "log-risk":
        return "without the event", "with the event"
    if task.link_scale == "units":
        return f"with lower {task.name}", f"with higher {task.name}"
    halves = [[k for k in range(n) if is_high(k, n) == half] for half in (False, True)]
    lower, upper = (
        joined((names[k] for k in [k for k in half if strata[k]] or half), MOST_NAMED, "or") for half in halves
    )
    return f"with {task.name} = {lower}", f"with {task.name} = {upper}"


def task_verdict(task: TaskAudit, n_tests: int, n_cell_tests: int = 0) -> str:
    """Writes alarms, absent outcomes, holes, patterns without labels, empty cells, and what to do.

    p is corrected among ``n_tests`` of modalities, and ``n_cell_tests`` of columns.
    """
    sentences = _alarmed(task) if task.alarms else _no_alarm(task, n_tests)
    every = [*sentences, *_absent(task), *_holes(task), *_unlabelled(task), *_cells(task, n_cell_tests)]
    return " ".join(filter(None, every))


def short_verdict(task: TaskAudit, n_tests: int) -> str:
    """Writes the same without shares and counts, which may be of few patients."""
    return " ".join(filter(None, [_short_presence(task, n_tests), *_short_cells(task)]))


def _short_presence(task: TaskAudit, n_tests: int) -> str:
    if task.alarms:
        alarms = joined(one.modality for one in task.alarms)
        return f"alarm. The presence of {alarms} depends on the outcome. {_auroc(task)}"
    sentences = ["no modality raises an alarm." if task.cell_alarms else "no alarm.", _auroc(task)]
    if (blind := noticeable(task.n_low, task.n_high, n_tests)) >= BLIND:
        sentences.append(f"A difference in presence of less than about {_points(blind)} would hardly be detected.")
    if n_holes := len({hole.subset for hole in task.holes if hole.is_pattern}):
        where = "some outcome has no example among patients with at least these modalities"
        sentences.append(f"For {counted(n_holes, 'combination')} of modalities, {where}.")
    return " ".join(sentences)


def shift_verdict(shifts: Sequence[Shift]) -> str:
    """Writes the differences of patterns between parts of the split and between groups."""
    sentences = []
    for shift in shifts:
        what = "the parts of the split" if shift.by == "split" else "groups"
        if shift.note:
            sentences.append(shift.note)
        elif not shift.shifted:
            sentences.append(f"Patterns do not differ between {what} beyond chance and a negligible amount.")
        else:
            sentences.append(f"Patterns differ between {what}: {_widest(shift)}. {_advice(shift)}")
    return " ".join(sentences) or "There are no parts or groups to compare."


def _alarmed(task: TaskAudit) -> list[str]:
    worst = sorted(task.alarms, key=lambda one: -one.cramers_v)
    named = "; ".join(_difference(one, task.halves) for one in worst[:MOST_NAMED])
    more = f"; and {len(worst) - MOST_NAMED} more" if len(worst) > MOST_NAMED else ""
    return [
        f"Alarm: whether a patient has {' or '.join(repr(one.modality) for one in worst[:MOST_NAMED])} depends on the "
        f"outcome of '{task.task}' ({named}{more}).",
        f"{_auroc(task)} A model that sees presence learns this shortcut.",
        f"{KEEP}; use `informative` only if modalities are missing for the same reasons where the model will be used.",
    ]


def _no_alarm(task: TaskAudit, n_tests: int) -> list[str]:
    if sum(n > 0 for n in task.strata) < 2:
        return [f"Nothing can be said about '{task.task}': all its labels are in one outcome stratum."]
    if _predicts(task.auroc):
        no_single = f"No single modality raises an alarm for '{task.task}', but together they predict the outcome"
        return [f"{no_single}: {_auroc(task)} {KEEP}."]
    no_alarm = f"No modality raises an alarm for '{task.task}'. {_auroc(task)}"
    blind = noticeable(task.n_low, task.n_high, n_tests)
    if blind < BLIND:
        fine = "" if task.cell_alarms else " Any mode of training is fine."
        return [f"{no_alarm}{fine}"]
    low, high = task.halves
    return [
        f"{no_alarm} But with {task.n_low:,} patients {low} and {task.n_high:,} {high}, a difference in presence of "
        f"less than about {_points(blind)} would hardly be detected: `missingness: neutral` (the default) is the safe "
        "choice."
    ]


def _cells(task: TaskAudit, n_tests: int) -> list[str]:
    """Says whether empty cells depend on the outcome; nothing where every cell is filled."""
    if not task.cells:
        return []
    alarms, n_alarms = task.cell_alarms, sum(each.n_alarms for each in task.cells)
    if not alarms:
        return [*_no_cell_alarm(task, n_tests), *_other_cells(task, 0)]
    named = "; ".join(_empty(one, task.halves) for one in alarms[:MOST_NAMED])
    n_named = sum(len(one.columns) for one in alarms[:MOST_NAMED])
    more = f"; and {counted(n_alarms - n_named, 'column')} more" if n_alarms > n_named else ""
    return [
        f"Alarm: whether a cell is empty depends on the outcome of '{task.task}' ({named}{more}).",
        _empty_auroc(task, [one.modality for one in alarms]),
        *_not_identifiable(task, alarms[:MOST_NAMED]),
        *_other_cells(task, sum(len(one.columns) for one in alarms[:MOST_NAMED] if not one.is_identifiable)),
        EMPTY_ADVICE,
    ]


def _no_cell_alarm(task: TaskAudit, n_tests: int) -> list[str]:
    together = [each for each in task.cells if _predicts(each.auroc)]
    n = counted(sum(each.n_tested for each in task.cells), "column")
    if together:
        no_single = f"Of {n} with some empty cells none alone raises an alarm for '{task.task}'"
        names = [each.modality for each in together]
        return [f"{no_single}, but together they predict the outcome.", _empty_auroc(task, names), EMPTY_ADVICE]
    text = f"Of {n} with some empty cells none raises an alarm for '{task.task}'."
    blind = noticeable(task.n_low, task.n_high, n_tests)
    if blind < BLIND:
        return [text]
    return [f"{text} But a difference in empty cells of less than about {_points(blind)} would hardly be detected."]


def _not_identifiable(task: TaskAudit, alarms: Sequence[CellDependence]) -> list[str]:
    """Names the columns with an alarm in which some outcome has no empty, or no filled, cell."""
    return [
        f"Not identifiable from these patients: no patient with outcome {_outcomes(task, strata)} has {what} cell in "
        f"{_column(one)}, so no data show how patients with {what} cell there differ by outcome."
        for one in alarms
        for strata, what in ((one.never_empty, "an empty"), (one.always_empty, "a filled"))
        if strata
    ]


def _other_cells(task: TaskAudit, n_named: int) -> list[str]:
    n = sum(each.n_unidentifiable for each in task.cells) - n_named
    others = " other" if n_named else ""
    if n <= 0:
        return []
    return [
        f"In {n:,}{others} column(s) some outcome has no empty, or no filled, cell: how such patients differ by "
        "outcome is not identifiable from these patients."
    ]


def _short_cells(task: TaskAudit) -> list[str]:
    if not task.cells:
        return []
    alarms = task.cell_alarms
    if not alarms:
        return ["Which cells are empty raises no alarm."]
    named = joined((_column(one) for one in alarms), MOST_NAMED)
    is_clear = all(one.is_identifiable for one in alarms)
    unclear = "" if is_clear else "Some outcome has no empty, or no filled, cell there: not identifiable."
    auroc = _empty_auroc(task, [one.modality for one in alarms])
    return [f"Alarm: whether the cell of {named} is empty depends on the outcome.", auroc, unclear]


def _empty(one: CellDependence, names: tuple[str, str]) -> str:
    if one.empty_low is None or one.empty_high is None:
        return f"{_column(one)}: Cramér's V {one.cramers_v:.2f}"
    low, high = one.empty_low, one.empty_high
    return _halves(f"{_column(one)}: empty for", low, high, names)


def _column(one: CellDependence) -> str:
    """Names a column and its modality: ``'b' of labs``; of columns that are empty in the same patients, the first."""
    others = len(one.columns) - 1
    alike = f" (and {counted(others, 'column')} empty in the same patients)" if others else ""
    return f"'{one.columns[0]}' of {one.modality}{alike}"


def _outcomes(task: TaskAudit, strata: Sequence[int]) -> str:
    return joined((task.outcomes[k] for k in strata), MOST_NAMED, "or")


def _empty_auroc(task: TaskAudit, modalities: Sequence[str]) -> str:
    """Writes what emptiness alone predicts in some modalities."""
    texts = []
    for each in task.cells:
        auroc = each.auroc
        if each.modality in modalities and auroc.value is not None and auroc.low is not None and auroc.high is not None:
            texts.append(f"{each.modality} {interval(auroc.value, auroc.low, auroc.high)}")
    return f"AUROC of emptiness alone, on patients left out: {joined(texts, MOST_NAMED)}." if texts else ""


def _predicts(auroc: PresenceAuroc) -> bool:
    """Says whether an AUROC is beyond chance and not negligible."""
    return auroc.low is not None and auroc.low >= 0.5 + NEGLIGIBLE / 2


def _points(blind: float) -> str:
    return f"{100 * min(blind, 1.0):.0f} percentage points"


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
    auroc = task.auroc
    if auroc.value is None or auroc.low is None or auroc.high is None:
        return f"What presence alone predicts cannot be estimated: {auroc.note}."
    if auroc.note:
        return f"Presence alone predicts nothing (AUROC .50): {auroc.note}."
    text = f"AUROC {interval(auroc.value, auroc.low, auroc.high)} on patients left out"
    return f"Presence alone {'does not predict' if auroc.low <= 0.5 else 'predicts'} the outcome ({text})."


def _difference(one: Dependence, names: tuple[str, str]) -> str:
    if one.present_low is None or one.present_high is None:
        return f"'{one.modality}': Cramér's V {one.cramers_v:.2f}"
    low, high = one.present_low, one.present_high
    return _halves(f"'{one.modality}': present in", low, high, names)


def _halves(what: str, low: float, high: float, names: tuple[str, str]) -> str:
    text = f"{what} {low:.0%} of patients {names[0]}, {high:.0%} {names[1]}"
    return text if abs(high - low) >= NEGLIGIBLE else f"{text}, and it differs within these halves"


def _absent(task: TaskAudit) -> list[str]:
    """Modalities whose patients lack an outcome, those that training passes over first."""
    if not task.absent:
        return []
    ordered = sorted(task.absent, key=lambda one: (not one.is_left_out, -one.labelled))
    named = "; ".join(
        f"of {counted(one.labelled, 'labelled patient')} with '{one.modality}' none has "
        f"{joined((task.outcomes[k] for k in one.strata), MOST_NAMED, 'or')}"
        for one in ordered[:MOST_NAMED]
    )
    more = f"; and {counted(len(ordered) - MOST_NAMED, 'modality')} more" if len(ordered) > MOST_NAMED else ""
    sentences = [f"Absent outcomes: {named}{more}. What these modalities say about these outcomes cannot be learned."]
    if left_out := [repr(one.modality) for one in ordered if one.is_left_out]:
        sentences.append(
            f"Under `missingness: neutral` '{task.task}' is not trained on {joined(left_out, MOST_NAMED)}: without "
            "outcomes to compare, only that presence means one outcome could be learned."
        )
    return sentences


def _holes(task: TaskAudit) -> list[str]:
    """Patterns whose patients, with everyone who has as much, show no example of an outcome."""
    n_of = {one.pattern: one.n for one in task.patterns}
    strata: dict[str, list[int]] = {}
    for hole in task.holes:
        if hole.is_pattern and hole.labelled:
            strata.setdefault(hole.subset, []).append(hole.stratum)
    if not strata:
        return []
    largest = sorted(strata, key=lambda name: -n_of[name])
    named = "; ".join(
        f"{name} (n = {n_of[name]:,}): no patient with outcome "
        f"{shown([task.outcomes[k] for k in sorted(strata[name])], MOST_NAMED)}"
        for name in largest[:MOST_NAMED]
    )
    more = f"; and {len(largest) - MOST_NAMED} more" if len(largest) > MOST_NAMED else ""
    n = sum(n_of[name] for name in largest)
    return [
        f"Holes: for {len(largest)} pattern(s) with {n:,} of {task.n:,} patients there is no labelled example of some "
        f"outcome ({named}{more}). Predictions there rest on patients with other patterns."
    ]


def _unlabelled(task: TaskAudit) -> list[str]:
    if not task.unlabelled:
        return []
    return [
        f"No patient has a label in {len(task.unlabelled)} pattern(s): {shown(task.unlabelled, MOST_NAMED)}. "
        "Predictions there cannot be checked with these data."
    ]


def _widest(shift: Shift) -> str:
    """The modality whose presence differs most between two parts."""
    name, shares = max(shift.presence, key=lambda item: max(item[1]) - min(item[1]))
    least, most = (f"{share:.0%} in {shift.parts[shares.index(share)]}" for share in (min(shares), max(shares)))
    return f"'{name}' is present for {least} and {most}"


def _advice(shift: Shift) -> str:
    if shift.by == "split":
        return (
            "Test scores then reflect the patterns of the test part: read them by pattern, or use a random, "
            "stratified split, unless the study's question gives the parts."
        )
    return "A model of mode `informative` may learn the site from presence: keep `neutral`, and report scores by group."
