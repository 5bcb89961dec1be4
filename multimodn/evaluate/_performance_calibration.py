"""Whether predictions mean what they say: observed against predicted, in bins of equally many patients."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.base import Task
from multimodn.data.batches import PatientTensors
from multimodn.errors import DataError, StudyError, did_you_mean
from multimodn.estimator import MultiModN
from multimodn.resampling import Floats

Bools = NDArray[np.bool_]

FEWEST_A_BIN = 10
"""Patients of a bin, at least; with fewer patients there are fewer bins."""
FEWEST_EACH = 5
"""Patients with and without the outcome below whom no slope is fitted."""
Z = 1.959964
"""Quantile of the normal distribution for intervals of 95 %."""


@dataclass(frozen=True)
class _Column:
    """What is predicted of a task, and what was observed.

    Attributes:
        task: The task's name.
        output: The class, label, split (``>class``), task or ``survival@time``.
        kind: `Task.link_scale`.
        predicted: A probability, or a number in the target's units ``(n,)``.
        link: The prediction on the link scale; of survival the log-risk.
        truth: 0 or 1, a number, or time and event ``(n, 2)``.
        time: The time of a chance of survival.
    """

    task: str
    output: str
    kind: str
    predicted: Floats
    link: Floats
    truth: Floats
    time: float = np.nan


def calibration_curve(
    model: MultiModN, patients: PatientTensors, task: str | None = None, n_bins: int = 10
) -> pd.DataFrame:
    """Compares what was predicted with what happened, in bins of equally many patients.

    Classes and labels: the mean probability against the share of patients with the outcome, with Wilson's interval; of
    ordinal tasks for each split, such as ``>stage i``. Numbers: the mean prediction against the mean, with Student's
    interval. Survival: the mean chance of no event up to the middle time that the task knows, against Kaplan and
    Meier's estimate in the bin, with Greenwood's interval on the scale of log(-log).

    Args:
        model: A trained model.
        patients: Labelled patients who were not trained on, from `MultiModN.prepare`.
        task: Its name; default: all.
        n_bins: Bins, at most; each holds ten patients or more. Equal predictions are in one bin.

    Returns:
        One row for each task, output and bin: ``task``, ``output`` (see above), ``predicted``, ``observed`` (NaN:
        nobody was followed so long), ``low``, ``high`` (95 %, NaN: unknown), ``n``.

    Raises:
        NotFittedError: Before training.
        StudyError: If the task is unknown.
        DataError: If the patients have no targets.

    References:
        Wilson (1927), https://doi.org/10.1080/01621459.1927.10502953; Kalbfleisch and Prentice (2002), The statistical
        analysis of failure time data, section 1.4, https://doi.org/10.1002/9781118032985
    """
    rows = [
        {"task": column.task, "output": column.output, **_bin(column, members)}
        for column in _columns(model, patients, task)
        for members in _bins(column.predicted, n_bins)
    ]
    return pd.DataFrame(rows, columns=["task", "output", "predicted", "observed", "low", "high", "n"])


def calibration_summary(
    model: MultiModN, patients: PatientTensors, task: str | None = None, n_bins: int = 10
) -> pd.DataFrame:
    """Sums a calibration curve up in three numbers.

    ``slope``: of the outcome on the prediction (log-odds for classes), 1 where calibrated; below 1 predictions are too
    extreme. ``intercept``: how much higher outcomes are than predicted on average (log-odds, or units), 0 where
    calibrated. ``ece``: the mean absolute difference of the curve, weighted by the patients of its bins; it is above 0
    by chance alone, the more so the smaller the bins.

    Args:
        model: A trained model.
        patients: Labelled patients who were not trained on, from `MultiModN.prepare`.
        task: Its name; default: all.
        n_bins: See `calibration_curve`.

    Returns:
        One row for each task and output: ``task``, ``output``, ``slope``, ``slope_low``, ``slope_high``, ``intercept``,
        ``intercept_low``, ``intercept_high`` (95 %, from the standard error), ``ece``, ``n``. Slope and intercept are
        NaN for survival, where all predictions are the same, and with fewer than five patients of either outcome.

    Raises:
        NotFittedError: Before training.
        StudyError: If the task is unknown.
        DataError: If the patients have no targets.

    References:
        Slope and intercept: Cox (1958), https://doi.org/10.1093/biomet/45.3-4.562; Van Calster et al. (2016),
        https://doi.org/10.1016/j.jclinepi.2015.12.005. Bins of equal size: Nixon et al. (2019),
        https://arxiv.org/abs/1904.01685
    """
    rows = []
    for column in _columns(model, patients, task):
        bins = pd.DataFrame([_bin(column, members) for members in _bins(column.predicted, n_bins)])
        bins = bins[bins["observed"].notna()]
        apart = (bins["observed"] - bins["predicted"]).abs()
        ece = float((apart * bins["n"]).sum() / bins["n"].sum()) if len(bins) else np.nan
        found = {"log-odds": _logistic, "units": _straight}.get(column.kind, _nothing)(column)
        rows.append({"task": column.task, "output": column.output, **found, "ece": ece, "n": len(column.predicted)})
    names = [f"{name}{end}" for name in ("slope", "intercept") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["task", "output", *names, "ece", "n"])


def _columns(model: MultiModN, patients: PatientTensors, task: str | None) -> Iterator[_Column]:
    if not patients.labelled:
        raise DataError("These patients have no targets: prepare them with prepare(cohort, labelled=True).")
    tasks = model._model().tasks
    if task is not None and task not in tasks:
        raise StudyError(f"Unknown task '{task}'.{did_you_mean(task, tasks)}")
    outputs = model._run(patients, model._model())
    for name in tasks if task is None else [task]:
        known = patients.labelled[name]
        if known.any():
            yield from _of_task(tasks[name], outputs[name][known].double(), patients.targets[name][known])


def _of_task(task: Task, outputs: object, target: object) -> Iterator[_Column]:
    link = task.link(outputs).numpy()  # type: ignore[arg-type]
    truth = task.link_target(target).double().numpy()  # type: ignore[arg-type]
    if task.link_scale == "log-risk":
        curve = {name: value for name, value in task.predict(outputs).items() if name.startswith("survival@")}  # type: ignore[arg-type]
        if curve:
            k = (len(curve) - 1) // 2
            middle, edges = list(curve)[k], getattr(task, "edges", None)  # a name is rounded
            time = float(middle.partition("@")[2]) if edges is None else float(edges[k])
            yield _Column(task.name, middle, task.link_scale, curve[middle].numpy(), link[:, 0], truth, time)
        return
    for j, output in enumerate(task.link_names):
        known = ~np.isnan(truth[:, j])
        given = link[known, j]
        if known.any():
            predicted = given if task.link_scale == "units" else 0.5 * (1 + np.tanh(given / 2))
            yield _Column(task.name, output, task.link_scale, predicted, given, truth[known, j])


def _bins(predicted: Floats, n_bins: int) -> list[NDArray[np.int64]]:
    """Parts patients by their predictions into bins of about equally many; equal predictions stay together."""
    n_bins = max(1, min(n_bins, len(predicted) // FEWEST_A_BIN))
    edges = np.unique(np.quantile(predicted, np.arange(1, n_bins) / n_bins, method="inverted_cdf"))
    number = np.searchsorted(edges, predicted, side="left")
    return [np.flatnonzero(number == k) for k in np.unique(number)]


def _bin(column: _Column, members: NDArray[np.int64]) -> dict[str, float]:
    truth = column.truth[members]
    if column.kind == "log-risk":
        observed, low, high = _survival(truth, column.time)
    else:
        observed, low, high = _share(truth) if column.kind == "log-odds" else _mean(truth)
    predicted = float(column.predicted[members].mean())
    return {"predicted": predicted, "observed": observed, "low": low, "high": high, "n": len(members)}


def _share(truth: Floats) -> tuple[float, float, float]:
    from scipy.stats import binomtest

    interval = binomtest(int(truth.sum()), len(truth)).proportion_ci(0.95, method="wilson")
    return float(truth.mean()), float(interval.low), float(interval.high)


def _mean(truth: Floats) -> tuple[float, float, float]:
    from scipy.stats import t

    half = float(t.ppf(0.975, len(truth) - 1) * truth.std(ddof=1) / len(truth) ** 0.5) if len(truth) > 1 else np.nan
    return float(truth.mean()), float(truth.mean()) - half, float(truth.mean()) + half


def _survival(truth: Floats, time: float) -> tuple[float, float, float]:
    """Kaplan and Meier's chance of no event up to a time, with an interval; unknown if nobody was followed so long."""
    from scipy.stats import CensoredData, ecdf

    times, event = truth[:, 0], truth[:, 1] > 0
    if times.max() < time and not event[times == times.max()].all():
        return np.nan, np.nan, np.nan
    found = ecdf(CensoredData(uncensored=times[event], right=times[~event])).sf
    chance = float(found.evaluate(time))
    if not 0 < chance < 1:
        return chance, np.nan, np.nan
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of times at which the chance is 0 or 1
        interval = found.confidence_interval(method="log-log")
    return chance, float(interval.low.evaluate(time)), float(interval.high.evaluate(time))


