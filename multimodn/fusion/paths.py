"""Orders, paths and subsets of modalities.

An order is a sequence of modalities. A path is what one patient takes of it: long ``(B, depth)`` of modality numbers,
-1 = no step; a modality that a patient lacks never stands in that patient's path. A subset is what was read after
some steps; its bit code c holds modality m if ``c >> m & 1``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodn.errors import StudyError, did_you_mean


def random_paths(presence: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draws a random order of each patient's present modalities, all with equal probability: ``(B, M)``, then -1."""
    keys = torch.rand(presence.shape, generator=generator, device=presence.device)
    order = torch.where(presence, keys, 2.0).argsort(dim=1)
    return torch.where(presence.gather(1, order), order, -1)


def ordered_paths(presence: Tensor, order: Sequence[int]) -> Tensor:
    """Returns the paths ``(B, len(order))`` along any modality numbers; -1 in rows that lack ``order[k]``."""
    steps = torch.as_tensor(list(order), dtype=torch.long, device=presence.device)
    return torch.where(presence[:, steps], steps, -1)


def steps_taken(paths: Tensor, n_modalities: int) -> Tensor:
    """Returns the subset that each state of a path has read, bool ``(depth + 1, B, M)``; the first is empty."""
    step = paths.T.unsqueeze(-1) == torch.arange(n_modalities, device=paths.device)
    return F.pad(step.cumsum(0) > 0, (0, 0, 0, 0, 1, 0))


def subsets_along(paths: Tensor, n_modalities: int) -> Tensor:
    """Returns the subset after each step of a path, bool ``(depth, B, M)``; empty where a row has no such step."""
    return steps_taken(paths, n_modalities)[1:] & (paths.T >= 0).unsqueeze(-1)


def random_subsets(presence: Tensor, n_orders: int, generator: torch.Generator) -> Tensor:
    """Returns what each row has, ``(B, M)``, and the subset after each step of random orders: bool ``(S, B, M)``.

    Where a row has no further step the subset is empty.
    """
    subsets = [presence[None]]
    for _ in range(n_orders):
        paths = random_paths(presence, generator)
        subsets.append(subsets_along(paths, presence.shape[1]))
    return torch.cat(subsets)


def all_subsets(n_modalities: int, device: torch.device | None = None) -> Tensor:
    """Returns every subset of M modalities by its bit code, bool ``(2 ** M, M)``."""
    modalities = torch.arange(n_modalities, device=device)
    return (torch.arange(2**n_modalities, device=device).unsqueeze(1) >> modalities & 1) > 0


def subset_codes(subsets: Tensor) -> Tensor:
    """Returns the bit codes of subsets, bool ``(..., M)``, long ``(...)``."""
    return (subsets.long() << torch.arange(subsets.shape[-1], device=subsets.device)).sum(-1)


def order_numbers(order: Sequence[str], modalities: Sequence[str]) -> list[int]:
    """Returns the numbers of the modalities named by ``order``.

    Raises:
        StudyError: If a name is unknown or stands twice.
    """
    if unknown := [name for name in order if name not in modalities]:
        raise StudyError(f"Unknown modality '{unknown[0]}' in order.{did_you_mean(unknown[0], modalities)}")
    if repeated := [name for i, name in enumerate(order) if name in order[:i]]:
        raise StudyError(f"Modality '{repeated[0]}' stands twice in the order {list(order)}. Name it once.")
    return [list(modalities).index(name) for name in order]
