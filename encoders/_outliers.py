"""Numbers that lie apart from all others of their column, such as 99999 or a value in another unit."""

from __future__ import annotations

import numpy as np

from multimodn.encoders._reading import Booleans, Floats

FAR = 30.0  # robust standard deviations from the median
GAP = 3.0  # times the distance of the farthest number that is not apart
LEAST = 8  # numbers below which nothing is said
MOST = 0.1  # share of the numbers that may lie apart


def apart(numbers: Floats) -> Booleans:
    """Marks numbers ``(n,)``, without empty ones, that would alone decide mean and standard deviation.

    They are at most a tenth of all, more than `FAR` robust standard deviations (interquartile range / 1.349) from the
    median, and behind a gap: at least `GAP` times as far from it as any other. Long tails have no such gap, and nothing
    is marked where half of the numbers are equal.
    """
    if len(numbers) < LEAST:
        return np.zeros(len(numbers), dtype=np.bool_)
    with np.errstate(over="ignore", invalid="ignore"):  # of huge numbers, whose differences may be infinite
        lower, median, upper = np.quantile(numbers, [0.25, 0.5, 0.75])
        bound = FAR * (upper - lower) / 1.349
        distance = np.abs(numbers - median)
        if not 0.0 < bound < distance.max():
            return np.zeros(len(numbers), dtype=np.bool_)
        most = max(1, int(MOST * len(numbers)))
        tail = np.partition(distance, len(numbers) - most - 1)[-most - 1 :]
        tail.sort()
        behind = np.flatnonzero((tail[1:] > bound) & (tail[1:] >= GAP * tail[:-1]))
    if not len(behind):
        return np.zeros(len(numbers), dtype=np.bool_)
    marked: Booleans = distance >= tail[1 + behind[0]]
    return marked


def any_far(block: Floats) -> Booleans:
    """Says which columns ``(n_columns, n)``, without empty cells, may hold numbers that `apart` marks."""
    n = block.shape[1]
    if n < LEAST:
        return np.zeros(len(block), dtype=np.bool_)
    places = sorted({n // 4, (3 * n) // 4, n // 2})
    ordered = np.partition(block, places, axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        gap = ordered[:, (3 * n) // 4] - ordered[:, n // 4]
        median = ordered[:, n // 2]
        farthest = np.maximum(block.max(1) - median, median - block.min(1))
        may: Booleans = farthest > 0.5 * FAR * gap / 1.349  # quartiles here are not interpolated
    return may
