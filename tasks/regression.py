"""A number, such as a score or a length of stay: mean and spread of a normal distribution."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from multimodn import base
from multimodn.base.encoder import JSON
from multimodn.errors import DataError
from multimodn.metrics import regression
from multimodn.metrics.predictions import of_links
from multimodn.metrics.tasks import values
from multimodn.tasks._labels import read_numbers
from multimodn.tasks._outputs import PriorTask
from multimodn.tasks._spelling import date_notes, tidy_numbers

LOG_SCALE_LIMIT = 5.0
"""A predicted spread is within exp(+-5) times that of the training rows, so that a loss stays finite."""

QUARTILE = 0.6745  # upper quartile of the standard normal distribution


class RegressionOptions(base.Options):
    """Options of a regression task.

    Attributes:
        target: Column of the number.
    """

    target: str


class RegressionTask(PriorTask):
    """Predicts mean and standard deviation of a number.

    Raw outputs are the mean, in standard deviations of the training rows from their mean, and the logarithm
    of the spread in the same unit, bounded smoothly. The loss is the negative log-likelihood of the
    standardised target; targets and the link scale (the mean) are in the units of the column. Without any
    modality the prediction is the mean and standard deviation of the training rows.

    Args:
        name: Name of the task.
        target: Column of the number.
        mean: Mean of the training rows, units of the column.
        sd: Standard deviation of the training rows, the same units.
    """

    Options: ClassVar[type[base.Options]] = RegressionOptions
    has_strata_likelihood = True
    link_scale = "units"
    n_strata = 4
    scores: ClassVar = {
        "rmse": regression.rmse,
        "mae": regression.mae,
        "r2": regression.r2,
        "crps": regression.crps,
        "pearson": regression.pearson,
    }

    def __init__(self, name: str, target: str, mean: float, sd: float) -> None:
        super().__init__(name, prior=[0.0, 0.0], link_names=[name])
        self.target, self.mean, self.sd = target, mean, sd

    @staticmethod
    def tidied(frame: pd.DataFrame, options: Any) -> tuple[pd.DataFrame, list[str]]:
        """Empties words for an empty cell, and notes that the numbers are dates; see the base class."""
        frame, notes = tidy_numbers(frame, options.target)
        return frame, [*notes, *date_notes(frame, options.target)]

    @classmethod
    def fit(cls, name: str, frame: pd.DataFrame, options: Any) -> Self:
        """Learns mean and standard deviation from training rows; see the base class."""
        numbers = read_numbers(name, frame, options.target)
        numbers = numbers[~np.isnan(numbers)]
        where = f"Task '{name}': column '{options.target}'"
        if not numbers.size:
            raise DataError(f"{where} has no labels in the training rows. Check the column and the patient key.")
        if numbers.min() == numbers.max():
            raise DataError(
                f"{where} is {numbers[0]:g} in all {numbers.size} labelled training rows: nothing to learn."
            )
        return cls(name, options.target, float(numbers.mean()), float(numbers.std()))

    def prepare(self, frame: pd.DataFrame) -> tuple[Tensor, Tensor]:
        """Parses the numbers to ``(n,)``, units of the column; see the base class."""
        numbers = torch.from_numpy(read_numbers(self.name, frame, self.target))
        return numbers.nan_to_num(nan=self.mean).to(torch.float32), ~numbers.isnan()

    def _log_scale(self, outputs: Tensor) -> Tensor:
        return LOG_SCALE_LIMIT * torch.tanh(outputs[..., 1] / LOG_SCALE_LIMIT)

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Returns the negative log-likelihood of each row; see the base class."""
        log_scale = self._log_scale(self.checked(outputs))
        z = ((target - self.mean) / self.sd - outputs[..., 0]) * torch.exp(-log_scale)
        return 0.5 * z.square() + log_scale + 0.5 * math.log(2 * math.pi)

    def link(self, outputs: Tensor) -> Tensor:
        """Returns the mean, in the units of the column ``(..., 1)``."""
        return self.mean + self.sd * self.checked(outputs)[..., :1]

    def link_target(self, target: Tensor) -> Tensor:
        """Returns the target in its units, ``(n, 1)``."""
        return target.unsqueeze(1)

    def link_metrics(self, link: Tensor, target: Tensor) -> dict[str, float]:
        """Returns ``rmse`` (units of the column) and ``r2``; see the base class."""
        return values({name: self.scores[name] for name in ("rmse", "r2")}, of_links(link, target))

    def strata(self, target: Tensor) -> Tensor:
        """Returns the quarter of the training distribution, as far as that is normal; see the base class."""
        edges = torch.tensor([-QUARTILE, 0.0, QUARTILE], device=target.device)
        return torch.bucketize((target - self.mean) / self.sd, edges)

    @property
    def n_evidence(self) -> int:
        """Evidence of experts moves the mean alone."""
        return 1

    @property
    def stratum_names(self) -> list[str]:
        """Names the quarters."""
        return ["lowest quarter", "second quarter", "third quarter", "highest quarter"]

    def log_strata(self, outputs: Tensor) -> Tensor:
        """Returns the log-probability of each quarter; see the base class."""
        scale = self._log_scale(self.checked(outputs)).exp()
        edges = outputs.new_tensor([-QUARTILE, 0.0, QUARTILE])
        below = torch.special.ndtr((edges - outputs[..., :1]) / scale.unsqueeze(-1))
        cumulative = F.pad(F.pad(below, (1, 0)), (0, 1), value=1.0)
        return cumulative.diff(dim=-1).clamp(min=1e-6).log()

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Returns ``mean`` and ``sd``, in the units of the column."""
        return {"mean": self.link(outputs)[..., 0], "sd": self.sd * self._log_scale(outputs).exp()}

    def config(self) -> dict[str, JSON]:
        """Returns the arguments of the class."""
        return {"name": self.name, "target": self.target, "mean": self.mean, "sd": self.sd}
