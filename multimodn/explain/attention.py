"""Attention weights of an encoder: the weight of every tile of a patient's slides."""

from __future__ import annotations

from typing import Any, cast

import pandas as pd
import torch

from multimodn.base.batches import PatientTensors
from multimodn.base.encoder import Encoder
from multimodn.errors import StudyError, did_you_mean
from multimodn.fusion import Ensemble

BATCH = 16  # patients at once


def with_parts(model: Ensemble) -> list[str]:
    """Returns the modalities whose encoders attend to parts, such as tiles."""
    return [name for name, encoder in model.first.encoders.items() if cast(Encoder, encoder).token_size]


def attention(model: Ensemble, patients: PatientTensors, modality: str) -> pd.DataFrame:
    """Returns the attention weight of every part of a patient's modality, averaged over the members.

    Returns:
        One row for each part: ``patient``, its place (for slides ``file``, ``x``, ``y`` in level-0 pixels) and
        ``attention``; the weights of a patient add up to 1.

    Raises:
        StudyError: If there is no such modality, or its encoder has no attention.
    """
    names = model.first.modalities
    if modality not in names:
        raise StudyError(f"Unknown modality '{modality}'.{did_you_mean(modality, names)}")
    encoders = [cast(Encoder, member.encoders[modality]) for member in model.networks]
    if not encoders[0].token_size:
        others = f" Those that do: {', '.join(with_parts(model))}." if with_parts(model) else ""
        raise StudyError(f"Modality '{modality}' does not look at parts, such as tiles.{others}")
    position = patients.position[:, names.index(modality)]
    parts: list[pd.DataFrame] = []
    with torch.inference_mode():
        for rows in torch.split(position[position >= 0], BATCH):
            values: Any = patients.values[modality][rows]
            weights = torch.stack([encoder.attention(values).items for encoder in encoders]).mean(0)
            parts.append(values.places().assign(attention=weights.double().cpu().numpy()))
    if not parts:
        return pd.DataFrame(columns=["patient", "attention"])
    return pd.concat([part.astype({"patient": object}) for part in parts], ignore_index=True)
