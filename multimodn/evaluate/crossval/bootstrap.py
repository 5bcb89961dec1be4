"""The main metric of cross-validated predictions in many resamples of the patients, the same for every arm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multimodn.evaluate.crossval.out_of_fold import Answers
from multimodn.metrics.predictions import Score, defined_mean
from multimodn.metrics.tasks import main_score
from multimodn.statistics.bootstrap import Floats, draws

MOST_UNDEFINED = 0.2  # share of resamples in which a metric may be undefined; they are left out


def resampled(answers: Sequence[Answers], n_resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Computes the mean over cells of the main metric of some arms for one task, in the patients and in resamples.

    A patient is drawn with all predictions in all repeats. A cell in which a resample leaves the metric undefined,
    such as a fold without an event, does not count in that resample. Returns ``(arms,)``, ``(arms, n_resamples)``.
    """
    scores = [
        [(cell.patients, main_score(each.scale, cell.link, cell.truth, partly=True)) for cell in each.cells]
        for each in answers
    ]
    n = len(answers[0].patients)
    value = np.array([_mean(cells, np.ones((1, n)))[0] for cells in scores])
    drawn = [np.stack([_mean(cells, block) for cells in scores]) for block in draws(n, n_resamples, seed)]
    return value, np.concatenate(drawn, axis=1)


def cell_values(answers: Answers) -> Floats:
    """Computes the main metric in each cell, ``(cells,)``; NaN where it is undefined."""
    scores = [main_score(answers.scale, cell.link, cell.truth, partly=True) for cell in answers.cells]
    sizes = [len(cell.patients) for cell in answers.cells]
    return np.array([score(np.ones((1, n)))[0] for score, n in zip(scores, sizes, strict=True)])


def interval(drawn: Floats) -> tuple[float, float]:
    """Returns the 2.5th and 97.5th percentile of resamples; NaN if too many are undefined."""
    if np.isnan(drawn).mean() > MOST_UNDEFINED:
        return np.nan, np.nan
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def two_sided(drawn: Floats) -> float:
    """Returns twice the smaller share of resamples on one side of 0, one added to each count; NaN like `interval`.

    It is below .05 where the percentile interval leaves 0 out, and never below 2 / (R + 1).

    References:
        Davison and Hinkley (1997), Bootstrap methods and their application, section 4.2 (the added one)
    """
    if np.isnan(drawn).mean() > MOST_UNDEFINED:
        return np.nan
    known = drawn[~np.isnan(drawn)]
    return float(min(1.0, 2 * (1 + min((known <= 0).sum(), (known >= 0).sum())) / (1 + len(known))))


def _mean(cells: Sequence[tuple[NDArray[np.int64], Score]], weights: Floats) -> Floats:
    return defined_mean(np.stack([score(weights[:, patients]) for patients, score in cells]))
