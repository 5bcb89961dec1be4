"""Which modalities a task sees: one that tells its target is hidden from it in every state that it reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multimodn.errors import StudyError


@dataclass(frozen=True)
class View:
    """Tasks that see the same modalities.

    Attributes:
        seen: Bool ``(M,)``; None: all.
        tasks: Their names.
    """

    seen: Tensor | None
    tasks: tuple[str, ...]

    def of(self, presence: Tensor) -> Tensor:
        """Takes away from ``(..., M)`` what these tasks must not see."""
        return presence if self.seen is None else presence & self.seen.to(presence.device)

    def along(self, paths: Tensor) -> Tensor:
        """Takes the steps away from ``(B, depth)`` that these tasks must not see."""
        if self.seen is None:
            return paths
        return torch.where((paths >= 0) & self.seen.to(paths.device)[paths.clamp(min=0)], paths, -1)


def group_views(tasks: Sequence[str], modalities: Sequence[str], excluded: Mapping[str, Collection[str]]) -> list[View]:
    """Groups tasks by what they must not see."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in tasks:
        groups.setdefault(tuple(sorted(excluded.get(name, ()))), []).append(name)
    views = []
    for hidden, names in groups.items():
        seen = torch.tensor([modality not in hidden for modality in modalities])
        if not seen.any():
            raise StudyError(f"Every modality is excluded for task '{names[0]}': nothing is left to predict it from.")
        views.append(View(seen if hidden else None, tuple(names)))
    return views
