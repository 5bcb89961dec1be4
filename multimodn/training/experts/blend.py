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
from multimodn.fusion.network import tilt_loss
from multimodn.missingness.label_shift import LabelShift
from multimodn.training.experts.stack import fit_weights
from multimodn.training.held_out import MAX_ROWS, HeldOut, Visits, held_out_outputs, labelled_visits

MIN_ROWS = 20  # held-out rows with a label, below which both count alike
BLEND_PENALTY = 30.0  # strength that draws the weights to `MOSTLY_EXPERTS`, in rows
MOSTLY_EXPERTS = (0.25, 0.75)  # weights of network and experts: the network must earn more
NETWORK_ALONE = (1.0, 0.0)  # for a task without any expert
BOTH = (0.5, 0.5)  # where there is nobody to weigh them by


def fit_blend(
    ensemble: Ensemble, patients: PatientTensors, rows: Sequence[tuple[Tensor, Tensor]], seed: int, *, neutral: bool
) -> dict[str, dict[str, float]]:
    """Fits the weights of network and experts, at least 0, in place; the members share them.

    They maximise the likelihood of the outcomes of the patients that each member left out, at subsets of their
    modalities; under ``neutral`` it is tilted by the label shift. ``rows``: for each member its training and held-out
    rows.

    Returns:
        For each task the weights of ``network`` and ``experts``.
    """
    tasks = list(ensemble.tasks.values())
    weights = torch.tensor(BOTH).repeat(len(tasks), 1)
    if patients.strata is not None and any(len(held_out) for _, held_out in rows):
        shift = None
        if neutral:
            everyone = torch.cat([torch.cat(pair) for pair in rows]).unique()  # type: ignore[no-untyped-call]
            weights_of = None if patients.weights is None else patients.weights[everyone]
            shift = LabelShift(
                patients.presence[everyone], patients.strata[everyone], tasks, ensemble.first.seen, weights=weights_of
            )
        alone = [_outputs(ensemble, patients, rows, seed, each) for each in ((1.0, 0.0), (0.0, 1.0))]
        prior = {name: start.double() for name, start in ensemble.prior().items()}
        for t, task in enumerate(tasks):
            start = ensemble.prior()[task.name]
            if all(torch.equal(part.outputs[task.name], start.expand_as(part.outputs[task.name])) for part in alone[1]):
                weights[t] = torch.tensor(NETWORK_ALONE)
                continue
            if sum(int(part.labelled[task.name].sum()) for part in alone[0]) < MIN_ROWS:
                continue
            visits = [[labelled_visits(task, t, part, shift) for part in parts] for parts in alone]
            loss = partial(_loss, task, prior[task.name], list(zip(*visits, strict=True)))
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


def _loss(task: Task, start: Tensor, pairs: Sequence[tuple[Visits, Visits]], weights: Tensor) -> Tensor:
    """Returns the loss of visits predicted by the networks and by the experts, with two weights."""
    total = torch.zeros((), dtype=torch.float64)
    for network, experts in pairs:
        outputs = start + weights[0] * (network.outputs - start) + weights[1] * (experts.outputs - start)
        each, of_visit = task(outputs, network.targets), network.weights
        if network.tilts is not None:
            each = each + tilt_loss(task, outputs, network.tilts, network.strata)
        elif network.balance is not None:
            of_visit = of_visit * network.balance
        total = total + (each * of_visit).sum()
    return total


@torch.no_grad()
def _outputs(
    ensemble: Ensemble, patients: PatientTensors, rows: Sequence[tuple[Tensor, Tensor]], seed: int,
    weights: tuple[float, float],
) -> list[HeldOut]:  # fmt: skip
    """Predicts the held-out patients of each member by the network or the experts alone, at the same subsets."""
    for experts in _experts(ensemble):
        experts.network_weight.fill_(weights[0])
        experts.expert_weight.fill_(weights[1])
    generator = torch.Generator().manual_seed(seed)
    return [
        held_out_outputs(member, patients, held_out[:MAX_ROWS], generator)
        for member, (_, held_out) in zip(ensemble.networks, rows, strict=True)
    ]


def _experts(ensemble: Ensemble) -> list[Experts]:
    members: list[SequentialFusion] = ensemble.networks
    return [member.experts for member in members if member.experts is not None]
