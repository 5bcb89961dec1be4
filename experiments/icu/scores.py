"""What is computed from the out-of-fold predictions of these studies: scores of each fold, and paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from multimodn.evaluate.crossval.comparison import compare
from multimodn.evaluate.crossval.out_of_fold import Answers, OutOfFold
from multimodn.metrics import regression, tasks
from multimodn.metrics.predictions import of_links, once

LOWER_IS_BETTER = ("ece", "mae", "rmse", "brier", "log_loss")
ADDED: dict[str, dict[str, tasks.Metric]] = {
    "log-odds": {"auprc": tasks.auprc, "calibration_slope": tasks.calibration_slope, "ece": tasks.ece},
    "units": {"mae": regression.mae},
}
"""Metrics that cross-validation does not compute, by link scale."""
PAIRED = ("auroc", "auprc", "challenge", "ece", "r2", "mae")
"""Metrics of which arms are compared."""


def fold_scores(found: OutOfFold) -> pd.DataFrame:
    """Returns `OutOfFold.scores` and, of each fold, the metrics of `ADDED` and ``challenge`` of yes-or-no tasks.

    ``challenge`` is min(sensitivity, positive predictive value), the score of the PhysioNet/CinC Challenge 2012, at the
    threshold that is best for the out-of-fold predictions of the other folds of the same repeat: its patients trained
    the model of this fold, and its test patients have no part in it.
    """
    rows = []
    for arm in found.arms:
        for task in found.tasks:
            answers = found.answers(arm, task)
            for k, cell in enumerate(answers.cells):
                given, n = of_links(cell.link, cell.truth), len(cell.link)
                values = {name: once(metric(given), n) for name, metric in ADDED.get(answers.scale, {}).items()}
                if answers.scale == "log-odds" and len(answers.outputs) == 1:
                    values["challenge"] = event_score(cell.link[:, 0], cell.truth[:, 0] > 0, threshold_of(answers, k))
                rows += [(arm, task, metric, cell.repeat, cell.fold, value) for metric, value in values.items()]
    return pd.concat([found.scores, pd.DataFrame(rows, columns=list(found.scores.columns))], ignore_index=True)


def best_threshold(link: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Returns the prediction at or above which min(sensitivity, positive predictive value) is highest."""
    order = np.argsort(-link, kind="stable")
    hits = positive[order].cumsum()
    called = np.arange(1, len(link) + 1)
    score = np.minimum(hits / max(int(positive.sum()), 1), hits / called)
    score[:-1][link[order][:-1] == link[order][1:]] = -1  # equal predictions are on the same side
    return float(link[order][score.argmax()])


def event_score(link: NDArray[np.float64], positive: NDArray[np.bool_], threshold: float) -> float:
    """Returns min(sensitivity, positive predictive value) at or above a threshold; NaN with one class."""
    called = link >= threshold
    if positive.all() or not positive.any():
        return float("nan")
    hits = float((called & positive).sum())
    return min(hits / float(positive.sum()), hits / max(float(called.sum()), 1.0))


def threshold_of(answers: Answers, k: int) -> float:
    """Returns the best threshold for the predictions of all other folds of cell k's repeat; NaN if there is none."""
    others = [each for j, each in enumerate(answers.cells) if each.repeat == answers.cells[k].repeat and j != k]
    if not others:
        return float("nan")
    link, truth = (np.concatenate([getattr(each, part)[:, 0] for each in others]) for part in ("link", "truth"))
    return best_threshold(link, truth > 0)


def differences(
    found: OutOfFold, scores: pd.DataFrame, pairs: Iterable[tuple[str, str]], n_folds: int | None
) -> pd.DataFrame:
    """Compares pairs of arms by each metric of `PAIRED`: ``task, metric, arm, reference, difference`` and intervals.

    ``low`` and ``high`` are of the bootstrap over patients (main metrics only): what other test patients would change.
    ``fold_low`` and ``fold_high`` are of Student's t over folds, whose variance is made larger because folds share
    training patients: what other training patients would change, too (NaN where ``n_folds`` is None, as folds that
    are hospitals are no draws of one kind). ``verdict``: ``better`` or ``worse`` only where no interval covers 0.

    References:
        Nadeau and Bengio (2003), Inference for the generalization error, https://doi.org/10.1023/A:1024068626366
    """
    wide = scores.pivot(index=["task", "metric", "repeat", "fold"], columns="arm", values="value")
    rows = []
    for arm, reference in pairs:
        drawn = compare(found, arm, reference).set_index(["task", "metric"])
        apart = wide[arm] - wide[reference]
        for task in found.tasks:
            for metric in PAIRED:
                if (task, metric) not in apart.index:
                    continue
                each = apart.loc[task, metric].dropna().to_numpy()
                main = (task, metric) in drawn.index
                ends = tuple(drawn.loc[(task, metric), ["low", "high"]]) if main else (np.nan, np.nan)
                over_folds = corrected_interval(each, n_folds) if n_folds else (np.nan, np.nan)
                verdict = verdict_of([ends, over_folds], lower_is_better=metric in LOWER_IS_BETTER)
                rows.append((task, metric, arm, reference, float(each.mean()), *ends, *over_folds, verdict))
    names = ["task", "metric", "arm", "reference", "difference", "low", "high", "fold_low", "fold_high", "verdict"]
    return pd.DataFrame(rows, columns=names)


def corrected_interval(values: NDArray[np.float64], n_folds: int) -> tuple[float, float]:
    """Returns the 95 % interval of the mean of differences ``(J,)`` of repeated ``n_folds``-fold cross-validation.

    The variance of the mean is (1 / J + test patients / training patients) times that of the differences.
    """
    n = len(values)
    if n < 2:
        return float("nan"), float("nan")
    reach = t.ppf(0.975, n - 1) * np.sqrt((1 / n + 1 / (n_folds - 1)) * values.var(ddof=1))
    return float(values.mean() - reach), float(values.mean() + reach)


def verdict_of(intervals: Sequence[tuple[float, float]], *, lower_is_better: bool = False) -> str:
    """Says ``better``, ``worse`` or, where an interval covers 0, ``tied``; empty where there is none."""
    known = [ends for ends in intervals if not np.isnan(ends).any()]
    if not known:
        return ""
    if all(low > 0 for low, _ in known):
        return "worse" if lower_is_better else "better"
    if all(high < 0 for _, high in known):
        return "better" if lower_is_better else "worse"
    return "tied"
