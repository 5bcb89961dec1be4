"""Metrics of classes for many weightings of the same patients at once.

A weighting says how often each patient counts, such as in a resample; with ones a metric is that of the patients as
they are. Everything is NaN where it is undefined.
"""

from __future__ import annotations

import numpy as np

from multimodn.metrics.predictions import Bools, Score, chances
from multimodn.statistics.bootstrap import Floats

N_BINS = 10
FEWEST_A_BIN = 10
"""Patients of a bin, at least; with fewer patients there are fewer bins."""
FEWEST_EACH = 5
"""Patients with and without the outcome below whom no slope and no intercept is fitted."""
LEAST_SPREAD = 1e-6
"""Standard deviation of predictions below which they are all the same, and have no slope."""
MOST_STEPS, LARGEST_STEP, CLOSE = 60, 2.0, 1e-9


def average_precision(link: Floats, positive: Bools) -> Score:
    """Weighted average precision: the precision at each prediction, weighted by the recall that it adds."""
    order = np.argsort(-link, kind="stable")
    first = np.flatnonzero(np.diff(link[order], prepend=np.inf) != 0)

    def score(weights: Floats) -> Floats:
        hits = np.add.reduceat(weights[:, order] * positive[order], first, axis=1)
        called = np.add.reduceat(weights[:, order], first, axis=1).cumsum(1)
        precision = np.divide(hits.cumsum(1), called, out=np.zeros_like(called), where=called > 0)
        total = hits.sum(1)
        with np.errstate(invalid="ignore"):
            found = (precision * hits).sum(1) / total
        return np.where(total < weights.sum(1), found, np.nan)  # with one class only there is nothing to tell

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
    """Returns how many bins n patients are parted into, each of which holds `FEWEST_A_BIN` or more."""
    found: Floats = np.clip(n // FEWEST_A_BIN, 1, most)
    return found


def bin_numbers(below: Floats, total: Floats, n_bins: Floats) -> Floats:
    """Returns the bin of predictions by the weight of all lower ones; equal predictions are in one bin.

    Bin k of B ends at the first prediction up to which (k + 1) / B of the weight lie.
    """
    with np.errstate(invalid="ignore"):
        found: Floats = np.minimum(np.floor(n_bins * below / total), n_bins - 1)
    return found


def calibration_error(link: Floats, positive: Bools, most_bins: int = N_BINS) -> Score:
    """Adaptive (equal-mass) expected calibration error: the mean distance of bins from the diagonal.

    Bins of equally much weight are made anew for each weighting, whose weights are numbers of patients.

    References:
        Nixon et al. (2019), https://arxiv.org/abs/1904.01685
    """
    order = np.argsort(link, kind="stable")
    first = np.flatnonzero(np.diff(link[order], prepend=-np.inf) != 0)
    apart = (positive - chances(link))[order]

    def score(weights: Floats) -> Floats:
        drawn = weights[:, order]
        mass = np.add.reduceat(drawn, first, axis=1)
        total = mass.sum(1, keepdims=True)
        number = bin_numbers(mass.cumsum(1) - mass, total, n_bins_for(total, most_bins))
        sums = np.pad(np.add.reduceat(drawn * apart, first, axis=1).cumsum(1), ((0, 0), (1, 0)))
        ends = np.stack([np.zeros(len(weights)), *((number <= k).sum(1) for k in range(most_bins))], axis=1)
        differences = np.diff(np.take_along_axis(sums, ends.astype(np.int64), axis=1), axis=1)
        with np.errstate(invalid="ignore"):
            found: Floats = np.abs(differences).sum(1) / total[:, 0]
        return found

    return score


def calibration_slope(link: Floats, positive: Bools) -> Score:
    """Slope of a logistic regression of the outcome on the log-odds."""
    spread = float(link.std())
    if spread < LEAST_SPREAD:
        return lambda weights: np.full(len(weights), np.nan)
    rows = np.stack([np.ones_like(link), (link - link.mean()) / spread], axis=1)
    return lambda weights: logistic(rows, np.zeros_like(link), positive, weights)[0][:, 1] / spread


def calibration_intercept(link: Floats, positive: Bools) -> Score:
    """Shift of the log-odds after which they predict as many outcomes as there are (the slope fixed at 1)."""
    rows = np.ones((len(link), 1))
    return lambda weights: logistic(rows, link, positive, weights)[0][:, 0]


def logistic(rows: Floats, offset: Floats, positive: Bools, weights: Floats) -> tuple[Floats, Floats]:
    """Fits a logistic regression for each weighting, by Newton's method.

    Args:
        rows: Predictors ``(n, p)``, of about unit size.
        offset: What is added to the log-odds ``(n,)``.
        positive: Outcomes ``(n,)``.
        weights: ``(R, n)``.

    Returns:
        Coefficients ``(R, p)`` and their covariance ``(R, p, p)``, NaN where the likelihood has no maximum.
    """
    n_draws, p = len(weights), rows.shape[1]
    beta, products = np.zeros((n_draws, p)), (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), p * p)
    information: Floats = np.broadcast_to(np.eye(p), (n_draws, p, p)).copy()
    step, is_sound = np.full((n_draws, p), np.inf), np.ones(n_draws, dtype=bool)
    for _ in range(MOST_STEPS):
        going = np.flatnonzero(is_sound & (np.abs(step).max(1) >= CLOSE))
        if not len(going):
            break
        drawn, chance = weights[going], chances(offset + beta[going] @ rows.T)
        at = (drawn * chance * (1 - chance)) @ products
        at = at.reshape(-1, p, p)
        is_singular = np.linalg.cond(at) > 1e12
        is_sound[going[is_singular]] = False
        at[is_singular] = np.eye(p)
        score = (drawn * (positive - chance)) @ rows
        step[going] = np.linalg.solve(at, score[:, :, None])[:, :, 0]
        beta[going] += np.clip(step[going], -LARGEST_STEP, LARGEST_STEP)
        information[going] = at
    found = (is_sound & (np.abs(step).max(1) < CLOSE))[:, None]
    return np.where(found, beta, np.nan), np.where(found[:, :, None], np.linalg.inv(information), np.nan)
