"""Bins of a calibration curve, slopes and intercepts, with intervals from standard errors."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multimodn.metrics.classification import (
    FEWEST_A_BIN,
    FEWEST_EACH,
    LEAST_SPREAD,
    bin_numbers,
    logistic,
    n_bins_for,
)
from multimodn.metrics.predictions import Bools, chances
from multimodn.metrics.survival import by_time_weights, cox_slope, enough_by, event_log_odds
from multimodn.statistics.bootstrap import Floats

Z = 1.959964
"""Quantile of the normal distribution for intervals of 95 %."""


@dataclass(frozen=True)
class Column:
    """What is predicted of a task, and what was observed.

    Attributes:
        task: The task's name.
        output: The class, label, split (``>class``), task or ``survival@time``.
        kind: `multimodn.base.task.Task.link_scale`.
        predicted: A probability, or a number in the target's units ``(n,)``; NaN where it is not known.
        link: The prediction on the link scale; of survival the log-risk.
        truth: 0 or 1, a number, or time and event ``(n, 2)``.
        rows: Which of the labelled patients of the task these are ``(n,)``.
        time: The time of a chance of survival; NaN where only a log-risk is known.
    """

    task: str
    output: str
    kind: str
    predicted: Floats
    link: Floats
    truth: Floats
    rows: NDArray[np.int64]
    time: float = np.nan

    def of(self, wanted: NDArray[np.int64]) -> Column:
        """Returns the part of the column that belongs to some of the labelled patients."""
        some = np.flatnonzero(np.isin(self.rows, wanted))
        arrays = (self.predicted[some], self.link[some], self.truth[some], self.rows[some])
        return Column(self.task, self.output, self.kind, *arrays, self.time)


def bins(column: Column, most: int) -> list[NDArray[np.int64]]:
    """Parts patients by their predictions into bins of about equally many; equal predictions stay together."""
    values, tie, sizes = np.unique(column.predicted, return_inverse=True, return_counts=True)
    if not len(values) or np.isnan(values).any():
        return []
    n = np.array(float(len(column.predicted)))
    number = bin_numbers(sizes.cumsum() - sizes, n, n_bins_for(n, most))[tie]
    return [np.flatnonzero(number == k) for k in np.unique(number)]


def bin_row(column: Column, members: NDArray[np.int64]) -> dict[str, float]:
    """Compares the mean prediction of a bin with what was observed in it."""
    truth = column.truth[members]
    if column.kind == "log-risk":
        seen, low, high = _survival(truth, column.time)
    else:
        seen, low, high = _share(truth) if column.kind == "log-odds" else _mean(truth)
    predicted = float(column.predicted[members].mean())
    return {"predicted": predicted, "observed": seen, "low": low, "high": high, "n": len(members)}


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


def error(column: Column, most: int) -> dict[str, float]:
    """Returns ``ece``, and of probabilities ``ece_chance``: what it would be on average if they were right.

    By chance the sum of outcomes of a bin is off by a normal error of variance sum p (1 - p), whose mean size is
    sqrt(2 / pi) standard deviations.
    """
    parts = bins(column, most)
    rows = [row for row in (bin_row(column, members) for members in parts) if not np.isnan(row["observed"])]
    n = sum(row["n"] for row in rows)
    if not n:
        return {"ece": np.nan, "ece_chance": np.nan}
    found = sum(abs(row["observed"] - row["predicted"]) * row["n"] for row in rows) / n
    if column.kind != "log-odds":
        return {"ece": found, "ece_chance": np.nan}
    variance = column.predicted * (1 - column.predicted)
    chance = sum((2 / np.pi * variance[members].sum()) ** 0.5 for members in parts) / n
    return {"ece": found, "ece_chance": float(chance)}


def line(column: Column) -> dict[str, float]:
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
    found = _fitted("intercept", np.ones((len(given), 1)), given, outcome, weights)
    if spread >= LEAST_SPREAD:
        rows = np.stack([np.ones_like(given), (given - given.mean()) / spread], axis=1)
        slope = _fitted("slope", rows, np.zeros_like(given), outcome, weights)
        found |= {name: value / spread for name, value in slope.items()}
    return found


def _fitted(name: str, rows: Floats, offset: Floats, outcome: Bools, weights: Floats) -> dict[str, float]:
    """The last coefficient; with weights that are not all 1 its error is a robust one (sandwich)."""
    beta, covariance = logistic(rows, offset, outcome, weights[None])
    spread = covariance[0]
    if (weights != 1).any():
        scores = rows * (weights * (outcome - chances(offset + rows @ beta[0])))[:, None]
        spread = spread @ (scores.T @ scores) @ spread
    return _estimate(name, float(beta[0, -1]), float(spread[-1, -1]) ** 0.5)


def _estimate(name: str, value: float, standard_error: float) -> dict[str, float]:
    return {name: value, f"{name}_low": value - Z * standard_error, f"{name}_high": value + Z * standard_error}


def _straight(column: Column) -> dict[str, float]:
    """Slope of a straight line through targets by predictions, and the mean difference."""
    from scipy.stats import linregress, t

    given, truth = column.link, column.truth
    if len(truth) < FEWEST_A_BIN:
        return {}
    difference, low, high = _mean(truth - given)
    found = {"intercept": difference, "intercept_low": low, "intercept_high": high}
    if given.std() > 1e-6 * max(1.0, float(truth.std())):
        fitted = linregress(given, truth)
        half = float(t.ppf(0.975, len(truth) - 2) * fitted.stderr)
        found |= {"slope": float(fitted.slope), "slope_low": fitted.slope - half, "slope_high": fitted.slope + half}
    return found


def _cox(risk: Floats, time: Floats, event: Bools) -> dict[str, float]:
    """Slope of the log-risk in a Cox model."""
    if event.sum() < FEWEST_EACH:
        return {}
    slope, standard_error = cox_slope(risk, time, event, np.ones((1, len(time))))
    return _estimate("slope", float(slope[0]), float(standard_error[0]))
