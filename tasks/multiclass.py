"""A target with several unordered classes: one logit each, cross-entropy."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn import functional as F

from multimodn import base
from multimodn.data.label_texts import as_text
from multimodn.metrics import tasks as metrics
from multimodn.tasks._labels import Label, check_unique, count_classes, encode, training_labels
from multimodn.tasks._outputs import ClassTask
from multimodn.tasks._spelling import refuse_dates, tidy_labels


class MulticlassOptions(base.Options):
    """Options of a multiclass task.

    Attributes:
        target: Column of the label.
        classes: The classes in the order of the outputs; left out, the sorted values of the training rows.
    """

    target: str
    classes: Annotated[tuple[Label, ...], Field(min_length=2), AfterValidator(check_unique)] | None = None


class MulticlassTask(ClassTask):
    """Predicts the probability of each class.

    The link scale is the log-odds of each class against all others. Without any modality the prediction is
    the class frequencies of the training rows, a half added to each count.

    Args:
        name: Name of the task.
        target: Column of the label.
        classes: Texts of the classes, at least two.
        prior: The raw outputs that predict the training rows.
    """

    Options: ClassVar[type[base.Options]] = MulticlassOptions
    scores: ClassVar = {
        "auroc": metrics.auroc,
        "balanced_accuracy": metrics.balanced_accuracy_of_classes,
        "log_loss": metrics.loss,
        "brier": metrics.brier_of_classes,
    }
    others: Tensor

    def __init__(self, name: str, target: str, classes: list[str], prior: list[float]) -> None:
        super().__init__(name, target, classes, prior, link_names=list(classes))
        every = torch.arange(len(classes)).repeat(len(classes), 1)
        others = every[~torch.eye(len(classes), dtype=torch.bool)].view(len(classes), -1)
        self.register_buffer("others", others, persistent=False)  # (K, K - 1)

    @staticmethod
    def tidied(frame: pd.DataFrame, options: Any) -> tuple[pd.DataFrame, list[str]]:
        """Writes labels in one spelling; see the base class."""
        return tidy_labels(frame, options.target, options.classes)

    @classmethod
    def fit(cls, name: str, frame: pd.DataFrame, options: Any) -> Self:
        """Learns the classes and their frequencies from training rows; see the base class."""
        found = training_labels(name, frame, options.target)
        if options.classes is None:
            refuse_dates(name, options.target, found)
        classes = [as_text(label) for label in options.classes or found]
        counts = count_classes(name, options.target, encode(name, frame, options.target, classes), classes) + 0.5
        return cls(name, options.target, classes, np.log(counts / counts.sum()).tolist())

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Returns the negative log-likelihood of each row; see the base class."""
        chosen = target.expand(outputs.shape[:-1]).unsqueeze(-1)
        return -self.checked(outputs).log_softmax(-1).gather(-1, chosen).squeeze(-1)

    def link(self, outputs: Tensor) -> Tensor:
        """Returns the log-odds of each class against all others ``(..., K)``."""
        return outputs - self.checked(outputs)[..., self.others].logsumexp(-1)

    def link_target(self, target: Tensor) -> Tensor:
        """Returns 1 for the class of the row, 0 for the others, ``(n, K)``."""
        return F.one_hot(target.long(), self.output_size).float()

    def log_strata(self, outputs: Tensor) -> Tensor:
        """Returns the log-probability of each class; see the base class."""
        return self.checked(outputs).log_softmax(-1)

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Returns the probability of each class under its name."""
        probabilities = self.checked(outputs).softmax(-1)
        return {name: probabilities[..., k] for k, name in enumerate(self.classes)}
