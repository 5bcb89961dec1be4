"""Paths: which modality each patient takes at each step.

A path is a long tensor ``(B, depth)`` of modality numbers, -1 = no step. A modality that a patient lacks never
stands in that patient's path.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodn.errors import StudyError, did_you_mean


def random_paths(presence: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draws for each row a random order of its own present modalities, uniform over orders.

    Args:
        presence: Bool ``(B, M)``.
        generator: Source of randomness; left out, torch's own.

    Returns:
        Paths ``(B, M)``; the steps come first, then -1.
    """
    keys = torch.rand(presence.shape, generator=generator, device=presence.device)
    order = torch.where(presence, keys, 2.0).argsort(dim=1)
    return torch.where(presence.gather(1, order), order, -1)


def ordered_paths(presence: Tensor, order: Sequence[int]) -> Tensor:
    """Takes the modalities of ``order`` one after another; column k is -1 in rows that lack ``order[k]``.

    Args:
        presence: Bool ``(B, M)``.
        order: Modality numbers, any subset in any order.

    Returns:
        Paths ``(B, len(order))``.
    """
    steps = torch.as_tensor(list(order), dtype=torch.long, device=presence.device)
    return torch.where(presence[:, steps], steps, -1)


def steps_taken(paths: Tensor, n_modalities: int) -> Tensor:
    """Says which modalities each state of a path has seen, bool ``(depth + 1, B, M)``, the first none."""
    step = paths.T.unsqueeze(-1) == torch.arange(n_modalities, device=paths.device)
    return F.pad(step.cumsum(0) > 0, (0, 0, 0, 0, 1, 0))


def order_numbers(order: Sequence[str], modalities: Sequence[str]) -> list[int]:
    """Turns modality names into numbers.

    Raises:
        StudyError: If a name is unknown or stands twice.
    """
    unknown = [name for name in order if name not in modalities]
    if unknown:
        raise StudyError(f"Unknown modality '{unknown[0]}' in order.{did_you_mean(unknown[0], modalities)}")
    repeated = [name for i, name in enumerate(order) if name in order[:i]]
    if repeated:
        raise StudyError(f"Modality '{repeated[0]}' stands twice in the order {list(order)}. Name it once.")
    return [list(modalities).index(name) for name in order]
