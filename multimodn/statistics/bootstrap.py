"""Bootstrap over patients, all resamples at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CELLS = 5_000_000  # numbers of a bootstrap that are held at once


def draws(n: int, n_resamples: int, seed: int) -> Iterator[Floats]:
    """Draws how often each of n patients stands in each resample, in blocks ``(some of n_resamples, n)``."""
    rng, most = np.random.default_rng(seed), max(1, CELLS // max(n, 1))
    for start in range(0, n_resamples, most):
        yield rng.multinomial(n, np.full(n, 1 / n), size=min(most, n_resamples - start)).astype(np.float64)


def bootstrap_sums(values: Floats, n_resamples: int, seed: int) -> Floats:
    """Sums columns ``(n, columns)`` over resampled patients, the same in every column: ``(n_resamples, columns)``."""
    return np.concatenate([drawn @ values for drawn in draws(len(values), n_resamples, seed)])


def bootstrap_means(values: Floats, n_resamples: int, seed: int) -> Floats:
    """Averages columns ``(n, columns)`` over resampled patients, ``(n_resamples, columns)``; NaN does not count."""
    counts = (~np.isnan(values)).astype(np.float64)
    sums = bootstrap_sums(np.hstack([np.nan_to_num(values), counts]), n_resamples, seed)
    with np.errstate(invalid="ignore"):
        means: Floats = sums[:, : values.shape[1]] / sums[:, values.shape[1] :]
    return means
