"""What was found about the predictions of some patients, as typed values; `multimodn.findings.sentences` words it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from multimodn.findings.frames import ComparisonFrame, PerformanceFrame
from multimodn.findings.names import CHANCE, OURS

T = TypeVar("T")
SLOPES = (0.8, 1.2)  # calibration slopes outside of which predictions are called overconfident or underconfident
SIGNIFICANT = 0.05
CLOSE = 0.05  # two values of a metric are as good as each other if the whole interval of their difference is below this


@dataclass(frozen=True)
class Score:
    """A task's main metric over all labelled patients, with its 95 % interval; NaN = no interval."""

    task: str
    metric: str
    value: float
    low: float
    high: float
    n: int

    @property
    def chance(self) -> float:
        """What predictions without information reach; NaN if that depends on the outcomes."""
        return CHANCE.get(self.metric, np.nan)

    @property
    def has_interval(self) -> bool:
        """Whether there are enough patients and outcomes for an interval."""
        return not np.isnan(self.low)

    @property
    def includes_chance(self) -> bool:
        """Whether the predictions are not shown to be better than chance."""
        return self.low <= self.chance or self.value <= self.chance


@dataclass(frozen=True)
class OutputCalibration:
    """Calibration of one output, with 95 % intervals; NaN = unknown."""

    task: str
    output: str
    slope: float
    slope_low: float
    slope_high: float
    intercept: float
    intercept_low: float
    intercept_high: float
    n: int

    @property
    def has_interval(self) -> bool:
        """Whether there are enough patients and outcomes to judge it."""
        return not np.isnan([self.slope_low, self.slope_high, self.intercept_low, self.intercept_high]).all()

    @property
    def has_unusual_slope(self) -> bool:
        """Whether the slope lies outside `SLOPES`, and its interval includes 1 or is unknown."""
        is_clear = self.slope_low > 1 or self.slope_high < 1
        return not is_clear and (self.slope < SLOPES[0] or self.slope > SLOPES[1])


@dataclass(frozen=True)
class Coverage:
    """How many patients the conformal prediction sets of a task, or of one of its labels, covered."""

    task: str
    output: str
    level: float
    coverage: float
    low: float
    high: float
    reached: bool
    size: float
    abstained: float
    n: int


@dataclass(frozen=True)
class Difference:
    """This model's score less that of a simple one, over all patients or in a group; NaN = no interval."""

    task: str
    arm: str
    metric: str
    by: str
    group: str
    modalities: tuple[str, ...] | None  # of a presence pattern; None for other groups
    value: float
    value_low: float
    value_high: float
    difference: float
    low: float
    high: float
    p_adjusted: float
    n: int

    @property
    def has_interval(self) -> bool:
        """Whether there are enough patients and outcomes to compare on."""
        return not np.isnan(self.low)

    @property
    def side(self) -> int:
        """1: this model is better (the interval excludes 0), -1: worse, 0: no clear difference."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def is_lost(self) -> bool:
        """Whether a difference is clear by itself, and no longer after adjustment for all comparisons."""
        return bool(self.side) and self.p_adjusted >= SIGNIFICANT

    @property
    def is_close(self) -> bool:
        """Whether the two are as good as each other."""
        return max(-self.low, self.high) < CLOSE


@dataclass(frozen=True)
class Comparison:
    """A task's comparison with simple models."""

    task: str
    ours: Difference  # the row of this model over all patients
    overall: tuple[Difference, ...]  # a difference for each simple model, over all patients
    groups: tuple[Difference, ...]  # differences in groups of patients
    best_single: str  # the modality that the best single modality is; empty = unknown
    seen: tuple[str, ...]  # modalities that the task may see


@dataclass(frozen=True)
class Rival:
    """How far the arm with the highest mean of a cross-validation is ahead of another."""

    arm: str  # the other
    difference: float
    low: float  # outer ends of the 95 % intervals over patients and over folds
    high: float
    verdict: str  # better, tied or unknown; in rare cases, by rounding or a skewed bootstrap, worse


@dataclass(frozen=True)
class Standing:
    """The arm with the highest mean of a task in a cross-validation, and the others."""

    task: str
    metric: str
    arm: str
    value: float  # its mean over folds
    rivals: tuple[Rival, ...]  # the others, the highest mean first

    @property
    def is_best(self) -> bool:
        """Whether it is better than every other arm."""
        return bool(self.rivals) and all(rival.verdict == "better" for rival in self.rivals)


