"""Metrics of censored times from plain arrays."""

import numpy as np

from multimodn.metrics.predictions import Predicted, once
from multimodn.metrics.survival import harrell


def survival_score(metric, risk, time, event, times=(), survival=None):
    """A metric of `multimodn.metrics.survival` of n patients, each counting once."""
    n, truth = len(time), np.stack([time, event], axis=1).astype(float)
    curves = np.zeros((n, len(times))) if survival is None else survival
    given = Predicted(np.asarray(risk)[:, None], truth, np.zeros(n), None, np.array(times, dtype=float), curves)
    return once(metric(given), n)


def concordance(risk, time, event):
    """Harrell's index."""
    return survival_score(harrell, risk, time, event)
