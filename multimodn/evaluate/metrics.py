"""Scores on the link scale, where networks and baselines of any make can be compared."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from multimodn.base import Task

Array = NDArray[np.float64]


def link_scores(task: Task, link: Array, target: Array) -> dict[str, float]:
    """Scores link-scale predictions of labelled patients.

    Args:
        task: Says what its link scale measures.
        link: Predictions ``(n, L)``.
        target: What `Task.link_target` returned for them.

    Returns:
        ``auroc``, averaged over columns, for log-odds; ``rmse`` and ``r2`` for units; ``cindex`` (Harrell's) for
        log-risk. NaN where a score is undefined, such as with one class only.
    """
    if task.link_scale == "log-odds":
        return {"auroc": _mean_auroc(link, target)}
    if task.link_scale == "units":
        error = ((link - target) ** 2).mean()
        variance = target.var()
        return {"rmse": float(error**0.5), "r2": float(1 - error / variance) if variance > 0 else float("nan")}
    return {"cindex": concordance(link[:, 0], target[:, 0], target[:, 1] > 0)}


def concordance(risk: Array, time: Array, event: NDArray[np.bool_]) -> float:
    """Returns Harrell's concordance index: the share of comparable pairs that the risk orders rightly.

    References:
        Harrell et al. (1996), https://doi.org/10.1002/(SICI)1097-0258(19960229)15:4<361::AID-SIM168>3.0.CO;2-4
    """
    from torchsurv.metrics.cindex import ConcordanceIndex

    if not event.any():
        return float("nan")
    tensors = (torch.from_numpy(np.ascontiguousarray(a)) for a in (risk, event, time))
    return float(ConcordanceIndex()(*tensors))


def _mean_auroc(link: Array, target: Array) -> float:
    from sklearn.metrics import roc_auc_score

    scores = []
    for column in range(target.shape[1]):
        known = ~np.isnan(target[:, column])
        labels = target[known, column]
        if labels.min(initial=1) < labels.max(initial=0):
            scores.append(roc_auc_score(labels, link[known, column]))
    return float(np.mean(scores)) if scores else float("nan")
