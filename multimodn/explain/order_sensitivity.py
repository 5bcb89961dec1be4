"""How much a prediction depends on the order in which a patient's modalities were read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import permutations
from math import factorial

import torch
from torch import Tensor

from multimodn.base.batches import Batch
from multimodn.fusion import Ensemble


@dataclass(frozen=True)
class Orders:
    """One task's predictions of B patients over several orders, on L link columns, each ``(B, L)`` float64.

    Attributes:
        spread: Standard deviation over the orders.
        low: The smallest prediction.
        high: The largest.
        prediction: That of the model's own order.
    """

    spread: Tensor
    low: Tensor
    high: Tensor
    prediction: Tensor

    @staticmethod
    def joined(parts: Sequence[Orders]) -> Orders:
        """Joins the patients of several batches."""
        return Orders(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Orders)))


def draw_orders(n_modalities: int, n_orders: int, seed: int) -> list[list[int]]:
    """Lists all orders of ``n_modalities`` numbers if they are at most ``n_orders``; else draws so many of them."""
    if factorial(n_modalities) <= n_orders:
        return [list(order) for order in permutations(range(n_modalities))]
    generator = torch.Generator().manual_seed(seed)
    return [torch.randperm(n_modalities, generator=generator).tolist() for _ in range(n_orders)]


def order_sensitivity(model: Ensemble, batch: Batch, orders: Sequence[Sequence[int]]) -> dict[str, Orders]:
    """Predicts each task from all present modalities, in every one of ``orders``; the encoders run once."""
    evidence = model.encode(batch)
    predicted: dict[str, list[Tensor]] = {name: [] for name in model.tasks}
    for order in [model.first.order, *orders]:
        outputs = model.subset(evidence, batch.presence, order)
        for name, task in model.tasks.items():
            predicted[name].append(task.link(outputs[name]).double())
    found = {}
    for name, values in predicted.items():
        every = torch.stack(values[1:])
        found[name] = Orders(every.std(0, correction=0), every.amin(0), every.amax(0), values[0])
    return found
