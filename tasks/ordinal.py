"""A target with ordered classes, such as a tumour stage: cumulative logits with ordered cut points.

Source: the proportional-odds model of McCullagh (1980), "Regression models for ordinal data", JRSS B 42(2),
and its network form with one logit for each split, CORAL (Cao, Mirjalili and Raschka 2020, Pattern
Recognition Letters 140). Ours lets the distances between the cut points depend on the state and keeps them
positive, so that class probabilities are never negative.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn import functional as F

from multimodn import base
from multimodn.data.label_texts import as_text
from multimodn.errors import DataError
from multimodn.metrics import tasks as metrics
from multimodn.tasks._labels import Label, check_unique, count_classes, encode, numeric_classes
from multimodn.tasks._outputs import ClassTask
from multimodn.tasks._spelling import tidy_labels


class OrdinalOptions(base.Options):
    """Options of an ordinal task.

    Attributes:
        target: Column of the label.
        classes: The classes from low to high; may be left out where all values are numbers.
    """

    target: str
    classes: Annotated[tuple[Label, ...], Field(min_length=2), AfterValidator(check_unique)] | None = None


class OrdinalTask(ClassTask):
    """Predicts the probability of each class, and the expected class.

    With raw outputs r_0 .. r_{K-2} the link scale is logit P(y > class k) = r_0 - sum_{j=1..k} softplus(r_j): r_0 is a
    score that moves all splits alike (proportional odds), the others are distances between neighbouring cut points.
    Without any modality the prediction is the class frequencies of the training rows, a half added to each count.

    Args:
        name: Name of the task.
        target: Column of the label.
        classes: Texts of the classes from low to high.
        prior: The raw outputs that predict the training rows.
    """

    Options: ClassVar[type[base.Options]] = OrdinalOptions
    scores: ClassVar = {  # all but the AUROC of the median class
        "quadratic_kappa": metrics.quadratic_kappa,
        "auroc": metrics.auroc,
        "mae": metrics.class_error,
        "balanced_accuracy": metrics.balanced_accuracy_of_median,
    }

    def __init__(self, name: str, target: str, classes: list[str], prior: list[float]) -> None:
        super().__init__(name, target, classes, prior, link_names=[f">{low}" for low in classes[:-1]])

    @property
    def n_evidence(self) -> int:
        """Evidence of experts moves the score that moves all splits alike alone."""
        return 1

    @staticmethod
    def tidied(frame: pd.DataFrame, options: Any) -> tuple[pd.DataFrame, list[str]]:
        """Writes labels in one spelling; see the base class."""
        return tidy_labels(frame, options.target, options.classes)

    @classmethod
    def fit(cls, name: str, frame: pd.DataFrame, options: Any) -> Self:
        """Learns the classes and their frequencies from training rows; see the base class."""
        labels = options.classes or numeric_classes(name, frame, options.target)
        classes = [as_text(label) for label in labels]
        if "expected" in classes:
            raise DataError(
                f"Task '{name}': a class cannot be called 'expected', a prediction has a column of that name."
            )
        counts = count_classes(name, options.target, encode(name, frame, options.target, classes), classes)
        return cls(name, options.target, classes, _prior(counts + 0.5))

    def link(self, outputs: Tensor) -> Tensor:
        """Returns the log-odds of lying above each class but the last ``(..., K - 1)``, never increasing."""
        fall = F.softplus(self.checked(outputs)[..., 1:]).cumsum(-1)
        return outputs[..., :1] - F.pad(fall, (1, 0))

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        """Returns log P(class) ``(..., K)``, finite for any finite outputs.

        For a class between cut points with logits a > b: P = sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b)
        (1 - exp(b - a)), and 1 - exp(-softplus(r)) = sigmoid(r).
        """
        logits = self.link(outputs)
        above, below = F.logsigmoid(logits), F.logsigmoid(-logits)
        between = above[..., :-1] + below[..., 1:] + F.logsigmoid(outputs[..., 1:])
        return torch.cat([below[..., :1], between, above[..., -1:]], dim=-1)

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Returns the negative log-likelihood of each row; see the base class."""
        chosen = target.expand(outputs.shape[:-1]).unsqueeze(-1)
        return -self.log_probabilities(outputs).gather(-1, chosen).squeeze(-1)

    def link_target(self, target: Tensor) -> Tensor:
        """Returns whether the row lies above each class but the last, ``(n, K - 1)``."""
        return (target.unsqueeze(1) > torch.arange(self.output_size, device=target.device)).float()

    def log_strata(self, outputs: Tensor) -> Tensor:
        """Returns the log-probability of each class; see the base class."""
        return self.log_probabilities(outputs)

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Returns the probability of each class, and ``expected``, the expected position (0 = lowest)."""
        probabilities = self.log_probabilities(outputs).exp()
        named = {name: probabilities[..., k] for k, name in enumerate(self.classes)}
        return named | {"expected": self.link(outputs).sigmoid().sum(-1)}  # E[y] = sum of P(y > k)


def _prior(counts: NDArray[np.float64]) -> list[float]:
    """Inverts `OrdinalTask.link` at the cumulative log-odds of ``counts``."""
    above = counts[::-1].cumsum()[::-1][1:]
    logits = np.log(above) - np.log(counts.sum() - above)
    fall = -np.diff(logits)
    return [*logits[:1].tolist(), *(fall + np.log(-np.expm1(-fall))).tolist()]
