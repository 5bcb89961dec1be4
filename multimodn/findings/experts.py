"""What the provenance of a model says of its experts, as typed values; `multimodn.findings.sentences` words it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ExpertWeights:
    """How much the evidence of network and experts counts in a task."""

    task: str
    network: float
    experts: float
    has_expert: bool  # whether any modality has an expert for the task; without one its weight has no effect


@dataclass(frozen=True)
class LeftOut:
    """A modality that has no expert for a task, or no trees, and why."""

    modality: str
    task: str | None  # None = of all tasks its trees are lacking, not the linear models
    reason: str


@dataclass(frozen=True)
class ExpertUse:
    """The experts of a model; without weights it has none, and the network predicts alone."""

    weights: tuple[ExpertWeights, ...] = ()  # of each task
    left_out: tuple[LeftOut, ...] = ()


def experts_of(provenance: Mapping[str, Any], seen: Mapping[str, Sequence[str]]) -> ExpertUse:
    """Reads the entry ``experts`` of a model's provenance, which training writes.

    Args:
        provenance: That of the model; without the entry, the model has no experts.
        seen: For each task the modalities that it may see.
    """
    known = provenance.get("experts")
    if not known:
        return ExpertUse()
    left_out = []
    for key, reason in known["left_out"].items():
        modality, _, task = key.rpartition(": ")
        left_out.append(LeftOut(modality, task if task in known["weights"] else None, reason))
    lacking = {(one.modality, one.task) for one in left_out}
    weights = [
        ExpertWeights(task, each["network"], each["experts"], any((name, task) not in lacking for name in seen[task]))
        for task, each in known["weights"].items()
    ]
    return ExpertUse(tuple(weights), tuple(left_out))
