"""The state update that lets the patient state look at tokens: tiles of a slide, words of a report, measurements."""

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
    """Evidence with what a state may look at beside it.

    Attributes:
        vectors: Projected embeddings, ``(n, evidence_size)``.
        tokens: For each of them the keys and values of its tokens, items ``(n_tokens, 2 x state_size)``.
    """

    vectors: Tensor
    tokens: Ragged

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: Tensor) -> TokenRows:
        return TokenRows(self.vectors[rows], self.tokens[rows])

    def to(self, device: torch.device) -> TokenRows:
        """Returns the same rows on ``device``."""
        return TokenRows(self.vectors.to(device), self.tokens.to(device))


class AttentionUpdate(ResidualUpdate):
    """Lets the state look at the tokens of a modality, so that what was read before steers what is read now.

    To the residual step it adds ``O sum_j a_j v_j`` with ``a = softmax(q . k_j / sqrt(D))`` over the tokens j of the
    row and the query ``q = Q s``, where keys and values are linear maps of the tokens. O starts at zero: training
    starts from what the encoder's own pooling says. A modality without tokens takes the residual step.

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
        nothing = Ragged(embedding.new_zeros(0, 2 * self.state_size), embedding.new_zeros(len(embedding)).long())
        return TokenRows(super().project(modality, embedding), nothing)

    def project_tokens(self, modality: int, embedding: Tensor, tokens: Ragged) -> Values:
        """Returns evidence with the keys and values of its tokens; see the base class."""
        keys_values = Ragged(self.keys_values[modality](tokens.items), tokens.lengths)
        return TokenRows(super().project(modality, embedding), keys_values)

    def join(self, parts: Sequence[Any]) -> Values:
        """Puts evidence one after another; see the base class."""
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
        found: Tensor = moved + self.seen(total(weights.unsqueeze(1) * values, rows, len(state)), counts)
        return found
