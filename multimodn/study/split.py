"""How a study splits patients into training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from multimodn.study.yaml_file import Spec


class RandomSplit(Spec):
    """A random split, by group.

    Attributes:
        validation: Share of patients for early stopping, in [0, 1).
        test: Share of patients for evaluation only, in [0, 1).
        stratify: A task whose labels are spread evenly.
        seed: Seed of the split.
    """

    validation: float = Field(default=0.2, ge=0, lt=1)
    test: float = Field(default=0.2, ge=0, lt=1)
    stratify: str | None = None
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _some_training(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} + test {self.test} leave no patients to train on.")
        return self


class ColumnSplit(Spec):
    """A split by a column: its values are train, validation and test, or the names of folds; empty = in no part.

    Attributes:
        column: The column.
        source: Its source; default: that of the first task.
        test: The fold that is tested, where the column names folds; cross-validation tests each once.
    """

    column: str
    source: str | None = None
    test: str | int | None = None


class SplitFiles(Spec):
    """CSV files that list patients, see `FileSplit`."""

    train: str
    validation: str | None = None
    test: str | None = None


class FileSplit(Spec):
    """A split by files that list patients.

    Attributes:
        files: For ``train``, ``validation`` and ``test`` a CSV with patients in its key column or its only one; or a
            list of such files, one for the test patients of each fold, whose name is that of the file without suffix.
        test: The fold that is tested, where the files list folds; cross-validation tests each once.
    """

    files: SplitFiles | Annotated[list[str], Field(min_length=2)]
    test: str | int | None = None

    @model_validator(mode="after")
    def _folds_have_names(self) -> Self:
        if isinstance(self.files, list):
            names = [Path(file).stem for file in self.files]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"several files are called {', '.join(twice)}; a fold is called as its file.")
        elif self.test is not None:
            raise ValueError("`test` names a fold; with files for train and test it has no meaning. Remove it.")
        return self


def _split_tag(data: Any) -> str:
    for kind, key in ((ColumnSplit, "column"), (FileSplit, "files")):
        if isinstance(data, kind) or (isinstance(data, Mapping) and key in data):
            return f"<{key}>"
    return "<random>"


_Random = Annotated[RandomSplit, Tag("<random>")]
_Column = Annotated[ColumnSplit, Tag("<column>")]
_Files = Annotated[FileSplit, Tag("<files>")]
SplitSpec = Annotated[_Random | _Column | _Files, Discriminator(_split_tag)]
