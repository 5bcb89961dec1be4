"""Metrics of many resamples at once: each patient's weight is how often the patient was drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base import Task
from multimodn.resampling import Floats, weighted_aurocs

Score = Callable[[Floats], Floats]
"""Weights ``(R, n)`` to a metric of each weighting ``(R,)``, NaN where it is undefined."""

MOST_PAIRED = 1500
"""Patients up to whom concordance holds all pairs of them."""


@dataclass(frozen=True)
class _Predicted:
    """What a metric is computed from; arrays in double precision.

    Attributes:
        link: Predictions on the link scale ``(n, L)``.
        truth: `Task.link_target`.
        losses: The loss of each patient ``(n,)``.
    """

    link: Floats
    truth: Floats
    losses: Floats


def vectorised(task: Task, outputs: Tensor, target: Tensor, found: Mapping[str, float]) -> dict[str, Score]:
    """Returns those metrics of a task that can be computed for many resamples at once.

    A metric is among them if what is computed here for the patients as they are is what the task says: so a third
    party's task that has a Brier score of its own is never resampled by ours.

    Args:
        task: The task.
        outputs: Raw outputs of n labelled patients ``(n, K)``.
        target: Their targets.
        found: `Task.metrics` of them.
    """
    outputs = outputs.detach().double()
    link, truth, losses = task.link(outputs), task.link_target(target).double(), task(outputs, target)
    given = _Predicted(*(each.detach().cpu().numpy().astype(np.float64) for each in (link, truth, losses)))
    once, chosen = np.ones((1, len(given.link))), {}
    for metric, value in found.items():
        for make in _MAKERS.get((task.link_scale, metric), ()):
            score = make(given)
            if score is not None and np.isclose(score(once)[0], value, rtol=1e-5, atol=1e-6):
                chosen[metric] = score
                break
    return chosen


def _means(values: Floats) -> Score:
    """Weighted means of columns ``(n, L)``, NaN = unknown; averaged over those that were defined without weights."""
    known = ~np.isnan(values)
    used = known.any(0)
    filled, known = np.nan_to_num(values[:, used]), known[:, used].astype(np.float64)

    def score(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            found: Floats = ((weights @ filled) / (weights @ known)).mean(1)
        return found

    return score


def _aurocs(given: _Predicted) -> Score:
    """The mean over columns; undefined where one that counts without weights lacks a class."""
    columns = []
    for scores, truth in zip(given.link.T, given.truth.T, strict=True):
        known = np.flatnonzero(~np.isnan(truth))
        positive = truth[known] > 0
        if positive.any() and not positive.all():
            columns.append((scores[known], positive, known))

    def score(weights: Floats) -> Floats:
        areas = [weighted_aurocs(scores, positive, weights[:, known]) for scores, positive, known in columns]
        return np.mean(areas, axis=0) if areas else np.full(len(weights), np.nan)

    return score


def _squares(given: _Predicted) -> Floats:
    squares: Floats = (0.5 * (1 + np.tanh(given.link / 2)) - given.truth) ** 2
    return squares


def _log_losses(given: _Predicted) -> Score:
    known = ~np.isnan(given.truth)
    sign = 2 * np.where(known, given.truth, 0.0) - 1
    return _means(np.where(known, np.logaddexp(0, -sign * given.link), np.nan))


def _classes(given: _Predicted) -> tuple[Floats, Floats] | None:
    """Target and median class of ordered classes, whose link columns are the splits into low and high."""
    is_ordered = given.truth.shape == given.link.shape and bool((np.diff(given.truth, axis=1) <= 0).all())
    return (given.truth.sum(1), (given.link > 0).sum(1).astype(np.float64)) if is_ordered else None


def _kappa(given: _Predicted) -> Score | None:
    """Quadratically weighted kappa: 1 - E[(a - b)^2] / E[(a - b')^2], b' independent of a."""
    classes = _classes(given)
    if classes is None:
        return None
    target, predicted = classes
    moments = np.stack([target, predicted, target**2, predicted**2, (target - predicted) ** 2], axis=1)

    def score(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            a, b, a_squared, b_squared, apart = (weights @ moments / weights.sum(1, keepdims=True)).T
            chance = a_squared - a**2 + b_squared - b**2 + (a - b) ** 2
            return np.where(chance > 1e-12, 1 - apart / np.where(chance > 1e-12, chance, 1), np.nan)

    return score


def _class_errors(given: _Predicted) -> Score | None:
    classes = _classes(given)
    return None if classes is None else _means(np.abs(classes[1] - classes[0])[:, None])


def _root(mean: Score) -> Score:
    return lambda weights: np.sqrt(mean(weights))


def _explained(given: _Predicted) -> Score:
    """R^2 about the weighted mean of the target."""
    centred = given.truth[:, 0] - given.truth[:, 0].mean()  # so that squares do not cancel
    moments = np.stack([centred, centred**2, (given.truth - given.link)[:, 0] ** 2], axis=1)

    def score(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            mean, square, error = (weights @ moments / weights.sum(1, keepdims=True)).T
            spread = square - mean**2
            return np.where(spread > 1e-12 * square, 1 - error / np.where(spread > 0, spread, 1), np.nan)

    return score


def _concordance(given: _Predicted) -> Score | None:
    """Harrell's index over all pairs, as in `multimodn.tasks._survival.concordance`."""
    time, event, risk = given.truth[:, 0], given.truth[:, 1] > 0, given.link[:, 0]
    if len(time) > MOST_PAIRED:
        return None

    def score(weights: Floats) -> Floats:
        comparable, right = _pairs(time, event, risk)  # made again for each block, not held for all parts at once
        of_event = weights[:, event]
        with np.errstate(invalid="ignore"):
            found: Floats = ((weights @ right.T) * of_event).sum(1) / ((weights @ comparable.T) * of_event).sum(1)
        return found

    return score


def _pairs(time: Floats, event: NDArray[np.bool_], risk: Floats) -> tuple[Floats, Floats]:
    """For each patient with an event: who can be compared, and whether the risks are in the right order."""
    later = (time > time[event, None]) | ((time == time[event, None]) & ~event)
    right = (risk < risk[event, None]) + 0.5 * (risk == risk[event, None])
    return later.astype(np.float64), later * right


_MAKERS: dict[tuple[str, str], tuple[Callable[[_Predicted], Score | None], ...]] = {
    ("log-odds", "auroc"): (_aurocs,),
    ("log-odds", "brier"): (lambda g: _means(_squares(g)), lambda g: _means(_squares(g).sum(1, keepdims=True))),
    ("log-odds", "log_loss"): (_log_losses, lambda g: _means(g.losses[:, None])),
    ("log-odds", "quadratic_kappa"): (_kappa,),
    ("log-odds", "mae"): (_class_errors,),
    ("units", "rmse"): (lambda g: _root(_means((g.truth - g.link) ** 2)),),
    ("units", "mae"): (lambda g: _means(np.abs(g.truth - g.link)),),
    ("units", "r2"): (_explained,),
    ("log-risk", "cindex"): (_concordance,),
}
"""What may compute a metric, by link scale and name; the first that agrees with the task is taken."""
