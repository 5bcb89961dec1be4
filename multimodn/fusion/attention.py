"""State update with attention to tokens: tiles of a slide, words of a report, measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from multimodn.base.encoder import Values
from multimodn.base.ragged import Ragged, softmax, total
from multimodn.fusion.state import GroupedLinear, ResidualUpdate


@dataclass(frozen=True)
class TokenRows:
    """Evidence with the tokens that a state attends to."""

    vectors: Tensor  # projected embeddings, ``(n, evidence_size)``
    tokens: Ragged  # keys and values of the tokens of each row, items ``(n_tokens, 2 x state_size)``

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: Tensor) -> TokenRows:
        return TokenRows(self.vectors[rows], self.tokens[rows])

    def to(self, device: torch.device) -> TokenRows:
        """Returns the same rows on ``device``."""
        return TokenRows(self.vectors.to(device), self.tokens.to(device))


class AttentionUpdate(ResidualUpdate):
    """Attention of the state to the tokens of a modality, so that earlier modalities guide what is read of this one.

    Adds ``O sum_j a_j v_j`` to the residual step, with ``a = softmax(q . k_j / sqrt(D))`` over the tokens j of the row
    and the query ``q = Q s``; keys and values are linear maps of the tokens. O starts at zero: training starts from the
    pooling of the encoder. A modality without tokens takes the residual step.

    References:
        Vaswani et al. (2017), equation 1, https://arxiv.org/abs/1706.03762
    """

    looks_at_tokens = True

    def __init__(self, embedding_sizes: Sequence[int], state_size: int, token_sizes: Sequence[int]) -> None:
        super().__init__(embedding_sizes, state_size)
        self.keys_values = nn.ModuleList(
            nn.Linear(size, 2 * state_size) if size else nn.Identity() for size in token_sizes
        )
        self.query = GroupedLinear(len(embedding_sizes), state_size, state_size)
        self.seen = GroupedLinear(len(embedding_sizes), state_size, state_size)
        nn.init.zeros_(self.seen.weight)

    def project(self, modality: int, embedding: Tensor) -> Any:
        """Returns evidence without tokens; see the base class."""
        no_tokens = Ragged(embedding.new_zeros(0, 2 * self.state_size), embedding.new_zeros(len(embedding)).long())
        return TokenRows(super().project(modality, embedding), no_tokens)

    def project_tokens(self, modality: int, embedding: Tensor, tokens: Ragged) -> Values:
        """Returns evidence with the keys and values of its tokens; see the base class."""
        keys_values = Ragged(self.keys_values[modality](tokens.items), tokens.lengths)
        return TokenRows(super().project(modality, embedding), keys_values)

    def join(self, parts: Sequence[Any]) -> Values:
        """Concatenates evidence and its tokens; see the base class."""
        items = torch.cat([part.tokens.items for part in parts])
        lengths = torch.cat([part.tokens.lengths for part in parts])
        return TokenRows(torch.cat([part.vectors for part in parts]), Ragged(items, lengths))

    def forward(self, state: Tensor, evidence: Any, counts: Sequence[int]) -> Tensor:
        """Returns the states after one step; see the base class."""
        moved = super().forward(state, evidence.vectors, counts)
        items, rows = evidence.tokens.items, evidence.tokens.rows
        if not len(items):
            return moved
        keys, values = items.split(self.state_size, dim=1)
        query = self.query(state, counts)[rows]
        weights = softmax((query * keys).sum(1) * self.state_size**-0.5, rows, len(state))
        attended: Tensor = self.seen(total(weights.unsqueeze(1) * values, rows, len(state)), counts)
        return moved + attended
