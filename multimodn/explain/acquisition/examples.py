"""Examples for the head of `explain.acquisition`: steps of held-out patients, and how far the loss fell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multimodn.base.batches import Batch, PatientTensors
from multimodn.fusion import Ensemble, SequentialFusion, random_paths
from multimodn.fusion.network import Evidence, Outputs
from multimodn.fusion.paths import ordered_paths, steps_taken
from multimodn.fusion.visibility import View
from multimodn.missingness.label_shift import LabelShift

N_ORDERS = 8
"""Random orders that each held-out patient is followed along, at most."""
MAX_ROWS = 4096
"""Held-out patients of each member, at most."""
MAX_EXAMPLES = 200_000
"""Steps of all members, about, at most: of large cohorts each patient is followed along fewer orders."""


@dataclass(frozen=True)
class Known:
    """What a member knows of n patients from the modalities that some tasks may see.

    Attributes:
        state: Their states ``(n, W)``.
        rest: Predictions of these tasks on the link scale, and which modalities were read, ``(n, C)``.
    """

    state: Tensor
    rest: Tensor

    @staticmethod
    def joined(parts: Sequence[Known]) -> Known:
        """Puts patients one after another."""
        return Known(torch.cat([part.state for part in parts]), torch.cat([part.rest for part in parts]))


@dataclass(frozen=True)
class Examples:
    """Steps of held-out patients, for the T tasks of a view.

    Attributes:
        known: Before the step.
        taken: Long ``(n,)``: the modality of the step.
        drop: By how much the loss of each task fell, ``(n, T)``.
        weight: Weight in each task, ``(n, T)``; 0 without a label.
        patient: Long ``(n,)``: whose step it is.
        prior_loss: Loss before any modality of held-out patients, ``(patients, T)``; NaN without a label.
    """

    known: Known
    taken: Tensor
    drop: Tensor
    weight: Tensor
    patient: Tensor
    prior_loss: Tensor


def known(model: Ensemble, evidence: Sequence[Evidence], chosen: Tensor) -> list[list[Known]]:
    """Returns for each view what each member knows from one subset a row, bool ``(B, M)``, in the model's order.

    A state that is told what a patient has (``missingness: informative``) is told this subset.
    """
    found: list[list[Known]] = [[] for _ in model.first.views]
    paths = ordered_paths(chosen, model.first.order)
    for member, each in zip(model.networks, evidence, strict=True):
        of_view = [member.states(each, view.along(paths), view.of(chosen))[-1] for view in member.views]
        outputs = _calibrated(model, _decoded(member, of_view), chosen)
        for v, view in enumerate(member.views):
            found[v].append(_facts(model, view, of_view[v], outputs, chosen))
    return found


def readings_before(names: Sequence[str]) -> list[int]:
    """Returns for each modality the number of the reading before it, such as that of ``labs@1`` for ``labs@2``; or -1.

    A later reading can only be taken where the one before is there.
    """
    found = []
    for name in names:
        base, at, number = name.rpartition("@")
        before = f"{base}@{int(number) - 1}" if at and number.isdigit() else ""
        found.append(list(names).index(before) if before in names else -1)
    return found


def n_orders(patients: PatientTensors, held_out: Sequence[Tensor]) -> int:
    """Returns along how many orders held-out patients are followed."""
    n_steps = sum(int(patients.presence[rows[:MAX_ROWS]].sum()) for rows in held_out)
    return max(1, min(N_ORDERS, MAX_EXAMPLES // max(n_steps, 1)))


def examples(
    model: Ensemble,
    k: int,
    patients: PatientTensors,
    held_out: Tensor,
    shift: LabelShift | None,
    generator: torch.Generator,
    orders: int = N_ORDERS,
) -> list[Examples]:
    """Follows the held-out patients of member k along random orders; for each view its examples.

    Args:
        model: The trained networks.
        k: Number of the member.
        patients: Patients with targets.
        held_out: Rows that the member did not train on.
        shift: Weights against what a subset tells of the outcome; None: all steps count alike.
        generator: Source of orders.
        orders: How many.
    """
    member, rows = model.networks[k], held_out[:MAX_ROWS]
    batch = patients.batch(rows)
    evidence = member.encode(batch)
    parts: list[list[Examples]] = [[] for _ in member.views]
    for _ in range(orders):
        paths = random_paths(batch.presence, generator)
        of_view = [_along(member, evidence, view, paths) for view in member.views]
        subsets = steps_taken(paths, batch.presence.shape[1])
        outputs = _calibrated(model, _decoded(member, of_view), subsets)
        weight = _weights(model, batch, subsets, shift)
        for v, view in enumerate(member.views):
            losses = torch.stack([model.tasks[n](outputs[n], batch.targets[n]) for n in view.tasks], dim=-1)
            facts = _facts(model, view, of_view[v], outputs, subsets)
            tasks = [list(model.tasks).index(name) for name in view.tasks]
            parts[v].append(_steps(model, view, facts, losses, weight[..., tasks], paths, subsets, rows))
    labelled = torch.stack([batch.labelled[name] for name in model.tasks], dim=1)
    return [
        _joined(each, labelled[:, [list(model.tasks).index(name) for name in view.tasks]])
        for each, view in zip(parts, member.views, strict=True)
    ]


def _along(member: SequentialFusion, evidence: Evidence, view: View, paths: Tensor) -> Tensor:
    """States ``(depth + 1, B, W)``; one that is told what a patient has is told what was read so far."""
    along = view.along(paths)
    if member.presence_effect is None:
        return member.states(evidence, along, view.of(evidence.presence))
    subsets = view.of(steps_taken(paths, evidence.presence.shape[1]))
    return torch.stack([member.states(evidence, along, told)[depth] for depth, told in enumerate(subsets)])


def _decoded(member: SequentialFusion, of_view: Sequence[Tensor]) -> Outputs:
    found: Outputs = {}
    for view, states in zip(member.views, of_view, strict=True):
        found |= member.decode(states, view.tasks)
    return found


def _calibrated(model: Ensemble, outputs: Outputs, taken: Tensor) -> Outputs:
    return outputs if model.calibration.is_identity else model.calibration(outputs, model.prior(), taken)


def _facts(model: Ensemble, view: View, states: Tensor, outputs: Outputs, taken: Tensor) -> Known:
    """Puts together what is known at states ``(..., W)``."""
    links = [task.link(outputs[name]) for name, task in model.tasks.items() if name in view.tasks]
    return Known(states, torch.cat([*links, view.of(taken).to(states.dtype)], dim=-1))


def _weights(model: Ensemble, batch: Batch, subsets: Tensor, shift: LabelShift | None) -> Tensor:
    """Weights ``(depth, B, T)`` of steps: those of the calibration, at the subset after the step."""
    labelled = torch.stack([batch.labelled[name] for name in model.tasks], dim=1)
    weight = labelled.to(torch.float32).expand(len(subsets) - 1, -1, -1)
    if shift is not None and batch.strata is not None:
        balance = shift.balance(subsets[1:], batch.strata)
        weight = weight * torch.stack([balance[name] for name in model.tasks], dim=-1)
        if batch.weights is not None:
            weight = weight * batch.weights
    return weight


def _steps(
    model: Ensemble,
    view: View,
    facts: Known,
    losses: Tensor,
    weight: Tensor,
    paths: Tensor,
    subsets: Tensor,
    rows: Tensor,
) -> Examples:
    """The steps of one order that could be taken: seen by the view, and no reading before the one before it."""
    step = view.along(paths).T  # (depth, B)
    before = torch.tensor(readings_before(model.first.modalities))[step.clamp(min=0)]
    was_read = subsets[:-1].gather(2, before.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    is_step = (step >= 0) & ((before < 0) | was_read)
    return Examples(
        Known(facts.state[:-1][is_step], facts.rest[:-1][is_step]),
        step[is_step],
        (losses[:-1] - losses[1:])[is_step],
        weight[is_step],
        rows.expand(len(step), -1)[is_step],
        losses[0],
    )


def _joined(parts: Sequence[Examples], labelled: Tensor) -> Examples:
    return Examples(
        Known.joined([part.known for part in parts]),
        torch.cat([part.taken for part in parts]),
        torch.cat([part.drop for part in parts]),
        torch.cat([part.weight for part in parts]),
        torch.cat([part.patient for part in parts]),
        torch.where(labelled, parts[-1].prior_loss, torch.nan),
    )