def _logistic(column: _Column) -> dict[str, float]:
    """Slope of a logistic regression on the log-odds, and the shift of the log-odds that makes the mean right."""
    given, outcome = column.link, column.truth
    if min(outcome.sum(), (1 - outcome).sum()) < FEWEST_EACH:
        return {}
    shift = _newton(np.ones((len(given), 1)), given, outcome)
    found = _estimate("intercept", shift, 0)
    if given.std() > 1e-6:
        rows = np.stack([np.ones_like(given), (given - given.mean()) / given.std()], axis=1)
        fitted = _newton(rows, np.zeros_like(given), outcome)
        found |= {name: value / float(given.std()) for name, value in _estimate("slope", fitted, 1).items()}
    return found


def _newton(rows: Floats, offset: Floats, outcome: Floats) -> tuple[Floats, Floats] | None:
    """Fits a logistic regression: coefficients and their covariance; None if the likelihood has no maximum."""
    beta: Floats = np.zeros(rows.shape[1])
    for _ in range(50):
        chance = 0.5 * (1 + np.tanh((offset + rows @ beta) / 2))
        information = (rows * (chance * (1 - chance))[:, None]).T @ rows
        if np.linalg.cond(information) > 1e12:
            return None
        step = np.linalg.solve(information, rows.T @ (outcome - chance))
        beta += np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            return beta, np.asarray(np.linalg.inv(information), dtype=np.float64)
    return None


def _estimate(name: str, fitted: tuple[Floats, Floats] | None, k: int) -> dict[str, float]:
    if fitted is None:
        return {}
    value, error = float(fitted[0][k]), float(fitted[1][k, k]) ** 0.5
    return {name: value, f"{name}_low": value - Z * error, f"{name}_high": value + Z * error}


def _straight(column: _Column) -> dict[str, float]:
    """Slope of a straight line through targets by predictions, and the mean difference."""
    from scipy.stats import linregress, t

    given, truth = column.predicted, column.truth
    if len(truth) < FEWEST_A_BIN:
        return {}
    difference, low, high = _mean(truth - given)
    found = {"intercept": difference, "intercept_low": low, "intercept_high": high}
    if given.std() > 1e-6 * max(1.0, float(truth.std())):
        line = linregress(given, truth)
        half = float(t.ppf(0.975, len(truth) - 2) * line.stderr)
        found |= {"slope": float(line.slope), "slope_low": line.slope - half, "slope_high": line.slope + half}
    return found


def _nothing(column: _Column) -> dict[str, float]:
    return {}
