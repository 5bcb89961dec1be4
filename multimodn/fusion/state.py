"""State updates: how one modality changes the patient state in one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodn.base.encoder import Values
from multimodn.base.ragged import Ragged


class GroupedLinear(nn.Module):
    """A linear map for each of ``n_groups`` modalities, for rows that are sorted by modality."""

    def __init__(self, n_groups: int, in_size: int, out_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_groups, out_size, in_size))
        self.bias = nn.Parameter(torch.zeros(n_groups, out_size))
        nn.init.uniform_(self.weight, -(in_size**-0.5), in_size**-0.5)

    def forward(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """Maps ``(n, in_size)`` to ``(n, out_size)``; the first ``counts[0]`` rows are those of group 0, and so on."""
        # weights are unbound, not indexed: the gradient of an index is a tensor of zeros as large as all weights
        parts = zip(torch.split(x, list(counts)), self.weight.unbind(), self.bias.unbind(), counts, strict=True)
        mapped = [F.linear(part, weight, bias) for part, weight, bias, count in parts if count]
        return mapped[0] if len(mapped) == 1 else torch.cat(mapped)


class StateUpdate(nn.Module, ABC):
    """Updates the state ``(n, width)`` by the embedding of a modality, with weights for each of them.

    What needs no state is computed once by `project`, for all orders, subsets and explanations; each step computes
    only `forward`.

    Attributes:
        state_size: Width D of the part that the tasks read: the first numbers of a state.
        width: Width of the whole state.
        looks_at_tokens: Whether a step attends to the tokens of a modality, such as the tiles of a slide.
        fits_scale: Whether `fit_scale` does anything.
    """

    looks_at_tokens = False
    fits_scale = False

    def __init__(self, embedding_sizes: Sequence[int], state_size: int, evidence_size: int) -> None:
        super().__init__()
        self.state_size = self.width = state_size
        self.projections = nn.ModuleList(nn.Linear(size, evidence_size) for size in embedding_sizes)

    def project(self, modality: int, embedding: Tensor) -> Tensor:
        """Maps an embedding ``(n, E_m)`` to the evidence ``(n, evidence_size)`` for `forward`."""
        evidence: Tensor = self.projections[modality](embedding)
        return evidence

    def project_tokens(self, modality: int, embedding: Tensor, tokens: Ragged) -> Values:
        """Maps an embedding ``(n, E_m)`` and its tokens to evidence, where `looks_at_tokens`."""
        raise NotImplementedError(f"{type(self).__name__} does not attend to tokens.")

    def join(self, parts: Sequence[Any]) -> Values:
        """Concatenates the evidence of several modalities."""
        return torch.cat(list(parts))

    def fit_scale(self, modality: int, embedding: Tensor) -> None:
        """May scale the initial weights to the untrained embeddings ``(n, E_m)`` of training rows."""
        return

    @abstractmethod
    def forward(self, state: Tensor, evidence: Any, counts: Sequence[int]) -> Tensor:
        """Returns the states after one step of each row.

        Args:
            state: States before the step, ``(n, width)``, rows sorted by the modality of their step.
            evidence: Projected embeddings of those rows, ``(n, evidence_size)``.
            counts: Number of rows of each modality; they sum to n.
        """


class GatedUpdate(StateUpdate):
    """A gated recurrent unit for each modality: h' = (1 - z) n + z h with update gate z and candidate n.

    References:
        Cho et al. (2014), equations 5 to 8, https://arxiv.org/abs/1406.1078
    """

    def __init__(self, embedding_sizes: Sequence[int], state_size: int) -> None:
        super().__init__(embedding_sizes, state_size, 3 * state_size)
        self.recurrent = GroupedLinear(len(embedding_sizes), state_size, 3 * state_size)

    def forward(self, state: Tensor, evidence: Tensor, counts: Sequence[int]) -> Tensor:
        """Returns the states after one step; see the base class."""
        recurrent = self.recurrent(state, counts)
        size = self.state_size
        gates = torch.sigmoid(evidence[:, : 2 * size] + recurrent[:, : 2 * size])
        reset, keep = gates[:, :size], gates[:, size:]
        candidate = torch.tanh(torch.addcmul(evidence[:, 2 * size :], reset, recurrent[:, 2 * size :]))
        return torch.lerp(candidate, state, keep)


class ResidualUpdate(StateUpdate):
    """Adds the evidence to the state, and an interaction of evidence and state.

    ``s' = s + e + S tanh(R s + V e)``, where e is the projected embedding times a learned gain of its modality. S
    starts at zero: training starts from the additive model of late fusion, and adds interactions where they lower the
    loss. The gain starts small.
    """

    GAIN = 0.3

    def __init__(self, embedding_sizes: Sequence[int], state_size: int) -> None:
        super().__init__(embedding_sizes, state_size, evidence_size=state_size)
        n_modalities = len(embedding_sizes)
        self.gain = nn.Parameter(torch.full((n_modalities, 1), self.GAIN))
        self.mix = nn.Parameter(torch.empty(n_modalities, state_size, state_size))
        nn.init.normal_(self.mix, std=state_size**-0.5)
        for projection, size in zip(self.projections, embedding_sizes, strict=True):
            nn.init.normal_(projection.get_parameter("weight"), std=0.1 * size**-0.5)
        self.recurrent = GroupedLinear(n_modalities, state_size, state_size)
        self.out = GroupedLinear(n_modalities, state_size, state_size)
        nn.init.zeros_(self.out.weight)

    def project(self, modality: int, embedding: Tensor) -> Tensor:
        """Returns e and V e side by side; see the base class."""
        evidence = self.gain[modality] * self.projections[modality](embedding)
        return torch.cat([evidence, evidence @ self.mix[modality].mT], dim=-1)

    def forward(self, state: Tensor, evidence: Tensor, counts: Sequence[int]) -> Tensor:
        """Returns the states after one step; see the base class."""
        together = torch.tanh(self.recurrent(state, counts) + evidence[:, self.state_size :])
        moved: Tensor = state + evidence[:, : self.state_size] + self.out(together, counts)
        return moved


class ProductUpdate(StateUpdate):
    """Adds the evidence to the state, and its products with the evidence before it.

    For cohorts that are large enough to learn interactions. The state has two halves: s, which the tasks read, and a
    memory h of the evidence so far:

        s' = s + e + S ((R h) * q),    h' = h + q

    where e is that of `ResidualUpdate` and q a second projection of the embedding. S starts at zero. The product is
    zero at the first step: a single modality has nothing to interact with.
    """

    fits_scale = True
    MEMORY = 0.2  # initial standard deviation of each component of q over the training rows

    def __init__(self, embedding_sizes: Sequence[int], state_size: int) -> None:
        super().__init__(embedding_sizes, state_size, evidence_size=state_size)
        n_modalities = len(embedding_sizes)
        self.width = 2 * state_size
        self.gain = nn.Parameter(torch.full((n_modalities, 1), ResidualUpdate.GAIN))
        self.memories = nn.ModuleList(nn.Linear(size, state_size) for size in embedding_sizes)
        for projection, memory, size in zip(self.projections, self.memories, embedding_sizes, strict=True):
            nn.init.normal_(projection.get_parameter("weight"), std=0.1 * size**-0.5)
            nn.init.normal_(memory.get_parameter("weight"), std=self.MEMORY * size**-0.5)
            nn.init.zeros_(memory.get_parameter("bias"))
        self.recurrent = GroupedLinear(n_modalities, state_size, state_size)
        self.out = GroupedLinear(n_modalities, state_size, state_size)
        nn.init.zeros_(self.out.weight)

    def fit_scale(self, modality: int, embedding: Tensor) -> None:
        """Standardises q over training rows, whatever the scale of the encoder; see the base class."""
        memory = cast(nn.Linear, self.memories[modality])
        centred = embedding - embedding.mean(0)
        size = centred.square().mean().sqrt()
        with torch.no_grad():
            if size > 0:
                memory.weight /= size
            memory.bias.copy_(-memory.weight @ embedding.mean(0))

    def project(self, modality: int, embedding: Tensor) -> Tensor:
        """Returns e and q side by side; see the base class."""
        evidence = self.gain[modality] * self.projections[modality](embedding)
        return torch.cat([evidence, self.memories[modality](embedding)], dim=-1)

    def forward(self, state: Tensor, evidence: Tensor, counts: Sequence[int]) -> Tensor:
        """Returns the states after one step; see the base class."""
        size = self.state_size
        together = self.recurrent(state[:, size:], counts) * evidence[:, size:]
        moved = state + evidence
        return torch.cat([moved[:, :size] + self.out(together, counts), moved[:, size:]], dim=1)


class LinearUpdate(StateUpdate):
    """A linear map of state and embedding: the last layer of the published encoders.

    References:
        Swamy et al. (2023), MultiModN, section 3, https://arxiv.org/abs/2309.14118
    """

    def __init__(self, embedding_sizes: Sequence[int], state_size: int) -> None:
        super().__init__(embedding_sizes, state_size, state_size)
        self.recurrent = GroupedLinear(len(embedding_sizes), state_size, state_size)

    def forward(self, state: Tensor, evidence: Tensor, counts: Sequence[int]) -> Tensor:
        """Returns the states after one step; see the base class."""
        moved: Tensor = evidence + self.recurrent(state, counts)
        return moved
