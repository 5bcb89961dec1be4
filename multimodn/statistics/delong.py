"""DeLong's test: is the AUROC of one model higher than that of another on the same patients?

References:
    DeLong, DeLong and Clarke-Pearson (1988), https://doi.org/10.2307/2531595
    Sun and Xu (2014), https://doi.org/10.1109/LSP.2014.2337313 (by ranks, in n log n steps)
    LeDell, Petersen and van der Laan (2015), https://doi.org/10.1214/15-EJS1035 (over the folds of a cross-validation)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multimodn.errors import DataError
from multimodn.statistics.bootstrap import Floats


@dataclass(frozen=True)
class AurocDifference:
    """Two AUROCs on the same patients, and what their difference may be by chance."""

    first: float
    second: float
    difference: float  # first minus second
    low: float  # lower end of the 95 % interval, ``difference`` less 1.96 standard errors
    high: float  # upper end
    p_value: float  # two-sided, of no difference; NaN if the standard error is 0 and the difference is not


def delong_over_folds(
    folds: Sequence[tuple[NDArray[np.int64], Floats, NDArray[np.bool_]]], n_patients: int
) -> AurocDifference:
    """Tests the difference of two AUROCs that are averaged over test folds.

    A patient's share in the difference is added up over all folds and repeats before it is squared, as repeats test the
    same patients again. With a single fold it is DeLong's test.

    Args:
        folds: For each the positions of its patients among all ``(n,)``, scores of both models ``(n, 2)``, and who is
            positive ``(n,)``.
        n_patients: Number of patients of all folds together.

    Raises:
        DataError: If a fold has fewer than two positive or two negative patients.
    """
    from scipy.special import ndtr

    areas, shares = np.zeros(2), np.zeros(n_patients)
    for patients, scores, positive in folds:
        of_fold, parts = _components(scores, positive)
        areas += of_fold / len(folds)
        shares[patients] += (parts[:, 0] - parts[:, 1]) / len(folds)
    first, second = (float(area) for area in areas)
    difference, error = first - second, float(np.sqrt((shares**2).sum()))
    p_value = np.nan if abs(difference) > 1e-12 else 1.0
    if error > 1e-12:
        p_value = float(2 * ndtr(-abs(difference) / error))
    return AurocDifference(first, second, difference, difference - 1.96 * error, difference + 1.96 * error, p_value)


def _components(scores: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """AUROCs ``(A,)``, and what each patient adds to their sampling error ``(n, A)``.

    The component of a positive patient is the share of negative ones who score lower, from midranks; centred and
    scaled so that sums of products over patients are DeLong's covariance.
    """
    from scipy.stats import rankdata

    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if min(n_positive, n_negative) < 2:
        raise DataError(
            f"DeLong's test needs two patients with the outcome and two without; found {n_positive} and {n_negative}."
        )
    ranks = rankdata(scores, axis=0)
    lower = (ranks[positive] - rankdata(scores[positive], axis=0)) / n_negative
    higher = 1 - (ranks[~positive] - rankdata(scores[~positive], axis=0)) / n_positive
    areas: Floats = lower.mean(0)
    parts = np.empty_like(ranks)
    parts[positive] = (lower - areas) / np.sqrt(n_positive * (n_positive - 1))
    parts[~positive] = (higher - areas) / np.sqrt(n_negative * (n_negative - 1))
    return areas, parts
