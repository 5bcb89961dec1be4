"""Boosted trees as tensors: predicts without the library that fitted them, and holds nothing that could run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


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

    def leaves(self, vector: Tensor) -> Tensor:
        """Returns the leaf of each row in each tree, long ``(n, n_trees)``, for ``(n, n_columns)``, NaN = empty."""
        tree = torch.arange(self.sizes.n_trees, device=vector.device).expand(len(vector), -1)
        row = torch.arange(len(vector), device=vector.device).unsqueeze(1)
        node = torch.zeros_like(tree)
        for _ in range(self.sizes.depth):
            inner = node.clamp(min=0)
            value = vector[row, self.column[tree, inner]]
            left = torch.where(value.isnan(), self.empty_left[tree, inner], value <= self.threshold[tree, inner])
            node = torch.where(node >= 0, self.branches[tree, inner, 1 - left.long()], node)
        return -1 - node

    def forward(self, vector: Tensor) -> Tensor:
        """Returns the sums of leaf values ``(n, Q)``."""
        parts = [self._sums(rows) for rows in torch.split(vector, 1024)]
        return torch.cat(parts) if parts else vector.new_zeros(0, self.n_outputs)

    def _sums(self, vector: Tensor) -> Tensor:
        tree = torch.arange(self.sizes.n_trees, device=vector.device)
        values = self.leaf[tree, self.leaves(vector)]
        return values.new_zeros(len(vector), self.n_outputs).index_add(1, self.output, values)
