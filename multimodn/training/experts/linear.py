"""Penalised linear models of one modality, fitted to any likelihood, for all penalties and inner folds at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from multimodn.data.splits import deal

Loss = Callable[[Tensor], Tensor]
"""Maps evidence ``(R, n, K)`` of R models for n rows to losses ``(R, n)``."""

PENALTIES = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
"""Strengths of the L2 penalty on coefficients, against the likelihood summed over rows; inner folds choose one."""
N_FOLDS = 5
MAX_STEPS = 100
CONVERGED = 1e-6  # largest decrease of the objective in a step, a row, below which a model is finished


@dataclass(frozen=True)
class LinearFit:
    """Linear models of p columns with K outputs: one without each fold, and one of all rows, the last."""

    weight: Tensor  # coefficients, float64 ``(n_folds + 1, p, K)``
    bias: Tensor  # intercepts, float64 ``(n_folds + 1, K)``
    held_out: Tensor  # evidence of each row from the model without its fold, float64 ``(n, K)``
    penalty: float  # the chosen strength
    loss: float  # that of the held-out evidence, summed over rows


def deal_folds(strata: Tensor, n_folds: int, seed: int) -> Tensor:
    """Deals rows to folds at random, evenly within outcome strata: long ``(n,)``."""
    return torch.from_numpy(deal(np.arange(len(strata)), strata.numpy(), n_folds, seed))


def fit_linear(
    x: Tensor, loss: Loss, n_outputs: int, folds: Tensor, n_folds: int, weights: Tensor | None = None,
    penalties: tuple[float, ...] = PENALTIES,
) -> LinearFit:  # fmt: skip
    """Fits evidence ``x @ weight + bias`` by penalised maximum likelihood; inner folds choose the penalty.

    The penalty is on coefficients only. All models, one for each penalty and for each inner fold that is left out, are
    fitted together by gradient steps that the curvature at zero evidence preconditions, in the principal axes of ``x``,
    so that they are nearly independent of the scale and correlation of columns. A step that does not lower a model's
    objective is halved for that model.

    Args:
        x: Columns ``(n, p)`` without NaN.
        loss: Loss of n rows at evidence ``(R, n, K)``, ``(R, n)``.
        n_outputs: K.
        folds: The fold of each row, long ``(n,)``.
        n_folds: How many folds there are, be they empty.
        weights: Weight of each row, ``(n,)``; None: all are 1.
        penalties: Strengths to choose from, from strong to weak.
    """
    n, weight = len(x), torch.ones(len(x), dtype=torch.float64) if weights is None else weights.double()
    centre = x.double().mean(0)
    left, spread, axes = torch.linalg.svd(x.double() - centre, full_matrices=False)
    kept = spread > 1e-9 * spread.max().clamp(min=1e-300)
    left, spread, axes = left[:, kept], spread[kept], axes[kept]
    rotated = torch.cat([left * spread, torch.ones(n, 1, dtype=torch.float64)], 1)  # the last column: the intercept
    used = torch.ones(n_folds + 1, n, dtype=torch.float64)
    used[folds, torch.arange(n)] = 0.0  # model f leaves out fold f; the last one leaves out none
    strength = torch.tensor(penalties, dtype=torch.float64).repeat(n_folds + 1)
    row_weight = (used * weight).repeat_interleave(len(penalties), 0)  # (R, n)
    penalised = torch.ones(rotated.shape[1], dtype=torch.float64)
    penalised[-1] = 0.0
    ridge = strength[:, None] * penalised  # (R, r)
    curvature = _curvature_at_zero(loss, n, n_outputs, weight)
    size = rotated.square().sum(0)
    preconditioner = 1.0 / (curvature * size[None, :, None] + ridge[..., None] + 1e-9)

    def evaluate(learned: Tensor) -> tuple[Tensor, Tensor]:
        evidence = torch.einsum("nr,mrk->mnk", rotated, learned).requires_grad_()
        with torch.enable_grad():
            each = (loss(evidence) * row_weight).sum(1)
            (slope,) = torch.autograd.grad(each.sum(), evidence)
        objective = each.detach() + 0.5 * (ridge[..., None] * learned.square()).sum((1, 2))
        return objective, torch.einsum("nr,mnk->mrk", rotated, slope) + ridge[..., None] * learned

    learned = torch.zeros(len(strength), rotated.shape[1], n_outputs, dtype=torch.float64)
    objective, slope = evaluate(learned)
    pace = torch.ones(len(strength), dtype=torch.float64)
    for _ in range(MAX_STEPS):
        trial = learned - pace[:, None, None] * preconditioner * slope
        new_objective, new_slope = evaluate(trial)
        better = new_objective <= objective
        gain = torch.where(better, objective - new_objective, torch.inf)
        learned = torch.where(better[:, None, None], trial, learned)
        slope = torch.where(better[:, None, None], new_slope, slope)
        objective = torch.where(better, new_objective, objective)
        pace = torch.where(better, (pace * 1.3).clamp(max=30.0), pace / 2)
        if bool((gain < CONVERGED * n).all()):
            break
    by_fold = learned.view(n_folds + 1, len(penalties), -1, n_outputs)
    held_out = rotated.new_empty(len(penalties), n, n_outputs)
    for fold in range(n_folds):
        rows = folds == fold
        held_out[:, rows] = torch.einsum("nr,lrk->lnk", rotated[rows], by_fold[fold])
    with torch.no_grad():
        scores = (loss(held_out) * weight).sum(1)
    best = int(scores.argmin())
    chosen = by_fold[:, best]
    coefficients = axes.T @ chosen[:, :-1]
    bias = chosen[:, -1] - centre @ coefficients
    return LinearFit(coefficients, bias, held_out[best], penalties[best], float(scores[best]))


def fit_best_columns(
    x: Tensor, few: Tensor, loss: Loss, n_outputs: int, folds: Tensor, n_folds: int, weights: Tensor
) -> LinearFit:
    """Fits a linear model of all columns ``(n, p)`` and one of some, ``few``, bool ``(p,)``; returns the better one.

    The better is that of the lower held-out loss; the coefficients of columns that it leaves out are 0. The other
    arguments are those of `fit_linear`.
    """
    whole = fit_linear(x, loss, n_outputs, folds, n_folds, weights)
    if few.all():
        return whole
    part = fit_linear(x[:, few], loss, n_outputs, folds, n_folds, weights)
    if part.loss > whole.loss:
        return whole
    weight = torch.zeros_like(whole.weight)
    weight[:, few] = part.weight
    return replace(part, weight=weight)


def _curvature_at_zero(loss: Loss, n: int, n_outputs: int, weight: Tensor) -> Tensor:
    """Returns the mean second derivative of the loss of a row by each output, at zero evidence, ``(K,)``."""
    evidence = torch.zeros(1, n, n_outputs, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad((loss(evidence) * weight).sum(), evidence, create_graph=True)
        second = [
            torch.autograd.grad(slope[..., k].sum(), evidence, retain_graph=True)[0][0, :, k] for k in range(n_outputs)
        ]
    return (torch.stack(second, 1).sum(0) / weight.sum()).clamp(min=1e-4)
