"""Bins of a calibration curve, slopes and intercepts, with intervals from standard errors."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from multimodn.metrics.classification import FEWEST_A_BIN, FEWEST_EACH, bin_numbers, is_constant, logistic, n_bins_for
from multimodn.metrics.predictions import Bools
from multimodn.metrics.regression import is_flat
from multimodn.metrics.survival import by_time_weights, cox_slope, enough_by, event_log_odds, log_hazard
from multimodn.metrics.ties import tied
from multimodn.statistics.bootstrap import Floats

Z = 1.959964  # quantile of the normal distribution for intervals of 95 %


@dataclass(frozen=True)
class OutputPredictions:
    """The predictions of one output of a task, and what was observed."""

    task: str
    output: str  # the class, label, split (``>class``), task or ``survival@time``
    kind: str  # `multimodn.base.task.Task.link_scale`
    predicted: Floats  # A probability, or a number in the target's units ``(n,)``; NaN where unknown
    link: Floats  # the prediction on the link scale; of survival the log-risk
    truth: Floats  # 0 or 1, a number, or time and event ``(n, 2)``
    rows: NDArray[np.int64]  # positions of the patients among the labelled ones of the task ``(n,)``
    time: float = np.nan  # horizon of the probability of survival; NaN where only a log-risk is predicted

    def of(self, wanted: NDArray[np.int64]) -> OutputPredictions:
        """Returns the part of the column that belongs to some of the labelled patients."""
        some = np.isin(self.rows, wanted)
        arrays = {name: getattr(self, name)[some] for name in ("predicted", "link", "truth", "rows")}
        return replace(self, **arrays)


def bins(column: OutputPredictions, most: int) -> list[NDArray[np.int64]]:
    """Divides patients by their predictions into bins of about equal size; equal predictions stay together."""
    if not len(column.rows) or np.isnan(column.predicted).any():
        return []
    _, tie, sizes = np.unique(_ranked(column), return_inverse=True, return_counts=True)
    n = np.array(float(len(column.predicted)))
    number = bin_numbers(sizes.cumsum() - sizes, n, n_bins_for(n, most))[tie]
    return [np.flatnonzero(number == k) for k in np.unique(number)]


def _ranked(column: OutputPredictions) -> Floats:
    if column.kind == "units":
        return tied(column.predicted, float(column.truth.std()))
    return tied(column.link if column.kind == "log-odds" else -log_hazard(column.predicted))


def bin_row(column: OutputPredictions, members: NDArray[np.int64]) -> dict[str, float]:
    """Compares the mean prediction of a bin with what was observed in it."""
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
    curve = ecdf(CensoredData(uncensored=times[event], right=times[~event])).sf  # with its interval
    chance = float(curve.evaluate(time))
    if not 0 < chance < 1:
        return chance, np.nan, np.nan
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of times at which the chance is 0 or 1
        interval = curve.confidence_interval(method="log-log")
    return chance, float(interval.low.evaluate(time)), float(interval.high.evaluate(time))


def calibration_errors(column: OutputPredictions, most: int) -> dict[str, float]:
    """Returns ``ece``, and of probabilities ``ece_chance``: what it would be on average if they were right.

    By chance the sum of outcomes of a bin is off by a normal error of variance sum p (1 - p), whose mean size is
    sqrt(2 / pi) standard deviations.
    """
    parts = bins(column, most)
    rows = [row for row in (bin_row(column, members) for members in parts) if not np.isnan(row["observed"])]
    n = sum(row["n"] for row in rows)
    if not n:
        return {"ece": np.nan, "ece_chance": np.nan}
    ece = sum(abs(row["observed"] - row["predicted"]) * row["n"] for row in rows) / n
    if column.kind != "log-odds":
        return {"ece": ece, "ece_chance": np.nan}
    variance = column.predicted * (1 - column.predicted)
    chance = sum((2 / np.pi * variance[members].sum()) ** 0.5 for members in parts) / n
    return {"ece": ece, "ece_chance": float(chance)}


def calibration_line(column: OutputPredictions) -> dict[str, float]:
    """Fits slope and intercept with intervals; what cannot be fitted is left out."""
    if column.kind == "log-odds":
        return _logistic(column.link, column.truth > 0, np.ones(len(column.link)))
    if column.kind == "units":
        return _straight(column)
    time, event = column.truth[:, 0], column.truth[:, 1] > 0
    if np.isnan(column.time):
        return _cox(column.link, time, event)
    if not enough_by(time, event, column.time):
        return {}
    weights = by_time_weights(time, event, column.time, np.ones((1, len(time))))[0]
    return _logistic(event_log_odds(column.predicted), (time <= column.time) & event, weights)


def _logistic(given: Floats, outcome: Bools, weights: Floats) -> dict[str, float]:
    """Slope of a logistic regression on the log-odds, and the shift of the log-odds that makes the mean right."""
    spread = float(given.std())
    if min(outcome.sum(), (~outcome).sum()) < FEWEST_EACH:
        return {}
    estimates = _fitted("intercept", np.ones((len(given), 1)), given, outcome, weights)
    if not is_constant(given):
        rows = np.stack([np.ones_like(given), (given - given.mean()) / spread], axis=1)
        slope = _fitted("slope", rows, np.zeros_like(given), outcome, weights)
        estimates |= {name: value / spread for name, value in slope.items()}
    return estimates


def _fitted(name: str, rows: Floats, offset: Floats, outcome: Bools, weights: Floats) -> dict[str, float]:
    """The last coefficient; with weights that are not all 1 its error is a robust one (sandwich)."""
    beta, covariance = logistic(rows, offset, outcome, weights[None])
    spread = covariance[0]
    if (weights != 1).any():
        scores = rows * (weights * (outcome - expit(offset + rows @ beta[0])))[:, None]
        spread = spread @ (scores.T @ scores) @ spread
    return _estimate(name, float(beta[0, -1]), float(spread[-1, -1]) ** 0.5)


def _estimate(name: str, value: float, standard_error: float) -> dict[str, float]:
    return {name: value, f"{name}_low": value - Z * standard_error, f"{name}_high": value + Z * standard_error}


def _straight(column: OutputPredictions) -> dict[str, float]:
    """Slope of a straight line through targets by predictions, and the mean difference."""
    from scipy.stats import linregress, t

    given, truth = column.link, column.truth
    if len(truth) < FEWEST_A_BIN:
        return {}
    difference, low, high = _mean(truth - given)
    estimates = {"intercept": difference, "intercept_low": low, "intercept_high": high}
    if not is_flat(given, truth):
        fitted = linregress(given, truth)
        half = float(t.ppf(0.975, len(truth) - 2) * fitted.stderr)
        estimates |= {"slope": float(fitted.slope), "slope_low": fitted.slope - half, "slope_high": fitted.slope + half}
    return estimates


def _cox(risk: Floats, time: Floats, event: Bools) -> dict[str, float]:
    """Slope of the log-risk in a Cox model."""
    if event.sum() < FEWEST_EACH:
        return {}
    slope, standard_error = cox_slope(risk, time, event, np.ones((1, len(time))))
    return _estimate("slope", float(slope[0]), float(standard_error[0]))
