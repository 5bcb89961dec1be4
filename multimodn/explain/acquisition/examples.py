"""Training examples of `explain.acquisition`: steps of held-out patients, and by how much each lowered the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from multimodn.base.batches import Batch, PatientTensors
from multimodn.explain.joined import OfPatients
from multimodn.fusion import Ensemble, SequentialFusion, random_paths
from multimodn.fusion.network import Evidence, Outputs
from multimodn.fusion.paths import ordered_paths, steps_taken
from multimodn.fusion.visibility import Visibility
from multimodn.missingness.cells import cell_tilts, own_factor
from multimodn.missingness.label_shift import LabelShift

N_ORDERS = 8  # largest number of random orders for each held-out patient
MAX_ROWS = 4096  # largest number of held-out patients of each member
MAX_EXAMPLES = 200_000
"""Approximate largest number of steps of all members: in large cohorts each patient has fewer orders."""


@dataclass(frozen=True)
class Features(OfPatients):
    """Features of n patients after some modalities, from one member, for the tasks of a visibility."""

    state: Tensor  # their states ``(n, W)``
    rest: Tensor  # predictions of these tasks on the link scale, and which modalities were read, ``(n, C)``


@dataclass(frozen=True)
class Examples(OfPatients):
    """n steps of held-out patients, for the T tasks of a visibility."""

    features: Features  # features before the step
    taken: Tensor  # modality of the step, long ``(n,)``
    drop: Tensor  # decrease of the loss of each task, ``(n, T)``
    weight: Tensor  # weight in each task, ``(n, T)``; 0 without a label
    patient: Tensor  # row of the patient, long ``(n,)``
    prior_loss: Tensor  # loss before any modality of held-out patients, ``(patients, T)``; NaN without a label


def features(model: Ensemble, evidence: Sequence[Evidence], chosen: Tensor) -> list[list[Features]]:
    """Returns for each visibility the features of each member at one subset for each row, bool ``(B, M)``.

    The initial state of ``missingness: informative`` depends on this subset.
    """
    result: list[list[Features]] = [[] for _ in model.first.visibilities]
    paths = ordered_paths(chosen, model.first.order)
    for member, each in zip(model.networks, evidence, strict=True):
        states = [member.states(each, v.restrict_paths(paths), v.restrict(chosen))[-1] for v in member.visibilities]
        outputs = model.calibrated(_decoded(member, states), chosen)
        for v, visibility in enumerate(member.visibilities):
            result[v].append(_features(model, visibility, states[v], outputs, chosen))
    return result


def readings_before(names: Sequence[str]) -> list[int]:
    """Returns for each modality the number of the reading before it, such as that of ``labs@1`` for ``labs@2``; or -1.

    A later reading can only be taken after the one before.
    """
    numbers = []
    for name in names:
        base, at, number = name.rpartition("@")
        before = f"{base}@{int(number) - 1}" if at and number.isdigit() else ""
        numbers.append(list(names).index(before) if before in names else -1)
    return numbers


def n_orders(patients: PatientTensors, held_out: Sequence[Tensor]) -> int:
    """Returns the number of orders for each held-out patient."""
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
    """Follows the held-out patients of member k along random orders; returns the examples of each visibility.

    Steps are weighted against label shift if ``shift`` is given, else alike.
    """
    member, rows, tasks = model.networks[k], held_out[:MAX_ROWS], list(model.tasks)
    batch = patients.batch(rows)
    evidence = member.encode(batch)
    parts: list[list[Examples]] = [[] for _ in member.visibilities]
    for _ in range(orders):
        paths = random_paths(batch.presence, generator)
        states = [_states_along(member, evidence, visibility, paths) for visibility in member.visibilities]
        subsets = steps_taken(paths, batch.presence.shape[1])
        outputs = model.calibrated(_decoded(member, states), subsets)
        weight = _weights(model, batch, subsets, shift)
        for v, visibility in enumerate(member.visibilities):
            losses = torch.stack([model.tasks[n](outputs[n], batch.targets[n]) for n in visibility.tasks], dim=-1)
            own = _features(model, visibility, states[v], outputs, subsets)
            own_weight = weight[..., [tasks.index(name) for name in visibility.tasks]]
            parts[v].append(_steps(model, visibility, own, losses, own_weight, paths, subsets, rows))
    joined = []
    for each, visibility in zip(parts, member.visibilities, strict=True):
        labelled = torch.stack([batch.labelled[name] for name in visibility.tasks], dim=1)
        prior_loss = torch.where(labelled, each[-1].prior_loss, torch.nan)
        joined.append(replace(Examples.joined(each), prior_loss=prior_loss))
    return joined


def _states_along(member: SequentialFusion, evidence: Evidence, visibility: Visibility, paths: Tensor) -> Tensor:
    """Returns states ``(depth + 1, B, W)``; an informative initial state depends on what was read so far."""
    own_paths = visibility.restrict_paths(paths)
    if member.presence_effect is None:
        return member.states(evidence, own_paths, visibility.restrict(evidence.presence))
    subsets = visibility.restrict(steps_taken(paths, evidence.presence.shape[1]))
    return torch.stack([member.states(evidence, own_paths, subset)[depth] for depth, subset in enumerate(subsets)])


def _decoded(member: SequentialFusion, of_visibility: Sequence[Tensor]) -> Outputs:
    outputs: Outputs = {}
    for visibility, states in zip(member.visibilities, of_visibility, strict=True):
        outputs |= member.decode(states, visibility.tasks)
    return outputs


def _features(model: Ensemble, visibility: Visibility, states: Tensor, outputs: Outputs, subsets: Tensor) -> Features:
    """Returns the features at states ``(..., W)``."""
    links = [task.link(outputs[name]) for name, task in model.tasks.items() if name in visibility.tasks]
    return Features(states, torch.cat([*links, visibility.restrict(subsets).to(states.dtype)], dim=-1))


def _weights(model: Ensemble, batch: Batch, subsets: Tensor, shift: LabelShift | None) -> Tensor:
    """Returns weights ``(depth, B, T)`` of steps: those of the calibration, at the subset after the step."""
    labelled = torch.stack([batch.labelled[name] for name in model.tasks], dim=1)
    weight = labelled.to(torch.float32).expand(len(subsets) - 1, -1, -1)
    if shift is not None and batch.strata is not None:
        balance = shift.balance(subsets[1:], batch.strata)
        weight = weight * torch.stack([balance[name] for name in model.tasks], dim=-1)
        if batch.cells is not None:
            weight = weight * own_factor(cell_tilts(batch.cells, subsets[1:], model.first.seen), batch.strata)
        if batch.weights is not None:
            weight = weight * batch.weights
    return weight


def _steps(
    model: Ensemble,
    visibility: Visibility,
    features: Features,
    losses: Tensor,
    weight: Tensor,
    paths: Tensor,
    subsets: Tensor,
    rows: Tensor,
) -> Examples:
    """Returns the possible steps of one order: of visible modalities, after the reading before, if there is one."""
    step = visibility.restrict_paths(paths).T  # (depth, B)
    before = torch.tensor(readings_before(model.first.modalities))[step.clamp(min=0)]
    was_read = subsets[:-1].gather(2, before.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    is_step = (step >= 0) & ((before < 0) | was_read)
    own_rows, drop = rows.expand(len(step), -1)[is_step], (losses[:-1] - losses[1:])[is_step]
    own = Features(features.state[:-1][is_step], features.rest[:-1][is_step])
    return Examples(own, step[is_step], drop, weight[is_step], own_rows, losses[0])
