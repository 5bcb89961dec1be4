"""What the six task kinds share about their raw outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from torch import Tensor

from multimodn.base.encoder import JSON
from multimodn.base.task import Task
from multimodn.errors import ShapeError
from multimodn.metrics.scores import auroc, mean, to_numpy


class PriorTask(Task):
    """A task with one raw output for each number of its prior.

    The prior travels in `config` and not in the `state_dict`: it gives the shapes that a `state_dict` fills.
    """

    prior_outputs: Tensor

    def __init__(self, name: str, prior: list[float], link_names: list[str]) -> None:
        super().__init__()
        self.name, self.link_names, self.output_size = name, link_names, len(prior)
        self.register_buffer("prior_outputs", torch.tensor(prior, dtype=torch.float32), persistent=False)

    def prior(self) -> Tensor:
        """Returns the raw outputs ``(output_size,)`` that predict the training distribution for everyone."""
        return self.prior_outputs

    @classmethod
    def from_config(cls, config: Mapping[str, JSON]) -> Self:
        """Rebuilds the task that `config` described; the configuration is the arguments of the class."""
        return cls(**config)

    def link_metrics(self, link: Tensor, target: Tensor) -> dict[str, float]:
        """Returns ``auroc``, averaged over the columns in which both classes occur; see the base class."""
        columns = zip(to_numpy(link).T, to_numpy(target).T, strict=True)
        return {"auroc": mean(np.array([auroc(y[~np.isnan(y)] > 0, x[~np.isnan(y)]) for x, y in columns]))}

    def checked(self, outputs: Tensor) -> Tensor:
        """Returns ``outputs``.

        Raises:
            ShapeError: If their last dimension is not the task's `output_size`.
        """
        if outputs.dim() == 0 or outputs.shape[-1] != self.output_size:
            raise ShapeError(
                f"Task '{self.name}': `outputs` has shape {tuple(outputs.shape)}, expected (..., {self.output_size})."
            )
        return outputs
