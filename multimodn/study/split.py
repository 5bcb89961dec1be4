"""How a study divides patients into training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from multimodn.study.yaml_file import Spec


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
