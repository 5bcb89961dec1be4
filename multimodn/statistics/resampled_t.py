"""The t-interval of a difference over the folds of a cross-validation, corrected for the patients that folds share.

References:
    Nadeau and Bengio (2003), Inference for the generalization error, https://doi.org/10.1023/A:1024068626366
    Bouckaert and Frank (2004), https://doi.org/10.1007/978-3-540-24775-3_3 (for repeated cross-validation)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multimodn.statistics.bootstrap import Floats


@dataclass(frozen=True)
class TInterval:
    """A mean over folds, with its 95 % interval and the two-sided p-value of no difference; NaN with fewer than two."""

    low: float
    high: float
    p_value: float


def corrected_resampled_t(differences: Floats, test_to_train: float) -> TInterval:
    """Judges the mean of differences, one for each fold of each repeat ``(J,)``; undefined ones (NaN) do not count.

    The variance of the mean is s^2 (1/J + n_test / n_train) with J - 1 degrees of freedom. The second term stands for
    the training patients, whom folds share: without it, more repeats would make the interval as narrow as one likes.

    Args:
        differences: Of two models trained and tested on the same patients.
        test_to_train: Patients tested by those trained on, in a fold; 1 / (K - 1) with K equal folds.
    """
    from scipy.stats import t

    known = differences[~np.isnan(differences)]
    if len(known) < 2:
        return TInterval(np.nan, np.nan, np.nan)
    mean, error = float(known.mean()), float(np.sqrt(known.var(ddof=1) * (1 / len(known) + test_to_train)))
    if error < 1e-12:
        return TInterval(mean, mean, float(abs(mean) < 1e-12))
    reach = float(t.ppf(0.975, len(known) - 1)) * error
    return TInterval(mean - reach, mean + reach, float(2 * t.sf(abs(mean) / error, len(known) - 1)))
