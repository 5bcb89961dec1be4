"""What calibration leaves behind: sorted scores by presence pattern, and nothing that tells whose they are.

A score is no value of a patient, but where a prediction rests on little it follows from the outcome: the scores of a
number without any modality are its distances from the mean. So a bundle tells how outcomes were spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from multimodn.conformal.scores import Unit

METHODS = ("own", "exact", "nested")
"""How calibration rows were chosen and blanked; see `multimodn.conformal.calibrate`."""


@dataclass(frozen=True)
class Scores:
    """Calibration scores of one unit: P patterns, whose rows fall into groups of the same subset and predictor.

    Attributes:
        pattern: Bool ``(P, M)``; the last one is empty.
        method: Number of the method in `METHODS`, ``(P,)``.
        count: Calibration rows of each pattern, ``(P,)``; of survival the censored are counted too.
        of: The pattern of each of G groups, ``(G,)``, increasing.
        subset: What the rows of a group were blanked to, bool ``(G, M)``: what test patients are blanked to before
            they are compared with them.
        predictor: Which member of the ensemble scored them, ``(G,)``; -1 = the ensemble.
        size: Scores in each group, ``(G,)``.
        score: Scores of all groups, one after another, each group sorted.
        weight: For how many patients each counts.
        horizon: Latest time of a survival bound, ``(1,)``.
    """

    pattern: Tensor
    method: Tensor
    count: Tensor
    of: Tensor
    subset: Tensor
    predictor: Tensor
    size: Tensor
    score: Tensor
    weight: Tensor
    horizon: Tensor

    def largest_within(self, has: Tensor) -> int:
        """Returns the number of the calibrated pattern with most of the modalities ``(M,)``, and no other."""
        within = ~(self.pattern & ~has).any(1)
        best = torch.where(within, self.pattern.sum(1), -1)
        ties = best == best.max()
        return int(torch.where(ties, self.count, -1).argmax())

    def groups(self, pattern: int) -> list[Group]:
        """Returns the groups of a pattern."""
        starts = self.size.cumsum(0) - self.size
        found = []
        for g in (self.of == pattern).nonzero().flatten().tolist():
            part = slice(int(starts[g]), int(starts[g] + self.size[g]))
            found.append(Group(self.subset[g], int(self.predictor[g]), self.score[part], self.weight[part]))
        return found


@dataclass(frozen=True)
class Group:
    """Rows that were blanked to one subset and scored by one predictor; see `Scores`."""

    subset: Tensor
    predictor: int
    score: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Conformal:
    """The calibration of a model's sets.

    Attributes:
        units: What sets are made for.
        scores: Of each unit.
        source: ``held-out`` rows of the members, or a ``cohort`` of their own.
    """

    units: Sequence[Unit]
    scores: Sequence[Scores]
    source: str

    def tensors(self) -> dict[str, Tensor]:
        """Returns everything that `from_parts` needs beside `description`."""
        return {
            f"{u}.{field.name}": getattr(table, field.name).contiguous()
            for u, table in enumerate(self.scores)
            for field in fields(Scores)
        }

    def description(self) -> dict[str, Any]:
        """Returns what JSON can write."""
        return {"units": [asdict(unit) for unit in self.units], "source": self.source}

    @classmethod
    def from_parts(cls, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Builds what `tensors` and `description` told."""
        units = [Unit(**each | {"names": tuple(each["names"])}) for each in description["units"]]
        tables = [
            Scores(**{field.name: tensors[f"{u}.{field.name}"] for field in fields(Scores)}) for u in range(len(units))
        ]
        return cls(units, tables, description["source"])


def table(
    has: Tensor,
    patterns: Tensor,
    scores: Tensor,
    weight: Tensor,
    predictor: Tensor,
    horizon: float,
    fewest: Mapping[str, float],
) -> Scores:
    """Chooses for each pattern whose scores it is compared with, and sorts them.

    Args:
        has: What each of n labelled calibration rows has of what the task sees, bool ``(n, M)``.
        patterns: Distinct patterns, bool ``(P, M)``, the last one empty.
        scores: Of each row at its modalities within each pattern, ``(P, n)``.
        weight: For how many patients each row counts, ``(n,)``; those with 0 are only counted.
        predictor: Who scored each row, ``(n,)``.
        horizon: Latest time of a survival bound.
        fewest: For ``own`` and ``exact`` the fewest rows they are used with.
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
    return Scores(
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
    # everybody has the empty pattern
    if int(exact.sum()) >= fewest["exact"] or not pattern.any():
        return exact, "exact"
    return torch.ones_like(own), "nested"
