"""Results of several batches as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch


@dataclass(frozen=True)
class OfPatients:
    """A dataclass of tensors ``(n, ...)``, a row for each of n patients (or of their steps)."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Concatenates the rows of several batches."""
        columns = ([getattr(part, field.name) for part in parts] for field in fields(cls))
        return cls(*(c[0].joined(c) if isinstance(c[0], OfPatients) else torch.cat(c) for c in columns))
