"""Free text, such as reports: the vector of a frozen transformer, standardised and encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import pandas as pd
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from multimodn.base.cache import OutputCache, content_hash
from multimodn.base.encoder import JSON, Encoder, FileOptions, Options
from multimodn.base.feature_groups import Parts
from multimodn.encoders._layers import Layers, Projection
from multimodn.encoders._tables.scaling import CLIP
from multimodn.encoders._texts import transformer
from multimodn.encoders._texts.reports import Markup, Reports, patient_vectors
from multimodn.encoders._texts.transformer import TextVectors, Windowing
from multimodn.encoders._texts.words import cut_words
from multimodn.errors import DataError, shown

HEADER = "Encoder 'text'"
SCHEME = "text 1"  # part of the key of the cache; to be changed with anything that changes the cached vectors


class TextOptions(FileOptions):
    """Options of a text modality.

    Attributes:
        column: The column of texts; default: the only column.
        file_column: Instead of it, a column of paths of text files.
        encoding: The encoding of the files.
        markup: What to do with reports in HTML, RTF and the like: ``error``; ``strip``, to read the text of HTML alone;
            ``keep``, to read tags as words.
        model: The network: ``minilm``, which comes with the extra 'text', or a folder (absolute, or relative to the
            working directory) as `transformers` writes it. Nothing is ever downloaded.
        window: Text tokens that the network reads at once; default: its limit, at most 256 with the special ones.
        overlap: Tokens that a window shares with the one before.
        max_windows: Windows read of a report, from its beginning; default: all.
        batch_size: Windows in a batch of the network.
        embedding_size: Width of the embedding that the patient state takes.
        hidden_size: Width of each hidden layer behind the network.
        n_layers: Hidden layers; 0 = a linear map.
        dropout: Share of hidden units (without hidden layers: of inputs) set to 0 in training.
        n_components: Principal components that replace the network's vector; ``auto`` = a third of the patients, at
            most 32, where the vector has more than one number for two training patients, else none.
    """

    column: str | None = None
    file_column: str | None = None
    encoding: str = "utf-8"
    markup: Markup = "error"
    model: str = "minilm"
    window: int | None = Field(default=None, ge=1)
    overlap: int = Field(default=32, ge=0)
    max_windows: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=32, ge=1)
    embedding_size: int = Field(default=32, ge=1)
    hidden_size: int = Field(default=64, ge=1)
    n_layers: int = Field(default=1, ge=0)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    n_components: Annotated[int, Field(ge=1)] | Literal["auto"] | None = "auto"

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, encoding: str) -> str:
        try:
            "a".encode(encoding)
        except LookupError as error:
            raise ValueError(f"{error}; use the name of a text encoding, such as utf-8 or latin-1.") from None
        return encoding

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.column is not None and self.file_column is not None:
            raise ValueError("name `column` (texts) or `file_column` (paths of text files), not both.")
        if self.window is not None and self.overlap >= self.window:
            raise ValueError(f"`overlap` is {self.overlap}; it must be smaller than `window`, {self.window}.")
        return self

    @property
    def windowing(self) -> Windowing:
        """How reports are cut."""
        return Windowing(self.window, self.overlap, self.max_windows)


class TextEncoder(Encoder):
    """Encodes the reports of a patient by a frozen network, whose vectors are standardised and, if wide, projected.

    The vector of a patient is the mean over the windows of all their reports, weighted by tokens. Mean and standard
    deviation of the vectors are those of the training patients; standardised vectors are clipped to +-5. The network
    runs once for each report: its outputs are cached on disk, and it is only loaded if some are missing. It is not in
    the state, but a hash of its files is in the configuration, and another network is refused.

    Control characters (but tab and line ends) and lone surrogates in a report count as blanks, and special tokens as
    words; nothing else is changed. A text of blanks, or without any token, is unreadable.
    """

    Options: ClassVar[type[Options]] = TextOptions
    several_rows: ClassVar[bool] = True
    centre: Tensor
    scale: Tensor

    def __init__(
        self, column: str, vector_size: int, n_components: int | None, network: str, options: TextOptions
    ) -> None:
        super().__init__()
        self.options, self.columns, self.network = options, [column], network
        self.embedding_size, self.on_error, self.n_components = options.embedding_size, options.on_error, n_components
        self.register_buffer("centre", torch.zeros(vector_size))
        self.register_buffer("scale", torch.zeros(vector_size))
        self.projection = Projection(vector_size, n_components) if n_components is not None else None
        self.vector_size = n_components or vector_size
        self.layers = Layers(
            self.vector_size, options.hidden_size, options.n_layers, options.embedding_size, options.dropout
        )

    @staticmethod
    def file_columns(options: TextOptions) -> list[str]:
        """Returns the column of paths, if there is one."""
        return [] if options.file_column is None else [options.file_column]

    @classmethod
    def fit(cls, frame: pd.DataFrame, options: TextOptions) -> Self:
        """Builds the encoder from training rows, one for each report; see `Encoder.fit`.

        Raises a DataError too if all reports have the same vector, and a StudyError if there is no such network, or the
        windows do not fit it.
        """
        column, folder = _column(frame, options), transformer.network_folder(options.model)
        vectors = _vectors(frame, column, options, folder)
        spread, centre = torch.std_mean(vectors, 0, correction=0)
        is_varied = spread > 1e-4 * vectors.square().mean().sqrt()  # below that it is rounding, some 1e-6
        if not is_varied.any():
            raise DataError(f"{HEADER}: column '{column}' reads the same for all {len(vectors)} training patients.")
        scale = torch.where(is_varied, 1.0 / spread, 0.0)
        scaled = ((vectors - centre) * scale).clamp(-CLIP, CLIP).float()
        projection = Projection.choose(scaled, options.n_components)
        n_components = None if projection is None else projection.components.shape[1]
        encoder = cls(column, len(centre), n_components, transformer.network_hash(folder), options)
        encoder.centre.copy_(centre)
        encoder.scale.copy_(scale)
        encoder.projection = projection
        return encoder

    def prepare(self, frame: pd.DataFrame) -> Tensor:
        """Returns standardised vectors or component scores, float32 ``(n_patients, n_inputs)``; see `Encoder.prepare`.

        The network encodes reports that are not in the cache; a DataError if it is not that of the training. Warns if
        `max_windows` leaves out the end of reports.
        """
        vectors = _vectors(frame, self.columns[0], self.options, self._folder(), len(self.centre))
        return self._project(vectors.to(self.centre)).float().cpu()

    def forward(self, values: Tensor) -> Tensor:
        """Encodes prepared rows ``(n, n_inputs)`` to ``(n, embedding_size)``, each independently of the others."""
        return self.layers(values.to(self.layers.straight.weight.dtype))

    def vector(self, values: Tensor) -> Tensor:
        """Returns the prepared rows themselves; see `Encoder.vector`."""
        return values

    def parts(self, frame: pd.DataFrame, values: Tensor, patch: int) -> Parts:
        """Makes each word a part, of its tokens; the network is loaded. See `Encoder.parts`."""
        reports = _reports(frame, self.columns[0], self.options)
        return cut_words(reports, self._network(), self.options.windowing)

    def encode_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor:
        """Encodes reports with their word vectors behind gates; see `Encoder.encode_parts`."""
        return self(self.vector_parts(parts, rows, gates))

    def vector_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor:
        """Returns vectors of reports with their word vectors behind gates; see `Encoder.vector_parts`."""
        return self._project(parts.content.vectors(rows, gates).to(self.centre))

    def config(self) -> dict[str, JSON]:
        """Returns options, column and the network's hash; the rest is in the state."""
        return {
            "options": self.options.model_dump(mode="json"),
            "column": self.columns[0],
            "vector_size": len(self.centre),
            "n_components": self.n_components,
            "network": self.network,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, JSON]) -> Self:
        """Rebuilds the module, ready for ``load_state_dict``."""
        options = TextOptions.model_validate(config["options"])
        return cls(config["column"], config["vector_size"], config["n_components"], config["network"], options)

    def _project(self, vectors: Tensor) -> Tensor:
        scaled = ((vectors - self.centre) * self.scale).clamp(-CLIP, CLIP)
        return scaled if self.projection is None else scaled @ self.projection.components

    def _folder(self) -> Path:
        folder = transformer.network_folder(self.options.model)
        network_hash = transformer.network_hash(folder)
        if network_hash != self.network:
            raise DataError(
                f"{HEADER}: the network in {folder} has the hash {network_hash[:16]}, but the encoder was trained with "
                f"{self.network[:16]}. Restore those files, or train again."
            )
        return folder

    def _network(self) -> transformer.FrozenTransformer:
        return transformer.load_network(self._folder())


