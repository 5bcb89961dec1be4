"""How much the network and the experts of its members count in each task, by what they say of held-out patients."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.task import Task
from multimodn.fusion import Ensemble, SequentialFusion
from multimodn.fusion.experts import Experts
from multimodn.missingness.label_shift import LabelShift
from multimodn.training.experts.stack import fit_weights
from multimodn.training.held_out import (
    HeldOut,
    Rows,
    Visits,
    held_out_batches,
    held_out_outputs,
    labelled_visits,
    union,
    whole_visits,
)

MIN_ROWS = 20  # held-out rows with a label, below which both count alike
BLEND_PENALTY = 30.0  # strength that draws the weights to `MOSTLY_EXPERTS`, in rows
MOSTLY_EXPERTS = (0.25, 0.75)  # weights of network and experts: the network must earn more
NETWORK_ALONE, EXPERTS_ALONE = (1.0, 0.0), (0.0, 1.0)
BOTH = (0.5, 0.5)  # where there is nobody to weigh them by
WHOLE = 0.5  # weight of all modalities that a patient has, beside random subsets of them


def fit_blend(
    ensemble: Ensemble, patients: PatientTensors, rows: Rows, seed: int, *, neutral: bool
) -> dict[str, dict[str, float]]:
    """Fits the weights of network and experts, at least 0, in place; the members share them.

    They maximise the likelihood of the outcomes of the patients that each member left out, at all of their modalities
    and at subsets; under ``neutral`` it is tilted by the label shift. A task without any expert keeps its network.
    ``rows``: for each member its training and held-out rows.

    Returns:
        For each task the weights of ``network`` and ``experts``.
    """
    tasks = list(ensemble.tasks.values())
    weights = torch.tensor(BOTH).repeat(len(tasks), 1)
    if patients.strata is not None and any(len(held_out) for _, held_out in rows):
        shift = LabelShift.of_rows(patients, union(rows), tasks, ensemble.first.seen) if neutral else None
        alone = _outputs_alone(ensemble, patients, rows, seed)
        prior = ensemble.prior()
        for t, task in enumerate(tasks):
            start = prior[task.name]
            if all((by_experts.outputs[task.name] == start).all() for _, by_experts in alone):
                weights[t] = torch.tensor(NETWORK_ALONE)
            elif sum(int(part.labelled[task.name].sum()) for part, _ in alone) >= MIN_ROWS:
                subsets = [[labelled_visits(task, t, part, shift) for part in pair] for pair in alone]
                whole = [whole_visits(task, t, parts, neutral=neutral) for parts in zip(*alone, strict=True)]
                loss = partial(_loss, task, start.double(), subsets, whole)
                weights[t] = fit_weights(loss, MOSTLY_EXPERTS, _to_start).float()
    for experts in _experts(ensemble):
        experts.network_weight.copy_(weights[:, 0])
        experts.expert_weight.copy_(weights[:, 1])
    return {
        task.name: {"network": round(float(network), 4), "experts": round(float(experts), 4)}
        for task, (network, experts) in zip(tasks, weights.tolist(), strict=True)
    }


def _to_start(weights: Tensor) -> Tensor:
    distance: Tensor = BLEND_PENALTY / 2 * (weights - torch.tensor(MOSTLY_EXPERTS)).square().sum()
    return distance


def _loss(
    task: Task, start: Tensor, subsets: Sequence[Sequence[Visits]], whole: Sequence[Visits], weights: Tensor
) -> Tensor:
    """Returns the loss of visits predicted by the networks and by the experts, with two weights."""

    def of_pair(network: Visits, experts: Visits) -> Tensor:
        outputs = start + weights[0] * (network.outputs - start) + weights[1] * (experts.outputs - start)
        return network.loss(task, outputs)

    at_subsets = torch.stack([of_pair(*pair) for pair in subsets]).sum()
    return (1 - WHOLE) * at_subsets + WHOLE * of_pair(*whole)


@torch.no_grad()
def _outputs_alone(
    ensemble: Ensemble, patients: PatientTensors, rows: Rows, seed: int
) -> list[tuple[HeldOut, HeldOut]]:
    """Predicts each member's held-out patients by its network and by its experts, at the same subsets."""
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    for member, batch in zip(ensemble.networks, held_out_batches(patients, rows), strict=True):
        evidence, orders = member.encode(batch), generator.get_state()
        pair = []
        for network, experts in (NETWORK_ALONE, EXPERTS_ALONE):
            if member.experts is not None:
                member.experts.network_weight.fill_(network)
                member.experts.expert_weight.fill_(experts)
            generator.set_state(orders)
            pair.append(held_out_outputs(member, batch, evidence, generator))
        pairs.append((pair[0], pair[1]))
    return pairs


def _experts(ensemble: Ensemble) -> list[Experts]:
    members: list[SequentialFusion] = ensemble.networks
    return [member.experts for member in members if member.experts is not None]
