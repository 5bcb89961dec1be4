"""Conformal prediction sets of patients: sets of classes, intervals of numbers, lower bounds of survival times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from multimodn.base.batches import Batch, PatientTensors
from multimodn.conformal.calibration_scores import Conformal, NonconformityScores, ScoreGroup
from multimodn.conformal.scores import Unit, n_left_out, read_outputs, time_at
from multimodn.fusion import Ensemble, Outputs
from multimodn.fusion.network import Evidence
from multimodn.fusion.paths import ordered_paths

ROUNDING = 1e-6
"""Equal scores, such as those of all patients without any modality, differ by less in single precision: they tie."""
ENSEMBLE = -1  # number of the predictor that is the mean of all members
ROWS_AT_ONCE, PATIENTS_AT_ONCE = 16_384, 256


@dataclass(frozen=True)
class ConformalSets:
    """The sets of N patients for one unit."""

    unit: Unit
    in_set: Tensor | None  # whether each class is in the set, bool ``(N, C)``; None for other units
    p_value: Tensor | None  # conformal p-value of each class, ``(N, C)``; None for other units
    low: Tensor | None  # lower ends of intervals, or lower bounds, ``(N,)``; None for classes
    high: Tensor | None  # upper ends of intervals, ``(N,)``; None for other units
    abstain: Tensor  # whether the set is uninformative, bool ``(N,)``
    has: Tensor  # modalities that the patient has and the task sees, bool ``(N, M)``
    pattern: Tensor  # number of the calibrated pattern of each set, ``(N,)``


def conformal_sets(
    ensemble: Ensemble, conformal: Conformal, patients: PatientTensors, level: float
) -> list[ConformalSets]:
    """Computes the sets of prepared patients, for each unit.

    Raises:
        DataError: If the level does not lie between 0 and 1.
    """
    n_left_out(level, 0)  # checks the level
    tasks, seen = list(ensemble.tasks), ensemble.first.seen
    _, which = torch.unique(patients.presence, dim=0, return_inverse=True)
    has = [patients.presence & seen[tasks.index(unit.task)] for unit in conformal.units]
    pattern = [torch.zeros(len(patients), dtype=torch.long) for _ in conformal.units]
    parts: list[list[tuple[Tensor, ...]]] = [[] for _ in conformal.units]
    order: list[Tensor] = []
    with torch.inference_mode():
        for code in range(int(which.max()) + 1 if len(which) else 0):
            rows = (which == code).nonzero().flatten()
            numbers = [scores.largest_within(has[u][rows[0]]) for u, scores in enumerate(conformal.scores)]
            for u, number in enumerate(numbers):
                pattern[u][rows] = number
            for some in torch.split(rows, PATIENTS_AT_ONCE):
                order.append(some)
                for u, part in enumerate(_same_pattern(ensemble, conformal, patients, some, numbers, level)):
                    parts[u].append(part)
    back = torch.cat(order).argsort() if order else torch.zeros(0, dtype=torch.long)
    sets = []
    for u, unit in enumerate(conformal.units):
        first, *others, abstain = (torch.cat(each)[back] for each in zip(*parts[u], strict=True))
        second = others[0] if others else None
        if unit.kind == "classes":
            sets.append(ConformalSets(unit, first, second, None, None, abstain, has[u], pattern[u]))
        else:
            sets.append(ConformalSets(unit, None, None, first, second, abstain, has[u], pattern[u]))
    return sets


def _same_pattern(
    ensemble: Ensemble,
    conformal: Conformal,
    patients: PatientTensors,
    rows: Tensor,
    pattern: Sequence[int],
    level: float,
) -> Iterator[tuple[Tensor, ...]]:
    """Computes the sets of patients with the same modalities, unit by unit; the last tensor is ``abstain``."""
    predictor = SubsetPredictor(ensemble, patients.batch(rows))
    groups = [scores.groups(number) for scores, number in zip(conformal.scores, pattern, strict=True)]
    empty = [scores.groups(len(scores.pattern) - 1) for scores in conformal.scores]
    wanted: dict[int, dict[bytes, Tensor]] = {}
    for group in (group for each in (*groups, *empty) for group in each):
        wanted.setdefault(group.predictor, {})[group.key] = group.subset
    outputs: dict[tuple[int, bytes], Outputs] = {}
    for k, subsets in wanted.items():
        chosen = torch.stack(list(subsets.values())).unsqueeze(1).expand(-1, len(rows), -1)
        of_subsets = predictor.outputs(k, chosen)
        for r, key in enumerate(subsets):
            outputs[k, key] = {name: values[r] for name, values in of_subsets.items()}
    for u, unit in enumerate(conformal.units):
        scores = conformal.scores[u]
        n = int(scores.count[pattern[u]])
        comparison = _Comparison(ensemble, unit, outputs, len(rows))
        if unit.kind == "classes":
            yield comparison.classes(groups[u], n, level)
        elif unit.kind == "numbers":
            low, high = comparison.interval(groups[u], n, level)
            widest = torch.sub(*reversed(comparison.interval(empty[u], int(scores.count[-1]), level)))
            yield low, high, (high - low >= widest * (1 - ROUNDING)) | torch.isinf(high - low)
        else:
            low = comparison.bound(groups[u], scores, n, level)
            yield low, low <= 0


@dataclass(frozen=True)
class _Comparison:
    """Compares B patients with groups of calibration scores, for one unit."""

    ensemble: Ensemble
    unit: Unit
    outputs: Mapping[tuple[int, bytes], Outputs]
    n_patients: int

    def read(self, group: ScoreGroup) -> Tensor:
        """Returns the predictions of the patients by the predictor of a group, at its subset; see `read_outputs`."""
        outputs = self.outputs[group.predictor, group.key][self.unit.task]
        return read_outputs(self.unit, self.ensemble.tasks[self.unit.task], outputs)

    def classes(self, groups: Sequence[ScoreGroup], n: int, level: float) -> tuple[Tensor, Tensor, Tensor]:
        """Counts the calibration scores that are at least as large as that of each class."""
        count = torch.zeros(self.n_patients, len(self.unit.names), dtype=torch.long)
        for group in groups:
            scores = (1 - self.read(group) - ROUNDING).contiguous()
            count += len(group.score) - torch.searchsorted(group.score, scores)
        in_set = count + 1 > n_left_out(level, n)
        if self.unit.ordered:  # a set of stages has no gap
            in_set = (in_set.cumsum(1) > 0) & (in_set.flip(1).cumsum(1).flip(1) > 0)
        size = in_set.sum(1)
        return in_set, (count + 1) / (n + 1), (size == 0) | (size == in_set.shape[1])

    def interval(self, groups: Sequence[ScoreGroup], n: int, level: float) -> tuple[Tensor, Tensor]:
        """Returns the ends of CV+ intervals; infinite where there are too few scores."""
        left_out = n_left_out(level, n)
        if not left_out:
            infinite = torch.full((self.n_patients,), torch.inf, dtype=torch.float64)
            return -infinite, infinite
        pairs = [(self.read(group), group.score) for group in groups]
        low = torch.cat([each[:, :1] - each[:, 1:] * score for each, score in pairs], dim=1)
        high = torch.cat([each[:, :1] + each[:, 1:] * score for each, score in pairs], dim=1)
        return low.kthvalue(left_out, dim=1)[0], high.kthvalue(n + 1 - left_out, dim=1)[0]

    def bound(self, groups: Sequence[ScoreGroup], scores: NonconformityScores, n: int, level: float) -> Tensor:
        """Returns the earliest time whose score is not exceeded by the weighted scores of too few events."""
        edges = cast(Tensor, self.ensemble.tasks[self.unit.task].edges).double()
        most = float(scores.horizon)
        allowed = (1 - level) * (n + 1) + 1e-9
        if allowed < 1 or not groups:  # too few patients to say anything; nobody had the event before the horizon
            return torch.full((self.n_patients,), 0.0 if allowed < 1 else most, dtype=torch.float64)
        times = torch.cat([time_at(self.read(group), edges, group.score) for group in groups], dim=1)
        weights = torch.cat([group.weight for group in groups])
        times, order = times.sort(dim=1, stable=True)
        passed = 1 + weights[order].cumsum(1) > allowed
        first = passed.to(torch.uint8).argmax(1, keepdim=True)
        low = torch.where(passed.any(1), times.gather(1, first).squeeze(1), torch.inf).clamp(max=most)
        return low * (1 - ROUNDING)


class SubsetPredictor:
    """Encodes a batch once for every member that is needed, and predicts it from any subsets.

    A member's outputs are calibrated like the ensemble's. As that is a slope and a shift, the calibrated ensemble is
    the mean of its calibrated members.
    """

    def __init__(self, ensemble: Ensemble, batch: Batch) -> None:
        self.ensemble, self.batch = ensemble, batch
        self._evidence: dict[int, Evidence] = {}

    def outputs(self, predictor: int, chosen: Tensor) -> Outputs:
        """Returns raw outputs ``(R, B, K)`` of each task, by a member or the `ENSEMBLE`, at subsets ``(R, B, M)``."""
        blocks = torch.split(chosen, max(1, ROWS_AT_ONCE // max(1, chosen.shape[1])))
        parts = [self._block(predictor, block) for block in blocks]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _block(self, predictor: int, chosen: Tensor) -> Outputs:
        flat = chosen.flatten(0, 1)
        numbers = range(len(self.ensemble.networks)) if predictor == ENSEMBLE else [predictor]
        of_member = [self._member(k, flat, len(chosen)) for k in numbers]
        mean = {name: torch.stack([one[name] for one in of_member]).mean(0) for name in of_member[0]}
        outputs = self.ensemble.calibrated(mean, flat)
        return {name: values.reshape(*chosen.shape[:2], -1) for name, values in outputs.items()}

    def _member(self, k: int, flat: Tensor, repeats: int) -> Outputs:
        member = self.ensemble.networks[k]
        if k not in self._evidence:
            self._evidence[k] = member.encode(self.batch)
        evidence = self._evidence[k]
        # a blanked modality is absent, also for an informative initial state
        blanked = replace(evidence, where=torch.where(flat, evidence.where.repeat(repeats, 1), -1))
        paths = ordered_paths(flat, member.order)
        return {name: outputs[-1] for name, outputs in member.read(blanked, paths).items()}
