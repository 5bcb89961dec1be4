"""The value of a modality: how much worse the predictions of a cohort are without it.

Only patients who have a modality can be predicted with and without it, and they differ from the others: where a test
is ordered for those whom it helps most, its value among the tested is not its value for all. So patients have
inverse-probability weights: one over the probability of having the modality, given the outcome and other predictors.

References:
    Choi et al. (2025), ICYM2I, https://arxiv.org/abs/2505.16953
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.task import Task, main_metric
from multimodn.errors import StudyError, did_you_mean
from multimodn.fusion import Ensemble
from multimodn.metrics.tasks import main_score
from multimodn.missingness.propensity import MAX_WEIGHT, design
from multimodn.statistics.bootstrap import draws

Floats = NDArray[np.float64]

BATCH = 4096
FEWEST = 10  # fewest labelled patients with a modality for whom its value is estimated
COPIES = 8  # copies of an average patient in a weighted sample: weights are rounded to eighths
ERRORS = ("rmse", "mae", "brier", "log_loss", "integrated_brier", "crps")
"""Metrics that are lower for better predictions."""


def value_of(
    model: Ensemble,
    patients: PatientTensors,
    modalities: Sequence[str] | None = None,
    covariates: pd.DataFrame | None = None,
    *,
    n_resamples: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Compares predictions with and without each modality, among those who have it, weighted to represent all patients.

    The propensity to have it is a logistic regression on the outcome stratum, the predictions of all tasks without it,
    and ``covariates``; where all have it, the weights are 1. It does not correct for other reasons to have it.

    Returns:
        One row for each modality, task that sees it and metric (see `multimodn.base.task.Task.link_metrics`): ``task``,
        ``metric``, ``modality``, ``n`` (labelled patients who have it), ``n_effective`` (effective sample size),
        ``with_it``, ``without_it``, ``value`` (improvement with it: positive for errors that fall, too), ``low``,
        ``high`` (95 %, by the bootstrap over patients, whose weights are kept), ``unweighted`` (the value among those
        who have it). No row where fewer than ten labelled patients have it.

    Raises:
        StudyError: If a modality is unknown.
    """
    names = model.first.modalities
    for name in modalities or []:
        if name not in names:
            raise StudyError(f"Unknown modality '{name}'.{did_you_mean(name, names)}")
    rows = []
    for name in modalities or names:
        m = names.index(name)
        with_it, without = _predictions(model, patients, m)
        for t, (task, each) in enumerate(model.tasks.items()):
            if not model.first.seen[t, m]:
                continue
            labelled, others = patients.labelled[task], torch.cat(list(without.values()), dim=1)
            weights = _inverse_probability_weights(patients, t, each, labelled, m, others, covariates)
            has = (labelled & patients.presence[:, m]).numpy()
            links = (with_it[task][has], without[task][has])
            target = each.link_target(patients.targets[task])[has]
            lines = _compared(each, links, target, weights, n_resamples, seed)
            rows += [{"task": task, "modality": name, "n": int(has.sum()), **line} for line in lines]
    columns = ["task", "metric", "modality", "n", "n_effective", "with_it", "without_it", "value", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "unweighted"])


def _predictions(model: Ensemble, patients: PatientTensors, m: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Predicts on the link scale from all present modalities, and from all but m."""
    parts: tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]] = ([], [])
    with torch.inference_mode():
        for batch in patients.batches(BATCH):
            evidence = model.encode(batch)
            fewer = batch.presence.clone()
            fewer[:, m] = False
            for part, subset in zip(parts, (batch.presence, fewer), strict=True):
                outputs = model.subset(evidence, subset)
                part.append({name: task.link(outputs[name]) for name, task in model.tasks.items()})
    with_it, without = ({name: torch.cat([each[name] for each in part]) for name in model.tasks} for part in parts)
    return with_it, without


def _inverse_probability_weights(
    patients: PatientTensors,
    t: int,
    task: Task,
    labelled: Tensor,
    m: int,
    without: Tensor,
    covariates: pd.DataFrame | None,
) -> Floats:
    """Returns the weights of the labelled patients who have modality m, clipped, of mean 1."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    has = patients.presence[labelled, m].numpy()
    if has.all() or has.sum() < FEWEST:
        return np.ones(int(has.sum()))
    assert patients.strata is not None
    parts = [np.eye(task.n_strata)[patients.strata[labelled, t].numpy()], without[labelled].double().numpy()]
    if covariates is not None:
        parts.append(design(covariates)[labelled.numpy()])
    rows = StandardScaler().fit_transform(np.hstack(parts))
    propensity: Floats = LogisticRegression(max_iter=1_000).fit(rows, has).predict_proba(rows)[has, 1]
    weights = (has.mean() / propensity).clip(1 / MAX_WEIGHT, MAX_WEIGHT)
    scaled: Floats = weights / weights.mean()
    return scaled


def _compared(
    task: Task, links: tuple[Tensor, Tensor], target: Tensor, weights: Floats, n_resamples: int, seed: int
) -> list[dict[str, float | str]]:
    """Scores both predictions of some patients, weighted and resampled; a row for each metric."""
    n = len(weights)
    if n < FEWEST:
        return []
    copies = np.maximum(np.rint(weights * COPIES), 1).astype(int) if np.ptp(weights) else np.ones(n, int)
    once = _scores(task, links, target, np.arange(n))
    exact = _scores(task, links, target, np.repeat(np.arange(n), copies))
    resampled = _resampled(task, links, target, copies, n_resamples, seed, list(exact))
    lines: list[dict[str, float | str]] = []
    for metric, (with_it, without_it) in exact.items():
        sign = -1.0 if metric in ERRORS else 1.0
        gains = sign * (resampled[metric][0] - resampled[metric][1])
        defined = gains[~np.isnan(gains)]
        low, high = np.quantile(defined, [0.025, 0.975]) if len(defined) > 0.8 * n_resamples else (np.nan, np.nan)
        line = {"n_effective": float(weights.sum() ** 2 / (weights**2).sum()), "with_it": with_it}
        line |= {"without_it": without_it, "value": sign * (with_it - without_it), "low": float(low)}
        line |= {"high": float(high), "unweighted": sign * (once[metric][0] - once[metric][1])}
        lines.append({"metric": metric, **line})
    return lines


def _scores(
    task: Task, links: tuple[Tensor, Tensor], target: Tensor, rows: NDArray[np.int64]
) -> dict[str, tuple[float, float]]:
    chosen = torch.from_numpy(rows)
    one, other = (task.link_metrics(link[chosen], target[chosen]) for link in links)
    return {metric: (one[metric], other[metric]) for metric in one}


def _resampled(
    task: Task,
    links: tuple[Tensor, Tensor],
    target: Tensor,
    copies: NDArray[np.int64],
    n_resamples: int,
    seed: int,
    metrics: Sequence[str],
) -> dict[str, tuple[Floats, Floats]]:
    """Scores both predictions in every resample of patients, each standing for its ``copies``."""
    blocks = draws(len(copies), n_resamples, seed)
    if list(metrics) == [main_metric(task)]:  # all resamples at once
        scores = [main_score(task.link_scale, link, target, partly=True) for link in links]
        pairs = [[score(drawn * copies) for score in scores] for drawn in blocks]
        one, other = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
        return {metrics[0]: (one, other)}
    everyone = np.arange(len(copies))
    rows = [np.repeat(everyone, (drawn * copies).astype(int)) for block in blocks for drawn in block]
    every = [_scores(task, links, target, chosen) for chosen in rows]
    return {m: (np.array([one[m][0] for one in every]), np.array([one[m][1] for one in every])) for m in metrics}
