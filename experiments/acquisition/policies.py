"""Ways to choose which of a patient's modalities is read next, and what that is worth after each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.batches import Batch, PatientTensors
from multimodn.explain.acquisition.examples import examples, features
from multimodn.explain.acquisition.next_modality import Acquisition
from multimodn.fusion import Ensemble
from multimodn.metrics.classification import auroc
from multimodn.statistics.bootstrap import Floats, draws

Policy = Callable[[Tensor], Tensor]
"""Which modalities were read, bool ``(B, M)``, to a score of each, ``(B, M)``: the highest that is there is next."""


@dataclass(frozen=True)
class Ward:
    """Patients whose modalities are read one at a time, and the losses at all their subsets.

    Attributes:
        presence: What could be read, bool ``(B, M)``.
        losses: By subset, ``(2 ** M, B, T)``; NaN without a label.
        scores: Log-odds by subset, ``(2 ** M, B, T)``.
        targets: ``(B, T)``, NaN without a label.
    """

    presence: Tensor
    losses: Tensor
    scores: Tensor
    targets: Tensor

    @staticmethod
    def of(model: Ensemble, batch: Batch) -> Ward:
        """Predicts the binary tasks at every subset of a labelled batch."""
        with torch.inference_mode():
            outputs = model.lattice(batch)
            losses, scores, targets = [], [], []
            for name in binary(model):
                task = model.tasks[name]
                blank = torch.where(batch.labelled[name], 0.0, torch.nan)
                losses.append(task(outputs[name], batch.targets[name]) + blank)
                scores.append(outputs[name][..., 0])
                targets.append(batch.targets[name] + blank)
        return Ward(batch.presence, torch.stack(losses, -1), torch.stack(scores, -1), torch.stack(targets, -1))

    def walk(self, policy: Policy) -> Tensor:
        """Reads modalities one at a time: subset codes after 0, 1 .. M steps, ``(M + 1, B)``."""
        chosen = torch.zeros_like(self.presence)
        bits = 1 << torch.arange(self.presence.shape[1])
        codes = [(chosen * bits).sum(1)]
        for _ in bits:
            left = self.presence & ~chosen
            best = policy(chosen).masked_fill(~left, -torch.inf).argmax(1)
            rows = left.any(1).nonzero().squeeze(1)
            chosen[rows, best[rows]] = True
            codes.append((chosen * bits).sum(1))
        return torch.stack(codes)

    def at(self, values: Tensor, codes: Tensor) -> Tensor:
        """Looks values ``(2 ** M, B, T)`` up at codes ``(steps, B)``: ``(steps, B, T)``."""
        return values[codes, torch.arange(codes.shape[1])]

    def area(self, codes: Tensor, prior: Tensor) -> float:
        """The mean log loss after 1 .. M steps, each task's as a share of its loss without any modality."""
        found = self.at(self.losses, codes[1:]).nanmean((0, 1)) / prior
        return float(found.mean())


def binary(model: Ensemble) -> list[str]:
    """The tasks that are scored here: those of two classes."""
    return [name for name, task in model.tasks.items() if task.link_scale == "log-odds" and task.output_size == 1]


def learned(model: Ensemble, head: Acquisition, batch: Batch) -> Policy:
    """Reads what the head expects most of, over the binary tasks."""
    scored = torch.tensor([list(model.tasks).index(name) for name in binary(model)])
    with torch.inference_mode():
        evidence = model.encode(batch)

    def policy(chosen: Tensor) -> Tensor:
        with torch.inference_mode():
            return (head(features(model, evidence, chosen)) / head.prior_loss)[..., scored].mean(2)

    return policy


def in_order(order: Sequence[int]) -> Policy:
    """Reads the same modalities first for everybody."""
    score = -torch.tensor(order).argsort().float()
    return lambda chosen: score.expand(chosen.shape)


def at_random(presence: Tensor, generator: torch.Generator) -> Policy:
    """Reads a random order of each patient's own."""
    score = torch.rand(presence.shape, generator=generator)
    return lambda chosen: score


def best_order(model: Ensemble, patients: PatientTensors, rows: Sequence[tuple[Tensor, Tensor]]) -> list[int]:
    """Tries all orders on the patients whom each member did not train on; least area under their log loss."""
    parts = [
        (len(held_out), Ward.of(_alone(model, k), patients.batch(held_out))) for k, (_, held_out) in enumerate(rows)
    ]
    priors = [ward.losses[0].nanmean(0) for _, ward in parts]
    every = list(permutations(range(len(model.first.modalities))))
    areas = [
        sum(n * ward.area(ward.walk(in_order(order)), prior) for (n, ward), prior in zip(parts, priors, strict=True))
        for order in every
    ]
    return list(every[int(np.argmin(areas))])


def mean_gain_order(model: Ensemble, patients: PatientTensors, rows: Sequence[tuple[Tensor, Tensor]]) -> list[int]:
    """Orders modalities by their mean gain over the steps that the head learns from, as shares of the prior's loss."""
    generator = torch.Generator().manual_seed(0)
    scored = torch.tensor([list(model.tasks).index(name) for name in binary(model)])
    with torch.no_grad():
        every = [examples(model, k, patients, held_out, None, generator)[0] for k, (_, held_out) in enumerate(rows)]
    prior = torch.cat([each.prior_loss for each in every]).nanmean(0)
    taken, weight = torch.cat([each.taken for each in every]), torch.cat([each.weight for each in every])
    drop = torch.cat([each.drop for each in every]) / prior * weight
    n_modalities = len(model.first.modalities)
    total = torch.zeros(n_modalities, drop.shape[1]).index_add_(0, taken, drop)
    counted = torch.zeros_like(total).index_add_(0, taken, weight).clamp(min=1e-9)
    gain: Tensor = (total / counted)[:, scored].mean(1)
    order: list[int] = gain.argsort(descending=True).tolist()
    return order


def _alone(model: Ensemble, k: int) -> Ensemble:
    """Member k with the ensemble's calibration."""
    alone = Ensemble([model.networks[k]]).eval()
    alone.calibration = model.calibration
    return alone


def curves(ward: Ward, codes: Tensor, weights: Floats) -> dict[str, Floats]:
    """AUROC and log loss after 1 .. M steps in resamples of patients ``(R, B)``: each ``(R, steps, T)``."""
    scores, losses = ward.at(ward.scores, codes[1:]).double().numpy(), ward.at(ward.losses, codes[1:]).double().numpy()
    targets = ward.targets.numpy()
    n_steps, _, n_tasks = scores.shape
    area, loss = np.empty((len(weights), n_steps, n_tasks)), np.empty((len(weights), n_steps, n_tasks))
    for t in range(n_tasks):
        is_known: NDArray[np.bool_] = ~np.isnan(targets[:, t])
        drawn = weights[:, is_known]
        for step in range(n_steps):
            area[:, step, t] = auroc(scores[step, is_known, t], targets[is_known, t] > 0)(drawn)
            loss[:, step, t] = drawn @ losses[step, is_known, t] / drawn.sum(1)
    return {"auroc": area, "log_loss": loss}


def resamples(n: int, n_resamples: int, seed: int) -> Floats:
    """The patients as they are, then resamples of them, ``(1 + n_resamples, n)``."""
    return np.concatenate([np.ones((1, n)), *draws(n, n_resamples, seed)])
