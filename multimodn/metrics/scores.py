"""Scores that several task kinds share: numbers in, NaN where a score is undefined, never a warning."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
NAN = float("nan")


def to_numpy(tensor: Tensor) -> Floats:
    """Returns the values in double precision, detached from any graph or device."""
    return tensor.detach().to("cpu", torch.float64).numpy()


def mean(values: Floats) -> float:
    """Returns the mean of the values that are defined; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else NAN


def auroc(positive: NDArray[np.bool_], score: Floats) -> float:
    """Returns the area under the receiver operating characteristic; NaN unless both classes occur."""
    if positive.all() or not positive.any():
        return NAN
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, score))


def auprc(positive: NDArray[np.bool_], score: Floats) -> float:
    """Returns the average precision; NaN unless both classes occur."""
    if positive.all() or not positive.any():
        return NAN
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(positive, score))


def balanced_accuracy(target: Codes, predicted: Codes) -> float:
    """Returns the recall of each class that occurs, averaged over classes; NaN unless two occur."""
    recalls = [float((predicted[target == code] == code).mean()) for code in np.unique(target)]
    return float(np.mean(recalls)) if len(recalls) > 1 else NAN


def binary_scores(positive: NDArray[np.bool_], log_odds: Floats) -> dict[str, float]:
    """Scores the log-odds of a yes-or-no label.

    Args:
        positive: The labels ``(n,)``.
        log_odds: Log-odds of the positive class ``(n,)``.
    """
    signed = np.where(positive, log_odds, -log_odds)
    probability = np.exp(-np.logaddexp(0, -log_odds))
    return {
        "auroc": auroc(positive, log_odds),
        "auprc": auprc(positive, log_odds),
        "brier": mean((probability - positive) ** 2),
        "log_loss": mean(np.logaddexp(0, -signed)),
        "balanced_accuracy": balanced_accuracy(positive.astype(np.int64), (log_odds > 0).astype(np.int64)),
    }


def quadratic_kappa(target: Codes, predicted: Codes) -> float:
    """Returns Cohen's kappa with quadratic weights (Cohen 1968); NaN if it is undefined.

    It is undefined where target and prediction are one and the same class for everybody.

    With these weights kappa is 1 - E[(a - b)^2] / E[(a - b')^2], b' independent of a.
    """
    if not target.size:
        return NAN
    chance = target.var() + predicted.var() + (target.mean() - predicted.mean()) ** 2
    return float(1 - ((target - predicted) ** 2).mean() / chance) if chance > 0 else NAN


def normal_scores(target: Floats, center: Floats, sd: Floats) -> dict[str, float]:
    """Scores normal predictive distributions.

    Args:
        target: What was observed ``(n,)``.
        center: Predicted means ``(n,)``, the same units.
        sd: Predicted standard deviations ``(n,)``, positive.

    Returns:
        ``rmse``, ``mae``, ``r2``, ``pearson``, and ``crps``, the continuous ranked probability score in the
        closed form of Gneiting et al. (2005), equation 5, https://doi.org/10.1175/MWR2904.1.
    """
    error = target - center
    z = torch.from_numpy(error / sd)
    density, cumulative = torch.exp(-0.5 * z**2) / (2 * torch.pi) ** 0.5, torch.special.ndtr(z)
    crps = sd * (z * (2 * cumulative - 1) + 2 * density - torch.pi**-0.5).numpy()
    varies, moves = _varies(target), _varies(center)
    return {
        "rmse": mean(error**2) ** 0.5,
        "mae": mean(np.abs(error)),
        "r2": 1 - float((error**2).mean() / target.var()) if varies else NAN,
        "crps": mean(crps),
        "pearson": float(np.corrcoef(target, center)[0, 1]) if varies and moves else NAN,
    }


def _varies(values: Floats) -> bool:
    return bool(values.size and values.min() < values.max() and values.std() > 0)
