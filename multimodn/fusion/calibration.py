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
        tasks: The T tasks.
        seen: Which modalities each task may see, bool ``(T, M)``; an integer M: all of M.
    """

    slopes: Tensor
    shifts: Tensor
    seen: Tensor

    def __init__(self, tasks: Sequence[Task], seen: Tensor | int) -> None:
        super().__init__()
        if isinstance(seen, int):
            seen = torch.ones(len(tasks), seen, dtype=torch.bool)
        n_modalities = seen.shape[1]
        self.register_buffer("seen", seen, persistent=False)
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
        found = {}
        for t, name in enumerate(self.names):
            used = (taken & self.seen[t]).to(self.slopes.dtype)
            slope = 1 + used @ self.slopes[:, t : t + 1]
            shift = used @ self.shifts[:, t, : start[name].shape[-1]]
            found[name] = start[name] + slope * (outputs[name] - start[name]) + shift
        return found

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return not (self.slopes.any() or self.shifts.any())
