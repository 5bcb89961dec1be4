"""Metrics of numbers for many weightings of the same patients at once; NaN where they are undefined."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from multimodn.metrics.predictions import Predicted, Score, means, undefined
from multimodn.metrics.ties import ERROR
from multimodn.statistics.bootstrap import Floats

ROUNDING = 1e-7  # relative error of one rounding to single precision: predictions that vary by less do not vary


def rmse(given: Predicted) -> Score:
    """Root of the mean squared error, in the units of the target."""
    mean = means((given.truth - given.link) ** 2)
    return lambda weights: np.sqrt(mean(weights))


def mae(given: Predicted) -> Score:
    """Mean absolute error, in the units of the target."""
    return means(np.abs(given.truth - given.link))


def mean_error(given: Predicted) -> Score:
    """Mean of target less prediction: the calibration intercept of numbers."""
    return means(given.truth - given.link)


def crps(given: Predicted) -> Score | None:
    """Continuous ranked probability score of normal distributions; None of a task without a spread.

    References:
        Gneiting et al. (2005), equation 5, https://doi.org/10.1175/MWR2904.1
    """
    if given.spread is None:
        return None
    from scipy.stats import norm

    z = (given.truth[:, 0] - given.link[:, 0]) / given.spread
    return means((given.spread * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - np.pi**-0.5))[:, None])


def is_flat(link: Floats, truth: Floats) -> bool:
    """Says whether predictions vary by no more than their numerical error."""
    return bool(link.std() <= max(ERROR * truth.std(), ROUNDING * np.abs(link).max()))


def r2(given: Predicted) -> Score:
    """R^2 about the weighted mean of the target."""
    return _of_moments(given, lambda spread, moved, product, square: 1 - square / spread)


def pearson(given: Predicted) -> Score:
    """Pearson's correlation of target and prediction."""
    return _of_moments(given, lambda spread, moved, product, square: product / np.sqrt(spread * moved))


def slope(given: Predicted) -> Score:
    """Slope of a straight line through targets by predictions."""
    return _of_moments(given, lambda spread, moved, product, square: product / moved)


def _of_moments(given: Predicted, metric: Callable[[Floats, Floats, Floats, Floats], Floats]) -> Score:
    """A metric of the weighted variances of target and prediction, their covariance and the mean squared error.

    A variance is NaN where it is zero within numerical error.
    """
    if not len(given.link):
        return undefined
    truth, link = given.truth[:, 0], given.link[:, 0]
    y, x = truth - truth.mean(), link - link.mean()  # so that squares do not cancel
    columns = np.stack([y, x, y**2, x**2, x * y, (truth - link) ** 2], axis=1)
    flat = is_flat(link, truth)

    def score(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            y, x, y_squared, x_squared, product, square = (weights @ columns / weights.sum(1, keepdims=True)).T
        spread, moved = y_squared - y**2, x_squared - x**2
        spread = np.where(spread > 1e-12 * y_squared, spread, np.nan)
        moved = np.where((moved > 1e-12 * x_squared) & (not flat), moved, np.nan)
        return metric(spread, moved, product - x * y, square)

    return score
