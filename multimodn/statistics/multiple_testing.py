"""Adjustment of p-values for multiple testing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multimodn.statistics.bootstrap import Floats


def holm(p_values: Floats | Sequence[float]) -> Floats:
    """Adjusts p-values so that the chance of any false positive among them stays below the level (Holm 1979).

    An undefined one (NaN) stays so, and does not count.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    from statsmodels.stats.multitest import multipletests  # slow to load

    adjusted = np.array(p_values, dtype=np.float64)
    defined = ~np.isnan(adjusted)
    if defined.any():
        adjusted[defined] = multipletests(adjusted[defined], method="holm")[1]
    return adjusted
