"""Calibration of an ensemble's outputs; `multimodn.training.calibrate` fits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from multimodn.base.task import Task
from multimodn.fusion.network import Outputs


class Calibration(nn.Module):
    """A scale for each task, and a slope and shifts for each modality and task; the identity until fitted.

    With z the outputs from subset S and z0 those from none, ``z0 + scale (1 + sum of slopes of S) (z - z0) + sum of
    shifts of S``, where S leaves out what the task must not see (``seen``: bool ``(T, M)``, or M if all see all).
    """

    scale: Tensor
    slopes: Tensor
    shifts: Tensor
    seen: Tensor

    def __init__(self, tasks: Sequence[Task], seen: Tensor | int) -> None:
        super().__init__()
        if isinstance(seen, int):
            seen = torch.ones(len(tasks), seen, dtype=torch.bool)
        self.register_buffer("seen", seen, persistent=False)
        self.names = [task.name for task in tasks]
        self.register_buffer("scale", torch.ones(len(tasks)))
        self.register_buffer("slopes", torch.zeros(seen.shape[1], len(tasks)))
        widest = max(task.output_size for task in tasks)
        self.register_buffer("shifts", torch.zeros(seen.shape[1], len(tasks), widest))

    def forward(self, outputs: Outputs, start: Outputs, taken: Tensor) -> Outputs:
        """Calibrates outputs ``(..., K)`` from those before any modality, ``start``, and subsets ``(..., M)``."""
        calibrated = {}
        for t, name in enumerate(self.names):
            visible = (taken & self.seen[t]).to(self.slopes.dtype)
            slope = self.scale[t] * (1 + visible @ self.slopes[:, t : t + 1])
            shift = visible @ self.shifts[:, t, : start[name].shape[-1]]
            calibrated[name] = start[name] + slope * (outputs[name] - start[name]) + shift
        return calibrated

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return not (self.slopes.any() or self.shifts.any() or (self.scale != 1).any())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        state_dict.setdefault(f"{prefix}scale", torch.ones_like(self.scale))  # bundles of version 0.1.0 have none
        super()._load_from_state_dict(state_dict, prefix, *others)
