"""Metrics of classes for many weightings of the same patients at once.

A weighting says how often each patient counts, such as in a resample; with ones a metric is that of the patients as
they are. Everything is NaN where it is undefined.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from multimodn.metrics.predictions import Bools, Score, undefined
from multimodn.metrics.ties import tied
from multimodn.statistics.bootstrap import Floats

N_BINS = 10
FEWEST_A_BIN = 10  # smallest number of patients in a bin; with fewer patients there are fewer bins
FEWEST_EACH = 5  # patients with and without the outcome below whom no slope and no intercept is fitted
MOST_STEPS, LARGEST_STEP, CLOSE = 60, 2.0, 1e-9


def auroc(link: Floats, positive: Bools) -> Score:
    """Area under the ROC curve: the chance that a positive patient is ranked above a negative one, ties a half.

    It is NaN where a class has no weight.
    """
    pairs = ranked_pairs(link, positive)

    def score(weights: Floats) -> Floats:
        right, total = pairs(weights)
        with np.errstate(invalid="ignore"):
            areas: Floats = right / total
        return areas

    return score


def ranked_pairs(link: Floats, positive: Bools) -> Callable[[Floats], tuple[Floats, Floats]]:
    """Counts the pairs of a positive and a negative patient that are in the right order, and all of them.

    Predictions ``(n,)`` are on any scale on which differences of 1 are large; the function turns weights ``(R, n)``
    into counts ``(R,)``.
    """
    order, first = _by_ties(link)
    sides = [side[order] for side in (positive, ~positive)]

    def count(weights: Floats) -> tuple[Floats, Floats]:
        drawn = weights[:, order]
        high, low = (np.add.reduceat(drawn * side, first, axis=1) for side in sides)
        below = low.cumsum(axis=1) - low / 2
        return (high * below).sum(axis=1), high.sum(axis=1) * low.sum(axis=1)

    return count


def _by_ties(link: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the order from low to high, and where in it each group of ties begins."""
    values = tied(link)
    order = np.argsort(values, kind="stable")
    return order, np.flatnonzero(np.diff(values[order], prepend=-np.inf) != 0)


def average_precision(link: Floats, positive: Bools) -> Score:
    """Weighted average precision: the precision at each prediction, weighted by the recall that it adds."""
    order, first = _by_ties(-link)

    def score(weights: Floats) -> Floats:
        hits = np.add.reduceat(weights[:, order] * positive[order], first, axis=1)
        called = np.add.reduceat(weights[:, order], first, axis=1).cumsum(1)
        precision = np.divide(hits.cumsum(1), called, out=np.zeros_like(called), where=called > 0)
        total = hits.sum(1)
        with np.errstate(invalid="ignore"):
            precision = (precision * hits).sum(1) / total
        return np.where(total < weights.sum(1), precision, np.nan)  # undefined with one class only

    return score


def mean_recall(codes: Floats, called: Floats) -> Score:
    """Balanced accuracy: the recall of each class, averaged over the classes that occur; NaN unless two occur."""
    one_hot = (codes[:, None] == np.unique(codes)).astype(np.float64)
    right = one_hot * (codes == called)[:, None]

    def score(weights: Floats) -> Floats:
        n = weights @ one_hot
        recall = np.divide(weights @ right, n, out=np.zeros_like(n), where=n > 0)
        n_classes = (n > 0).sum(1)
        return np.where(n_classes > 1, recall.sum(1) / np.maximum(n_classes, 1), np.nan)

    return score


