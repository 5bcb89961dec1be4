"""The two abstract classes that a modality kind and a task kind derive from.

The public methods check; a subclass writes what is particular to its kind. `ARCHITECTURE.md` shows how they meet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Literal, Protocol, Self

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from multimodn.data.parts import Parts
from multimodn.data.ragged import Ragged
from multimodn.errors import ShapeError, StudyError, did_you_mean

JSON = Any
"""What `json` can write: a fitted encoder or task is such a value plus torch buffers and parameters."""


class Values(Protocol):
    """Prepared values of one modality: rows that can be sliced by an index tensor. A Tensor is one."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Tensor) -> Values: ...
    def to(self, device: torch.device) -> Values:
        """Returns the same rows on ``device``."""
        ...


class Options(BaseModel):
    """Options of an encoder or task kind as a study file writes them; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FileOptions(Options):
    """Options of a kind whose columns name files, or hold what may be unreadable for some patients.

    Attributes:
        on_error: What to do with patients whose files cannot be read: ``raise`` an error that names them all, or treat
            them as ``absent``, with a warning that names them.
    """

    on_error: Literal["raise", "absent"] = "raise"


class Encoder(nn.Module, ABC):
    """Turns the raw values of one modality into an embedding; it never sees the patient state.

    A subclass is fitted on training rows (`fit`), turns any later rows into tensors once (`prepare`) and encodes
    slices of those (`forward`). Rows whose patient lacks the modality never reach any of the three.

    Attributes:
        several_rows: Whether a patient may have several rows in the frame, such as several slides or measurements.
        embedding_size: Width E of the embedding.
        columns: The columns that `fit` saw and `prepare` asks for, in their order.
        token_size: Width of the tokens that `with_tokens` returns; 0 = this kind has none.
        on_error: See `FileOptions`; ``raise`` for kinds that read no files.
    """

    Options: ClassVar[type[Options]]
    several_rows: ClassVar[bool] = False
    embedding_size: int
    columns: list[str]
    token_size: int = 0
    on_error: Literal["raise", "absent"] = "raise"

    @staticmethod
    def file_columns(options: Any) -> list[str]:
        """Returns the columns that name files; `fit` and `prepare` see their absolute paths."""
        return []

    @classmethod
    @abstractmethod
    def fit(cls, frame: pd.DataFrame, options: Any) -> Self:
        """Builds the encoder from training rows.

        Args:
            frame: The modality's columns, one row (or ``several_rows``) for each training patient who has it, indexed
                by patient.
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
        """Encodes n prepared rows to ``(n, embedding_size)`` and to the tokens that a state may look at one by one.

        Only for kinds with a `token_size`: the tokens of a row are items ``(n_tokens, token_size)``, such as its tiles.
        """
        raise NotImplementedError(f"{type(self).__name__} has no tokens.")

    def attention(self, values: Any) -> Ragged:
        """Returns the weight of everything that the embedding of a row was pooled from, items ``(n,)``; 1 in sum.

        Only for kinds with a `token_size`; their prepared values have a method ``places()``, a table that says in the
        same order what it is that was weighted, such as the file and place of a tile.
        """
        raise NotImplementedError(f"{type(self).__name__} has no attention.")

    def parts(self, frame: pd.DataFrame, values: Any, patch: int) -> Parts:
        """Says what embeddings are made of; a kind that writes this and `encode_parts` can be attributed to.

        Args:
            frame: The rows that were prepared, patients in the order of ``values``.
            values: What `prepare` answered.
            patch: Pixels along a side of a part, for kinds that read pictures.

        Raises:
            StudyError: By kinds that do not write it.
        """
        able = [kind for kind in kinds("encoders") if load_kind("encoders", kind).parts is not Encoder.parts]
        raise StudyError(f"{type(self).__name__} has no parts to attribute to. Kinds that have: {', '.join(able)}.")

    def encode_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor | tuple[Tensor, Ragged]:
        """Encodes parts behind gates ``(k, P)``; open gates give what `forward` does, or, with tokens, `with_tokens`.

        Args:
            parts: Of this encoder, or of one that was fitted on the same rows.
            rows: Long ``(k,)``: the patient of each row of gates; all of them have P gates.
            gates: Numbers from 0 to 1, through which gradients flow.
        """
        raise NotImplementedError(f"{type(self).__name__} has no parts.")

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
            ShapeError: If `forward` did not answer ``(n, embedding_size)``.
        """
        embedding: Tensor = super().__call__(values)
        expected = (len(values), self.embedding_size)
        if embedding.shape != expected:
            raise ShapeError(
                f"{type(self).__name__}.forward returned shape {tuple(embedding.shape)}, "
                f"expected {expected} = (rows, embedding_size)."
            )
        return embedding


class Task(nn.Module, ABC):
    """A target, its decoder's outputs, their loss, and what they mean to a reader.

    ``outputs`` are a decoder's raw numbers, shape ``(..., output_size)``. Everything that is compared or explained
    lives on the link scale, ``(..., len(link_names))``: log-odds for classes, target units for regression, log-risk
    for survival.

    Attributes:
        name: The task's name in the study.
        output_size: Number K of raw outputs.
        link_names: A name for each link-scale column, such as the class; ``[name]`` where there is one only.
        link_scale: What the link scale measures: ``log-odds``, ``units`` (the target's) or ``log-risk``.
        n_strata: Number of groups that `strata` tells apart.
        has_strata_likelihood: Whether `log_strata` says how likely each of them is.
    """

    Options: ClassVar[type[Options]]
    link_scale: ClassVar[Literal["log-odds", "units", "log-risk"]] = "log-odds"
    name: str
    output_size: int
    link_names: list[str]
    n_strata: int = 1
    has_strata_likelihood: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def target_columns(options: Any) -> list[str]:
        """Returns the columns of the targets table that the task reads."""

    @classmethod
    @abstractmethod
    def fit(cls, name: str, frame: pd.DataFrame, options: Any) -> Self:
        """Learns classes, scales and bins from the target columns of the training rows (empty = no label).

        Raises:
            DataError: If the labels cannot carry the task, such as a class seen once or never.
        """

    @abstractmethod
    def prepare(self, frame: pd.DataFrame) -> tuple[Tensor, Tensor]:
        """Parses target columns.

        Returns:
            Targets ``(n, ...)``, finite even where there is no label, and label presence, bool ``(n,)``.

        Raises:
            DataError: If a label cannot be read; the message names patient, column and value.
        """

    @abstractmethod
    def prior(self) -> Tensor:
        """Returns the raw outputs ``(output_size,)`` that predict the training distribution for everyone."""

    @abstractmethod
    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Returns the loss of each row, ``(...)``, from outputs ``(..., K)`` and targets that broadcast to them.

        Not reduced, and finite on rows without a label: the caller masks, weights and averages.
        """

    @abstractmethod
    def link(self, outputs: Tensor) -> Tensor:
        """Maps raw outputs ``(..., K)`` to the link scale ``(..., len(link_names))``."""

    @abstractmethod
    def link_target(self, target: Tensor) -> Tensor:
        """Returns what the link-scale columns are predictions of, ``(n, len(link_names))`` float.

        0 or 1 for log-odds (NaN = unknown); the value for units; time and event, ``(n, 2)``, for log-risk.
        """

    @abstractmethod
    def link_metrics(self, link: Tensor, target: Tensor) -> dict[str, float]:
        """Scores link-scale predictions of any make, a baseline's too, against `link_target`; NaN where undefined."""

    @abstractmethod
    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Maps raw outputs ``(n, K)`` to named quantities, ``(n,)`` each, such as a probability of each class."""

    @abstractmethod
    def metrics(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        """Scores labelled rows; a metric that is undefined on them (one class only) is NaN."""

    @abstractmethod
    def config(self) -> dict[str, JSON]:
        """Returns what `from_config` needs to rebuild the task; every fitted number is in it or in a buffer."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, JSON]) -> Self:
        """Rebuilds the task that `config` described."""

    def strata(self, target: Tensor) -> Tensor:
        """Groups targets ``(n, ...)`` by outcome, long ``(n,)`` in [0, n_strata), from low to high.

        Training that is neutral to missingness compares how often each group has which modalities. Without groups
        (this default) the task is trained as if missingness did not depend on it.
        """
        return torch.zeros(len(target), dtype=torch.long, device=target.device)

    @property
    def stratum_names(self) -> list[str]:
        """Names the groups of `strata` for people, such as the classes."""
        return [f"group {k + 1} of {self.n_strata}" for k in range(self.n_strata)]

    def log_strata(self, outputs: Tensor) -> Tensor:
        """Returns the log-probability of each stratum, ``(..., n_strata)``, where `has_strata_likelihood`."""
        raise NotImplementedError(f"{type(self).__name__} has no likelihood of strata.")

    def decoder(self, state_size: int) -> nn.Module:
        """Builds the map from state to raw outputs; it gives the prior for the state 0, where states start."""
        linear = nn.Linear(state_size, self.output_size)
        nn.init.normal_(linear.weight, std=state_size**-0.5)
        with torch.no_grad():
            linear.bias.copy_(self.prior())
        return linear


def kinds(group: str) -> list[str]:
    """Lists the kinds declared under ``multimodn.encoders`` or ``multimodn.tasks``, ours and third parties'."""
    return sorted(_declared(group))


def load_kind(group: str, kind: str) -> Any:
    """Returns the class that an installed package declares for ``kind`` in ``group`` (``encoders``, ``tasks``).

    Raises:
        StudyError: If no package declares it; the message names the nearest kind.
    """
    found = _declared(group).get(kind)
    if found is None:
        raise StudyError(f"Unknown kind '{kind}' among {group}.{did_you_mean(kind, kinds(group))}")
    return found.load()


@cache
def _declared(group: str) -> Mapping[str, EntryPoint]:
    """Returns the declared kinds by name; reading what is installed takes longer than checking a study."""
    return {entry.name: entry for entry in reversed(tuple(entry_points(group=f"multimodn.{group}")))}
