"""Learns what the pattern of empty cells of a modality says about the outcomes; see `multimodn.missingness.cells`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.kinds import load_kind
from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.study.study import Study
from multimodn.training.experts.linear import N_FOLDS, deal_folds, fit_linear

PENALTIES = (1e4, 3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
MAX_COLUMNS = 512  # distinct patterns of empty cells of a modality that enter, those that vary most
MIN_ROWS = 40  # labelled patients who have the modality, below which nothing is learned


def with_cell_tilts(patients: PatientTensors, cohort: Cohort, study: Study, tasks: Sequence[Task]) -> PatientTensors:
    """Returns patients with `PatientTensors.cells`: the label shift of their empty cells, each from other patients.

    ``cohort`` holds the same patients, with the study's modalities.
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
    return replace(patients, cells=fit_cell_tilts(patients, empty, tasks))


def fit_cell_tilts(patients: PatientTensors, empty: Mapping[int, Tensor], tasks: Sequence[Task]) -> Tensor | None:
    """Returns log P(y | empty cells of m) - log P(y | m) for each stratum y, ``(N, M, T, L)``; None if all are 0.

    P(y | empty cells of m) is a multinomial logistic regression with an L2 penalty, on patients who have the modality
    and a label; that of a patient comes from inner folds without them. ``empty``: for some modalities the indicators
    ``(n, q)`` of the patients who have it, in their order.
    """
    assert patients.strata is not None
    n_strata = max(task.n_strata for task in tasks)
    tilts = torch.zeros(len(patients), len(patients.values), len(tasks), n_strata)
    for m, indicators in empty.items():
        if not indicators.shape[1]:
            continue
        rows = patients.presence[:, m].nonzero().squeeze(1)
        for t, task in enumerate(tasks):
            strata = patients.strata[rows, t]
            labelled = strata >= 0
            if task.n_strata > 1 and int(labelled.sum()) >= MIN_ROWS:
                shift = _stratum_shift(indicators[labelled], strata[labelled], task.n_strata)
                tilts[rows[labelled], m, t, : task.n_strata] = shift.float()
    return tilts if tilts.any() else None


def _stratum_shift(indicators: Tensor, strata: Tensor, n_strata: int) -> Tensor:
    counts = torch.bincount(strata, minlength=n_strata).double()
    log_prior = (counts.clamp(min=0.5) / counts.clamp(min=0.5).sum()).log()

    def loss(evidence: Tensor) -> Tensor:
        own = strata.expand(evidence.shape[:-1]).unsqueeze(-1)
        return -(log_prior + evidence).log_softmax(-1).gather(-1, own).squeeze(-1)

    folds = deal_folds(strata, N_FOLDS, 0)
    fitted = fit_linear(indicators, loss, n_strata, folds, penalties=PENALTIES)
    shift = (log_prior + fitted.held_out).log_softmax(-1) - log_prior
    return torch.where(counts > 0, shift, 0.0)


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
