"""Shapley values of a patient's present modalities, from the predictions at their subsets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from multimodn.base.batches import Batch
from multimodn.explain.joined import OfPatients
from multimodn.fusion import Ensemble
from multimodn.fusion.paths import all_subsets, subset_codes

MAX_MODALITIES = 14  # with at most so many modalities every subset is evaluated, 16,384; with more, orders are sampled


@dataclass(frozen=True)
class Contributions(OfPatients):
    """Contributions of M modalities to one task's predictions of B patients, on L link-scale columns."""

    values: Tensor  # ``(B, M, L)``, float64; 0 for an absent modality. They add up to prediction - prior.
    errors: Tensor  # standard errors of ``values``; 0 = exact
    prior: Tensor  # prediction from no modality, ``(B, L)``
    prediction: Tensor  # prediction from all present modalities, ``(B, L)``


def contributions(model: Ensemble, batch: Batch, n_pairs: int = 32, seed: int = 0) -> dict[str, Contributions]:
    """Computes the Shapley value of each present modality for each task's prediction; the encoders run once.

    Exact (`shapley`) for up to `MAX_MODALITIES` modalities, from ``n_pairs`` random orders (`sampled_shapley`) beyond.
    """
    presence = batch.presence
    if presence.shape[1] <= MAX_MODALITIES:
        complete, rows = subset_codes(presence), torch.arange(len(batch), device=presence.device)
        result = {}
        for name, by_subset in link_lattice(model, batch).items():
            values = shapley(by_subset, presence)
            result[name] = Contributions(values, torch.zeros_like(values), by_subset[0], by_subset[complete, rows])
        return result
    evidence = model.encode(batch)

    def value(subset: Tensor) -> Tensor:
        outputs = model.subset(evidence, subset)
        return torch.cat([task.link(outputs[name]) for name, task in model.tasks.items()], dim=-1)

    estimates = sampled_shapley(value, presence, n_pairs, seed)
    ends = value(torch.zeros_like(presence)).double(), value(presence).double()
    widths = [len(task.link_names) for task in model.tasks.values()]
    of_task = zip(*(torch.split(tensor, widths, dim=-1) for tensor in (*estimates, *ends)), strict=True)
    return {name: Contributions(*tensors) for name, tensors in zip(model.tasks, of_task, strict=True)}


def link_lattice(model: Ensemble, batch: Batch) -> dict[str, Tensor]:
    """Predicts each task at every subset on the link scale, ``(2 ** M, B, L)`` float64; see `Ensemble.lattice`."""
    return {name: model.tasks[name].link(outputs).double() for name, outputs in model.lattice(batch).items()}


def shapley(values: Tensor, presence: Tensor) -> Tensor:
    """Computes exact Shapley values ``(B, M, L)`` float64 over the modalities that each patient has, bool ``(B, M)``.

    With v(S) the prediction from subset S, P the present modalities and n = |P|, the value of modality m of P is ``sum
    over S in P without m of |S|! (n - |S| - 1)! / n! * (v(S + m) - v(S))``; the values of a patient add up to v(P) -
    v(empty set). That of an absent modality is 0. ``values`` are v by subset bit code (`multimodn.fusion.lattice`),
    ``(2 ** M, B, L)``; NaN where S is not within P.

    References:
        Shapley (1953), A value for n-person games, https://doi.org/10.1515/9781400881970-018
    """
    n_modalities = presence.shape[1]
    values = values.double()
    codes = torch.arange(len(values), device=values.device)
    sizes = all_subsets(n_modalities, values.device).sum(1)
    weights = subset_weights(n_modalities, 1).to(values.device)[presence.sum(1)]  # (B, M): by |S|
    contributions = values.new_zeros(len(presence), n_modalities, values.shape[-1])
    for m in range(n_modalities):
        without = codes[(codes >> m & 1) == 0]
        gain = (values[without | 1 << m] - values[without]).nan_to_num(0.0)
        contributions[:, m] = torch.einsum("bs,sbl->bl", weights[:, sizes[without]], gain)
    return contributions


def subset_weights(n_modalities: int, k: int) -> Tensor:
    """Returns the weight |S|! (n - |S| - k)! / (n - k + 1)! of a subset of size s beside k of n players, at [n, s]."""
    table = torch.zeros(n_modalities + 1, max(n_modalities, 1), dtype=torch.float64)
    for n in range(k, n_modalities + 1):
        for s in range(n - k + 1):
            table[n, s] = 1 / ((n - k + 1) * comb(n - k, s))
    return table


def sampled_shapley(
    value: Callable[[Tensor], Tensor], presence: Tensor, n_pairs: int = 32, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Estimates Shapley values and their standard errors, both ``(B, M, L)`` float64, from random orders.

    Every order's gains add up to v(P) - v(empty set), and so does their mean. Each of the ``n_pairs`` orders is taken
    forwards and backwards (antithetic), which lowers the error. ``value`` is v of a subset for each row: bool ``(B,
    M)``, as presence is, to ``(B, L)``.

    References:
        Castro et al. (2009), https://doi.org/10.1016/j.cor.2008.04.004; antithetic pairs: Mitchell et al. (2022),
        section 4, https://arxiv.org/abs/2104.12199
    """
    generator = torch.Generator().manual_seed(seed)
    empty = value(torch.zeros_like(presence)).double()
    total = empty.new_zeros(*presence.shape, empty.shape[-1])
    squares = torch.zeros_like(total)
    for _ in range(n_pairs):
        order = torch.rand(presence.shape[1], generator=generator).argsort().tolist()
        pair = torch.zeros_like(total)
        for direction in (order, order[::-1]):
            subset, before = torch.zeros_like(presence), empty
            for m in direction:
                subset[:, m] = presence[:, m]
                after = value(subset).double()
                pair[:, m] += (after - before) / 2
                before = after
        total += pair
        squares += pair**2
    mean = total / n_pairs
    variance = (squares / n_pairs - mean**2).clamp(min=0) * n_pairs / max(n_pairs - 1, 1)
    return mean, (variance / n_pairs).sqrt()
