"""The space that is searched where the user gives none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from multimodn.study import Study
from multimodn.tune.space import Space, build_space, places_of


def default_space(study: Study, widths: Mapping[str, int]) -> Space:
    """Returns the space that is searched where the user gives none.

    By what matters most: the strength of the penalty, the learning rate and the number of epochs, over which it falls;
    then the size of batches and of the state, and how embeddings change the state; then dropout, depth and principal
    components of the encoders, alike for all modalities that have them.

    Args:
        study: Its own values lie in the space.
        widths: Columns of each modality.
    """
    epochs, penalty = study.training.epochs, study.training.penalty
    penalties: Any = {"low": 0.01, "high": 30.0, "log": True} if penalty > 0 else [0.0, 0.03, 0.3, 3.0, 30.0]
    wanted = {
        "training.penalty": penalties,
        "training.learning_rate": {"low": 5e-4, "high": 2e-2, "log": True},
        "training.epochs": {"low": max(epochs // 2, 1), "high": 2 * epochs, "log": True},
        "training.batch_size": [16, 32, 64, 128],
        "training.state_size": [8, 16, 32, 64],
        "training.update": ["residual", "product", "gated"],
        "modalities.*.dropout": [0.0, 0.1, 0.2, 0.3, 0.5],
        "modalities.*.n_layers": [0, 1, 2],
        "modalities.*.n_components": [4, 8, 16, 32],
    }
    given = {name: range_ for name, range_ in wanted.items() if places_of(study, name, range_, widths) is not None}
    return build_space(study, given, widths)
