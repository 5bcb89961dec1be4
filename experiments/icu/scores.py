"""What is computed from the out-of-fold predictions of these studies: scores of each fold, and paired differences."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.evaluate.crossval.comparison import compare
from multimodn.evaluate.crossval.crossval import paired
from multimodn.evaluate.crossval.out_of_fold import Answers, OutOfFold
from multimodn.metrics import regression, tasks
from multimodn.metrics.predictions import of_links, once

LOWER_IS_BETTER = ("ece", "mae", "rmse", "brier", "log_loss")
ADDED: dict[str, dict[str, tasks.Metric]] = {
    "log-odds": {"auprc": tasks.auprc, "calibration_slope": tasks.calibration_slope, "ece": tasks.ece},
    "units": {"mae": regression.mae},
}
"""Metrics that cross-validation does not compute, by link scale."""
NAMES = ["task", "metric", "arm", "reference", "difference", "low", "high", "t_low", "t_high", "verdict"]
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


def differences(found: OutOfFold, scores: pd.DataFrame, pairs: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Compares pairs of arms by each metric of `PAIRED`, with the intervals and the verdict of `compare`.

    Metrics that are not the main one of their task have the interval over folds alone, ``t_low`` to ``t_high``, and the
    verdict that goes with it.

    Returns:
        ``task, metric, arm, reference, difference`` (arm less reference), ``low, high, t_low, t_high, verdict``.
    """
    rows = []
    for arm, reference in pairs:
        main = compare(found, arm, reference)[NAMES]
        others = paired(scores[scores["metric"].isin(PAIRED)], arm, reference)
        others = others.rename(columns={"low": "t_low", "high": "t_high"}).assign(arm=arm, reference=reference)
        others = others.assign(low=np.nan, high=np.nan, verdict=[verdict_of(row) for row in others.to_dict("records")])
        every = pd.concat([main, others[NAMES]]).drop_duplicates(["task", "metric"])
        order = {name: k for k, name in enumerate([*found.tasks, *PAIRED])}
        rows.append(every.sort_values(["task", "metric"], key=lambda names: names.map(order), kind="stable"))
    return pd.concat(rows, ignore_index=True)


def verdict_of(row: Mapping[Hashable, Any]) -> str:
    """Says ``better``, ``worse`` or, where the interval over folds covers 0, ``tied``; ``unknown`` without one."""
    low, high = row["t_low"], row["t_high"]
    if row["metric"] in LOWER_IS_BETTER:
        low, high = -high, -low
    if np.isnan(low):
        return "unknown"
    return "better" if low > 0 else "worse" if high < 0 else "tied"
