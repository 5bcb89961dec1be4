"""Vectors from another model, such as image features: one number a column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field
from torch import Tensor

from multimodn.base.encoder import JSON, Encoder, Options
from multimodn.base.feature_groups import Parts
from multimodn.encoders._layers import Layers, Projection
from multimodn.encoders._reading import check_columns, empty_cells, read_number_blocks
from multimodn.encoders._tables.layout import report_dropped
from multimodn.encoders._tables.scaling import NumericColumn, NumericScaler, fit_column
from multimodn.errors import DataError, raise_all, shown

HEADER = "Encoder 'embedding'"
REPAIR = "An embedding is numbers only; use kind `table` for other columns."


class EmbeddingOptions(Options):
    """Options of an embedding modality.

    Attributes:
        embedding_size: Width of the embedding that the patient state takes.
        hidden_size: Width of each hidden layer.
        n_layers: Hidden layers; 0 = a linear map.
        dropout: Share of hidden units (without hidden layers: of inputs) set to 0 in training.
        n_components: Principal components that replace the vector; ``auto`` = a third of the rows, at most 32, where
            there are more than 32 columns and more than one column for two training rows, else none.
    """

    embedding_size: int = Field(default=32, ge=1)
    hidden_size: int = Field(default=64, ge=1)
    n_layers: int = Field(default=1, ge=0)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    n_components: Annotated[int, Field(ge=1)] | Literal["auto"] | None = "auto"


class EmbeddingEncoder(Encoder):
    """Standardises a vector by the training rows, clipped to +-5, projects it where it is wide, and encodes it.

    Constant columns, such as dead units, are left out with one warning.
    """

    Options: ClassVar[type[Options]] = EmbeddingOptions

    def __init__(self, columns: list[NumericColumn], n_components: int | None, options: EmbeddingOptions) -> None:
        super().__init__()
        self.options, self.n_components = options, n_components
        self.embedding_size, self.columns = options.embedding_size, [column.name for column in columns]
        self.scaler = NumericScaler(columns, "standard", n_knots=0)
        self.projection = Projection(len(columns), n_components) if n_components is not None else None
        self.vector_size = n_components or len(columns)
        self.layers = Layers(
            self.vector_size, options.hidden_size, options.n_layers, options.embedding_size, options.dropout
        )

    @classmethod
    def fit(cls, frame: pd.DataFrame, options: EmbeddingOptions) -> Self:
        """Builds the encoder from training rows; a DataError if a cell is empty or not finite, or all are constant."""
        check_columns(frame, dict.fromkeys(frame.columns), HEADER)
        _check_cells(frame)
        names, fitted = list(frame.columns), dict[str, NumericColumn | None]()
        for block, numbers in read_number_blocks(frame, names, [], REPAIR):
            for name, cells in zip(names[block], numbers, strict=True):
                fitted[name] = fit_column(name, cells, "standard", is_robust=False)
        columns = [column for column in fitted.values() if column is not None]
        dropped = {name: "constant" for name, column in fitted.items() if column is None}
        report_dropped(dropped, len(columns), len(frame), HEADER)
        scaler = NumericScaler(columns, "standard", n_knots=0)
        projection = Projection.choose(scaler.fit(frame), options.n_components)
        encoder = cls(scaler.columns, None if projection is None else projection.components.shape[1], options)
        encoder.scaler, encoder.projection = scaler, projection
        return encoder

    def prepare(self, frame: pd.DataFrame) -> Tensor:
        """Returns standardised columns or component scores, float32 ``(n, n_inputs)``; see `Encoder.prepare`."""
        check_columns(frame, self.columns, HEADER)
        _check_cells(frame[self.columns])
        scaled: Tensor = self.scaler(frame, REPAIR, HEADER)
        return scaled if self.projection is None else self.projection(scaled)

    def forward(self, values: Tensor) -> Tensor:
        """Encodes prepared rows ``(n, n_inputs)`` to ``(n, embedding_size)``, each independently of the others."""
        return self.layers(values.to(self.layers.straight.weight.dtype))

    def vector(self, values: Tensor) -> Tensor:
        """Returns the prepared rows themselves; see `Encoder.vector`."""
        return values

    def parts(self, frame: pd.DataFrame, values: Tensor, patch: int) -> Parts:
        """Makes each column a part, from its training mean; see `Encoder.parts`."""
        content = values if self.projection is None else self.scaler(frame, REPAIR, HEADER)
        return Parts.of_columns(frame, self.columns, content, "the mean of the training patients")

    def encode_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor:
        """Encodes columns behind gates; see `Encoder.encode_parts`."""
        return self.layers(self.vector_parts(parts, rows, gates))

    def vector_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor:
        """Returns vectors with columns behind gates; see `Encoder.vector_parts`."""
        weight = self.layers.straight.weight
        content = parts.content.to(weight)
        start = 0.0 if parts.reference is None else parts.reference.to(weight)
        mixed = start + gates.to(weight) * (content[rows] - start)
        vector: Tensor = mixed if self.projection is None else mixed @ self.projection.components
        return vector

    def summary(self) -> pd.DataFrame:
        """Returns ``minimum``, ``median`` and ``maximum`` of every column in the training rows."""
        rows = [asdict(column) for column in self.scaler.columns]
        return pd.DataFrame(rows).set_index("name").rename_axis("column")[["minimum", "median", "maximum"]]

    def config(self) -> dict[str, JSON]:
        """Returns options and columns; the rest is in the state."""
        return {
            "options": self.options.model_dump(mode="json"),
            "columns": [asdict(column) for column in self.scaler.columns],
            "n_components": self.n_components,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, JSON]) -> Self:
        """Rebuilds the module, ready for ``load_state_dict``."""
        columns = [NumericColumn(**column) for column in config["columns"]]
        return cls(columns, config["n_components"], EmbeddingOptions.model_validate(config["options"]))


def _check_cells(frame: pd.DataFrame) -> None:
    problems = list[str]()
    n_empty = np.zeros(len(frame), dtype=np.int64)
    for block, _ in read_number_blocks(frame, list(frame.columns), problems, REPAIR):
        n_empty += empty_cells(frame.iloc[:, block]).sum(axis=1)
    rows = np.flatnonzero(n_empty)
    if len(rows):
        patients = shown([f"'{frame.index[i]}' ({n_empty[i]} cells)" for i in rows.tolist()])
        advice = "An embedding is whole or absent: give these patients no row at all, or compute their vectors again."
        problems.append(f"{len(rows)} patients have empty cells: {patients}. {advice}")
    raise_all(problems, DataError, HEADER)
