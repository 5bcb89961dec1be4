"""What the six task kinds share about their raw outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import pandas as pd
import torch
from torch import Tensor

from multimodn.base.encoder import JSON
from multimodn.base.task import Task, main_metric
from multimodn.errors import ShapeError
from multimodn.metrics.predictions import once, predicted
from multimodn.metrics.tasks import Metric, main_score, values
from multimodn.tasks._labels import encode


class PriorTask(Task):
    """A task with one raw output for each number of its prior.

    The prior travels in `config` and not in the `state_dict`: it gives the shapes that a `state_dict` fills.
    """

    scores: ClassVar[Mapping[str, Metric]]  # the metrics of the task kind, by name
    prior_outputs: Tensor

    def __init__(self, name: str, prior: list[float], link_names: list[str]) -> None:
        super().__init__()
        self.name, self.link_names, self.output_size = name, link_names, len(prior)
        self.register_buffer("prior_outputs", torch.tensor(prior, dtype=torch.float32), persistent=False)

    @staticmethod
    def target_columns(options: Any) -> list[str]:
        """Returns the columns of the targets table that the task reads: that of the option ``target``."""
        return [options.target]

    def prior(self) -> Tensor:
        """Returns the raw outputs ``(output_size,)`` that predict the training distribution for everyone."""
        return self.prior_outputs

    @classmethod
    def from_config(cls, config: Mapping[str, JSON]) -> Self:
        """Rebuilds the task that `config` described; the configuration is the arguments of the class."""
        return cls(**config)

    def link_metrics(self, link: Tensor, target: Tensor) -> dict[str, float]:
        """Returns the `main_metric`; ``auroc`` is averaged over the columns in which both classes occur."""
        return {main_metric(self): once(main_score(self.link_scale, link, target), len(target))}

    def metrics(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        """Scores labelled rows by the metrics of the task kind, which `scores` lists; see the base class."""
        return values(self.scores, predicted(self, self.checked(outputs), target))

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


class ClassTask(PriorTask):
    """A task whose target is a column with one class for each patient."""

    has_strata_likelihood = True

    def __init__(self, name: str, target: str, classes: list[str], prior: list[float], link_names: list[str]) -> None:
        super().__init__(name, prior, link_names)
        self.target, self.classes, self.n_strata = target, classes, len(classes)

    def prepare(self, frame: pd.DataFrame) -> tuple[Tensor, Tensor]:
        """Parses the labels to class positions ``(n,)``; see the base class."""
        codes = torch.from_numpy(encode(self.name, frame, self.target, self.classes))
        return codes.clamp(min=0), codes >= 0

    def strata(self, target: Tensor) -> Tensor:
        """Returns the class of each row; see the base class."""
        return target.long()

    @property
    def stratum_names(self) -> list[str]:
        """Returns the classes."""
        return self.classes

    def config(self) -> dict[str, JSON]:
        """Returns the arguments of the class."""
        return {"name": self.name, "target": self.target, "classes": self.classes, "prior": self.prior().tolist()}
