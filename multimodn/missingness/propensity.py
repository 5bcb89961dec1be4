"""Stabilised inverse-probability weights, for presence that depends on covariates that every patient has.

Where the presence pattern R depends on the outcome y and on covariates z, such as age or site, the weights

    v(R, y, z) = P(R | y) / P(R | y, z)

make a cohort whose patterns depend on y alone, which `missingness.label_shift` corrects. P(R | y, z) is a product of
logistic models, one for each modality: modalities are assumed independent given y and z.

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

Floats = NDArray[np.float64]


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
        one_hot = np.eye(task.n_strata)[stratum[labelled]]
        size = one_hot.sum(axis=0).clip(min=1)
        rows, log_weight = np.hstack([one_hot, given[labelled]]), np.zeros(labelled.sum())
        for m in np.flatnonzero(has[labelled].any(axis=0) & ~has[labelled].all(axis=0) & counted[t]):
            present = has[labelled, m]
            given_both = LogisticRegression(max_iter=1_000).fit(rows, present).predict_proba(rows)[:, 1]
            given_outcome = (one_hot.T @ given_both / size)[stratum[labelled]]
            log_weight += np.log(np.where(present, given_outcome / given_both, (1 - given_outcome) / (1 - given_both)))
        weight = np.exp(log_weight).clip(1 / MAX_WEIGHT, MAX_WEIGHT)
        weights[labelled, t] = weight / (one_hot.T @ weight / size)[stratum[labelled]]
    return torch.from_numpy(weights).float()


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
