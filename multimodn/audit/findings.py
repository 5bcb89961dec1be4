"""What an audit of missingness finds, as plain frozen records that JSON can hold."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

Test = Literal["chi-squared", "fisher", "permutation", "none"]


@dataclass(frozen=True)
class PatternCount:
    """Patients of one presence pattern.

    Attributes:
        pattern: Name of the pattern, such as ``labs+image``.
        modalities: The modalities that they have.
        n: How many they are.
        labelled: How many of them have a label of the task.
        strata: How many of those are in each outcome stratum.
    """

    pattern: str
    modalities: tuple[str, ...]
    n: int
    labelled: int
    strata: tuple[int, ...]


@dataclass(frozen=True)
class PresenceAuroc:
    """How well the presence of modalities alone predicts the outcome (its upper half of strata).

    Attributes:
        value: Area under the ROC curve on held-out patients; None if it is not defined.
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
        note: Why it is not defined or was not estimated; empty otherwise.
    """

    value: float | None
    low: float | None
    high: float | None
    note: str = ""


@dataclass(frozen=True)
class Dependence:
    """Whether having a modality depends on the outcome of a task.

    Attributes:
        task: The task.
        modality: The modality.
        present: Labelled patients of each outcome stratum who have it.
        present_low: Share of patients in the lower half of strata (no event) who have it; None if there are none.
        present_high: The same of the upper half (event).
        test: How p was found; ``none`` if everyone or nobody has the modality, or there is one stratum only.
        p: Chance of a dependence like this or stronger if there were none.
        p_corrected: The same, corrected for all pairs of task and modality (Holm).
        cramers_v: Strength of the dependence, 0 to 1.
        alarm: Whether it is beyond chance and not negligible.
    """

    task: str
    modality: str
    present: tuple[int, ...]
    present_low: float | None
    present_high: float | None
    test: Test
    p: float
    p_corrected: float
    cramers_v: float
    alarm: bool


@dataclass(frozen=True)
class Hole:
    """An outcome stratum of which no labelled patient has all of some modalities.

    Attributes:
        subset: The modalities, joined by +.
        stratum: The stratum, a position in `TaskAudit.outcomes`.
        n: Patients who have all of them.
        labelled: How many of those have a label.
        is_pattern: Whether some patients have exactly these modalities.
        smallest: Whether no smaller listed subset has the same hole; every larger one has it.
    """

    subset: str
    stratum: int
    n: int
    labelled: int
    is_pattern: bool
    smallest: bool


@dataclass(frozen=True)
class TaskAudit:
    """What was found about one task.

    Attributes:
        task: The task.
        n: Patients.
        labelled: Patients with a label.
        outcomes: Names of the outcome strata, such as the classes, in order.
        halves: Names of their lower half (no event, small values) and their upper half.
        strata: Labelled patients in each outcome stratum.
        patterns: A count for each presence pattern, the largest first.
        auroc: What presence alone predicts.
        modalities: One test a modality.
        holes: Subsets without an example of a stratum that the cohort has.
        unlabelled: Patterns in which nobody has a label.
        verdict: What this means and what to do.
    """

    task: str
    n: int
    labelled: int
    outcomes: tuple[str, ...]
    halves: tuple[str, str]
    strata: tuple[int, ...]
    patterns: tuple[PatternCount, ...]
    auroc: PresenceAuroc
    modalities: tuple[Dependence, ...]
    holes: tuple[Hole, ...]
    unlabelled: tuple[str, ...]
    verdict: str = ""

    @property
    def n_low(self) -> int:
        """Labelled patients in the lower half of strata."""
        return sum(n for k, n in enumerate(self.strata) if not is_high(k, len(self.strata)))

    @property
    def n_high(self) -> int:
        """Labelled patients in the upper half of strata."""
        return self.labelled - self.n_low

    @property
    def alarms(self) -> list[Dependence]:
        """The modalities whose presence depends on the outcome."""
        return [one for one in self.modalities if one.alarm]


@dataclass(frozen=True)
class Shift:
    """Whether patterns differ between the parts of the split, or between groups.

    Attributes:
        by: What the parts are.
        parts: Their names; parts that are too small to be compared are joined.
        n: Patients of each part.
        patterns: The frequent patterns, the largest first; the last may be ``(other patterns)``.
        counts: Patients of each part (rows) with each pattern (columns).
        presence: For each modality the share of each part's patients who have it.
        test: How p was found.
        p: Chance of a difference like this or larger if there were none.
        p_corrected: The same, corrected for all comparisons (Holm).
        cramers_v: Strength, 0 to 1.
        shifted: Whether the difference is beyond chance and not negligible.
        note: Why nothing was compared; empty otherwise.
    """

    by: Literal["split", "group"]
    parts: tuple[str, ...] = ()
    n: tuple[int, ...] = ()
    patterns: tuple[str, ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()
    presence: tuple[tuple[str, tuple[float, ...]], ...] = ()
    test: Test = "none"
    p: float = 1.0
    p_corrected: float = 1.0
    cramers_v: float = 0.0
    shifted: bool = False
    note: str = ""


@dataclass(frozen=True)
class Audit:
    """All findings.

    Attributes:
        study: Name of the study.
        n: Patients.
        modalities: Names of the modalities, in the order of the cohort.
        tasks: The findings about each task.
        shifts: Differences between parts of the split and between groups.
        verdict: What the shifts mean and what to do.
        limit: What no audit can see.
    """

    study: str
    n: int
    modalities: tuple[str, ...]
    tasks: tuple[TaskAudit, ...]
    shifts: tuple[Shift, ...]
    verdict: str
    limit: str

    @property
    def alarms(self) -> list[Dependence]:
        """The pairs of task and modality whose presence depends on the outcome."""
        return [alarm for task in self.tasks for alarm in task.alarms]

    def to_dict(self) -> dict[str, Any]:
        """Returns what `json` can write: mappings, lists, texts, numbers; nothing that is not finite."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def is_high(stratum: int, n_strata: int) -> bool:
    """Returns whether a stratum is in the upper half, as `high_outcome` counts it."""
    return stratum >= n_strata / 2


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
