"""Examples for the head of `multimodn.explain.acquisition`: steps of held-out patients, and how far the loss fell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multimodn.data.batches import PatientTensors
from multimodn.fusion import Ensemble, SequentialFusion, random_paths
from multimodn.fusion.model import Evidence, Outputs
from multimodn.fusion.paths import ordered_paths, steps_taken
from multimodn.missingness.weights import LabelShift

N_ORDERS = 8
"""Random orders that each held-out patient is followed along."""
MAX_ROWS = 4096
"""Held-out patients of each member, at most."""


@dataclass(frozen=True)
class Known:
    """What a member knows of n patients.

    Attributes:
        state: Their states ``(n, W)``; zeros if some tasks must not see some modalities, which the state has seen.
        rest: Predictions of all tasks on the link scale, and which modalities were read, ``(n, C)``.
    """

    state: Tensor
    rest: Tensor


@dataclass(frozen=True)
class Examples:
    """Steps of held-out patients.

    Attributes:
        known: Before the step.
        taken: Long ``(n,)``: the modality of the step.
        drop: By how much the loss of each task fell, ``(n, T)``.
        weight: Weight in each task, ``(n, T)``; 0 without a label, and where the task does not see the modality.
        patient: Long ``(n,)``: whose step it is.
        prior_loss: Loss before any modality of held-out patients, ``(patients, T)``; NaN without a label.
    """

    known: Known
    taken: Tensor
    drop: Tensor
    weight: Tensor
    patient: Tensor
    prior_loss: Tensor


def known(model: Ensemble, evidence: Sequence[Evidence], chosen: Tensor) -> list[Known]:
    """Returns what each member knows from one subset a row, bool ``(B, M)``, taken in the model's order."""
    found = []
    for member, each in zip(model.networks, evidence, strict=True):
        paths = ordered_paths(chosen, model.first.order)
        outputs = {name: values[-1] for name, values in member.read(each, paths).items()}
        found.append(_facts(model, member, member.states(each, paths)[-1], outputs, chosen))
    return found


def _facts(model: Ensemble, member: SequentialFusion, state: Tensor, outputs: Outputs, taken: Tensor) -> Known:
    """Puts together what is known at states ``(..., W)``."""
    calibrated = outputs if model.calibration.is_identity else model.calibration(outputs, model.prior(), taken)
    links = [task.link(calibrated[name]) for name, task in model.tasks.items()]
    if len(member.views) > 1:
        state = torch.zeros_like(state)
    return Known(state, torch.cat([*links, taken.to(state.dtype)], dim=-1))


def examples(
    model: Ensemble,
    k: int,
    patients: PatientTensors,
    held_out: Tensor,
    shift: LabelShift | None,
    generator: torch.Generator,
) -> Examples:
    """Follows the held-out patients of member k along random orders.

    Args:
        model: The trained networks.
        k: Number of the member.
        patients: Patients with targets.
        held_out: Rows that the member did not train on.
        shift: Weights against what a subset tells of the outcome; None: all steps count alike.
        generator: Source of orders.
    """
    member, rows = model.networks[k], held_out[:MAX_ROWS]
    batch = patients.batch(rows)
    evidence, n_modalities = member.encode(batch), batch.presence.shape[1]
    known_, taken_, drop_, weight_, patient_ = [], [], [], [], []
    labelled = torch.stack([batch.labelled[name] for name in model.tasks], dim=1)
    prior_loss = torch.zeros(len(rows), len(model.tasks))
    for _ in range(N_ORDERS):
        paths = random_paths(batch.presence, generator)
        states, outputs = member.states(evidence, paths), member.read(evidence, paths)
        subsets = steps_taken(paths, n_modalities)
        calibrated = outputs if model.calibration.is_identity else model.calibration(outputs, model.prior(), subsets)
        losses = torch.stack([task(calibrated[n], batch.targets[n]) for n, task in model.tasks.items()], dim=-1)
        weight = labelled.to(losses.dtype).expand(n_modalities, -1, -1)
        if shift is not None and batch.strata is not None:
            balance = shift.balance(subsets[1:], batch.strata)
            weight = weight * torch.stack([balance[name] for name in model.tasks], dim=-1)
        step = paths.T  # (depth, B)
        facts = _facts(model, member, states[:-1], {name: each[:-1] for name, each in outputs.items()}, subsets[:-1])
        is_step = step >= 0
        seen = model.first.seen.T[step[is_step]]
        known_.append(Known(facts.state[is_step], facts.rest[is_step]))
        taken_.append(step[is_step])
        drop_.append((losses[:-1] - losses[1:])[is_step])
        weight_.append(weight[is_step] * seen)
        patient_.append(rows.expand(len(step), -1)[is_step])
        prior_loss = losses[0]
    whole = Known(torch.cat([f.state for f in known_]), torch.cat([f.rest for f in known_]))
    missing = torch.where(labelled, prior_loss, torch.nan)
    return Examples(whole, torch.cat(taken_), torch.cat(drop_), torch.cat(weight_), torch.cat(patient_), missing)
