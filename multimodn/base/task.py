"""The abstract class that a task kind derives from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import pandas as pd
import torch
from torch import Tensor, nn

from multimodn.base.encoder import JSON, Options


class Task(nn.Module, ABC):
    """A target, its decoder's outputs, their loss and their meaning.

    ``outputs`` are a decoder's raw numbers, ``(..., output_size)``. Comparisons and explanations use the link scale,
    ``(..., len(link_names))``: log-odds for classes, target units for regression, log-risk for survival.

    Attributes:
        name: The task's name in the study.
        output_size: Number K of raw outputs.
        link_names: A name for each link-scale column, such as the class; ``[name]`` where there is one only.
        link_scale: What the link scale measures: ``log-odds``, ``units`` (the target's) or ``log-risk``.
        n_strata: Number of strata in `strata`.
        has_strata_likelihood: Whether `log_strata` returns their log-probabilities.
    """

    Options: ClassVar[type[Options]]
    link_scale: ClassVar[Literal["log-odds", "units", "log-risk"]] = "log-odds"
    name: str
    output_size: int
    link_names: list[str]
    n_strata: int = 1
    has_strata_likelihood: ClassVar[bool] = False

    @property
    def n_evidence(self) -> int:
        """Evidence of experts is added to the first so many raw outputs; default: all of them."""
        return self.output_size

    @staticmethod
    @abstractmethod
    def target_columns(options: Any) -> list[str]:
        """Returns the columns of the targets table that the task reads."""

    @staticmethod
    def tidied(frame: pd.DataFrame, options: Any) -> tuple[pd.DataFrame, list[str]]:
        """Writes labels that are spelled in several ways in one of them, before the patients are split.

        Returns:
            The target columns, as they are (this default) or in one spelling, and notes on what is decided or in doubt.
        """
        return frame, []

    @classmethod
    @abstractmethod
    def fit(cls, name: str, frame: pd.DataFrame, options: Any) -> Self:
        """Learns classes, scales and bins from the target columns of the training rows (empty = no label).

        Raises:
            DataError: If the labels cannot carry the task, such as a class seen once or never.
        """

    @abstractmethod
    def prepare(self, frame: pd.DataFrame) -> tuple[Tensor, Tensor]:
        """Parses target columns.

        Returns:
            Targets ``(n, ...)``, finite even where there is no label, and label presence, bool ``(n,)``.

        Raises:
            DataError: If a label cannot be read; the message names patient, column and value.
        """

    @abstractmethod
    def prior(self) -> Tensor:
        """Returns the raw outputs ``(output_size,)`` that predict the training distribution for everyone."""

    @abstractmethod
    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Returns the loss of each row, ``(...)``, from outputs ``(..., K)`` and targets that broadcast to them.

        Not reduced, and finite on rows without a label: the caller masks, weights and averages.
        """

    @abstractmethod
    def link(self, outputs: Tensor) -> Tensor:
        """Maps raw outputs ``(..., K)`` to the link scale ``(..., len(link_names))``."""

    @abstractmethod
    def link_target(self, target: Tensor) -> Tensor:
        """Returns what the link-scale columns predict, ``(n, len(link_names))`` float.

        0 or 1 for log-odds (NaN = unknown); the value for units; time and event, ``(n, 2)``, for log-risk.
        """

    @abstractmethod
    def link_metrics(self, link: Tensor, target: Tensor) -> dict[str, float]:
        """Scores link-scale predictions, of a baseline too, against `link_target`; NaN where undefined."""

    @abstractmethod
    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Maps raw outputs ``(n, K)`` to named quantities, ``(n,)`` each, such as a probability of each class."""

    @abstractmethod
    def metrics(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        """Scores labelled rows; a metric that is undefined on them (one class only) is NaN."""

    @abstractmethod
    def config(self) -> dict[str, JSON]:
        """Returns what `from_config` needs to rebuild the task; every fitted number is in it or in a buffer."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, JSON]) -> Self:
        """Rebuilds the task that `config` described."""

    def strata(self, target: Tensor) -> Tensor:
        """Groups targets ``(n, ...)`` by outcome, long ``(n,)`` in [0, n_strata), from low to high.

        Every labelled row has a group; that of a row without a label is arbitrary, or -1.

        Training that is neutral to missingness compares the presence of modalities between groups. With one group (this
        default) the task is trained as if missingness did not depend on it.
        """
        return torch.zeros(len(target), dtype=torch.long, device=target.device)

    @property
    def stratum_names(self) -> list[str]:
        """Names the groups of `strata` for people, such as the classes."""
        return [f"group {k + 1} of {self.n_strata}" for k in range(self.n_strata)]

    def log_strata(self, outputs: Tensor) -> Tensor:
        """Returns the log-probability of each stratum, ``(..., n_strata)``, where `has_strata_likelihood`."""
        raise NotImplementedError(f"{type(self).__name__} has no likelihood of strata.")

    def decoder(self, state_size: int) -> nn.Module:
        """Builds the map from state to raw outputs; it gives the prior for the state 0, where states start."""
        linear = nn.Linear(state_size, self.output_size)
        nn.init.normal_(linear.weight, std=state_size**-0.5)
        with torch.no_grad():
            linear.bias.copy_(self.prior())
        return linear


def main_metric(task: Task) -> str:
    """Names a task's main metric among `Task.link_metrics`; AUROC: a mean over ordinal splits, classes or labels."""
    return {"log-odds": "auroc", "units": "r2", "log-risk": "cindex"}[task.link_scale]
