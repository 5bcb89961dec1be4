"""Learns what the pattern of empty cells of a modality says about the outcomes; see `multimodn.missingness.cells`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.kinds import load_kind
from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.fusion.paths import random_subsets
from multimodn.missingness.label_shift import LabelShift
from multimodn.study.study import Study
from multimodn.training.experts.linear import N_FOLDS, deal_folds, fit_linear
from multimodn.training.experts.stack import fit_weights, to_mean

PENALTIES = (1e4, 3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
MAX_COLUMNS = 512  # distinct patterns of empty cells of a modality that enter, those that vary most
N_ORDERS = 4  # random orders of each patient whose subsets weights are fitted to
MAX_ROWS = 10_000  # patients, drawn at random, on whom it is learned
MIN_ROWS = 40  # labelled patients who have the modality, below which nothing is learned


def with_cell_tilts(
    patients: PatientTensors, cohort: Cohort, study: Study, tasks: Sequence[Task], seen: Tensor
) -> PatientTensors:
    """Returns patients with `PatientTensors.cells`: the label shift of their empty cells, each from other patients.

    ``cohort`` holds the same patients; ``seen``: which modalities each task may see, bool ``(T, M)``.
    """
    empty: dict[int, Tensor] = {}
    names = list(patients.values)
    for modality in study.modalities:
        kind = load_kind("encoders", modality.kind)
        for name in modality.step_names:
            frame = cohort.modalities.get(name)
            if frame is not None and len(frame):
                m = names.index(name)
                indicators = kind.empty_cells(frame, modality.options)
                place = indicators.index.get_indexer(patients.patients[patients.presence[:, m].numpy()])
                empty[m] = _varying(torch.from_numpy(indicators.to_numpy(dtype=np.float64, copy=True))[place])
    return replace(patients, cells=fit_cell_tilts(patients, empty, tasks, seen))


def fit_cell_tilts(
    patients: PatientTensors, empty: Mapping[int, Tensor], tasks: Sequence[Task], seen: Tensor
) -> Tensor | None:
    """Returns the label shift of the empty cells of each modality, ``(N, M, T, L)``; None if there is none.

    It is w_m (log P(y | empty cells of m) - log P(y | m)) for each stratum y, by a multinomial logistic regression with
    an L2 penalty on the patients who have the modality and a label; that of a patient comes from inner folds without
    them (of more than `MAX_ROWS` patients, the others' from all of these). Which cells are empty depends on other
    modalities too, as a sicker patient is measured more: so the weights w_m, at least 0, are fitted at random subsets
    of the modalities, beside the label shift of the subset.

    Args:
        patients: Development patients, with strata.
        empty: For some modalities the indicators ``(n, q)`` of the patients who have it, in their order.
        tasks: The tasks.
        seen: Which modalities each task may see, bool ``(T, M)``.
    """
    assert patients.strata is not None
    n_strata = max(task.n_strata for task in tasks)
    tilts = torch.zeros(len(patients), len(patients.values), len(tasks), n_strata)
    for m, indicators in empty.items():
        rows = patients.presence[:, m].nonzero().squeeze(1)
        for t, task in enumerate(tasks):
            strata = patients.strata[rows, t]
            labelled = strata >= 0
            if indicators.shape[1] and task.n_strata > 1 and seen[t, m] and int(labelled.sum()) >= MIN_ROWS:
                shift = _stratum_shift(indicators[labelled], strata[labelled], task.n_strata)
                tilts[rows[labelled], m, t, : task.n_strata] = shift.float()
    if not tilts.any():
        return None
    label_shift = LabelShift(patients.presence, patients.strata, tasks, seen, weights=patients.weights)
    for t, task in enumerate(tasks):
        tilts[:, :, t] *= _weights(tilts[:, :, t], t, task, patients, label_shift, seen[t])[:, None]
    return tilts


def _stratum_shift(indicators: Tensor, strata: Tensor, n_strata: int) -> Tensor:
    counts = torch.bincount(strata, minlength=n_strata).double()
    log_prior = (counts.clamp(min=0.5) / counts.clamp(min=0.5).sum()).log()
    some = _drawn(len(strata))
    folds = deal_folds(strata[some], N_FOLDS, 0)
    fitted = fit_linear(
        indicators[some], partial(_loss, strata[some], log_prior), n_strata, folds, N_FOLDS, penalties=PENALTIES
    )
    evidence = indicators @ fitted.weight[-1] + fitted.bias[-1]
    evidence[some] = fitted.held_out
    return torch.where(counts > 0, (log_prior + evidence).log_softmax(-1) - log_prior, 0.0)


def _loss(strata: Tensor, log_prior: Tensor, evidence: Tensor) -> Tensor:
    own = strata.expand(evidence.shape[:-1]).unsqueeze(-1)
    return -(log_prior + evidence).log_softmax(-1).gather(-1, own).squeeze(-1)


def _weights(
    tilts: Tensor, t: int, task: Task, patients: PatientTensors, label_shift: LabelShift, seen: Tensor
) -> Tensor:
    """Returns the weights w_m of a task, ``(M,)``, from the tilts ``(N, M, L)`` of modalities alone."""
    assert patients.strata is not None
    members = tilts.any(2).any(0).nonzero().squeeze(1)
    weights = torch.zeros(tilts.shape[1])
    if not len(members):
        return weights
    labelled = (patients.strata[:, t] >= 0).nonzero().squeeze(1)
    labelled = labelled[_drawn(len(labelled))]
    own = patients.strata[labelled, t]
    taken = random_subsets(patients.presence[labelled] & seen, N_ORDERS, torch.Generator().manual_seed(0))
    is_state = taken.any(-1)
    weight = is_state.double() / is_state.sum(0).clamp(min=1)
    counts = torch.bincount(own, minlength=task.n_strata).double().clamp(min=0.5)
    base = (counts / counts.sum()).log() + label_shift.subset_tilts(taken)[:, :, t, : task.n_strata].double()
    steps, of_cells = taken[..., members].double(), tilts[labelled][:, members, : task.n_strata].double()

    def loss(learned: Tensor) -> Tensor:
        likely = (base + torch.einsum("snm,m,nml->snl", steps, learned, of_cells)).log_softmax(-1)
        chosen = likely.gather(-1, own.expand(likely.shape[:-1]).unsqueeze(-1)).squeeze(-1)
        return -(chosen * weight).sum()

    weights[members] = fit_weights(loss, [1.0] * len(members), to_mean).float()
    return weights


def _drawn(n_rows: int) -> Tensor:
    """Returns all row numbers, or `MAX_ROWS` of them at random."""
    if n_rows <= MAX_ROWS:
        return torch.arange(n_rows)
    return torch.randperm(n_rows, generator=torch.Generator().manual_seed(0))[:MAX_ROWS]


def _varying(indicators: Tensor) -> Tensor:
    """Returns the distinct columns that are neither always 0 nor always 1, at most `MAX_COLUMNS`."""
    share = indicators.mean(0)
    varied = indicators[:, (share > 0) & (share < 1)]
    if varied.shape[1] > 1:
        varied = torch.unique(varied, dim=1)
    if varied.shape[1] > MAX_COLUMNS:
        share = varied.mean(0)
        varied = varied[:, (share * (1 - share)).argsort(descending=True)[:MAX_COLUMNS]]
    return varied
