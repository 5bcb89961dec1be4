"""Metrics of many resamples at once: each patient's weight is how often the patient was drawn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
from torch import Tensor

from multimodn.base.task import Task
from multimodn.metrics import classification, survival
from multimodn.metrics.predictions import Predicted, Score, by_column, chances, means, predicted
from multimodn.statistics.bootstrap import Floats, weighted_aurocs

MOST_AT_ONCE = {
    "cindex": 1500,  # it holds all pairs of patients
    "uno_cindex": 1500,
    "calibration_slope": 5000,  # fitted anew in each resample
    "calibration_intercept": 5000,
    "auroc_over_time": 5000,  # an AUROC for each time
    "integrated_brier": 20_000,
    "auprc": 20_000,
    "ece": 20_000,
}
"""Patients up to whom these are computed for many resamples at once."""


ADDED = (
    "auprc",
    "brier",
    "ece",
    "calibration_slope",
    "calibration_intercept",
    "auroc_over_time",
    "integrated_brier",
)
"""Metrics that the field expects of a link scale, whatever a task says of itself; the first maker makes them."""


def vectorised(task: Task, outputs: Tensor, target: Tensor, found: Mapping[str, float]) -> dict[str, Score]:
    """Returns those metrics of a task that can be computed for many resamples at once.

    A metric is among them if what is computed here for the patients as they are is what was found: so a third party's
    task that has a Brier score of its own is never resampled by ours.

    Args:
        task: The task.
        outputs: Raw outputs of n labelled patients ``(n, K)``.
        target: Their targets.
        found: Their metrics, such as `Task.metrics` or `multimodn.evaluate.performance.decision_curve.field_metrics`.
    """
    if not len(target):
        return {}
    given = predicted(task, outputs, target)
    once, chosen = np.ones((1, len(given.link))), {}
    for metric, value in found.items():
        if len(given.link) > MOST_AT_ONCE.get(metric, len(given.link)):
            continue
        for make in _MAKERS.get((task.link_scale, metric), ()):
            score = make(given)
            if score is not None and np.isclose(score(once)[0], value, rtol=1e-5, atol=1e-6):
                chosen[metric] = score
                break
    return chosen


def added(
    task: Task, outputs: Tensor, target: Tensor, found: Mapping[str, float], names: Collection[str] = ADDED
) -> dict[str, float]:
    """Computes those of the metrics of the field ``names`` that ``found`` lacks; other arguments as in `vectorised`."""
    lacking = [metric for scale, metric in _MAKERS if scale == task.link_scale and metric not in found]
    wanted = [metric for metric in lacking if metric in ADDED and metric in names]
    if not wanted or not len(target):
        return dict.fromkeys(wanted, np.nan)
    given = predicted(task, outputs, target)
    scores = {metric: _MAKERS[task.link_scale, metric][0](given) for metric in wanted}
    once = np.ones((1, len(given.link)))
    return {metric: np.nan if score is None else float(score(once)[0]) for metric, score in scores.items()}


def _aurocs(given: Predicted) -> Score:
    """The mean over columns; undefined where one that counts without weights lacks a class."""
    return by_column(given, lambda link, positive: lambda weights: weighted_aurocs(link, positive, weights))


def _squares(given: Predicted) -> Floats:
    squares: Floats = (chances(given.link) - given.truth) ** 2
    return squares


def _log_losses(given: Predicted) -> Score:
    known = ~np.isnan(given.truth)
    sign = 2 * np.where(known, given.truth, 0.0) - 1
    return means(np.where(known, np.logaddexp(0, -sign * given.link), np.nan))


def _recalls(given: Predicted) -> Score:
    """Balanced accuracy of yes-or-no labels, averaged over them."""
    return by_column(
        given,
        lambda link, positive: classification.mean_recall(positive.astype(np.float64), (link > 0).astype(np.float64)),
    )


def _recalls_of_likeliest(given: Predicted) -> Score:
    likeliest = given.link.argmax(1).astype(np.float64)
    return classification.mean_recall(given.truth.argmax(1).astype(np.float64), likeliest)


def _recalls_of_median(given: Predicted) -> Score | None:
    found = _ordered(given)
    return None if found is None else classification.mean_recall(*found)


def _ordered(given: Predicted) -> tuple[Floats, Floats] | None:
    """Target and median class of ordered classification, whose link columns are the splits into low and high."""
    is_ordered = given.truth.shape == given.link.shape and bool((np.diff(given.truth, axis=1) <= 0).all())
    return (given.truth.sum(1), (given.link > 0).sum(1).astype(np.float64)) if is_ordered else None


def _kappa(given: Predicted) -> Score | None:
    """Quadratically weighted kappa: 1 - E[(a - b)^2] / E[(a - b')^2], b' independent of a."""
    found = _ordered(given)
    if found is None:
        return None
    target, called = found
    moments = np.stack([target, called, target**2, called**2, (target - called) ** 2], axis=1)

    def score(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            a, b, a_squared, b_squared, apart = (weights @ moments / weights.sum(1, keepdims=True)).T
            chance = a_squared - a**2 + b_squared - b**2 + (a - b) ** 2
            return np.where(chance > 1e-12, 1 - apart / np.where(chance > 1e-12, chance, 1), np.nan)

    return score


def _class_errors(given: Predicted) -> Score | None:
    found = _ordered(given)
    return None if found is None else means(np.abs(found[1] - found[0])[:, None])


def _root(mean: Score) -> Score:
    return lambda weights: np.sqrt(mean(weights))


def _moments(given: Predicted) -> Callable[[Floats], tuple[Floats, ...]]:
    """Weighted variances of target and prediction, their covariance, the mean error and square, ``(R,)`` each."""
    truth, link = given.truth[:, 0], given.link[:, 0]
    y, x = truth - truth.mean(), link - link.mean()  # so that squares do not cancel
    columns = np.stack([y, x, y**2, x**2, x * y, truth - link, (truth - link) ** 2], axis=1)

    def moments(weights: Floats) -> tuple[Floats, ...]:
        with np.errstate(invalid="ignore"):
            y, x, y_squared, x_squared, product, error, square = (weights @ columns / weights.sum(1, keepdims=True)).T
        spread, moved = y_squared - y**2, x_squared - x**2
        spread = np.where(spread > 1e-12 * y_squared, spread, np.nan)
        moved = np.where(moved > 1e-12 * x_squared, moved, np.nan)
        return spread, moved, product - x * y, error, square

    return moments


def _explained(given: Predicted) -> Score:
    """R^2 about the weighted mean of the target."""
    moments = _moments(given)

    def score(weights: Floats) -> Floats:
        spread, _, _, _, square = moments(weights)
        return 1 - square / spread

    return score


def _correlation(given: Predicted) -> Score:
    moments = _moments(given)

    def score(weights: Floats) -> Floats:
        spread, moved, product, _, _ = moments(weights)
        return product / np.sqrt(spread * moved)

    return score


def _straight_slope(given: Predicted) -> Score:
    """Slope of a straight line through targets by predictions."""
    moments, is_flat = _moments(given), given.link[:, 0].std() <= 1e-6 * max(1.0, float(given.truth[:, 0].std()))

    def score(weights: Floats) -> Floats:
        _, moved, product, _, _ = moments(weights)
        return np.full(len(weights), np.nan) if is_flat else product / moved

    return score


def _crps(given: Predicted) -> Score | None:
    """Of normal distributions, as `multimodn.metrics.scores.normal_scores` has it."""
    if given.spread is None:
        return None
    from scipy.stats import norm

    z = (given.truth[:, 0] - given.link[:, 0]) / given.spread
    each = given.spread * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - np.pi**-0.5)
    return means(each[:, None])


def _slopes(given: Predicted) -> Score:
    return by_column(given, classification.calibration_slope, classification.FEWEST_EACH)


def _intercepts(given: Predicted) -> Score:
    return by_column(given, classification.calibration_intercept, classification.FEWEST_EACH)


_MAKERS: dict[tuple[str, str], tuple[Callable[[Predicted], Score | None], ...]] = {
    ("log-odds", "auroc"): (_aurocs,),
    ("log-odds", "auprc"): (lambda g: by_column(g, classification.average_precision),),
    ("log-odds", "brier"): (lambda g: means(_squares(g)), lambda g: means(_squares(g).sum(1, keepdims=True))),
    ("log-odds", "log_loss"): (_log_losses, lambda g: means(g.losses[:, None])),
    ("log-odds", "balanced_accuracy"): (_recalls, _recalls_of_likeliest, _recalls_of_median),
    ("log-odds", "quadratic_kappa"): (_kappa,),
    ("log-odds", "mae"): (_class_errors,),
    ("log-odds", "ece"): (lambda g: by_column(g, classification.calibration_error, 0),),
    ("log-odds", "calibration_slope"): (_slopes,),
    ("log-odds", "calibration_intercept"): (_intercepts,),
    ("units", "rmse"): (lambda g: _root(means((g.truth - g.link) ** 2)),),
    ("units", "mae"): (lambda g: means(np.abs(g.truth - g.link)),),
    ("units", "r2"): (_explained,),
    ("units", "crps"): (_crps,),
    ("units", "pearson"): (_correlation,),
    ("units", "calibration_slope"): (_straight_slope,),
    ("units", "calibration_intercept"): (lambda g: means(g.truth - g.link),),
    ("log-risk", "cindex"): (survival.harrell,),
    ("log-risk", "uno_cindex"): (survival.uno,),
    ("log-risk", "auroc_over_time"): (survival.auroc_over_time,),
    ("log-risk", "integrated_brier"): (survival.integrated_brier,),
    ("log-risk", "calibration_slope"): (survival.calibration_slope,),
    ("log-risk", "calibration_intercept"): (survival.calibration_intercept,),
}
"""What may compute a metric, by link scale and name; the first that agrees with what was found is taken."""


def field_metrics(task: Task, outputs: Tensor, target: Tensor, names: Collection[str] = ADDED) -> dict[str, float]:
    """Scores labelled rows by what a task says of itself, and by what the field expects of its link scale beside that.

    Log-odds (averaged over classes, splits or labels): ``auprc``; ``brier`` (of ordinal tasks over splits, the ranked
    probability score over their number); ``ece``, the calibration error in ten bins of equally many;
    ``calibration_slope``, 1 where calibrated; ``calibration_intercept``, 0 where calibrated. Units:
    ``calibration_slope`` and ``calibration_intercept`` of a straight line. Log-risk: ``auroc_over_time``, the mean
    cumulative/dynamic AUROC; ``integrated_brier``; ``calibration_slope`` and ``calibration_intercept`` of the event by
    the middle time that the task knows.

    Scores of censored times are weighted by the inverse chance of not being censored, which is estimated from the rows
    that are scored, not from training rows.

    Args:
        task: The task.
        outputs: Raw outputs ``(n, K)``.
        target: Targets of n labelled rows.
        names: Which of the metrics of the field to compute, beside those of the task.

    Returns:
        Names to values, those of `Task.metrics` (or, if it has none, `Task.link_metrics`) first; NaN = undefined.
    """
    found = task.metrics(outputs, target) or task.link_metrics(task.link(outputs), task.link_target(target))
    return {**found, **added(task, outputs, target, found, names)}
