"""How a study splits patients into training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from multimodn.study.yaml_file import Spec


class RandomSplit(Spec):
    """A random split, by group."""

    validation: float = Field(default=0.2, ge=0, lt=1)  # share of patients for early stopping
    test: float = Field(default=0.2, ge=0, lt=1)  # share of patients for evaluation only
    stratify: str | None = None  # a task whose labels are spread evenly
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _some_training(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} + test {self.test} leave no patients to train on.")
        return self


class ColumnSplit(Spec):
    """A split by a column with the values train, validation and test; empty = in no part."""

    column: str
    source: str | None = None  # default: that of the first task


class SplitFiles(Spec):
    """CSV files that list patients in their key column or their only one."""

    train: str
    validation: str | None = None
    test: str | None = None


class FileSplit(Spec):
    """A split by files that list patients."""

    files: SplitFiles


def _split_tag(data: Any) -> str:
    for kind, key in ((ColumnSplit, "column"), (FileSplit, "files")):
        if isinstance(data, kind) or (isinstance(data, Mapping) and key in data):
            return f"<{key}>"
    return "<random>"


SplitSpec = Annotated[
    Annotated[RandomSplit, Tag("<random>")]
    | Annotated[ColumnSplit, Tag("<column>")]
    | Annotated[FileSplit, Tag("<files>")],
    Discriminator(_split_tag),
]
