"""Metrics that the field expects of each kind of task, and what a decision by a model is worth.

`evaluate.performance.performance.performance` gives the metrics overall, after each step, by presence pattern and by
subgroup, with intervals.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.task import Task
from multimodn.errors import StudyError
from multimodn.metrics.ties import reaches
from multimodn.model.multimodn import MultiModN
from multimodn.statistics.bootstrap import Floats, draws

THRESHOLDS = np.arange(1, 100) / 100
FEWEST_EACH = 5  # patients with and without the outcome below whom a decision curve has no interval
STRATEGIES = ["model", "low", "high", "treat_all", "treat_none", "gain", "gain_low", "gain_high"]


def decision_curve(
    model: MultiModN,
    patients: PatientTensors,
    task: str | None = None,
    *,
    thresholds: Sequence[float] | None = None,
    n_resamples: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Computes the net benefit of treating who is predicted to have an outcome, against treating all or none.

    The net benefit at a threshold is the share of patients who are rightly treated, less the share who are treated
    in vain times the odds of the threshold. A threshold of 10 % says that one would treat nine in vain to treat one
    rightly. A model is worth using at thresholds at which its net benefit is above both of the others. Of several
    classes or labels each is told from the rest.

    Args:
        model: A trained model.
        patients: Labelled patients who were not trained on, from `MultiModN.prepare`.
        task: Its name; default: all whose link scale is log-odds.
        thresholds: Predicted chances from which on a patient is treated, between 0 and 1; default: every percent.
        n_resamples: Bootstrap resamples of patients.
        seed: Seed of the resamples.

    Returns:
        A row for each task, output and threshold, see `decision_curve_of`.

    Raises:
        NotFittedError: Before training.
        StudyError: If the task is unknown, or has no probabilities of classes; if a threshold is not between 0 and 1.
        DataError: If the patients have no targets.
    """
    patients.check_labelled()
    asked = model.trained.select_tasks(task)
    if task is not None and asked[task].link_scale != "log-odds":
        raise StudyError(f"Task '{task}' predicts no classes: a decision curve needs the probability of an outcome.")
    outputs = model.trained.outputs(patients)
    parts = []
    for name, one in asked.items():
        known = patients.labelled[name]
        if one.link_scale == "log-odds" and known.any():
            link, truth = one.link(outputs[name][known].double()), one.link_target(patients.targets[name][known])
            parts.append(decision_curve_of(one, link, truth, thresholds=thresholds, n_resamples=n_resamples, seed=seed))
    return pd.concat(parts, ignore_index=True) if parts else _curve_frame([])


def decision_curve_of(
    task: Task,
    link: NDArray[np.floating] | Tensor,
    truth: NDArray[np.floating] | Tensor,
    *,
    thresholds: Sequence[float] | None = None,
    n_resamples: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Computes `decision_curve` of predictions of any make.

    Args:
        task: What is predicted; its link scale is log-odds.
        link: Log-odds ``(n, L)`` of labelled patients.
        truth: What `Task.link_target` says of them, NaN = unknown.
        thresholds: See `decision_curve`.
        n_resamples: Bootstrap resamples of patients.
        seed: Seed of the resamples.

    Returns:
        A row for each output and threshold: ``task``, ``output``, ``threshold``, the net benefit of the ``model`` with
        ``low`` and ``high`` (95 %, percentiles of a bootstrap over patients, NaN with fewer than five patients of
        either outcome), that of ``treat_all`` and ``treat_none`` (0), ``gain`` of the model over the better of these
        two with ``gain_low`` and ``gain_high``, ``prevalence`` and ``n``.

    Raises:
        StudyError: If a threshold is not between 0 and 1.

    References:
        Vickers and Elkin (2006), https://doi.org/10.1177/0272989X06295361
    """
    at = THRESHOLDS if thresholds is None else np.unique(np.asarray(thresholds, dtype=np.float64))
    if not len(at) or not ((at > 0) & (at < 1)).all():
        raise StudyError(f"Thresholds of a decision curve lie between 0 and 1, found: {at.tolist()}.")
    given, told = (np.asarray(torch.as_tensor(each).detach().cpu(), dtype=np.float64) for each in (link, truth))
    parts = []
    for j, output in enumerate(task.link_names):
        known = ~np.isnan(told[:, j])
        if known.any():
            benefits = _net_benefits(given[known, j], told[known, j] > 0, at, n_resamples, seed)
            parts.append(pd.DataFrame({"task": task.name, "output": output, "threshold": at, **benefits}))
    return _curve_frame(parts)


def _curve_frame(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    columns = ["task", "output", "threshold", *STRATEGIES, "prevalence", "n"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _net_benefits(
    link: Floats, positive: NDArray[np.bool_], at: Floats, n_resamples: int, seed: int
) -> dict[str, Floats | float | int]:
    odds = at / (1 - at)
    is_treated = reaches(link[:, None], np.log(odds))
    worth = np.where(positive[:, None], 1.0, -odds)  # of treating a patient, at each threshold
    columns = np.hstack([is_treated * worth, worth])
    value = columns.mean(0)
    found = _strategies(value[None])
    ends = {name: np.full((2, len(at)), np.nan) for name in ("model", "gain")}
    if min(positive.sum(), (~positive).sum()) >= FEWEST_EACH:
        drawn = np.concatenate([block @ columns for block in draws(len(link), n_resamples, seed)]) / len(link)
        ends = {name: np.quantile(_strategies(drawn)[name], [0.025, 0.975], axis=0) for name in ends}
    columns_of = {"model": found["model"][0], "low": ends["model"][0], "high": ends["model"][1]}
    columns_of |= {"treat_all": found["treat_all"][0], "gain": found["gain"][0]}
    columns_of |= {"gain_low": ends["gain"][0], "gain_high": ends["gain"][1]}
    return {**columns_of, "treat_none": 0.0, "prevalence": float(positive.mean()), "n": len(link)}


def _strategies(benefits: Floats) -> dict[str, Floats]:
    model, everybody = np.split(benefits, 2, axis=1)
    return {"model": model, "treat_all": everybody, "gain": model - np.maximum(everybody, 0.0)}
