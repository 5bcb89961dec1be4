"""Predictions that are equal within their numerical error are ties, so that no score depends on rounding.

The last digits of a prediction depend on the processor, the number of threads and the order of sums. A model that
predicts nearly the same for everybody would otherwise be ranked by them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multimodn.statistics.bootstrap import Floats

ERROR = 1e-6  # relative numerical error of predictions in single precision, a few roundings included
WIDEST, FINEST = 10, 6
"""A cluster of ties spans at most so many errors; a wider one is split by errors of a tenth, so many times."""


def error_of(values: Floats, scale: float = 1.0) -> Floats:
    """Returns the numerical error of predictions; ``scale``: their unit, below which errors are no longer relative."""
    errors: Floats = ERROR * np.maximum(scale, np.abs(values))
    return errors


def tied(values: Floats, scale: float = 1.0) -> Floats:
    """Returns predictions ``(n,)`` of which those that are equal within their numerical error (`error_of`) are equal.

    Neighbours in order that are no farther apart than their error are a cluster, and take its lowest value. A grid
    would have edges that part equal predictions. In a large cohort chains of neighbours can grow long: a cluster wider
    than `WIDEST` errors is split by a smaller error, so that predictions which differ stay different.
    """
    order = np.argsort(values, kind="stable")
    ordered = np.clip(values[order], -1e300, 1e300)  # so that differences are numbers
    errors = error_of(ordered, scale)
    gaps = np.diff(ordered, prepend=-np.inf)
    begins, is_wide = gaps > errors, np.ones(len(values), dtype=bool)
    for power in range(FINEST + 1):
        first = np.flatnonzero(begins)
        last = np.append(first[1:], len(values)) - 1
        width = ordered[last] - ordered[first]
        is_wide &= (width > WIDEST * 10.0**-power * errors[first])[begins.cumsum() - 1]
        if not is_wide.any():
            break
        begins |= is_wide & (gaps > (errors * 10.0 ** -(power + 1) if power < FINEST else 0.0))
    result = np.empty_like(ordered)
    result[order] = ordered[np.flatnonzero(begins)][begins.cumsum() - 1]
    return result


def exceeds(values: Floats, threshold: float | Floats, scale: float = 1.0) -> NDArray[np.bool_]:
    """Says which predictions are above a threshold by more than their numerical error."""
    above: NDArray[np.bool_] = values - threshold > error_of(np.asarray(threshold, dtype=np.float64), scale)
    return above


def reaches(values: Floats, threshold: float | Floats, scale: float = 1.0) -> NDArray[np.bool_]:
    """Says which predictions are at a threshold or above, within their numerical error."""
    return ~exceeds(-values, -np.asarray(threshold, dtype=np.float64), scale)


def likeliest(link: Floats) -> NDArray[np.int64]:
    """Returns the column with the highest prediction of each row ``(n, L)``; the first of those that are ties."""
    highest = link.max(1, keepdims=True, initial=-np.inf)
    columns: NDArray[np.int64] = reaches(link, highest).argmax(1)
    return columns
