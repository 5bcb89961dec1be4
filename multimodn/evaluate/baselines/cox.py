"""Cox regression with a ridge penalty, and Cox's partial likelihood for boosted trees.

Ties are Breslow's (1974), https://doi.org/10.2307/2529620: every event at a time is compared with all at risk then.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from multimodn.metrics.ties import likeliest

Array = NDArray[np.float64]
Score = Callable[[Array], Array]  # predicts one link-scale column ``(n,)`` from rows ``(n, columns)``
Likelihood = Callable[[Array], tuple[float, Array, Array]]
"""Log-risks ``(n,)`` to the partial log-likelihood, its gradient and minus its second derivatives, ``(n,)`` each."""

# Relative to the mean partial log-likelihood of an event; the strongest first, as each fit starts from the one before.
PENALTIES = (100.0, 10.0, 1.0, 0.1, 0.01)
FEWEST_EVENTS = 6  # fewest events for which the penalty is chosen; with fewer it is the strongest


def fit_cox(x: Array, y: Array, seed: int = 0) -> Score:
    """Fits time and event ``(n, 2)`` to standardised columns, with a penalty from inner folds drawn by ``seed``.

    The log-risks keep their size: those of an uninformative modality are near 0 and have little weight among others.
    """
    reduced, back = _row_space(x)
    coefficients = back(cox_coefficients(reduced, y, choose_penalty(reduced, y, seed)))
    spread = float((x @ coefficients).std()) or 1.0
    # equal patients are ties: the last digits of a product depend on the machine and would order them
    return lambda rows: (rows @ coefficients / spread).round(9) * spread


def choose_penalty(x: Array, y: Array, seed: int) -> float:
    """Returns the one of `PENALTIES` with the highest partial log-likelihood in five-fold cross-validation.

    A fold contributes l(all rows) - l(rows without it) at the coefficients that were fitted without it.

    References:
        Verweij and van Houwelingen (1993), Cross-validation in survival analysis,
        https://doi.org/10.1002/sim.4780122407
    """
    from sklearn.model_selection import StratifiedKFold

    time, event = y[:, 0], y[:, 1] > 0
    if event.sum() < FEWEST_EVENTS:
        return PENALTIES[0]
    fewest = int(min(event.sum(), (~event).sum()))
    strata = event if fewest > 1 else np.zeros_like(event)
    folds = StratifiedKFold(min(5, fewest) if fewest > 1 else 5, shuffle=True, random_state=seed)
    whole, scores = partial_likelihood(time, event), np.zeros(len(PENALTIES))
    for train, _ in folds.split(x, strata):
        part = partial_likelihood(time[train], event[train])
        path = _penalty_path(x[train], part, int(event[train].sum()))
        scores += [whole(x @ weights)[0] - part(x[train] @ weights)[0] for weights in path]
    return PENALTIES[int(likeliest(scores[None] / event.sum())[0])]  # the strongest of those that are as good


def _penalty_path(x: Array, likelihood: Likelihood, n_events: int) -> list[Array]:
    """Fits the coefficients of each penalty, from those of the one before."""
    from scipy.optimize import minimize

    def loss(weights: Array, penalty: float) -> tuple[float, Array]:
        value, slope, _ = likelihood(x @ weights)
        return penalty * float(weights @ weights) / 2 - value / n_events, penalty * weights - slope @ x / n_events

    path, weights = [], np.zeros(x.shape[1])
    options = {"maxiter": 60, "ftol": 1e-6}  # penalties differ by more
    for penalty in PENALTIES:
        weights = minimize(loss, weights, (penalty,), "L-BFGS-B", jac=True, options=options).x
        path.append(weights)
    return path


def partial_likelihood(time: Array, event: NDArray[np.bool_]) -> Likelihood:
    """Returns the partial likelihood of times and events as a function of log-risks, with its derivatives."""
    order = np.argsort(-time, kind="stable")  # the latest first: patients at risk at a time stand before it
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    late, occurs = time[order], event[order].astype(np.float64)
    last = np.searchsorted(-late, -late, side="right") - 1  # the last of those with the same time
    first = np.searchsorted(-late, -late, side="left")

    def evaluate(risk: Array) -> tuple[float, Array, Array]:
        ordered = risk[order]
        shift = float(ordered.max())
        relative = np.exp(ordered - shift)
        at_risk = np.maximum(relative.cumsum()[last], 1e-150)  # its square is a number, too
        likelihood = float((occurs * (ordered - shift - np.log(at_risk))).sum())
        # a patient is at risk at the events of this time and of all earlier ones
        hazard = (occurs / at_risk)[::-1].cumsum()[::-1][first]
        squares = (occurs / at_risk**2)[::-1].cumsum()[::-1][first]
        expected = relative * hazard
        return likelihood, (occurs - expected)[back], (expected - relative**2 * squares)[back]

    return evaluate


def cox_coefficients(x: Array, y: Array, penalty: float) -> Array:
    """Maximises the mean partial log-likelihood of time and event ``(n, 2)``, less the ridge penalty, by L-BFGS."""
    latest_first = np.argsort(-y[:, 0], kind="stable")
    rows = torch.from_numpy(x[latest_first])
    time, event = y[latest_first, 0], torch.from_numpy(y[latest_first, 1] > 0)
    last_tied = torch.from_numpy(np.searchsorted(-time, -time, side="right") - 1)
    weights = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        risk = rows @ weights
        log_likelihood = (risk - risk.logcumsumexp(0)[last_tied])[event]
        loss = penalty * weights.square().sum() / 2 - log_likelihood.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    coefficients: Array = weights.detach().numpy()
    return coefficients


def _row_space(x: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Reduces wide rows ``(n, columns)`` to n columns with the same ridge solution; the function maps it back."""
    if x.shape[1] <= x.shape[0]:
        return x, lambda weights: weights
    left, sizes, directions = np.linalg.svd(x, full_matrices=False)
    return left * sizes, lambda weights: directions.T @ weights
