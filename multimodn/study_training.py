"""Split and training of a study; each part checks itself. Import them from `multimodn.study`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from multimodn.study_file import Spec


class RandomSplit(Spec):
    """Patients drawn at random, group by group, with each class spread evenly.

    Attributes:
        validation: Share of patients that stops the training, in [0, 1).
        test: Share of patients that is only evaluated, in [0, 1).
        stratify: A task whose labels are spread evenly.
        seed: The draw.
    """

    validation: float = Field(default=0.2, ge=0, lt=1)
    test: float = Field(default=0.2, ge=0, lt=1)
    stratify: str | None = None
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _some_training(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} + test {self.test} leave nobody to train on.")
        return self


class ColumnSplit(Spec):
    """A column that says train, validation or test; empty = in no part.

    Attributes:
        column: The column.
        source: Its source; left out, the first task's.
    """

    column: str
    source: str | None = None


class SplitFiles(Spec):
    """CSV files that list patients, in the key column or in their only one."""

    train: str
    validation: str | None = None
    test: str | None = None


class FileSplit(Spec):
    """A split that stands in files."""

    files: SplitFiles


def _split_tag(data: Any) -> str:
    if isinstance(data, ColumnSplit) or (isinstance(data, Mapping) and "column" in data):
        return "<column>"
    if isinstance(data, FileSplit) or (isinstance(data, Mapping) and "files" in data):
        return "<files>"
    return "<random>"


SplitSpec = Annotated[
    Annotated[RandomSplit, Tag("<random>")]
    | Annotated[ColumnSplit, Tag("<column>")]
    | Annotated[FileSplit, Tag("<files>")],
    Discriminator(_split_tag),
]


class TrainingSpec(Spec):
    """How to train.

    Attributes:
        epochs: Passes over the training patients, at most; the learning rate falls to zero over them by half a cosine.
        batch_size: Patients in a batch.
        learning_rate: First step size of Adam.
        penalty: Strength of the L2 penalty on weights against the likelihood of each task, summed over the training
            patients: like 1 / C of a logistic regression in scikit-learn, whose Gaussian prior weighs less the more
            patients there are. The number of tasks does not change it.
        patience: Epochs without a better mean validation loss before training stops.
        members: Networks in the ensemble, each with another fold held out; their mean is the prediction.
        state_size: Width of the patient state.
        update: How an embedding changes the state.
        balance: How the losses of several tasks become one step. ``sum``: their mean. ``uncertainty``: weighted by
            learned variances (Kendall, Gal and Cipolla 2018, https://arxiv.org/abs/1705.07115). ``upgrad`` and
            ``pcgrad``: gradients of the tasks are joined so that none is worked against (Quinton and Rey 2024,
            https://arxiv.org/abs/2406.16232; Yu et al. 2020, https://arxiv.org/abs/2001.06782); both need the extra
            ``multitask``.
        calibrate: Whether held-out patients correct how sure predictions are; who ranks above whom hardly changes.
        loggers: Where losses are written beside the progress bar: ``csv`` files beside the checkpoints, ``tensorboard``
            (extra ``tensorboard``), ``mlflow`` (extra ``mlflow``).
        seed: First weights, orders and shuffling.
    """

    epochs: int = Field(default=60, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0, le=1)
    penalty: float = Field(default=0.3, ge=0)
    patience: int = Field(default=20, ge=1)
    members: int = Field(default=1, ge=1, le=100)
    state_size: int = Field(default=32, ge=1)
    update: Literal["residual", "product", "gated", "linear", "attention"] = "residual"
    balance: Literal["sum", "uncertainty", "upgrad", "pcgrad"] = "sum"
    calibrate: bool = True
    loggers: list[Literal["csv", "tensorboard", "mlflow"]] = Field(default=["csv"])
    seed: int = Field(default=0, ge=0)
