"""Weights of experts and of the network, at least 0, fitted to evidence for patients whom they were not fitted on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_ITERATIONS = 100
STACK_PENALTY = 10.0  # strength that draws the weights of a task to their mean, in rows
N_ORDERS = 4  # random orders of each patient whose subsets weights are fitted to


def fit_weights(loss: Callable[[Tensor], Tensor], n_weights: int, strength: float, start: float) -> Tensor:
    """Returns the weights ``(n_weights,)``, float64, at least 0, that minimise a loss and their distance to their mean.

    Args:
        loss: Maps weights ``(n_weights,)`` to a scalar, a sum over rows.
        n_weights: How many there are.
        strength: Strength of the penalty on the squared distances of the weights to their mean, against the loss.
        start: Their value before the fit.
    """
    from scipy.optimize import minimize

    def objective(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = torch.from_numpy(values).requires_grad_()
        with torch.enable_grad():
            total = loss(weights) + strength / 2 * (weights - weights.mean()).square().sum()
            (slope,) = torch.autograd.grad(total, weights)
        return total.item(), slope.numpy()

    bounds = [(0.0, None)] * n_weights
    options = {"maxiter": MAX_ITERATIONS}
    found = minimize(objective, np.full(n_weights, start), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return torch.from_numpy(found.x)
