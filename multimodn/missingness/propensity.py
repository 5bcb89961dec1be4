"""Stabilised inverse-probability weights, for presence that depends on covariates that every patient has.

Where the presence pattern R depends on the outcome y and on covariates z, such as age or site, the weights

    v(R, y, z) = P(R | y) / P(R | y, z)

make a cohort whose patterns depend on y alone, which `missingness.label_shift` corrects when it counts each patient by
the weight. P(R | y, z) is a product of logistic models, one for each modality: modalities are assumed independent given
y and z. Given y alone they are not, as they share z: P(R | y) is the mean of P(R | y, z) over the patients with y.

References:
    Robins, Hernan and Brumback (2000), Marginal structural models, Epidemiology 11(5), on stabilised weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.task import Task

MAX_WEIGHT = 10.0  # largest weight of a patient, and the inverse of the smallest
FEW_VALUES = 8  # a covariate with at most so many distinct values is a category
LEAST = 1e-9  # smallest chance of having or lacking a modality
CELLS = 1 << 24  # pairs of patient and pattern computed at once; bounds the memory

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def weighted(
    patients: PatientTensors, covariates: pd.DataFrame, tasks: Sequence[Task], seen: Tensor | None = None
) -> PatientTensors:
    """Returns training and validation patients, prepared with targets, with `presence_weights` fitted on them."""
    assert patients.strata is not None
    return replace(patients, weights=presence_weights(patients.presence, patients.strata, covariates, tasks, seen))


def presence_weights(
    presence: Tensor, strata: Tensor, covariates: pd.DataFrame, tasks: Sequence[Task], seen: Tensor | None = None
) -> Tensor:
    """Fits P(R | y) / P(R | y, z) of every patient and task, clipped, of mean 1 in every stratum; 1 without a label.

    Presence is bool ``(N, M)``, strata long ``(N, T)`` (-1 = no label), covariates have N rows, ``seen`` says which
    modalities each task may see, bool ``(T, M)``, default all. The weights are float32 ``(N, T)``.
    """
    from sklearn.linear_model import LogisticRegression

    has, given = presence.numpy(), design(covariates)
    counted = np.ones((len(tasks), has.shape[1]), dtype=bool) if seen is None else seen.numpy()
    weights = np.ones((len(presence), len(tasks)))
    for t, task in enumerate(tasks):
        stratum = strata[:, t].numpy()
        labelled = stratum >= 0
        own = stratum[labelled]
        one_hot, present = np.eye(task.n_strata)[own], has[labelled]
        varies = present.any(axis=0) & ~present.all(axis=0) & counted[t]
        if not varies.any():
            continue
        rows, present = np.hstack([one_hot, given[labelled]]), present[:, varies]
        models = [LogisticRegression(max_iter=1_000).fit(rows, column) for column in present.T]
        chances = np.stack([model.predict_proba(rows)[:, 1] for model in models], axis=1).clip(LEAST, 1 - LEAST)
        weight = np.exp(_log_pattern_ratio(present, chances, own)).clip(1 / MAX_WEIGHT, MAX_WEIGHT)
        weights[labelled, t] = weight / (one_hot.T @ weight / one_hot.sum(axis=0).clip(min=1))[own]
    return torch.from_numpy(weights).float()


def _log_pattern_ratio(present: Bools, chances: Floats, stratum: NDArray[np.int64]) -> Floats:
    """Returns log P(R | y) / P(R | y, z) of each patient's own pattern R, ``(n,)``.

    ``present``: the patterns, ``(n, M)``; ``chances``: of each modality given outcome and covariates, ``(n, M)``.
    """
    from scipy.special import logit, logsumexp

    log_odds, log_none = logit(chances), np.log1p(-chances).sum(axis=1)
    log_ratio: Floats = -(present * log_odds).sum(axis=1) - log_none
    for outcome in np.unique(stratum):
        rows = np.flatnonzero(stratum == outcome)
        patterns, which = np.unique(present[rows], axis=0, return_inverse=True)
        n_parts = -(-len(patterns) * len(rows) // CELLS)
        likely = [
            logsumexp(part @ log_odds[rows].T + log_none[rows], axis=1) - np.log(len(rows))
            for part in np.array_split(patterns, n_parts)
        ]
        log_ratio[rows] += np.concatenate(likely)[which.ravel()]
    return log_ratio


def design(covariates: pd.DataFrame) -> Floats:
    """Returns numbers as splines and categories as indicators, ``(N, n)``."""
    from sklearn.preprocessing import OneHotEncoder, SplineTransformer

    parts = []
    for name in covariates.columns:
        column = covariates[name]
        if pd.api.types.is_numeric_dtype(column.dtype) and column.nunique() > FEW_VALUES:
            splines = SplineTransformer(n_knots=4, knots="quantile", extrapolation="linear")
            parts.append(splines.fit_transform(column.to_numpy(dtype=np.float64)[:, None]))
        else:
            levels = OneHotEncoder(sparse_output=False, min_frequency=5)
            parts.append(levels.fit_transform(column.astype(str).to_numpy(dtype=object)[:, None]))
    return np.hstack(parts)
