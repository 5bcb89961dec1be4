"""A slope a modality on the outputs of an ensemble; `multimodn.missingness.calibration` fits it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from multimodn.base import Task
from multimodn.fusion.model import Outputs


class Calibration(nn.Module):
    """Slopes of every task, by modality; the identity until fitted.

    Args:
        tasks: The tasks.
        n_modalities: M.
    """

    slopes: Tensor

    def __init__(self, tasks: Sequence[Task], n_modalities: int) -> None:
        super().__init__()
        self.names = [task.name for task in tasks]
        self.register_buffer("slopes", torch.zeros(n_modalities, len(tasks)))

    def forward(self, outputs: Outputs, start: Outputs, taken: Tensor) -> Outputs:
        """Calibrates outputs.

        Args:
            outputs: For each task ``(..., K)``.
            start: The outputs before any modality, that broadcast to them.
            taken: Bool ``(..., M)``: the modalities that each output rests on.
        """
        slopes = 1 + taken.to(self.slopes.dtype) @ self.slopes
        return {
            name: start[name] + slopes[..., t : t + 1] * (outputs[name] - start[name])
            for t, name in enumerate(self.names)
        }

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return not self.slopes.any()
