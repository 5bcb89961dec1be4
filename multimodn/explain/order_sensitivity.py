"""How much a prediction depends on the order in which a patient's modalities were read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import factorial

import torch
from torch import Tensor

from multimodn.base.batches import Batch
from multimodn.explain.joined import OfPatients
from multimodn.fusion import Ensemble


@dataclass(frozen=True)
class Orders(OfPatients):
    """One task's predictions of B patients over several orders, on L link-scale columns, each ``(B, L)`` float64."""

    spread: Tensor  # standard deviation over the orders
    low: Tensor  # the smallest prediction
    high: Tensor  # the largest prediction
    prediction: Tensor  # the prediction in the model's own order


def draw_orders(n_modalities: int, n_orders: int, seed: int) -> list[list[int]]:
    """Lists all orders of the modality numbers if there are at most ``n_orders``; else draws ``n_orders`` of them."""
    if factorial(n_modalities) <= n_orders:
        return [list(order) for order in permutations(range(n_modalities))]
    generator = torch.Generator().manual_seed(seed)
    return [torch.randperm(n_modalities, generator=generator).tolist() for _ in range(n_orders)]


def order_sensitivity(model: Ensemble, batch: Batch, orders: Sequence[Sequence[int]]) -> dict[str, Orders]:
    """Predicts each task from all present modalities in each of ``orders``; the encoders run once."""
    evidence = model.encode(batch)
    outputs = [model.subset(evidence, batch.presence, order) for order in [model.first.order, *orders]]
    result = {}
    for name, task in model.tasks.items():
        own, *others = (task.link(each[name]).double() for each in outputs)
        links = torch.stack(others)
        result[name] = Orders(links.std(0, correction=0), links.amin(0), links.amax(0), own)
    return result
