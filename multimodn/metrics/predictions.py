"""What metrics are computed from, and how a metric of one column becomes one of a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.task import Task
from multimodn.statistics.bootstrap import Floats

Score = Callable[[Floats], Floats]
"""Weights ``(R, n)`` to a metric of each weighting ``(R,)``, NaN where it is undefined."""
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Predicted:
    """Predictions of n labelled patients and what was observed; arrays in double precision.

    Attributes:
        link: Predictions on the link scale ``(n, L)``.
        truth: `Task.link_target`.
        losses: The loss of each patient ``(n,)``.
        spread: Predicted standard deviations of a number ``(n,)``; None where the task has none.
        times: Times at which the task predicts the chance of no event ``(J,)``; empty for other tasks.
        survival: Those chances ``(n, J)``.
    """

    link: Floats
    truth: Floats
    losses: Floats
    spread: Floats | None
    times: Floats
    survival: Floats


def predicted(task: Task, outputs: Tensor, target: Tensor) -> Predicted:
    """Computes what metrics read from raw outputs ``(n, K)`` and targets of labelled patients."""
    outputs = outputs.detach().double()
    link, truth, losses = task.link(outputs), task.link_target(target).double(), task(outputs, target)
    spread, times, survival = None, np.zeros(0), np.zeros((len(outputs), 0))
    if task.link_scale == "units":
        spread = _array(task.predict(outputs)["sd"]) if "sd" in task.predict(outputs[:1]) else None
    elif task.link_scale == "log-risk":
        times, survival, _ = survival_curves(task, outputs)
    return Predicted(_array(link), _array(truth), _array(losses), spread, times, survival)


def survival_curves(task: Task, outputs: Tensor) -> tuple[Floats, Floats, list[str]]:
    """Returns the times ``(J,)`` at which a task predicts survival, the chances ``(n, J)``, and their names.

    They are those of the quantities ``survival@t`` of `Task.predict`; empty where it has none.
    """
    curve = {name: value for name, value in task.predict(outputs).items() if name.startswith("survival@")}
    if not curve:
        return np.zeros(0), np.zeros((len(outputs), 0)), []
    edges = getattr(task, "edges", None)  # a name is rounded
    named = [float(name.partition("@")[2]) for name in curve]
    times = np.array(named) if edges is None else _array(edges)
    return times, _array(torch.stack(list(curve.values()), dim=1)), list(curve)


def _array(values: Tensor) -> Floats:
    found: Floats = values.detach().cpu().numpy().astype(np.float64)
    return found


def chances(link: Floats) -> Floats:
    """Turns log-odds into probabilities."""
    found: Floats = 0.5 * (1 + np.tanh(link / 2))
    return found


def means(values: Floats) -> Score:
    """Weighted means of columns ``(n, L)``, NaN = unknown; averaged over those that were defined without weights."""
    known = ~np.isnan(values)
    used = known.any(0)
    filled, known = np.nan_to_num(values[:, used]), known[:, used].astype(np.float64)

    def score(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            found: Floats = ((weights @ filled) / (weights @ known)).mean(1)
        return found

    return score if used.any() else undefined


def is_perfect(drawn: Floats) -> bool:
    """Whether a metric is 0 or 1 in every resample, so that its percentiles would claim what nobody can know.

    Of patients whom a model ranks perfectly every resample is ranked perfectly, however few they are.
    """
    known = drawn[~np.isnan(drawn)]
    return bool(len(known) and (np.isclose(known, 0, atol=1e-12).all() or np.isclose(known, 1, atol=1e-12).all()))


RANKED = ("auroc", "auprc", "auroc_over_time", "balanced_accuracy", "cindex", "uno_cindex")
"""Metrics that few patients can reach the end of."""


def undefined(weights: Floats) -> Floats:
    """A metric that nobody can know."""
    return np.full(len(weights), np.nan)


def by_column(given: Predicted, make: Callable[[Floats, Bools], Score], fewest: int = 1) -> Score:
    """Averages a metric of log-odds ``(m,)`` and outcomes ``(m,)`` over the columns of a task.

    A column counts that has ``fewest`` patients with and without the outcome; where one of these is undefined in a
    resample, the average is.
    """
    return column_means(given.link, given.truth, make, fewest)


def column_means(links: Floats, truths: Floats, make: Callable[[Floats, Bools], Score], fewest: int = 1) -> Score:
    """Does the same of log-odds ``(n, L)`` and outcomes ``(n, L)``, NaN = unknown."""
    columns: list[tuple[Score, NDArray[np.int64]]] = []
    for link, truth in zip(links.T, truths.T, strict=True):
        known = np.flatnonzero(~np.isnan(truth))
        positive = truth[known] > 0
        if len(known) and min(positive.sum(), (~positive).sum()) >= fewest:
            columns.append((make(link[known], positive), known))

    def score(weights: Floats) -> Floats:
        found: Floats = np.mean([one(weights[:, known]) for one, known in columns], axis=0)
        return found

    return score if columns else undefined
