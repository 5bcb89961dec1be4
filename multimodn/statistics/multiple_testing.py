"""Adjustment of p-values for multiple testing."""

from __future__ import annotations

import numpy as np

from multimodn.statistics.bootstrap import Floats


def holm(p_values: Floats) -> Floats:
    """Adjusts p-values so that the chance of any false positive among them stays below the level (Holm 1979).

    An undefined one (NaN) stays so, and does not count.
    """
    found = np.full(len(p_values), np.nan)
    order = np.argsort(p_values, kind="stable")[: int((~np.isnan(p_values)).sum())]
    found[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)))
    return found
