"""Several yes-or-no targets that share a task, such as comorbidities; each may be unknown alone."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn import functional as F

from multimodn import base
from multimodn.base.encoder import JSON
from multimodn.errors import DataError, raise_all
from multimodn.metrics import tasks as metrics
from multimodn.tasks._labels import Label, check_unique, count_classes, encode, two_classes
from multimodn.tasks._outputs import PriorTask
from multimodn.tasks._spelling import tidy_labels

UNKNOWN = -1.0  # target of a label that a patient does not have
NEGATIVE, NOT_KNOWN, POSITIVE = 0, 1, 2  # digits of the number of a combination of labels

MAX_COMBINED = 3  # up to this many labels every combination is an outcome group of its own; beyond, their share is


class MultilabelOptions(base.Options):
    """Options of a multilabel task.

    Attributes:
        targets: Columns of the labels.
        positive: Value of the positive class in every column; may be left out where the values are 0/1,
            true/false, yes/no or on/off.
    """

    targets: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(check_unique)]
    positive: Label | None = None


class MultilabelTask(PriorTask):
    """Predicts the probability of each label.

    Raw outputs are the logits, which are also the link scale. A patient's loss is the mean over the labels
    that are known; who has none is unlabelled. Without any modality the prediction is the log-odds of the
    counts of each label in the training rows, a half added to each.

    Args:
        name: Name of the task.
        targets: Columns of the labels.
        classes: For each label the texts of the negative and the positive class.
        prior: The raw outputs that predict the training rows.
    """

    Options: ClassVar[type[base.Options]] = MultilabelOptions
    scores: ClassVar = metrics.LABEL_METRICS  # of each label on the patients who have it, averaged over labels

    def __init__(self, name: str, targets: list[str], classes: list[list[str]], prior: list[float]) -> None:
        super().__init__(name, prior, link_names=list(targets))
        self.targets, self.classes = targets, classes
        self.n_strata = 3 ** len(targets) - 1 if len(targets) <= MAX_COMBINED else len(targets) + 1

    @staticmethod
    def target_columns(options: Any) -> list[str]:
        """Returns the columns of the targets table that the task reads."""
        return list(options.targets)

    @staticmethod
    def tidied(frame: pd.DataFrame, options: Any) -> tuple[pd.DataFrame, list[str]]:
        """Writes labels in one spelling; see the base class."""
        notes: list[str] = []
        for column in options.targets:
            frame, found = tidy_labels(frame, column, are_answers=True)
            notes += found
        return frame, notes

    @classmethod
    def fit(cls, name: str, frame: pd.DataFrame, options: Any) -> Self:
        """Learns the frequency of each label from training rows; see the base class."""
        classes, prior, problems = [], [], []
        for column in options.targets:
            try:
                pair = two_classes(name, frame, column, options.positive)
                counts = count_classes(name, column, encode(name, frame, column, pair), pair)
            except DataError as error:
                problems.append(str(error).removeprefix(f"Task '{name}': "))
                continue
            negative, positive = np.log(counts + 0.5).tolist()
            classes.append(pair)
            prior.append(positive - negative)
        raise_all(problems, DataError, f"Task '{name}'")
        return cls(name, list(options.targets), classes, prior)

    def prepare(self, frame: pd.DataFrame) -> tuple[Tensor, Tensor]:
        """Parses the labels to ``(n, L)``: 1 positive, 0 negative, `UNKNOWN` no label; see the base class."""
        codes = [encode(self.name, frame, *pair) for pair in zip(self.targets, self.classes, strict=True)]
        target = torch.from_numpy(np.stack(codes, axis=1)).to(torch.float32)
        return target, (target >= 0).any(1)

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Returns the negative log-likelihood of each row; see the base class."""
        known = target >= 0
        losses = -F.logsigmoid(self.checked(outputs) * (2 * target - 1)) * known
        return losses.sum(-1) / known.sum(-1).clamp(min=1)

    def link(self, outputs: Tensor) -> Tensor:
        """Returns the log-odds of each label ``(..., L)``."""
        return self.checked(outputs)

    def link_target(self, target: Tensor) -> Tensor:
        """Returns 1 or 0 for each label, NaN where it is unknown, ``(n, L)``."""
        return torch.where(target >= 0, target, torch.nan)

    @property
    def stratum_names(self) -> list[str]:
        """Names combinations by the labels that are set and those that are unknown, or says how many labels are set."""
        n = len(self.targets)
        if n > MAX_COMBINED:
            return [f"{k} set" for k in range(n + 1)]
        names = []
        for digits in product((NEGATIVE, NOT_KNOWN, POSITIVE), repeat=n):
            positive, unknown = (
                " + ".join(name for name, digit in zip(self.targets, digits, strict=True) if digit == which)
                for which in (POSITIVE, NOT_KNOWN)
            )
            names.append((positive or "none") + (f" ({unknown} unknown)" if unknown else ""))
        del names[self.n_strata // 2]  # where no label is known
        return names

    def strata(self, target: Tensor) -> Tensor:
        """Groups rows by the labels that are known; -1 where none is.

        Of up to `MAX_COMBINED` labels the group is their combination, each label being negative, unknown or positive,
        in this order, and the first label counting most: the upper half has the first known label positive. Of more
        labels it is their number times the share of the known labels that are positive, rounded, a half up.
        """
        n, known, positive = len(self.targets), target >= 0, target > 0
        n_known = known.sum(1)
        if n > MAX_COMBINED:
            share = (2 * n * positive.sum(1) + n_known) // (2 * n_known).clamp(min=1)
            return torch.where(n_known > 0, share, -1)
        digits = torch.where(known, torch.where(positive, POSITIVE, NEGATIVE), NOT_KNOWN)
        code = (digits * 3 ** torch.arange(n, device=target.device).flip(0)).sum(1)
        nothing = self.n_strata // 2  # the code in the middle, which has no group
        return torch.where(code == nothing, -1, code - (code > nothing).long())

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Returns the probability of each label under the name of its column."""
        probabilities = self.checked(outputs).sigmoid()
        return {name: probabilities[..., k] for k, name in enumerate(self.targets)}

    def config(self) -> dict[str, JSON]:
        """Returns the arguments of the class."""
        return {"name": self.name, "targets": self.targets, "classes": self.classes, "prior": self.prior().tolist()}
