"""Weights of experts and of the network, at least 0, fitted to evidence for patients whom they were not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_ITERATIONS = 100
STACK_PENALTY = 10.0  # strength that draws the weights of a task to their mean, in rows
N_ORDERS = 4  # random orders of each patient whose subsets weights are fitted to


def fit_weights(
    loss: Callable[[Tensor], Tensor], start: Sequence[float], strength: float, *, to_start: bool = False
) -> Tensor:
    """Returns the weights, float64, at least 0, that minimise a loss and a penalty.

    Args:
        loss: Maps weights to a scalar, a sum over rows.
        start: Their values before the fit.
        strength: Strength of the penalty on the squared distances of the weights to their mean, against the loss.
        to_start: Whether the penalty is on the distances to ``start`` instead.
    """
    from scipy.optimize import minimize

    def objective(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = torch.from_numpy(values).requires_grad_()
        with torch.enable_grad():
            centre = first if to_start else weights.mean()
            total = loss(weights) + strength / 2 * (weights - centre).square().sum()
            (slope,) = torch.autograd.grad(total, weights)
        return total.item(), slope.numpy()

    first = torch.tensor(start, dtype=torch.float64)
    bounds, options = [(0.0, None)] * len(start), {"maxiter": MAX_ITERATIONS}
    found = minimize(objective, first.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return torch.from_numpy(found.x)