@dataclass(frozen=True)
class Contribution:
    """The mean absolute contribution of a modality to a task's predictions, over the patients who have it."""

    task: str
    modality: str
    size: float
    n: int


@dataclass(frozen=True)
class Findings:
    """What was found about the predictions of some patients."""

    scores: tuple[Score, ...] = ()  # the main metric of each task
    calibration: tuple[OutputCalibration, ...] = ()  # for each output
    coverage: tuple[Coverage, ...] = ()  # of conformal prediction sets
    comparisons: tuple[Comparison, ...] = ()  # with simple models, for each task
    contributions: tuple[Contribution, ...] = ()  # of modalities, the largest of each task first


def findings_of(
    performance: pd.DataFrame | None = None,
    slopes: pd.DataFrame | None = None,
    coverage: pd.DataFrame | None = None,
    comparison: pd.DataFrame | None = None,
    summary: pd.DataFrame | None = None,
) -> Findings:
    """Gathers findings from frames, each None or empty where something is not known.

    They are those of `performance`, `calibration_summary`, `coverage`, `compare_with_baselines` and `summarise`.
    """
    main = None if performance is None or performance.empty else main_rows(performance, "overall")
    return Findings(
        tuple(_typed(Score, row) for row in _rows(main)),
        tuple(_typed(OutputCalibration, {"output": row["task"], **row}) for row in _rows(slopes)),
        tuple(_typed(Coverage, row) for row in _rows(coverage) if row["pattern"] == "all"),
        comparisons_of(comparison),
        _contributions(summary),
    )


def main_rows(performance: pd.DataFrame, by: str) -> pd.DataFrame:
    """Returns the rows of one kind of group (``overall``, ``step``, ``pattern``, ``subgroup``) and the main metric."""
    main = PerformanceFrame.of(performance).main_metric
    first = performance.drop_duplicates("task").set_index("task")["metric"]
    wanted = performance["task"].map(lambda task: main.get(task, first[task]))
    return performance[(performance["metric"] == wanted) & (performance["by"] == by)]


def comparisons_of(comparison: pd.DataFrame | None) -> tuple[Comparison, ...]:
    """Gathers the comparison with simple models, task by task."""
    if comparison is None or comparison.empty:
        return ()
    about, comparisons = ComparisonFrame.of(comparison), []
    for task, rows in comparison.groupby("task", sort=False):
        every = [_difference(row, about) for row in _rows(rows)]
        others = [one for one in every if one.arm != OURS]
        overall = tuple(one for one in others if one.by == "overall")
        groups = tuple(one for one in others if one.by != "overall")
        best = about.best_single.get(str(task), "").removeprefix("single:")
        seen = tuple(about.seen.get(str(task), ()))
        ours = next((one for one in every if one.arm == OURS and one.by == "overall"), None)
        if ours is not None:
            comparisons.append(Comparison(str(task), ours, overall, groups, best, seen))
    return tuple(comparisons)


def _rows(frame: pd.DataFrame | None) -> list[dict[str, Any]]:
    return [] if frame is None else [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def _typed(kind: type[T], row: Mapping[str, Any]) -> T:
    """Makes a finding from the columns that bear the names of its fields; a column that is not there is unknown."""
    return kind(**{field.name: row.get(field.name, np.nan) for field in fields(kind)})  # type: ignore[arg-type]


def _difference(row: dict[str, Any], about: ComparisonFrame) -> Difference:
    modalities = about.patterns.get(row["group"]) if row["by"] == "pattern" else None
    of_value = {"value_low": row["low"], "value_high": row["high"], "modalities": modalities}
    return _typed(Difference, row | of_value | {"low": row["difference_low"], "high": row["difference_high"]})


def _contributions(summary: pd.DataFrame | None) -> tuple[Contribution, ...]:
    """Means over the outputs of each task."""
    if summary is None or summary.empty:
        return ()
    sizes = summary.groupby(["task", "modality"], sort=False).agg(size=("mean_abs", "mean"), n=("n", "max"))
    rows = sizes.reset_index().sort_values("size", ascending=False, kind="stable")
    ordered = (row for task in dict.fromkeys(summary["task"]) for row in _rows(rows[rows["task"] == task]))
    return tuple(Contribution(row["task"], str(row["modality"]), float(row["size"]), int(row["n"])) for row in ordered)
