"""The sparse linear map of bags of codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodn.base.ragged import Ragged, total


class BagInput(nn.Module):
    """Multiplies bags, which are sparse vectors, with a matrix: the sum of the vectors of their features.

    Weights of features are scaled together, so that their mean variance over the training patients is 1, and centred by
    their training means: to the layers behind it the average patient is 0. Rare codes are thereby not enlarged, as
    each feature's own standard deviation would do.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int, output_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_features, output_size))
        bound = n_features**-0.5  # as `nn.Linear` has it
        nn.init.uniform_(self.weight, -bound, bound)
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(()))

    def fit(self, mean: Tensor, spread: Tensor) -> None:
        """Fits centre and scale to the means and standard deviations of the features' weights, ``(n_features,)``."""
        variance = float(spread.double().square().mean())
        self.mean.copy_(mean)
        self.scale.fill_(variance**-0.5 if variance > 0 else 1.0)

    def forward(self, values: Ragged) -> Tensor:
        """Maps n bags, items ``(n_items, 2)`` = the feature's number and its weight, to ``(n, output_size)``."""
        feature, weight = values.items[:, 0].long(), values.items[:, 1].to(self.weight)
        centre = self.mean @ self.weight
        if not len(feature):
            return -self.scale * centre.expand(len(values), -1)
        first = values.lengths.cumsum(0) - values.lengths
        summed = F.embedding_bag(feature, self.weight, first, mode="sum", per_sample_weights=weight)
        return self.scale * (summed - centre)


def dense(values: Ragged, place: Tensor, size: int) -> Tensor:
    """Returns the weights of some features as columns, ``(n, size)``, 0 where a patient lacks one.

    ``place``: the column of each feature, long ``(n_features,)``, -1 = none.
    """
    column, weight = place[values.items[:, 0].long()], values.items[:, 1]
    kept = column >= 0
    cell = values.rows[kept] * size + column[kept]
    return total(weight[kept], cell, len(values) * size).view(len(values), size)
