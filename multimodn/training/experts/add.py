"""Adds experts to the trained members of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.fusion import Ensemble
from multimodn.study.study import Study
from multimodn.training.experts.blend import fit_blend
from multimodn.training.experts.fit import Folds, fit_experts
from multimodn.training.experts.linear import N_FOLDS, deal_folds

MAX_PATIENTS = 10_000  # drawn at random, on whom experts are fitted: of more they learn little, but memory grows


def add_experts(
    ensemble: Ensemble, patients: PatientTensors, rows: Sequence[tuple[Tensor, Tensor]], study: Study,
    *, progress: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Fits the experts of each member on its training rows, in place, and describes them.

    ``rows``: for each member its training and held-out rows. Several members leave out one fold each, whose patients
    choose the penalties and weights of the experts; a single member has inner folds of its training rows.

    Returns:
        ``weights``: for each task those of ``network`` and ``experts``; ``left_out``: for each ``modality: task``
        without an expert the reason.
    """
    seed = study.training.seed
    if len(rows) > 1:
        held_out = [out for _, out in rows]
        fold = torch.arange(len(rows)).repeat_interleave(torch.tensor([len(out) for out in held_out]))
        folds = Folds(torch.cat(held_out), fold, len(rows), of_all=False)
    else:
        train = rows[0][0]
        strata = torch.zeros(len(patients), dtype=torch.long) if patients.strata is None else patients.strata[:, 0]
        folds = Folds(train, deal_folds(strata[train], N_FOLDS, seed), N_FOLDS, of_all=True)
    if len(folds.rows) > MAX_PATIENTS:
        some = torch.randperm(len(folds.rows), generator=torch.Generator().manual_seed(seed))[:MAX_PATIENTS]
        folds = replace(folds, rows=folds.rows[some], fold=folds.fold[some])
    from multimodn.training.progress import expert_bar

    with expert_bar(is_shown=progress) as bar:
        on_modality = partial(bar.advance, bar.add_task("experts", total=len(patients.values)))
        sets, left_out = fit_experts(ensemble.first, patients, folds, study, on_modality)
    for member, experts in zip(ensemble.networks, sets, strict=True):
        member.experts = experts
    ensemble.eval()
    neutral = study.missingness == "neutral"
    return {"weights": fit_blend(ensemble, patients, rows, seed, neutral=neutral), "left_out": left_out}
