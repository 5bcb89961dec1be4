"""Rows of different lengths without padding: the tiles of a patient, the words of a report, measurements over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multimodn.errors import ShapeError


@dataclass(frozen=True)
class Ragged:
    """Items of n rows, those of a row one after another."""

    items: Tensor  # (n_items, ...): first the items of row 0, then those of row 1, and so on
    lengths: Tensor  # long (n,): how many items each row has; they sum to n_items

    def __post_init__(self) -> None:
        kind, shape, n_items = self.lengths.dtype, tuple(self.lengths.shape), int(self.lengths.sum())
        if kind != torch.long or len(shape) != 1 or n_items != len(self.items):
            expected = f"expected long (n,) adding up to the {len(self.items)} items."
            raise ShapeError(f"`lengths` is {kind} of shape {shape} and adds up to {n_items}, {expected}")

    @classmethod
    def cat(cls, rows: Sequence[Tensor]) -> Ragged:
        """Joins one tensor of items ``(length, ...)`` for each row; at least one row, to know their shape."""
        return cls(torch.cat(list(rows)), torch.tensor([len(row) for row in rows]))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: Tensor) -> Ragged:
        """Takes the rows at long ``rows``, in their order; a row may be taken several times."""
        starts = (self.lengths.cumsum(0) - self.lengths)[rows]
        lengths = self.lengths[rows]
        first = lengths.cumsum(0) - lengths
        place = torch.arange(int(lengths.sum()), device=lengths.device)
        return Ragged(self.items[place + (starts - first).repeat_interleave(lengths)], lengths)

    @property
    def rows(self) -> Tensor:
        """The row of each item, long ``(n_items,)``."""
        return torch.arange(len(self), device=self.lengths.device).repeat_interleave(self.lengths)

    def split(self) -> list[Tensor]:
        """Returns the items of each row, ``(length, ...)`` each."""
        return list(torch.split(self.items, self.lengths.tolist()))

    def to(self, device: torch.device) -> Ragged:
        """Returns the same rows on ``device``."""
        return Ragged(self.items.to(device), self.lengths.to(device))


def softmax(scores: Tensor, rows: Tensor, n_rows: int) -> Tensor:
    """Normalises item scores ``(n_items, ...)`` within each row; ``rows``, long ``(n_items,)``: the row of each."""
    place = rows.view(-1, *[1] * (scores.dim() - 1)).expand_as(scores)
    highest = scores.new_full((n_rows, *scores.shape[1:]), -torch.inf)
    highest = highest.scatter_reduce(0, place, scores.detach(), "amax")
    weights = (scores - highest[rows]).exp()
    return weights / total(weights, rows, n_rows)[rows]


def total(items: Tensor, rows: Tensor, n_rows: int) -> Tensor:
    """Adds up the items ``(n_items, ...)`` of each row, ``(n_rows, ...)``; 0 for a row without items."""
    return items.new_zeros(n_rows, *items.shape[1:]).index_add(0, rows, items)
