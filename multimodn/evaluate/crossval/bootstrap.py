"""The main metric of cross-validated predictions in many resamples of the patients, the same for every arm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from multimodn.evaluate.crossval.out_of_fold import Answers, Cell
from multimodn.statistics.bootstrap import Floats, draws, weighted_aurocs

Score = Callable[[Floats], Floats]
"""Weights ``(R, n)`` to the metric of each weighting ``(R,)``, NaN where it is undefined."""

MOST_PAIRS = 4_000_000
"""Pairs of patients up to which concordance holds all of them; beyond, each resample is counted by itself."""
MOST_UNDEFINED = 0.2
"""Share of resamples in which a metric may be undefined; they are left out."""


def resampled(answers: Sequence[Answers], n_resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Computes the mean over cells of the main metric, for the patients as they are and for resamples of them.

    A patient is drawn with all predictions in all repeats. A cell in which a resample leaves the metric undefined,
    such as a fold without an event, does not count in that resample.

    Args:
        answers: Of some arms for one task.
        n_resamples: Bootstrap resamples R.
        seed: Their seed.

    Returns:
        The values ``(arms,)`` and those of the resamples ``(arms, R)``.
    """
    scores = [[(cell.patients, cell_score(each.scale, cell)) for cell in each.cells] for each in answers]
    n = len(answers[0].patients)
    value = np.array([_mean(cells, np.ones((1, n)))[0] for cells in scores])
    drawn = [np.stack([_mean(cells, block) for cells in scores]) for block in draws(n, n_resamples, seed)]
    return value, np.concatenate(drawn, axis=1)


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


def cell_score(scale: str, cell: Cell) -> Score:
    """Returns the main metric of a link scale as a function of the weights of a cell's patients."""
    if scale == "log-odds":
        return _aurocs(cell)
    return _explained(cell) if scale == "units" else _concordance(cell)


def _mean(cells: Sequence[tuple[NDArray[np.int64], Score]], weights: Floats) -> Floats:
    return _defined_mean(np.stack([score(weights[:, patients]) for patients, score in cells]))


def _defined_mean(values: Floats) -> Floats:
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        found: Floats = np.where(defined, values, 0).sum(0) / defined.sum(0)
    return found


def _aurocs(cell: Cell) -> Score:
    """The mean over the columns in which both classes occur."""
    columns = []
    for scores, truth in zip(cell.link.T, cell.truth.T, strict=True):
        known = np.flatnonzero(~np.isnan(truth))
        columns.append((scores[known], truth[known] > 0, known))

    def score(weights: Floats) -> Floats:
        areas = [
            weighted_aurocs(scores, positive, weights[:, known]) if len(known) else np.full(len(weights), np.nan)
            for scores, positive, known in columns
        ]
        return _defined_mean(np.stack(areas))

    return score


def _explained(cell: Cell) -> Score:
    """R^2 about the weighted mean of the target."""
    if not len(cell.truth):
        return lambda weights: np.full(len(weights), np.nan)
    truth, error = cell.truth[:, 0] - cell.truth[:, 0].mean(), cell.truth[:, 0] - cell.link[:, 0]
    moments = np.stack([truth, truth**2, error**2], axis=1)  # of centred targets, so that squares do not cancel

    def score(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            mean, square, squared_error = (weights @ moments / weights.sum(1, keepdims=True)).T
            spread = square - mean**2
            found: Floats = np.where(spread > 1e-12 * square, 1 - squared_error / spread, np.nan)
        return found

    return score


def _concordance(cell: Cell) -> Score:
    """Harrell's index, as in `multimodn.tasks._survival.concordance`."""
    time, event, risk = cell.truth[:, 0], cell.truth[:, 1] > 0, cell.link[:, 0]
    if len(time) * int(event.sum()) > MOST_PAIRS:
        return _counted_concordance(time, event, risk)
    later = (time > time[event, None]) | ((time == time[event, None]) & ~event)
    right = later * ((risk < risk[event, None]) + 0.5 * (risk == risk[event, None]))
    comparable, right = later.T.astype(np.float64), np.ascontiguousarray(right.T)

    def score(weights: Floats) -> Floats:
        of_event = weights[:, event]
        with np.errstate(invalid="ignore"):
            found: Floats = ((weights @ right) * of_event).sum(1) / ((weights @ comparable) * of_event).sum(1)
        return found

    return score


def _counted_concordance(time: Floats, event: NDArray[np.bool_], risk: Floats) -> Score:
    from multimodn.metrics.concordance import concordance

    def score(weights: Floats) -> Floats:
        again = [np.repeat(np.arange(len(time)), one.astype(np.int64)) for one in weights]
        return np.array([concordance(risk[rows], time[rows], event[rows]) if len(rows) else np.nan for rows in again])

    return score
