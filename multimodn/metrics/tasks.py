"""The metrics of a task: each is a function of the weights of its patients, such as how often a patient was drawn.

The point estimate is the metric under weights of one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
from scipy.special import expit
from torch import Tensor

from multimodn.base.task import Task
from multimodn.metrics import classification, regression, survival
from multimodn.metrics.predictions import Bools, Predicted, Score, by_column, means, of_links, once, predicted
from multimodn.metrics.ties import exceeds, likeliest
from multimodn.statistics.bootstrap import Floats

Metric = Callable[[Predicted], Score | None]
"""Predictions to a function of weights; None where the metric does not apply to them."""

# patients up to whom these are computed for many resamples at once: n log n steps, a fit or an AUROC for each time
MOST_AT_ONCE = dict.fromkeys(("cindex", "uno_cindex", "calibration_slope", "calibration_intercept"), 5000)
MOST_AT_ONCE |= {"auroc_over_time": 5000, "integrated_brier": 20_000, "auprc": 20_000, "ece": 20_000}


ADDED = ("auprc", "brier", "ece", "calibration_slope", "calibration_intercept", "auroc_over_time", "integrated_brier")
"""Metrics that the field expects of a link scale, whatever a task says of itself; the first definition makes them."""


def values(metrics: Mapping[str, Metric], given: Predicted) -> dict[str, float]:
    """Returns metrics of the patients as they are, by name."""
    return {name: once(metric(given), len(given.link)) for name, metric in metrics.items()}


def main_score(scale: str, link: Tensor | Floats, truth: Tensor | Floats, *, partly: bool = False) -> Score:
    """Returns the `main_metric` of predictions of any make, link and truth ``(n, L)``, as a function of weights.

    See `multimodn.metrics.predictions.by_column` for ``partly``.
    """
    given = of_links(link, truth)
    if scale == "log-odds":
        return by_column(given, classification.auroc, partly=partly)
    return regression.r2(given) if scale == "units" else survival.harrell(given)


def weighted_metrics(task: Task, outputs: Tensor, target: Tensor, scores: Mapping[str, float]) -> dict[str, Score]:
    """Returns those metrics of a task that can be computed for many resamples at once.

    A metric is among them if one of our definitions gives the score of the task under weights of one, see ``scores``
    (of `Task.metrics` or `field_metrics`): so a third party's task that has a Brier score of its own is never resampled
    by ours.
    """
    n = len(target)
    if not n:
        return {}
    given = predicted(task, outputs, target)
    chosen: dict[str, Score] = {}
    for metric, value in scores.items():
        if n > MOST_AT_ONCE.get(metric, n):
            continue
        for definition in _DEFINITIONS.get((task.link_scale, metric), ()):
            score = definition(given)
            if score is not None and np.isclose(once(score, n), value, rtol=1e-5, atol=1e-6):
                chosen[metric] = score
                break
    return chosen


def auroc(given: Predicted) -> Score:
    """The mean AUROC of the columns in which both classes occur; undefined where one of them lacks a class."""
    return by_column(given, classification.auroc)


def auprc(given: Predicted) -> Score:
    """The mean average precision of the columns in which both classes occur."""
    return by_column(given, classification.average_precision)


def brier(given: Predicted) -> Score:
    """Brier score, averaged over columns: 0 to 1."""
    return means((expit(given.link) - given.truth) ** 2)


def brier_of_classes(given: Predicted) -> Score:
    """Brier score of several classes, squared errors summed over them: 0 to 2."""
    return means(((expit(given.link) - given.truth) ** 2).sum(1, keepdims=True))


def log_loss(given: Predicted) -> Score:
    """Negative log-likelihood of yes-or-no labels, averaged over columns."""
    labelled = ~np.isnan(given.truth)
    sign = 2 * np.where(labelled, given.truth, 0.0) - 1
    return means(np.where(labelled, np.logaddexp(0, -sign * given.link), np.nan))


def loss(given: Predicted) -> Score:
    """Mean loss of the task."""
    return means(given.losses[:, None])


def balanced_accuracy(given: Predicted) -> Score:
    """Balanced accuracy of yes-or-no labels, averaged over them."""

    def of_label(link: Floats, positive: Bools) -> Score:
        return classification.mean_recall(positive.astype(np.float64), exceeds(link, 0).astype(np.float64))

    return by_column(given, of_label)


def balanced_accuracy_of_classes(given: Predicted) -> Score:
    """Balanced accuracy of the likeliest class."""
    classes, called = (codes.astype(np.float64) for codes in (given.truth.argmax(1), likeliest(given.link)))
    return classification.mean_recall(classes, called)


def balanced_accuracy_of_median(given: Predicted) -> Score | None:
    """Balanced accuracy of the median class of ordered classes."""
    classes = _ordered(given)
    return None if classes is None else classification.mean_recall(*classes)


def _ordered(given: Predicted) -> tuple[Floats, Floats] | None:
    """Target and median class of ordered classification, whose link columns are the splits into low and high."""
    is_ordered = given.truth.shape == given.link.shape and bool((np.diff(given.truth, axis=1) <= 0).all())
    return (given.truth.sum(1), exceeds(given.link, 0).sum(1).astype(np.float64)) if is_ordered else None


def quadratic_kappa(given: Predicted) -> Score | None:
    """Cohen's kappa of the median class with quadratic weights: 1 - E[(a - b)^2] / E[(a - b')^2], b' independent of a.

    It is undefined where target and prediction are one and the same class for everybody.

    References:
        Cohen (1968), https://doi.org/10.1037/h0026256
    """
    classes = _ordered(given)
    if classes is None:
        return None
    target, called = classes
    moments = np.stack([target, called, target**2, called**2, (target - called) ** 2], axis=1)

    def score(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            a, b, a_squared, b_squared, square = (weights @ moments / weights.sum(1, keepdims=True)).T
            chance = a_squared - a**2 + b_squared - b**2 + (a - b) ** 2
            return np.where(chance > 1e-12, 1 - square / np.where(chance > 1e-12, chance, 1), np.nan)

    return score


def class_error(given: Predicted) -> Score | None:
    """Mean distance of the median class from the true one, in classes."""
    classes = _ordered(given)
    return None if classes is None else means(np.abs(classes[1] - classes[0])[:, None])


def ece(given: Predicted) -> Score:
    """Expected calibration error, averaged over columns."""
    return by_column(given, classification.calibration_error, 0)


def calibration_slope(given: Predicted) -> Score:
    """Slope of the outcomes on the log-odds, averaged over the columns with `FEWEST_EACH` patients of either class."""
    return by_column(given, classification.calibration_slope, classification.FEWEST_EACH)


def calibration_intercept(given: Predicted) -> Score:
    """Shift of the log-odds that makes the mean right, averaged over the same columns."""
    return by_column(given, classification.calibration_intercept, classification.FEWEST_EACH)


LABEL_METRICS: dict[str, Metric] = {  # the metrics of yes-or-no labels
    "auroc": auroc,
    "auprc": auprc,
    "brier": brier,
    "log_loss": log_loss,
    "balanced_accuracy": balanced_accuracy,
}

_DEFINITIONS: dict[tuple[str, str], tuple[Metric, ...]] = {
    ("log-odds", "auroc"): (auroc,),
    ("log-odds", "auprc"): (auprc,),
    ("log-odds", "brier"): (brier, brier_of_classes),
    ("log-odds", "log_loss"): (log_loss, loss),
    ("log-odds", "balanced_accuracy"): (balanced_accuracy, balanced_accuracy_of_classes, balanced_accuracy_of_median),
    ("log-odds", "quadratic_kappa"): (quadratic_kappa,),
    ("log-odds", "mae"): (class_error,),
    ("log-odds", "ece"): (ece,),
    ("log-odds", "calibration_slope"): (calibration_slope,),
    ("log-odds", "calibration_intercept"): (calibration_intercept,),
    ("units", "rmse"): (regression.rmse,),
    ("units", "mae"): (regression.mae,),
    ("units", "r2"): (regression.r2,),
    ("units", "crps"): (regression.crps,),
    ("units", "pearson"): (regression.pearson,),
    ("units", "calibration_slope"): (regression.slope,),
    ("units", "calibration_intercept"): (regression.mean_error,),
    ("log-risk", "cindex"): (survival.harrell,),
    ("log-risk", "uno_cindex"): (survival.uno,),
    ("log-risk", "auroc_over_time"): (survival.auroc_over_time,),
    ("log-risk", "integrated_brier"): (survival.integrated_brier,),
    ("log-risk", "calibration_slope"): (survival.calibration_slope,),
    ("log-risk", "calibration_intercept"): (survival.calibration_intercept,),
}
"""What may define a metric, by link scale and name; the first that agrees with the task is taken."""


def field_metrics(task: Task, outputs: Tensor, target: Tensor, names: Collection[str] = ADDED) -> dict[str, float]:
    """Scores labelled rows by what a task says of itself, and by what the field expects of its link scale beside that.

    Log-odds (averaged over classes, splits or labels): ``auprc``; ``brier`` (of ordinal tasks over splits, the ranked
    probability score over their number); ``ece``, the calibration error in ten bins of equally many;
    ``calibration_slope``, 1 where calibrated; ``calibration_intercept``, 0 where calibrated. Units:
    ``calibration_slope`` and ``calibration_intercept`` of a straight line. Log-risk: ``auroc_over_time``, the mean
    cumulative/dynamic AUROC; ``integrated_brier``; ``calibration_slope`` and ``calibration_intercept`` of the event by
    the middle time that the task knows.

    Scores of censored times are weighted by the inverse chance of not being censored, which is estimated from the rows
    that are scored, not from training rows. ``names`` are the metrics of the field to compute, beside those of the
    task.

    Returns:
        Names to values, those of `Task.metrics` (or, if it has none, `Task.link_metrics`) first; NaN = undefined.
    """
    own = task.metrics(outputs, target) or task.link_metrics(task.link(outputs), task.link_target(target))
    lacking = [name for scale, name in _DEFINITIONS if scale == task.link_scale and name not in own]
    wanted = {name: _DEFINITIONS[task.link_scale, name][0] for name in lacking if name in ADDED and name in names}
    return own | (values(wanted, predicted(task, outputs, target)) if wanted else {})
