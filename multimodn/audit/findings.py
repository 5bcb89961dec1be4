"""What an audit of missingness finds, as plain frozen records that JSON can hold."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

Test = Literal["chi-squared", "fisher", "permutation", "none"]


@dataclass(frozen=True)
class PatternCount:
    """Patients of one presence pattern."""

    pattern: str  # such as ``labs+image``
    modalities: tuple[str, ...]  # that they have
    n: int  # how many they are
    labelled: int  # of them, with a label of the task
    strata: tuple[int, ...]  # of those with a label, in each outcome stratum


@dataclass(frozen=True)
class PresenceAuroc:
    """How well presence of modalities, or emptiness of cells, alone predicts the outcome (its upper half of strata)."""

    value: float | None  # area under the ROC curve on held-out patients; None if it is not defined
    low: float | None  # lower end of its 95 % interval
    high: float | None  # upper end
    note: str = ""  # why it is not defined or was not estimated; empty otherwise


@dataclass(frozen=True)
class Dependence:
    """Whether having a modality depends on the outcome of a task."""

    task: str
    modality: str
    present: tuple[int, ...]  # labelled patients of each outcome stratum who have it
    present_low: float | None  # share in the lower half of strata (no event) who have it; None if there are none
    present_high: float | None  # the same of the upper half (event)
    test: Test  # how p was found; ``none``: everyone or nobody has the modality, or there is one stratum only
    p: float  # chance of a dependence like this or stronger if there were none
    p_corrected: float  # the same, corrected for all pairs of task and modality (Holm)
    cramers_v: float  # strength of the dependence, 0 to 1
    alarm: bool  # whether it is beyond chance and not negligible


@dataclass(frozen=True)
class Hole:
    """An outcome stratum of which no labelled patient has all of some modalities."""

    subset: str  # the modalities, joined by +
    stratum: int  # a position in `TaskAudit.outcomes`
    n: int  # patients who have all of them
    labelled: int  # how many of those have a label
    is_pattern: bool  # whether some patients have exactly these modalities
    smallest: bool  # whether no smaller listed subset has the same hole; every larger one has it


@dataclass(frozen=True)
class CellDependence:
    """Whether having an empty cell depends on the outcome of a task, among the patients who have the modality."""

    task: str
    modality: str
    columns: tuple[str, ...]  # of a table, or variables of a series; several are empty in the same patients
    empty: tuple[int, ...]  # labelled patients of each outcome stratum with an empty cell
    empty_low: float | None  # share in the lower half of strata (no event) with an empty cell; None if there are none
    empty_high: float | None  # the same of the upper half (event)
    never_empty: tuple[int, ...]  # strata, positions in `TaskAudit.outcomes`, in which no patient has an empty cell
    always_empty: tuple[int, ...]  # strata in which no patient has a filled one
    test: Test  # how p was found
    p: float  # chance of a dependence like this or stronger if there were none
    p_corrected: float  # the same, corrected for all columns of all modalities and tasks (Holm)
    cramers_v: float  # strength of the dependence, 0 to 1
    alarm: bool  # whether it is beyond chance and not negligible

    @property
    def is_identifiable(self) -> bool:
        """Whether every outcome has patients with an empty and with a filled cell, so that they can be compared."""
        return not self.never_empty and not self.always_empty


@dataclass(frozen=True)
class CellAudit:
    """What was found about the empty cells of a modality, for one task; columns of a table, variables of a series."""

    task: str
    modality: str
    strata: tuple[int, ...]  # labelled patients of each outcome stratum who have the modality
    n_columns: int  # of the modality
    n_tested: int  # of these, columns with some but not all cells empty in these patients
    n_tests: int  # of tests; columns that are empty in the same patients are tested once
    n_alarms: int  # columns whose emptiness depends on the outcome
    n_unidentifiable: int  # tested columns in which some outcome has no empty, or no filled, cell
    auroc: PresenceAuroc  # what the emptiness of these cells alone predicts
    cells: tuple[CellDependence, ...]  # the strongest, alarms first


@dataclass(frozen=True)
class AbsentStrata:
    """Outcome strata that labelled patients have, but none of those who have a modality."""

    modality: str
    labelled: int  # labelled patients who have it
    strata: tuple[int, ...]  # positions in `TaskAudit.outcomes`
    is_left_out: bool  # whether neutral training on the task passes over the modality for that reason


@dataclass(frozen=True)
class TaskAudit:
    """What was found about one task."""

    task: str
    n: int  # patients
    labelled: int  # patients with a label
    outcomes: tuple[str, ...]  # names of the outcome strata, such as the classes, in order
    halves: tuple[str, str]  # names of their lower half (no event, small values) and their upper half
    strata: tuple[int, ...]  # labelled patients in each outcome stratum
    patterns: tuple[PatternCount, ...]  # the largest first
    auroc: PresenceAuroc  # what presence alone predicts
    modalities: tuple[Dependence, ...]  # one test a modality
    holes: tuple[Hole, ...]  # subsets without an example of a stratum that the cohort has
    unlabelled: tuple[str, ...]  # patterns in which nobody has a label
    absent: tuple[AbsentStrata, ...]  # by modality, those that lack some
    cells: tuple[CellAudit, ...] = ()  # of modalities with some empty cells
    verdict: str = ""  # what this means and what to do

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

    @property
    def cell_alarms(self) -> list[CellDependence]:
        """The columns whose emptiness depends on the outcome, as far as they are among the strongest; those first."""
        alarms = [cell for modality in self.cells for cell in modality.cells if cell.alarm]
        return sorted(alarms, key=cell_rank)


@dataclass(frozen=True)
class Shift:
    """Whether patterns differ between the parts of the split, or between groups."""

    by: Literal["split", "group"]
    parts: tuple[str, ...] = ()  # their names; parts that are too small to be compared are joined
    n: tuple[int, ...] = ()  # patients of each part
    patterns: tuple[str, ...] = ()  # the frequent ones, the largest first; the last may be ``(other patterns)``
    counts: tuple[tuple[int, ...], ...] = ()  # patients of each part (rows) with each pattern (columns)
    presence: tuple[tuple[str, tuple[float, ...]], ...] = ()  # by modality the share of each part's patients with it
    test: Test = "none"  # how p was found
    p: float = 1.0  # chance of a difference like this or larger if there were none
    p_corrected: float = 1.0  # the same, corrected for all comparisons (Holm)
    cramers_v: float = 0.0  # strength, 0 to 1
    shifted: bool = False  # whether the difference is beyond chance and not negligible
    note: str = ""  # why nothing was compared; empty otherwise


@dataclass(frozen=True)
class LateRows:
    """Rows of a modality, or cells of one of its columns of dates, that are not used because of their time."""

    modality: str
    column: str  # of their times
    n: int  # rows, or cells, of the modality
    n_after: int  # of them, after the moment of prediction, or of its day and without a clock
    n_before: int  # before the modality's window


@dataclass(frozen=True)
class Audit:
    """All findings."""

    study: str  # its name
    n: int  # patients
    modalities: tuple[str, ...]  # in the order of the cohort
    tasks: tuple[TaskAudit, ...]
    shifts: tuple[Shift, ...]  # between parts of the split and between groups
    verdict: str  # what the shifts mean and what to do
    limit: str  # what no audit can see
    late: tuple[LateRows, ...] = ()  # what lies after the moment of prediction, or before a window

    @property
    def alarms(self) -> list[Dependence]:
        """The pairs of task and modality whose presence depends on the outcome."""
        return [alarm for task in self.tasks for alarm in task.alarms]

    @property
    def cell_alarms(self) -> list[CellDependence]:
        """The columns of modalities whose emptiness depends on the outcome of a task; see `TaskAudit.cell_alarms`."""
        return [alarm for task in self.tasks for alarm in task.cell_alarms]

    def to_dict(self) -> dict[str, Any]:
        """Returns what `json` can write: mappings, lists, texts, numbers; nothing that is not finite."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def is_high(stratum: int, n_strata: int) -> bool:
    """Returns whether a stratum is in the upper half, as `high_outcome` counts it."""
    return stratum >= n_strata / 2


def cell_rank(cell: CellDependence) -> tuple[bool, float, float]:
    """Returns the key that sorts columns, those with an alarm first, then the most certain, then the strongest."""
    return not cell.alarm, cell.p, -cell.cramers_v


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
