"""Pools the tiles of each patient by gated attention, part by part, so that any number of tiles fits in memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodn.base.ragged import total


class GatedAttention(nn.Module):
    """Scores tiles: in the paper's notation ``w^T (tanh(V h) * sigm(U h))``, for each of several w (heads).

    Attention starts mildly uneven, towards tiles that are unlike the average: from w = 0 or a random w training may
    start in the wrong direction and seldom recovers. So U starts as V, rows of V come in pairs v and -v, and both have
    the same w > 0: a pair gives ``tanh(x) tanh(x / 2)`` with ``x = v^T h``, which is never negative and grows to either
    side. The v are orthogonal, so that all directions of h count about equally; with random ones a rare shift in one
    direction was lost among the others. `start` scales w.

    The matrices are stored flat, because training penalises the size of matrices but not of vectors: as long as
    attention has found nothing, its gradient is so small that the penalty alone would decide. ``input_size`` is the
    width of h; ``attention_size`` are the rows of V and of U; the ``n_heads`` w have V and U in common.

    References:
        Ilse, Tomczak and Welling (2018), Attention-based deep multiple instance learning, equation 9,
        https://arxiv.org/abs/1802.04712; V and U have biases, as in most later use.
    """

    def __init__(self, input_size: int, attention_size: int, n_heads: int) -> None:
        super().__init__()
        self.input_size, self.n_heads = input_size, n_heads
        n_pairs = -(-attention_size // 2)
        first = nn.init.orthogonal_(torch.empty(n_pairs, input_size)) * 0.5
        content = torch.cat([first, -first])
        self.gates = nn.Parameter(torch.cat([content, content]).flatten())  # V above U: one product instead of two
        self.bias = nn.Parameter(torch.zeros(4 * n_pairs))
        self.heads = nn.Parameter((0.5 + 0.5 * torch.rand(n_heads, n_pairs)).repeat(1, 2).flatten())

    def forward(self, tiles: Tensor) -> Tensor:
        """Maps tiles ``(n_tiles, input_size)`` to scores ``(n_tiles, n_heads)``."""
        gates = F.linear(tiles, self.gates.view(-1, self.input_size), self.bias)
        content, gate = gates.chunk(2, dim=1)
        return F.linear(torch.tanh(content) * torch.sigmoid(gate), self.heads.view(self.n_heads, -1))

    @torch.no_grad()
    def start(self, scores: Tensor) -> None:
        """Scales each w so that first scores of training tiles ``(n_tiles, n_heads)`` have standard deviation 1."""
        spread = scores.std(0, correction=0)
        heads = self.heads.view(self.n_heads, -1)
        heads /= torch.where(spread > 1e-6, spread, 1.0).unsqueeze(1)  # in place, through the view


class Pool(NamedTuple):
    """Sums over some tiles of n patients; those of two parts of the same patients' tiles can be joined.

    The softmax is computed online: all weights are relative to the highest score so far.

    References:
        Milakov and Gimelshein (2018), Online normalizer calculation for softmax, algorithm 3,
        https://arxiv.org/abs/1805.02867
    """

    highest: Tensor  # highest score, ``(n, n_heads)``; minus infinity for a patient without a tile in this part
    weight: Tensor  # sum of ``exp(score - highest)``, ``(n, n_heads)``
    attended: Tensor  # sum of ``exp(score - highest) h``, ``(n, n_heads, size)``
    summed: Tensor  # sum of h, ``(n, size)``

    @classmethod
    def of(cls, tiles: Tensor, scores: Tensor, rows: Tensor, n_rows: int) -> Pool:
        """Sums tiles ``(n_tiles, size)`` with scores ``(n_tiles, n_heads)`` by patient, long ``(n_tiles,)``."""
        place = rows.unsqueeze(1).expand_as(scores)
        highest = scores.new_full((n_rows, scores.shape[1]), -torch.inf)
        highest = highest.scatter_reduce(0, place, scores.detach(), "amax")
        weights = (scores - highest[rows]).exp()
        attended = [total(weights[:, k, None] * tiles, rows, n_rows) for k in range(scores.shape[1])]
        return cls(highest, total(weights, rows, n_rows), torch.stack(attended, 1), total(tiles, rows, n_rows))

    def join(self, other: Pool) -> Pool:
        """Returns the sums over both parts."""
        highest = torch.maximum(self.highest, other.highest)
        reference = highest.clamp(min=torch.finfo(highest.dtype).min)  # no tile in either: exp(-inf), not NaN
        ours, theirs = (self.highest - reference).exp(), (other.highest - reference).exp()
        return Pool(
            highest,
            ours * self.weight + theirs * other.weight,
            ours.unsqueeze(2) * self.attended + theirs.unsqueeze(2) * other.attended,
            self.summed + other.summed,
        )

    def attention_mean(self) -> Tensor:
        """Returns the mean of h by attention, equation 8 of Ilse et al., ``(n, n_heads, size)``."""
        return self.attended / self.weight.unsqueeze(2)


def highest(keys: Tensor, rows: Tensor, lengths: Tensor, n_most: int) -> tuple[Tensor, Tensor]:
    """Finds the ``n_most`` items of each row with the highest keys ``(n_items,)``; of equal keys the first.

    ``rows`` is the row of each item, long ``(n_items,)``, ascending, and ``lengths`` the items of each, long ``(n,)``.
    Returns the numbers of the kept items, ascending, long, and how many each row keeps, long ``(n,)``.
    """
    kept = lengths.clamp(max=n_most)
    if torch.equal(kept, lengths):
        return torch.arange(len(keys), device=keys.device), lengths
    order = keys.argsort(descending=True, stable=True)
    order = order[rows[order].argsort(stable=True)]  # row by row, in each the highest first
    place = torch.arange(len(keys), device=keys.device) - (lengths.cumsum(0) - lengths)[rows]
    return order[place < n_most].sort().values, kept
