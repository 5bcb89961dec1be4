"""Boosted trees as tensors: predicts without the library that fitted them, and holds nothing that could run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class TreeSizes:
    """Shapes of boosted trees."""

    n_trees: int
    n_nodes: int  # largest number of inner nodes of a tree
    depth: int  # largest number of inner nodes from root to leaf


class Trees(nn.Module):
    """Sums the leaf values of trees, each of which belongs to one output.

    A node sends a row left if its column is at most the threshold. A branch below 0 is a leaf: -1 - k is leaf k.
    """

    column: Tensor
    threshold: Tensor
    branches: Tensor
    empty_left: Tensor
    leaf: Tensor
    output: Tensor

    def __init__(self, sizes: TreeSizes, n_outputs: int) -> None:
        super().__init__()
        self.sizes, self.n_outputs = sizes, n_outputs
        shape = (sizes.n_trees, sizes.n_nodes)
        self.register_buffer("column", torch.zeros(shape, dtype=torch.long))
        self.register_buffer("threshold", torch.zeros(shape))
        self.register_buffer("branches", torch.full((*shape, 2), -1, dtype=torch.long))  # left, right
        self.register_buffer("empty_left", torch.zeros(shape, dtype=torch.bool))  # where an empty cell goes
        self.register_buffer("leaf", torch.zeros(sizes.n_trees, sizes.n_nodes + 1))
        self.register_buffer("output", torch.zeros(sizes.n_trees, dtype=torch.long))

    def forward(self, vector: Tensor) -> Tensor:
        """Returns the sums of leaf values ``(n, Q)`` for ``(n, n_columns)``, NaN = empty."""
        if not len(vector):
            return vector.new_zeros(0, self.n_outputs)
        steps = _Steps.of(self)
        tree = torch.arange(self.sizes.n_trees, device=vector.device)
        parts = []
        for rows in torch.split(vector, 1024):
            values = self.leaf[tree, steps.leaves(rows)]
            parts.append(values.new_zeros(len(rows), self.n_outputs).index_add(1, self.output, values))
        return torch.cat(parts)


@dataclass(frozen=True)
class _Steps:
    """Nodes and leaves of all trees in one row, each with the two places that follow it; a leaf follows itself.

    Rows walk through all trees at once, by numbers of 4 bytes: most of the time goes into reading memory.
    """

    n_trees: int
    n_places: int  # of a tree: its inner nodes, then its leaves
    depth: int
    column: Tensor  # int32 ``(n_trees x n_places,)``
    threshold: Tensor
    empty_left: Tensor
    next: Tensor  # int32: right and left of each place

    @classmethod
    def of(cls, trees: Trees) -> _Steps:
        n_trees, n_nodes = trees.column.shape
        n_places = 2 * n_nodes + 1
        start = torch.arange(n_trees, device=trees.column.device).view(-1, 1, 1) * n_places
        nodes = torch.where(trees.branches >= 0, trees.branches, n_nodes - 1 - trees.branches)
        leaves = torch.arange(n_nodes, n_places, device=nodes.device).view(1, -1, 1).expand(n_trees, -1, 2)
        following = start + torch.cat([nodes.flip(-1), leaves], 1)
        missing = (0, n_nodes + 1)
        return cls(
            n_trees,
            n_places,
            trees.sizes.depth,
            F.pad(trees.column, missing).flatten().int(),
            F.pad(trees.threshold, missing).flatten(),
            F.pad(trees.empty_left, missing).flatten(),
            following.flatten().int(),
        )

    def leaves(self, vector: Tensor) -> Tensor:
        """Returns the leaf of each row in each tree, long ``(n, n_trees)``."""
        shape = len(vector), self.n_trees
        start = torch.arange(self.n_trees, device=vector.device, dtype=torch.int32) * self.n_places
        place, has_empty = start.repeat(len(vector)), bool(vector.isnan().any())
        for _ in range(self.depth):
            value = vector.gather(1, self.column.index_select(0, place).view(shape).long()).flatten()
            left = value <= self.threshold.index_select(0, place)
            if has_empty:
                left = torch.where(value.isnan(), self.empty_left.index_select(0, place), left)
            place = self.next.index_select(0, (2 * place).add_(left))
        return (place.view(shape) - start).long() - self.n_places // 2
