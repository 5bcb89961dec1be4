"""What metrics are computed from, and how a metric of one column becomes one of a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.task import Task
from multimodn.findings.names import survival_time
from multimodn.statistics.bootstrap import Floats

Score = Callable[[Floats], Floats]
"""Weights ``(R, n)`` to a metric of each weighting ``(R,)``, NaN where it is undefined."""
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Predicted:
    """Predictions of n labelled patients and what was observed; arrays in double precision."""

    link: Floats  # predictions on the link scale ``(n, L)``
    truth: Floats  # `Task.link_target`
    losses: Floats  # the loss of each patient ``(n,)``
    spread: Floats | None  # predicted standard deviations of a number ``(n,)``; None where the task has none
    times: Floats  # times at which the task predicts the chance of no event ``(J,)``; empty for other tasks
    survival: Floats  # those chances ``(n, J)``


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
    curve = {name: value for name, value in task.predict(outputs).items() if survival_time(name) is not None}
    if not curve:
        return np.zeros(0), np.zeros((len(outputs), 0)), []
    exact = getattr(task, "curve_times", None)  # a name is rounded
    named = [float(time.partition(" ")[0]) for time in map(survival_time, curve) if time is not None]
    times = np.array(named) if exact is None else _array(exact)
    return times, _array(torch.stack(list(curve.values()), dim=1)), list(curve)


def of_links(link: Tensor | Floats, truth: Tensor | Floats) -> Predicted:
    """Holds predictions of any make on the link scale ``(n, L)``, and what `Task.link_target` says of the patients."""
    n = len(link)
    return Predicted(_array(link), _array(truth), np.full(n, np.nan), None, np.zeros(0), np.zeros((n, 0)))


def _array(values: Tensor | Floats) -> Floats:
    array: Floats = torch.as_tensor(values).detach().cpu().numpy().astype(np.float64)
    return array


def once(score: Score | None, n: int) -> float:
    """Returns a metric of n patients as they are, each counting once; NaN where there is none."""
    return np.nan if score is None or not n else float(score(np.ones((1, n)))[0])


def means(values: Floats) -> Score:
    """Weighted means of columns ``(n, L)``, NaN = unknown; averaged over those that have any value."""
    labelled = ~np.isnan(values)
    used = labelled.any(0)
    filled, counted = np.nan_to_num(values[:, used]), labelled[:, used].astype(np.float64)

    def score(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            averages: Floats = ((weights @ filled) / (weights @ counted)).mean(1)
        return averages

    return score if used.any() else undefined


def is_perfect(drawn: Floats) -> bool:
    """Says whether a metric is 0 or 1 in every resample, so that an interval of percentiles would have no width.

    Where a model ranks all patients perfectly, it does so in every resample, however few patients there are.
    """
    defined = drawn[~np.isnan(drawn)]
    return bool(len(defined) and any(np.isclose(defined, end, atol=1e-12).all() for end in (0, 1)))


RANKED = ("auroc", "auprc", "auroc_over_time", "balanced_accuracy", "cindex", "uno_cindex")
"""Metrics that can be perfect by chance where patients are few."""


def undefined(weights: Floats) -> Floats:
    """A metric that is undefined for every weighting."""
    return np.full(len(weights), np.nan)


def by_column(
    given: Predicted, make: Callable[[Floats, Bools], Score], fewest: int = 1, *, partly: bool = False
) -> Score:
    """Averages a metric of log-odds ``(m,)`` and outcomes ``(m,)`` over the columns of a task.

    A column counts with ``fewest`` patients with and without the outcome. With ``partly`` a weighting under which one
    of these columns is undefined is averaged over the others, else it is undefined as a whole.
    """
    columns: list[tuple[Score, NDArray[np.int64]]] = []
    for link, truth in zip(given.link.T, given.truth.T, strict=True):
        labelled = np.flatnonzero(~np.isnan(truth))
        positive = truth[labelled] > 0
        if len(labelled) and min(positive.sum(), (~positive).sum()) >= fewest:
            columns.append((make(link[labelled], positive), labelled))

    def score(weights: Floats) -> Floats:
        values = np.stack([one(weights[:, labelled]) for one, labelled in columns])
        return defined_mean(values) if partly else values.mean(0)

    return score if columns else undefined


def defined_mean(values: Floats) -> Floats:
    """Averages those numbers of each column that are defined; NaN where none is."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(defined, values, 0).sum(0) / defined.sum(0)
    return mean
