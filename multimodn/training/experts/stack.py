"""Weights of experts and of the network, at least 0, fitted to evidence for patients whom they were not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_ITERATIONS = 100
STACK_PENALTY = 3.0  # strength that draws the weights of a task to their mean, in rows
LATER_PENALTY = 30.0  # strength that draws the weights of trees to 0 where there are linear models, in rows


def fit_weights(
    loss: Callable[[Tensor], Tensor], start: Sequence[float], penalty: Callable[[Tensor], Tensor]
) -> Tensor:
    """Returns the weights, float64, at least 0, that minimise a loss, a sum over rows, and a penalty.

    Both map weights to a scalar; ``start`` has their values before the fit.
    """
    from scipy.optimize import minimize

    def objective(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = torch.from_numpy(values).requires_grad_()
        with torch.enable_grad():
            total = loss(weights) + penalty(weights)
            (slope,) = torch.autograd.grad(total, weights)
        return total.item(), slope.numpy()

    bounds, options = [(0.0, None)] * len(start), {"maxiter": MAX_ITERATIONS}
    first = np.array(start, dtype=np.float64)
    found = minimize(objective, first, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return torch.from_numpy(found.x)


def to_mean(weights: Tensor) -> Tensor:
    """Penalises the distances of weights to their mean, as a few rows of `STACK_PENALTY` would."""
    distance: Tensor = STACK_PENALTY / 2 * (weights - weights.mean()).square().sum()
    return distance


def to_others(is_later: Tensor, weights: Tensor) -> Tensor:
    """Penalises the distances of earlier weights to their mean, and later ones, which must earn theirs, to 0."""
    if is_later.all() or not is_later.any():
        return to_mean(weights)
    return to_mean(weights[~is_later]) + LATER_PENALTY / 2 * weights[is_later].square().sum()


def to_sum(weights: Tensor) -> Tensor:
    """Penalises that the second of two weights, which must earn it, is not 0, and that the two do not add up to 1."""
    distance: Tensor = LATER_PENALTY / 2 * (weights[1].square() + (weights.sum() - 1.0).square())
    return distance
