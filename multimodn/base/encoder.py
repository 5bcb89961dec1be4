"""The abstract class that an encoder kind derives from, its options and prepared values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol, Self

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from multimodn.base.feature_groups import Parts
from multimodn.base.kinds import kinds, load_kind
from multimodn.base.ragged import Ragged
from multimodn.errors import ShapeError, StudyError

JSON = Any  # what `json` can write: a fitted encoder or task is such a value plus torch buffers and parameters


class Values(Protocol):
    """Prepared values of one modality: rows that can be sliced by an index tensor. A Tensor is one."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Tensor) -> Values: ...
    def to(self, device: torch.device) -> Values:
        """Returns the same rows on ``device``."""


class Options(BaseModel):
    """Options of an encoder or task kind as a study file writes them; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FileOptions(Options):
    """Options of a kind whose files or cells may be unreadable for some patients.

    Attributes:
        on_error: ``raise`` an error that lists these patients, or treat them as ``absent``, with a warning.
    """

    on_error: Literal["raise", "absent"] = "raise"


class Encoder(nn.Module, ABC):
    """Turns the raw values of one modality into an embedding; it never sees the patient state.

    A subclass is fitted on training rows (`fit`), turns any rows into tensors once (`prepare`) and encodes slices of
    them (`forward`). Patients without the modality have no rows.

    Attributes:
        several_rows: Whether a patient may have several rows in the frame, such as several slides or measurements.
        embedding_size: Width E of the embedding.
        columns: The columns that `fit` saw and `prepare` needs, in their order.
        token_size: Width of the tokens of `with_tokens`; 0 = this kind has none.
        vector_size: Width of the vectors of `vector`; 0 = this kind has none, and no experts.
        on_error: See `FileOptions`; ``raise`` for kinds that read no files.
    """

    Options: ClassVar[type[Options]]
    several_rows: ClassVar[bool] = False
    embedding_size: int
    columns: list[str]
    token_size: int = 0
    vector_size: int = 0
    on_error: Literal["raise", "absent"] = "raise"

    @staticmethod
    def file_columns(options: Any) -> list[str]:
        """Returns the columns that name files; `fit` and `prepare` see their absolute paths."""
        return []

    @staticmethod
    def exact_columns(options: Any) -> list[str]:
        """Returns the columns that are read as written, text such as `NA` and every digit, like times and codes."""
        return []

    @staticmethod
    def verbatim_columns(options: Any) -> list[str]:
        """Returns the columns, such as those of codes, whose cells are text as a source has it, even if all are digits.

        Lists in their cells arrive as JSON text.
        """
        return []

    @staticmethod
    def time_columns(options: Any) -> list[str]:
        """Returns the columns of times; from a study `fit` and `prepare` see them as numbers of days.

        They count from the patient's ``index``, where the study has one, so that what is before it is negative.
        """
        return []

    @staticmethod
    def empty_cells(frame: pd.DataFrame, options: Any) -> pd.DataFrame:
        """Tells which cells of each patient are empty, before anything is fitted.

        A cell is what a patient who has the modality may still lack, such as a column of a table.

        Args:
            frame: The modality's columns, indexed by patient, as `fit` sees them.
            options: An instance of ``cls.Options``.

        Returns:
            Bool, a row for each patient in the order of ``frame.index.unique()`` and a column for each cell, True =
            empty; no column for kinds without cells, and for those that refuse empty ones.

        Raises:
            DataError: If a column that is needed is missing; the message names it.
        """
        return pd.DataFrame(index=frame.index.unique())

    @classmethod
    def with_empty_cells(cls, frame: pd.DataFrame, emptied: pd.DataFrame, options: Any) -> pd.DataFrame:
        """Returns the frame as it would be had some cells never been filled; a stress test asks for it.

        Only for kinds with cells; the given frame is not changed.

        Args:
            frame: As for `empty_cells`.
            emptied: Some columns of the table that `empty_cells` returns, in its order of patients; True = to be
                emptied. Cells that are empty already stay so.
            options: An instance of ``cls.Options``.
        """
        raise NotImplementedError(f"{cls.__name__} has no cells to empty.")

    @classmethod
    @abstractmethod
    def fit(cls, frame: pd.DataFrame, options: Any) -> Self:
        """Builds the encoder from training rows.

        Args:
            frame: The modality's columns, indexed by patient: one row (or ``several_rows``) for each who has it.
            options: An instance of ``cls.Options``.

        Raises:
            DataError: If a column cannot be used; the message names it.
            UnreadableError: If files cannot be read; all of them are named.
        """

    @abstractmethod
    def prepare(self, frame: pd.DataFrame) -> Values:
        """Parses rows into tensors: one row for each patient, in the order of ``frame.index.unique()``.

        Raises:
            DataError: If a column is missing, or a cell cannot be read; the message names patient and column.
            UnreadableError: If files cannot be read; all of them are named.
        """

    @abstractmethod
    def forward(self, values: Any) -> Tensor:
        """Encodes n prepared rows to ``(n, embedding_size)``."""

    def with_tokens(self, values: Any) -> tuple[Tensor, Ragged]:
        """Encodes n prepared rows to ``(n, embedding_size)`` and to tokens that a state may attend to.

        Only for kinds with a `token_size`: the tokens of a row are items ``(n_tokens, token_size)``, such as its tiles.
        """
        raise NotImplementedError(f"{type(self).__name__} has no tokens.")

    def vector(self, values: Any) -> Tensor:
        """Returns one fixed vector for each of n prepared rows, ``(n, vector_size)``, NaN = empty cell.

        Only for kinds with a `vector_size`: what simple models read, such as scaled columns, an embedding, or summaries
        of a series. It does not depend on learned weights.
        """
        raise NotImplementedError(f"{type(self).__name__} has no fixed vector.")

    def attention(self, values: Any) -> Ragged:
        """Returns the pooling weights of each row's embedding, items ``(n,)`` that sum to 1.

        Only for kinds with a `token_size`; their prepared values have a method ``places()``, a table of what was
        weighted, such as file and place of a tile, in the same order.
        """
        raise NotImplementedError(f"{type(self).__name__} has no attention.")

    def parts(self, frame: pd.DataFrame, values: Any, patch: int) -> Parts:
        """Returns the parts of embeddings; a kind with this method and `encode_parts` can have attributions.

        Args:
            frame: The rows that were prepared, patients in the order of ``values``.
            values: The result of `prepare`.
            patch: Pixels along a side of a part, for kinds that read pictures.

        Raises:
            StudyError: By kinds without the method.
        """
        able = [kind for kind in kinds("encoders") if load_kind("encoders", kind).parts is not Encoder.parts]
        raise StudyError(f"{type(self).__name__} has no parts to attribute to. Kinds that have: {', '.join(able)}.")

    def encode_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor | tuple[Tensor, Ragged]:
        """Encodes parts behind gates ``(k, P)``; open gates give what `forward` does, or, with tokens, `with_tokens`.

        Args:
            parts: Of this encoder, or of one fitted on the same rows.
            rows: Long ``(k,)``: the patient of each row of gates; all of them have P gates.
            gates: Numbers from 0 to 1, through which gradients flow.
        """
        raise NotImplementedError(f"{type(self).__name__} has no parts.")

    def vector_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor:
        """Returns the vectors of `vector` with parts behind gates, ``(k, vector_size)``; see `encode_parts`.

        Open gates give the patient's vector. For kinds with both a `vector_size` and parts.
        """
        raise NotImplementedError(f"{type(self).__name__} has no vectors behind gates.")

    @abstractmethod
    def config(self) -> dict[str, JSON]:
        """Returns what `from_config` needs to rebuild the module so that its `state_dict` loads."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, JSON]) -> Self:
        """Rebuilds the module that `config` described, with unfitted numbers."""

    def __call__(self, values: Any) -> Tensor:
        """Encodes and checks the shape.

        Raises:
            ShapeError: If `forward` did not return ``(n, embedding_size)``.
        """
        embedding: Tensor = super().__call__(values)
        shape, expected = tuple(embedding.shape), (len(values), self.embedding_size)
        if shape != expected:
            name = type(self).__name__
            raise ShapeError(f"{name}.forward returned shape {shape}, expected {expected} = (rows, embedding_size).")
        return embedding
