"""A permutation test of paired differences."""

from __future__ import annotations

import numpy as np

from multimodn.statistics.bootstrap import CELLS, Floats


def sign_flip_p(differences: Floats, margin: float = 1.0, n_resamples: int = 1999, seed: int = 0) -> float:
    """Returns the one-sided p-value of paired differences whose sum is above 0, by flipping their signs at random.

    Without a difference between the two that are compared, every sign is as likely as the other. A ``margin`` above 1
    makes the flipped sums larger by this factor, for variation that the differences do not show, such as that of the
    training patients. It is never below 1 / (n_resamples + 1), nor, with n differences, much below 2^-n.

    Example:
        >>> 0.9 < sign_flip_p(np.full(20, -0.1)) <= 1
        True

    References:
        Good (2005), Permutation, parametric and bootstrap tests of hypotheses, section 3.2, https://doi.org/10.1007/b138696
    """
    rng, most = np.random.default_rng(seed), max(1, CELLS // max(len(differences), 1))
    observed, n_above = float(differences.sum()), 0
    for start in range(0, n_resamples, most):
        signs = 2.0 * rng.integers(0, 2, size=(min(most, n_resamples - start), len(differences))) - 1.0
        n_above += int((margin * (signs @ differences) >= observed - 1e-12 * np.abs(differences).sum()).sum())
    return (1 + n_above) / (1 + n_resamples)
