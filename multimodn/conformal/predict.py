"""Compares patients with calibration scores: sets of classes, intervals, lower bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from multimodn.base.batches import Batch, PatientTensors
from multimodn.conformal.calibration_scores import Conformal, Group, Scores
from multimodn.conformal.scores import Unit, rank_of, read, time_at
from multimodn.fusion import Ensemble, Outputs
from multimodn.fusion.network import Evidence
from multimodn.fusion.paths import ordered_paths

ROUNDING = 1e-6
"""Equal scores, such as those of everybody without any modality, differ by less in single precision: they tie."""


@dataclass(frozen=True)
class Answer:
    """The sets of N patients for one unit.

    Attributes:
        unit: What they are about.
        in_set: Whether each class is in the set, bool ``(N, C)``; None of others.
        p_value: Of each class, ``(N, C)``; None of others.
        low: Ends of intervals, and bounds, ``(N,)``; None of classes.
        high: Ends of intervals, ``(N,)``; None of others.
        abstain: Whether the set tells nothing, bool ``(N,)``.
        has: What each patient has of what the task sees, bool ``(N, M)``.
        pattern: Number of the calibrated pattern that each set rests on, ``(N,)``.
    """

    unit: Unit
    in_set: Tensor | None
    p_value: Tensor | None
    low: Tensor | None
    high: Tensor | None
    abstain: Tensor
    has: Tensor
    pattern: Tensor


def answers(ensemble: Ensemble, conformal: Conformal, patients: PatientTensors, level: float) -> list[Answer]:
    """Computes the sets of prepared patients.

    Args:
        ensemble: The trained networks.
        conformal: What `calibrate_sets` returned.
        patients: Any patients.
        level: The promised chance that the truth is in the set, between 0 and 1.

    Raises:
        DataError: If the level does not lie between 0 and 1.
    """
    rank_of(level, 0)
    tasks, seen = list(ensemble.tasks), ensemble.first.seen
    _, which = torch.unique(patients.presence, dim=0, return_inverse=True)
    has = [patients.presence & seen[tasks.index(unit.task)] for unit in conformal.units]
    pattern = [torch.zeros(len(patients), dtype=torch.long) for _ in conformal.units]
    parts: list[list[tuple[Tensor, ...]]] = [[] for _ in conformal.units]
    order: list[Tensor] = []
    with torch.inference_mode():
        for code in range(int(which.max()) + 1 if len(which) else 0):
            rows = (which == code).nonzero().flatten()
            found = [table.largest_within(has[u][rows[0]]) for u, table in enumerate(conformal.scores)]
            for u, number in enumerate(found):
                pattern[u][rows] = number
            for some in torch.split(rows, PATIENTS_AT_ONCE):
                order.append(some)
                for u, part in enumerate(_same_pattern(ensemble, conformal, patients, some, found, level)):
                    parts[u].append(part)
    back = torch.cat(order).argsort() if order else torch.zeros(0, dtype=torch.long)
    every = []
    for u, unit in enumerate(conformal.units):
        joined = [torch.cat(each)[back] for each in zip(*parts[u], strict=True)]
        every.append(_answer(unit, joined, has[u], pattern[u]))
    return every


def _answer(unit: Unit, found: list[Tensor], has: Tensor, pattern: Tensor) -> Answer:
    if unit.kind == "classes":
        return Answer(unit, found[0], found[1], None, None, found[2], has, pattern)
    high = found[1] if unit.kind == "numbers" else None
    return Answer(unit, None, None, found[0], high, found[-1], has, pattern)


def _same_pattern(
    ensemble: Ensemble,
    conformal: Conformal,
    patients: PatientTensors,
    rows: Tensor,
    pattern: Sequence[int],
    level: float,
) -> Iterator[tuple[Tensor, ...]]:
    """Computes the sets of patients who have the same modalities, unit by unit."""
    batch = patients.batch(rows)
    runner = Runner(ensemble, batch)
    groups = [table.groups(number) for table, number in zip(conformal.scores, pattern, strict=True)]
    empty = [table.groups(len(table.pattern) - 1) for table in conformal.scores]
    outputs: dict[tuple[int, bytes], Outputs] = {}
    wanted: dict[int, dict[bytes, Tensor]] = {}
    for group in (group for each in (*groups, *empty) for group in each):
        wanted.setdefault(group.predictor, {})[_key(group.subset)] = group.subset
    for predictor, subsets in wanted.items():
        chosen = torch.stack(list(subsets.values())).unsqueeze(1).expand(-1, len(rows), -1)
        found = runner.outputs(predictor, chosen)
        for r, key in enumerate(subsets):
            outputs[predictor, key] = {name: values[r] for name, values in found.items()}
    for u, unit in enumerate(conformal.units):
        scored = conformal.scores[u]
        reading = _Reading(ensemble, unit, outputs, len(rows))
        if unit.kind == "classes":
            yield reading.classes(groups[u], int(scored.count[pattern[u]]), level)
        elif unit.kind == "numbers":
            low, high = reading.interval(groups[u], int(scored.count[pattern[u]]), level)
            widest = torch.sub(*reversed(reading.interval(empty[u], int(scored.count[-1]), level)))
            yield low, high, (high - low >= widest) | torch.isinf(high - low)
        else:
            low = reading.bound(groups[u], scored, pattern[u], level)
            yield low, low <= 0


def _key(subset: Tensor) -> bytes:
    return subset.numpy().tobytes()


@dataclass(frozen=True)
class _Reading:
    """Compares B patients with groups of calibration scores, for one unit."""

    ensemble: Ensemble
    unit: Unit
    outputs: Mapping[tuple[int, bytes], Outputs]
    n_patients: int

    def of(self, group: Group) -> Tensor:
        """What the patients are to the predictor of a group, at its subset; see `read`."""
        outputs = self.outputs[group.predictor, _key(group.subset)][self.unit.task]
        return read(self.unit, self.ensemble.tasks[self.unit.task], outputs)

    def classes(self, groups: Sequence[Group], n: int, level: float) -> tuple[Tensor, Tensor, Tensor]:
        """Counts the calibration rows that are at least as strange as each class."""
        count = torch.zeros(self.n_patients, len(self.unit.names), dtype=torch.long)
        for group in groups:
            strange = (1 - self.of(group) - ROUNDING).contiguous()
            count += len(group.score) - torch.searchsorted(group.score, strange)
        in_set = count + 1 > rank_of(level, n)
        if self.unit.ordered:  # a set of stages has no gap
            in_set = (in_set.cumsum(1) > 0) & (in_set.flip(1).cumsum(1).flip(1) > 0)
        size = in_set.sum(1)
        return in_set, (count + 1) / (n + 1), (size == 0) | (size == in_set.shape[1])

    def interval(self, groups: Sequence[Group], n: int, level: float) -> tuple[Tensor, Tensor]:
        """CV+: the ends that too few rows would put further out."""
        left_out = rank_of(level, n)
        if not left_out:
            infinite = torch.full((self.n_patients,), torch.inf, dtype=torch.float64)
            return -infinite, infinite
        found = [(self.of(group), group.score) for group in groups]
        low = torch.cat([each[:, :1] - each[:, 1:] * score for each, score in found], dim=1)
        high = torch.cat([each[:, :1] + each[:, 1:] * score for each, score in found], dim=1)
        return low.kthvalue(left_out, dim=1)[0], high.kthvalue(n + 1 - left_out, dim=1)[0]

    def bound(self, groups: Sequence[Group], scored: Scores, pattern: int, level: float) -> Tensor:
        """The first time that would not be stranger than too many of the events seen so early."""
        edges = cast(Tensor, self.ensemble.tasks[self.unit.task].edges).double()
        most = float(scored.horizon)
        allowed = (1 - level) * (int(scored.count[pattern]) + 1) + 1e-9
        if allowed < 1 or not groups:  # too few patients to say anything; nobody had the event before the horizon
            return torch.full((self.n_patients,), 0.0 if allowed < 1 else most, dtype=torch.float64)
        times = torch.cat([time_at(self.of(group), edges, group.score) for group in groups], dim=1)
        weights = torch.cat([group.weight for group in groups])
        times, order = times.sort(dim=1, stable=True)
        passed = 1 + weights[order].cumsum(1) > allowed
        first = passed.to(torch.uint8).argmax(1, keepdim=True)
        low = torch.where(passed.any(1), times.gather(1, first).squeeze(1), torch.inf).clamp(max=most)
        return low * (1 - ROUNDING)


ENSEMBLE = -1
"""The number of the predictor that is the mean of all members."""


ROWS_AT_ONCE = 16_384


PATIENTS_AT_ONCE = 256


class Runner:
    """Encodes a batch once for every member that is asked, and predicts it from any subsets.

    A member's outputs are calibrated like the ensemble's. As that is a slope and a shift, the calibrated ensemble is
    the mean of its calibrated members.
    """

    def __init__(self, ensemble: Ensemble, batch: Batch) -> None:
        self.ensemble, self.batch = ensemble, batch
        self._evidence: dict[int, Evidence] = {}

    def outputs(self, predictor: int, chosen: Tensor) -> Outputs:
        """Returns raw outputs ``(R, B, K)`` of each task at R subsets of every patient.

        Args:
            predictor: Number of a member, or `ENSEMBLE`.
            chosen: Bool ``(R, B, M)``, within the presence of the batch.
        """
        parts = [self._some(predictor, some) for some in _split(chosen)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _some(self, predictor: int, chosen: Tensor) -> Outputs:
        flat = chosen.flatten(0, 1)
        numbers = range(len(self.ensemble.networks)) if predictor == ENSEMBLE else [predictor]
        every = [self._member(k, flat, len(chosen)) for k in numbers]
        outputs = {name: torch.stack([one[name] for one in every]).mean(0) for name in every[0]}
        if not self.ensemble.calibration.is_identity:
            outputs = self.ensemble.calibration(outputs, self.ensemble.prior(), flat)
        return {name: found.reshape(*chosen.shape[:2], -1) for name, found in outputs.items()}

    def _member(self, k: int, flat: Tensor, repeats: int) -> Outputs:
        member = self.ensemble.networks[k]
        if k not in self._evidence:
            self._evidence[k] = member.encode(self.batch)
        found = self._evidence[k]
        # what is blanked is absent, also to a first state that is told what is there
        blanked = Evidence(found.rows, torch.where(flat, found.where.repeat(repeats, 1), -1))
        paths = ordered_paths(flat, member.order)
        return {name: outputs[-1] for name, outputs in member.read(blanked, paths).items()}


def _split(chosen: Tensor) -> Iterator[Tensor]:
    yield from torch.split(chosen, max(1, ROWS_AT_ONCE // max(1, chosen.shape[1])))
