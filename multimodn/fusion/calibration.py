"""A slope and a shift a modality on the outputs of an ensemble; `multimodn.missingness.calibration` fits it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from multimodn.base import Task
from multimodn.fusion.model import Outputs


class Calibration(nn.Module):
    """Slopes and shifts of every task, by modality; the identity until fitted.

    Args:
        tasks: The tasks.
        n_modalities: M.
    """

    slopes: Tensor
    shifts: Tensor

    def __init__(self, tasks: Sequence[Task], n_modalities: int) -> None:
        super().__init__()
        self.names = [task.name for task in tasks]
        widest = max(task.output_size for task in tasks)
        self.register_buffer("slopes", torch.zeros(n_modalities, len(tasks)))
        self.register_buffer("shifts", torch.zeros(n_modalities, len(tasks), widest))

    def forward(self, outputs: Outputs, start: Outputs, taken: Tensor) -> Outputs:
        """Calibrates outputs.

        Args:
            outputs: For each task ``(..., K)``.
            start: The outputs before any modality, that broadcast to them.
            taken: Bool ``(..., M)``: the modalities that each output rests on.
        """
        used = taken.to(self.slopes.dtype)
        slopes, found = 1 + used @ self.slopes, {}
        for t, name in enumerate(self.names):
            shift = used @ self.shifts[:, t, : start[name].shape[-1]]
            found[name] = start[name] + slopes[..., t : t + 1] * (outputs[name] - start[name]) + shift
        return found

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return not (self.slopes.any() or self.shifts.any())
