"""Vectors from another model, such as image features: one number a column."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field
from torch import Tensor

from multimodn.base.encoder import JSON, Encoder, FileOptions, Options
from multimodn.base.feature_groups import Parts
from multimodn.encoders._layers import Layers, Projection
from multimodn.encoders._outliers import any_far, apart
from multimodn.encoders._reading import cells_shown, check_columns, empty_cells, read_number_blocks
from multimodn.encoders._tables.layout import report_dropped
from multimodn.encoders._tables.scaling import NumericColumn, NumericScaler, fit_column
from multimodn.encoders._vectors import ConstantRows, code_cells, suspicious_vectors
from multimodn.errors import DataError, DataWarning, UnreadableError, raise_all, shown

HEADER = "Encoder 'embedding'"
REPAIR = "An embedding is numbers only; use kind `table` for other columns."


class EmbeddingOptions(FileOptions):
    """Options of an embedding modality.

    Attributes:
        embedding_size: Width of the embedding that the patient state takes.
        hidden_size: Width of each hidden layer.
        n_layers: Hidden layers; 0 = a linear map.
        dropout: Share of hidden units (without hidden layers: of inputs) set to 0 in training.
        n_components: Principal components that replace the vector; ``auto`` = a third of the rows, at most 32, where
            there are more than 32 columns and more than one column for two training rows, else none.
        suspicious: What to do with vectors that a network can hardly have made, all of whose cells are equal, or some
            of whose cells hold a code such as -999 far from all others: ``raise`` an error, or ``keep`` them.
        on_error: What to do with patients who have such vectors, see `FileOptions`.
    """

    embedding_size: int = Field(default=32, ge=1)
    hidden_size: int = Field(default=64, ge=1)
    n_layers: int = Field(default=1, ge=0)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    n_components: Annotated[int, Field(ge=1)] | Literal["auto"] | None = "auto"
    suspicious: Literal["raise", "keep"] = "raise"


class EmbeddingEncoder(Encoder):
    """Standardises a vector by the training rows, clipped to +-5, projects it where it is wide, and encodes it.

    Constant columns, such as dead units, are left out with one warning. Single cells far from all others of their
    column are named and have no part in its mean and standard deviation.
    """

    Options: ClassVar[type[Options]] = EmbeddingOptions

    def __init__(self, columns: list[NumericColumn], n_components: int | None, options: EmbeddingOptions) -> None:
        super().__init__()
        self.options, self.n_components, self.on_error = options, n_components, options.on_error
        self.embedding_size, self.columns = options.embedding_size, [column.name for column in columns]
        self.scaler = NumericScaler(columns, "standard", n_knots=0)
        self.projection = Projection(len(columns), n_components) if n_components is not None else None
        self.vector_size = n_components or len(columns)
        self.layers = Layers(
            self.vector_size, options.hidden_size, options.n_layers, options.embedding_size, options.dropout
        )

    @classmethod
    def fit(cls, frame: pd.DataFrame, options: EmbeddingOptions) -> Self:
        """Builds the encoder from training rows.

        Raises:
            DataError: If a cell is empty or not finite, or all columns are constant.
            UnreadableError: If vectors are suspicious, see `EmbeddingOptions`; it names their patients.
        """
        check_columns(frame, dict.fromkeys(frame.columns), HEADER)
        _check_cells(frame, options)
        names, fitted = list(frame.columns), dict[str, NumericColumn | None]()
        notes = list[str]()
        for block, numbers in read_number_blocks(frame, names, [], REPAIR):
            may = any_far(numbers)
            for name, cells, is_far in zip(names[block], numbers, may.tolist(), strict=True):
                fitted[name] = fit_column(name, cells, "standard", is_robust=False)
                marked = apart(cells) if is_far else np.zeros(0, dtype=np.bool_)
                if marked.any():
                    fitted[name] = _without(fitted[name], fit_column(name, cells[~marked], "standard", is_robust=False))
                    notes.append(f"'{name}' {cells_shown(frame[name], marked)}")
        if notes:
            text = f"{HEADER}: cells far from all others of their columns: {shown(notes, 5)}. They are left out of mean"
            warnings.warn(f"{text} and spread, and clipped; correct them if they are wrong.", DataWarning, stacklevel=2)
        columns = [column for column in fitted.values() if column is not None]
        dropped = {name: "constant" for name, column in fitted.items() if column is None}
        report_dropped(dropped, len(columns), len(frame), HEADER)
        scaler = NumericScaler(columns, "standard", n_knots=0)
        projection = Projection.choose(scaler.fit(frame), options.n_components)
        encoder = cls(scaler.columns, None if projection is None else projection.components.shape[1], options)
        encoder.scaler, encoder.projection = scaler, projection
        return encoder

    def prepare(self, frame: pd.DataFrame) -> Tensor:
        """Returns standardised columns or component scores, float32 ``(n, n_inputs)``; see `Encoder.prepare`.

        Raises an UnreadableError that names patients with suspicious vectors, as `fit` does.
        """
        check_columns(frame, self.columns, HEADER)
        _check_cells(frame[self.columns], self.options, self.scaler.columns)
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


def _without(column: NumericColumn | None, rest: NumericColumn | None) -> NumericColumn | None:
    """Returns a column scaled by the rest of its cells; its range is that of all."""
    if column is None or rest is None:
        return rest
    return replace(column, centre=rest.centre, spread=rest.spread)


def _check_cells(frame: pd.DataFrame, options: EmbeddingOptions, fitted: Sequence[NumericColumn] = ()) -> None:
    """Refuses empty cells and suspicious vectors; codes lie apart from other rows, or from those ``fitted``."""
    problems = list[str]()
    n_empty = np.zeros(len(frame), dtype=np.int64)
    constant, codes = ConstantRows(len(frame)), dict[int, list[str]]()
    names = list(frame.columns)
    for block, numbers in read_number_blocks(frame, names, problems, REPAIR):
        n_empty += empty_cells(frame.iloc[:, block]).sum(axis=1)
        constant.add(numbers)
        for k, marked in code_cells(numbers, fitted[block]):
            for i in np.flatnonzero(marked).tolist():
                codes.setdefault(i, []).append(f"'{names[block][k]}' is {numbers[k, i]:g}")
    rows = np.flatnonzero(n_empty)
    if len(rows):
        patients = shown([f"'{frame.index[i]}' ({n_empty[i]} cells)" for i in rows.tolist()])
        advice = "An embedding is whole or absent: give these patients no row at all, or compute their vectors again."
        problems.append(f"{len(rows)} patients have empty cells: {patients}. {advice}")
    raise_all(problems, DataError, HEADER)
    found = suspicious_vectors(constant.found(fitted), constant.low, codes, frame.index)
    if found and options.suspicious == "raise":
        raise UnreadableError(f"{HEADER}: no network made these vectors (if one did, `suspicious: keep`)", found)
