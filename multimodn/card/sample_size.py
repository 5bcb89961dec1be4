"""How many patients a regression of such a size would need, and what the predictions of a model explain.

References:
    Riley et al. (2020), Calculating the sample size required for developing a clinical prediction model,
    https://doi.org/10.1136/bmj.m441 (binary outcomes, boxes 1 to 4)
    Cox and Snell (1989), Analysis of binary data, https://doi.org/10.1201/9781315137391
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from multimodn.metrics.survival import kaplan_meier

SHRINKAGE = 0.9  # expected shrinkage that a development sample should allow
MARGIN = 0.05  # half the width of the interval of the overall risk, and the largest optimism of Nagelkerke's R2
NAGELKERKE = 0.15  # share of the largest R2 that is assumed where nothing better is known


@dataclass(frozen=True)
class Needed:
    """Patients that three criteria ask for."""

    shrinkage: int  # for an expected shrinkage of `SHRINKAGE` or better
    optimism: int  # for an optimism of Nagelkerke's R2 of at most `MARGIN`
    risk: int  # for the overall risk within `MARGIN`

    @property
    def most(self) -> int:
        """The largest of the three, which counts."""
        return max(self.shrinkage, self.optimism, self.risk)


def largest_r2(prevalence: float) -> float:
    """Returns the largest Cox-Snell R2 that predictions of a binary outcome can have."""
    null = prevalence * log(prevalence) + (1 - prevalence) * log(1 - prevalence)
    return float(1 - np.exp(2 * null))


def needed(n_parameters: int, prevalence: float, r2: float) -> Needed:
    """Computes how many patients a regression of a binary outcome needs.

    Args:
        n_parameters: Candidate predictor parameters.
        prevalence: Share of patients with the outcome, between 0 and 1.
        r2: Anticipated Cox-Snell R2, above 0 and below `SHRINKAGE`.
    """
    shrinkages = (SHRINKAGE, r2 / (r2 + MARGIN * largest_r2(prevalence)))
    shrinkage, optimism = (ceil(n_parameters / ((s - 1) * log(1 - r2 / s))) for s in shrinkages)
    return Needed(shrinkage, optimism, risk=ceil((1.96 / MARGIN) ** 2 * prevalence * (1 - prevalence)))


def cox_snell(log_odds: NDArray[np.float64], outcome: NDArray[np.bool_]) -> float:
    """Returns the Cox-Snell R2 of predictions ``(n,)`` as they are, against the share of ``outcome`` ``(n,)``.

    It may be negative; both outcomes must occur.
    """
    prevalence = outcome.mean()
    null = prevalence * log(prevalence) + (1 - prevalence) * log(1 - prevalence)
    model = -np.logaddexp(0, np.where(outcome, -log_odds, log_odds)).mean()
    return float(1 - np.exp(2 * (null - model)))


def median_follow_up(time: NDArray[np.float64], event: NDArray[np.bool_]) -> float:
    """Returns the median follow-up of times ``(n,)`` by the reverse Kaplan-Meier estimate, where events are censored.

    It is the first time at which the estimate is one half or less; NaN if it never is.

    References:
        Schemper and Smith (1996), https://doi.org/10.1016/0197-2456(96)00075-X
    """
    if not len(time):
        return np.nan
    times = np.unique(time)
    followed = kaplan_meier(time, ~event, np.ones((1, len(time))), times, "right", of_censoring=False)[0]
    low = np.flatnonzero(followed <= 0.5 + 1e-9)
    return float(times[low[0]]) if len(low) else np.nan