def n_bins_for(n: Floats, most: int = N_BINS) -> Floats:
    """Returns the number of bins of n patients, each of which holds `FEWEST_A_BIN` or more."""
    n_bins: Floats = np.clip(n // FEWEST_A_BIN, 1, most)
    return n_bins


def bin_numbers(below: Floats, total: Floats, n_bins: Floats) -> Floats:
    """Returns the bin of predictions by the weight of all lower ones; equal predictions are in one bin.

    Bin k of B ends at the first prediction up to which (k + 1) / B of the weight lie.
    """
    with np.errstate(invalid="ignore"):
        numbers: Floats = np.minimum(np.floor(n_bins * below / total), n_bins - 1)
    return numbers


def calibration_error(link: Floats, positive: Bools, most_bins: int = N_BINS) -> Score:
    """Adaptive (equal-mass) expected calibration error: the mean distance of bins from the diagonal.

    Each weighting has its own bins of equal weight; weights are numbers of patients.

    References:
        Nixon et al. (2019), https://arxiv.org/abs/1904.01685
    """
    order, first = _by_ties(link)
    residuals = (positive - expit(link))[order]

    def score(weights: Floats) -> Floats:
        drawn = weights[:, order]
        mass = np.add.reduceat(drawn, first, axis=1)
        total = mass.sum(1, keepdims=True)
        number = bin_numbers(mass.cumsum(1) - mass, total, n_bins_for(total, most_bins))
        sums = np.pad(np.add.reduceat(drawn * residuals, first, axis=1).cumsum(1), ((0, 0), (1, 0)))
        ends = np.stack([np.zeros(len(weights)), *((number <= k).sum(1) for k in range(most_bins))], axis=1)
        differences = np.diff(np.take_along_axis(sums, ends.astype(np.int64), axis=1), axis=1)
        with np.errstate(invalid="ignore"):
            ece: Floats = np.abs(differences).sum(1) / total[:, 0]
        return ece

    return score


def is_constant(link: Floats) -> bool:
    """Says whether log-odds or log-risks are the same for everybody, so that they have no slope."""
    values = tied(link)
    return not len(values) or bool(values.min() == values.max())


def calibration_slope(link: Floats, positive: Bools) -> Score:
    """Slope of a logistic regression of the outcome on the log-odds."""
    spread = float(link.std())
    if is_constant(link):
        return undefined
    rows = np.stack([np.ones_like(link), (link - link.mean()) / spread], axis=1)
    return lambda weights: logistic(rows, np.zeros_like(link), positive, weights)[0][:, 1] / spread


def calibration_intercept(link: Floats, positive: Bools) -> Score:
    """Shift of the log-odds after which they predict as many outcomes as there are (the slope fixed at 1)."""
    rows = np.ones((len(link), 1))
    return lambda weights: logistic(rows, link, positive, weights)[0][:, 0]


def logistic(rows: Floats, offset: Floats, positive: Bools, weights: Floats) -> tuple[Floats, Floats]:
    """Fits a logistic regression for each weighting ``(R, n)``, by Newton's method.

    Predictors ``(n, p)`` are of about unit size; ``offset`` ``(n,)`` is added to the log-odds. Returns coefficients
    ``(R, p)`` and their covariance ``(R, p, p)``, NaN where the likelihood has no maximum.
    """
    n_draws, p = len(weights), rows.shape[1]
    beta, products = np.zeros((n_draws, p)), (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), p * p)
    information: Floats = np.broadcast_to(np.eye(p), (n_draws, p, p)).copy()
    step, is_sound = np.full((n_draws, p), np.inf), np.ones(n_draws, dtype=bool)
    for _ in range(MOST_STEPS):
        going = np.flatnonzero(is_sound & (np.abs(step).max(1) >= CLOSE))
        if not len(going):
            break
        drawn, chance = weights[going], expit(offset + beta[going] @ rows.T)
        at = (drawn * chance * (1 - chance)) @ products
        at = at.reshape(-1, p, p)
        is_singular = np.linalg.cond(at) > 1e12
        is_sound[going[is_singular]] = False
        at[is_singular] = np.eye(p)
        score = (drawn * (positive - chance)) @ rows
        step[going] = np.linalg.solve(at, score[:, :, None])[:, :, 0]
        beta[going] += np.clip(step[going], -LARGEST_STEP, LARGEST_STEP)
        information[going] = at
    is_fitted = (is_sound & (np.abs(step).max(1) < CLOSE))[:, None]
    return np.where(is_fitted, beta, np.nan), np.where(is_fitted[:, :, None], np.linalg.inv(information), np.nan)
