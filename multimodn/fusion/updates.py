"""State updates by name."""

from __future__ import annotations

from collections.abc import Sequence

from multimodn.errors import StudyError, did_you_mean
from multimodn.fusion.attention import AttentionUpdate
from multimodn.fusion.state import GatedUpdate, LinearUpdate, ProductUpdate, ResidualUpdate, StateUpdate

UPDATES: dict[str, type[StateUpdate]] = {
    "residual": ResidualUpdate,
    "product": ProductUpdate,
    "gated": GatedUpdate,
    "linear": LinearUpdate,
    "attention": AttentionUpdate,
}


def build_update(
    name: str, embedding_sizes: Sequence[int], state_size: int, token_sizes: Sequence[int] | None = None
) -> StateUpdate:
    """Builds the state update called ``name`` for encoders with these widths of embeddings and tokens (0 = none).

    Raises:
        StudyError: If there is no such update; the message names the closest.
    """
    if name not in UPDATES:
        raise StudyError(f"Unknown state update '{name}'.{did_you_mean(name, UPDATES)}")
    if name == "attention":
        return AttentionUpdate(embedding_sizes, state_size, token_sizes or [0] * len(embedding_sizes))
    return UPDATES[name](embedding_sizes, state_size)  # type: ignore[call-arg]
