"""Nonconformity scores of calibration patients, sorted by presence pattern, without any identifier.

A score is no value of a patient, but it follows from the outcome where a prediction rests on little: the scores of a
number without any modality are its distances from the mean. So a bundle reveals the distribution of outcomes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from multimodn.conformal.scores import Unit

METHODS = ("own", "exact", "nested")  # how calibration rows are chosen and blanked; see `multimodn.conformal.calibrate`


@dataclass(frozen=True)
class NonconformityScores:
    """Calibration scores of one unit at P patterns, in groups of the same subset and predictor."""

    pattern: Tensor  # bool ``(P, M)``; the last one is empty
    method: Tensor  # number of the method in `METHODS`, ``(P,)``
    count: Tensor  # calibration rows of each pattern, ``(P,)``; for survival including censored patients
    of: Tensor  # pattern of each of G groups, ``(G,)``, increasing
    # modalities that the rows of a group kept, and that test patients keep when compared with them, bool ``(G, M)``
    subset: Tensor
    predictor: Tensor  # number of the member that scored the group, ``(G,)``; -1 = the ensemble
    size: Tensor  # scores in each group, ``(G,)``
    score: Tensor  # scores of all groups, one after another, each group sorted
    weight: Tensor  # weight of each score, in patients
    horizon: Tensor  # latest time of a survival bound, ``(1,)``

    def largest_within(self, has: Tensor) -> int:
        """Returns the number of the largest calibrated pattern within the modalities ``(M,)``."""
        within = ~(self.pattern & ~has).any(1)
        sizes = torch.where(within, self.pattern.sum(1), -1)
        return int(torch.where(sizes == sizes.max(), self.count, -1).argmax())

    def groups(self, pattern: int) -> list[ScoreGroup]:
        """Returns the groups of a pattern."""
        starts = self.size.cumsum(0) - self.size
        groups = []
        for g in (self.of == pattern).nonzero().flatten().tolist():
            part = slice(int(starts[g]), int(starts[g] + self.size[g]))
            groups.append(ScoreGroup(self.subset[g], int(self.predictor[g]), self.score[part], self.weight[part]))
        return groups


@dataclass(frozen=True)
class ScoreGroup:
    """Scores at one subset from one predictor; see `NonconformityScores`."""

    subset: Tensor
    predictor: int
    score: Tensor
    weight: Tensor

    @property
    def key(self) -> bytes:
        """The subset as a dictionary key."""
        return self.subset.numpy().tobytes()


@dataclass(frozen=True)
class Conformal:
    """The calibration of a model's conformal prediction sets."""

    units: Sequence[Unit]
    scores: Sequence[NonconformityScores]
    source: str  # ``held-out`` rows of the members, or a separate ``cohort``

    def tensors(self) -> dict[str, Tensor]:
        """Returns the tensors that `from_parts` needs beside `description`."""
        names = [field.name for field in fields(NonconformityScores)]
        return {f"{u}.{k}": getattr(scores, k).contiguous() for u, scores in enumerate(self.scores) for k in names}

    def description(self) -> dict[str, Any]:
        """Returns the rest, for JSON."""
        return {"units": [asdict(unit) for unit in self.units], "source": self.source}

    @classmethod
    def from_parts(cls, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Builds the calibration from `tensors` and `description`."""
        units = [Unit(**each | {"names": tuple(each["names"])}) for each in description["units"]]
        names = [field.name for field in fields(NonconformityScores)]
        scores = [NonconformityScores(**{k: tensors[f"{u}.{k}"] for k in names}) for u in range(len(units))]
        return cls(units, scores, description["source"])


def scores_by_pattern(
    has: Tensor,
    patterns: Tensor,
    scores: Tensor,
    weight: Tensor,
    predictor: Tensor,
    horizon: float,
    fewest: Mapping[str, float],
) -> NonconformityScores:
    """Chooses and sorts the scores of each pattern.

    Of n labelled calibration rows: the modalities that they have and the task sees, bool ``(n, M)``; scores at these
    within each pattern ``(P, n)``; weights in patients ``(n,)`` (a row with 0 is only counted); and who predicted them
    ``(n,)``. Patterns are distinct, bool ``(P, M)``, the last one empty.
    """
    methods, counts, parts = [], [], []
    for p, pattern in enumerate(patterns):
        rows, method = _rows(has, pattern, fewest)
        methods.append(METHODS.index(method))
        counts.append(int(rows.sum()))
        chosen = (rows & (weight > 0)).nonzero().flatten()
        if not len(chosen):
            continue
        kinds = torch.cat([predictor[chosen, None], (has[chosen] & pattern).long()], dim=1)
        distinct, which = torch.unique(kinds, dim=0, return_inverse=True)
        value = scores[p, chosen]
        order = value.argsort(stable=True)
        order = order[which[order].argsort(stable=True)]
        sizes = torch.bincount(which, minlength=len(distinct))
        parts.append((torch.full_like(sizes, p), distinct, sizes, value[order], weight[chosen][order]))
    n_modalities = patterns.shape[1]
    empty = torch.zeros(0, dtype=torch.long)
    blank = (empty, empty.new_zeros(0, n_modalities + 1), empty, scores.new_zeros(0), weight.new_zeros(0))
    of, distinct, size, score, kept = (torch.cat(each) for each in zip(*(parts or [blank]), strict=True))
    return NonconformityScores(
        pattern=patterns,
        method=torch.tensor(methods),
        count=torch.tensor(counts),
        of=of,
        subset=distinct[:, 1:] > 0,
        predictor=distinct[:, 0],
        size=size,
        score=score,
        weight=kept,
        horizon=torch.tensor([horizon], dtype=torch.float64),
    )


def _rows(has: Tensor, pattern: Tensor, fewest: Mapping[str, float]) -> tuple[Tensor, str]:
    own, exact = (has == pattern).all(1), ~(pattern & ~has).any(1)
    if int(own.sum()) >= fewest["own"]:
        return own, "own"
    # all patients have the empty pattern
    if int(exact.sum()) >= fewest["exact"] or not pattern.any():
        return exact, "exact"
    return torch.ones_like(own), "nested"
