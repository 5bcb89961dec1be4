"""Do tasks pull the patient state in different directions? Measured on training batches of a trained model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multimodn.base.batches import Batch, BatchLoader, PatientTensors
from multimodn.fusion import SequentialFusion, random_paths
from multimodn.fusion.paths import steps_taken
from multimodn.missingness.label_shift import LabelShift
from multimodn.model.multimodn import MultiModN
from multimodn.model.trained import Patients
from multimodn.training.balancing import states_read

COLUMNS = ["task", "other", "cosine", "conflict", "n"]
N_BATCHES = 30


def conflicts(
    model: MultiModN, cohort: Patients | None = None, *, n_batches: int = N_BATCHES, seed: int = 0
) -> pd.DataFrame:
    """Compares the gradients of each two tasks on the patient states that their decoders read.

    Batches are drawn as in training, of the study's size and on random paths, with the corrections of ``neutral``, but
    without dropout; members of an ensemble take turns. Two tasks conflict in a batch if the cosine of their gradients
    is negative: a step for the one is then a step against the other (Yu et al. 2020, https://arxiv.org/abs/2001.06782,
    who look at shared weights). It compares what tasks ask of the same patients; tasks that no patient is labelled for
    together, such as those of different registries, do not meet on a state, and their row has ``n`` 0.

    Args:
        model: A trained model.
        cohort: Labelled patients; default: the study's. Of those whom the split of the model trains on, if there are
            any, only they are used.
        n_batches: Batches, at most; bounds what it costs, about a prediction of so many batches.
        seed: Seed of batches and paths.

    Returns:
        One row for each two tasks: ``task``, ``other``, ``cosine`` (mean over batches), ``conflict`` (share of batches
        in which it is negative) and ``n`` (batches in which both have a gradient at states of the same patients).

    Raises:
        NotFittedError: Before training.
        DataError: If the patients have no labels.
    """
    fitted = model.trained.ensemble
    patients = model.trained.prepare(cohort, labelled=True)
    patients.check_labelled()
    assert patients.strata is not None
    rows = _training_rows(model, patients)
    shift = None
    if model.study.missingness == "neutral":
        shift = LabelShift.of_rows(patients, rows, list(fitted.tasks.values()), fitted.first.seen)
    generator = torch.Generator().manual_seed(seed)
    loader = BatchLoader(patients, rows, model.study.training.batch_size, shuffle=True, seed=seed, alternate=True)
    pairs = list(combinations(fitted.tasks, 2))
    found = np.full((n_batches, len(pairs)), np.nan)
    for k, batch in zip(range(n_batches), _endless(loader), strict=False):
        gradients = _gradients(fitted.networks[k % len(fitted.members)], batch, generator, shift)
        found[k] = [_cosine(gradients[one], gradients[other]) for one, other in pairs]
    lines = []
    for (one, other), cosines in zip(pairs, found.T, strict=True):
        known = cosines[~np.isnan(cosines)]
        mean, share = (float(known.mean()), float((known < 0).mean())) if len(known) else (np.nan, np.nan)
        lines.append((one, other, mean, share, len(known)))
    return pd.DataFrame(lines, columns=COLUMNS)


def _training_rows(model: MultiModN, patients: PatientTensors) -> Tensor:
    everyone = torch.arange(len(patients))
    if model.split is None:
        return everyone
    own = everyone[torch.from_numpy(patients.patients.isin(model.split.train))]
    return own if len(own) else everyone


def _endless(loader: BatchLoader) -> Iterator[Batch]:
    while True:
        yield from loader
        loader.epoch += 1


def _gradients(
    network: SequentialFusion, batch: Batch, generator: torch.Generator, shift: LabelShift | None
) -> dict[str, Tensor]:
    """The gradient of each task's loss at each patient's states ``(S, B, D)``."""
    paths = random_paths(batch.presence, generator)
    with torch.enable_grad(), network.without_experts(), states_read(network) as read:
        if shift is None or batch.strata is None:
            losses = network.losses(batch, paths)
        else:
            found = shift.corrections(steps_taken(paths, batch.presence.shape[1]), batch.strata, batch.weights)
            losses = network.losses(batch, paths, found.tilts, found.weights)
    states = list(read.values())
    answer = {}
    for name, loss in losses.items():
        # a task reads the states of one view; those of the others are states of the same patients without some steps
        parts = torch.autograd.grad(loss, states, retain_graph=True, allow_unused=True)
        answer[name] = torch.stack([part for part in parts if part is not None]).sum(0)
    return answer


def _cosine(one: Tensor, other: Tensor) -> float:
    """NaN where the two do not meet: no patient's states have a gradient of both."""
    meet = (one.abs().sum((0, 2)) > 0) & (other.abs().sum((0, 2)) > 0)
    if not meet.any():
        return float("nan")
    one, other = one.double().flatten(), other.double().flatten()
    return float(one @ other / (one.norm() * other.norm()))
