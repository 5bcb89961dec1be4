"""A yes-or-no target, such as death within the follow-up: one logit, cross-entropy."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from multimodn import base
from multimodn.metrics import tasks as metrics
from multimodn.tasks._labels import Label, count_classes, encode, two_classes
from multimodn.tasks._outputs import ClassTask
from multimodn.tasks._spelling import tidy_labels


class BinaryOptions(base.Options):
    """Options of a binary task.

    Attributes:
        target: Column of the label.
        positive: Value of the positive class; may be left out where the values are 0/1, true/false, yes/no or on/off.
    """

    target: str
    positive: Label | None = None


class BinaryTask(ClassTask):
    """Predicts the probability of the positive class.

    The raw output is the logit, which is also the link scale. Without any modality the prediction is the
    log-odds of the class counts in the training rows, a half added to each.

    Args:
        name: Name of the task.
        target: Column of the label.
        classes: Texts of the negative and the positive class.
        prior: The raw output that predicts the training rows.
    """

    Options: ClassVar[type[base.Options]] = BinaryOptions
    scores: ClassVar = metrics.LABEL_METRICS

    def __init__(self, name: str, target: str, classes: list[str], prior: list[float]) -> None:
        super().__init__(name, target, classes, prior, link_names=[name])

    @staticmethod
    def tidied(frame: pd.DataFrame, options: Any) -> tuple[pd.DataFrame, list[str]]:
        """Writes labels in one spelling; see the base class."""
        return tidy_labels(frame, options.target, are_answers=True)

    @classmethod
    def fit(cls, name: str, frame: pd.DataFrame, options: Any) -> Self:
        """Learns the classes and their frequencies from training rows; see the base class."""
        classes = two_classes(name, frame, options.target, options.positive)
        counts = count_classes(name, options.target, encode(name, frame, options.target, classes), classes)
        negative, positive = np.log(counts + 0.5).tolist()
        return cls(name, options.target, classes, [positive - negative])

    def prepare(self, frame: pd.DataFrame) -> tuple[Tensor, Tensor]:
        """Parses the labels to ``(n,)``, 1 = positive, 0 = negative; see the base class."""
        codes = torch.from_numpy(encode(self.name, frame, self.target, self.classes))
        return codes.clamp(min=0).to(torch.float32), codes >= 0

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Returns the negative log-likelihood of each row; see the base class."""
        return -F.logsigmoid(self.checked(outputs)[..., 0] * (2 * target - 1))

    def link(self, outputs: Tensor) -> Tensor:
        """Returns the log-odds of the positive class ``(..., 1)``."""
        return self.checked(outputs)

    def link_target(self, target: Tensor) -> Tensor:
        """Returns 1 for the positive class, 0 for the other, ``(n, 1)``."""
        return target.unsqueeze(1)

    def log_strata(self, outputs: Tensor) -> Tensor:
        """Returns the log-probability of both classes; see the base class."""
        logit = self.checked(outputs)
        return F.logsigmoid(torch.cat([-logit, logit], dim=-1))

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Returns the ``probability`` of the positive class."""
        return {"probability": self.checked(outputs)[..., 0].sigmoid()}
