"""Visibility: which modalities each task may see. One that gives its target away is hidden in every state it reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multimodn.errors import StudyError


@dataclass(frozen=True)
class Visibility:
    """Tasks that see the same modalities."""

    seen: Tensor | None  # bool ``(M,)``, True = visible; None: all are
    tasks: tuple[str, ...]

    def restrict(self, presence: Tensor) -> Tensor:
        """Returns presence ``(..., M)`` without the modalities that these tasks must not see."""
        return presence if self.seen is None else presence & self.seen.to(presence.device)

    def restrict_paths(self, paths: Tensor) -> Tensor:
        """Returns paths ``(B, depth)`` with -1 at the steps that these tasks must not see."""
        if self.seen is None:
            return paths
        return torch.where((paths >= 0) & self.seen.to(paths.device)[paths.clamp(min=0)], paths, -1)


def group_by_visibility(
    tasks: Sequence[str], modalities: Sequence[str], excluded: Mapping[str, Collection[str]]
) -> list[Visibility]:
    """Groups tasks by the modalities that are excluded for them.

    Raises:
        StudyError: If a task would see no modality.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in tasks:
        groups.setdefault(tuple(sorted(excluded.get(name, ()))), []).append(name)
    visibilities = []
    for hidden, names in groups.items():
        seen = torch.tensor([modality not in hidden for modality in modalities])
        if not seen.any():
            raise StudyError(f"Every modality is excluded for task '{names[0]}': nothing is left to predict it from.")
        visibilities.append(Visibility(seen if hidden else None, tuple(names)))
    return visibilities