def _column(frame: pd.DataFrame, options: TextOptions) -> str:
    named = options.file_column or options.column
    if named is None and len(frame.columns) != 1:
        raise DataError(
            f"{HEADER}: {len(frame.columns)} columns, and none is named as the text: "
            f"{shown(list(frame.columns))}. Write `column: ...`, or `file_column: ...` for paths of text files."
        )
    return str(frame.columns[0]) if named is None else named


def _vectors(frame: pd.DataFrame, column: str, options: TextOptions, folder: Path, size: int | None = None) -> Tensor:
    """Returns the network's vector of each patient, float64 ``(n_patients, size)``."""
    reports, cut = _reports(frame, column, options), options.windowing
    if size is not None and not len(frame):
        return torch.zeros(0, size, dtype=torch.float64)
    key = SCHEME, transformer.network_hash(folder), f"{cut.window} {cut.overlap} {cut.max_windows}"

    def encode(texts: Sequence[str]) -> TextVectors:
        return transformer.load_network(folder).encode(texts, cut, options.batch_size)

    return patient_vectors(reports, encode, OutputCache(content_hash(*key)))


def _reports(frame: pd.DataFrame, column: str, options: TextOptions) -> Reports:
    return Reports(frame, column, None if options.file_column is None else options.encoding, HEADER, options.markup)
