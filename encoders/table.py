"""Tables of numbers and categories: labs, history, pathology form fields, omics."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.encoder import JSON, Encoder, Options
from multimodn.base.feature_groups import Parts
from multimodn.data.reading.cells import with_flags
from multimodn.encoders._layers import Layers, LevelInput, PeriodicInput, PiecewiseInput, Projection, ScaledInput
from multimodn.encoders._reading import check_columns, empty_cells
from multimodn.encoders._tables.columns import level_numbers
from multimodn.encoders._tables.layout import HEADER, REPAIR, Numeric, TableLayout, TableOptions, fit_layout
from multimodn.encoders._tables.scaling import NumericScaler
from multimodn.errors import DataWarning, shown


class TableEncoder(Encoder):
    """Encodes numeric and categorical columns by a small network.

    An empty cell counts as the average training patient's (see `multimodn.encoders._layers`), and so does, with a
    warning, a level that training did not see. `prepare` scales, looks up levels and projects a wide table; `forward`
    encodes. Constant, all-empty and free-text columns are dropped with one warning.
    """

    Options: ClassVar[type[Options]] = TableOptions

    def __init__(self, layout: TableLayout, options: TableOptions) -> None:
        super().__init__()
        self.options, self.layout = options, layout
        self.embedding_size, self.columns = options.embedding_size, layout.columns
        self.scaler = NumericScaler(list(layout.numeric), layout.scaling, layout.n_knots)
        self.projection = Projection(len(layout.numeric), layout.n_components) if layout.n_components else None
        self.n_numeric = layout.n_components or len(layout.numeric)
        self.numeric = _numeric_input(layout.encoding, self.n_numeric, options.n_bins) if self.n_numeric else None
        self.levels = LevelInput([column.frequency for column in layout.categorical]) if layout.categorical else None
        sizes = [part.output_size for part in (self.numeric, self.levels) if part is not None]
        input_size = sum(sizes) + len(layout.indicated)
        self.layers = Layers(input_size, options.hidden_size, options.n_layers, options.embedding_size, options.dropout)
        self.vector_size = self.n_numeric + (0 if self.levels is None else self.levels.output_size)
        if isinstance(self.numeric, PiecewiseInput):
            self.layers.ignore_first(slice(self.n_numeric, self.numeric.output_size))

    @classmethod
    def fit(cls, frame: pd.DataFrame, options: TableOptions) -> Self:
        """Builds the encoder from training rows; see `Encoder.fit`, and `fit_layout` for the errors."""
        layout = fit_layout(frame, options)
        scaler = NumericScaler(layout.numeric, layout.scaling, layout.n_knots)
        scaled = scaler.fit(frame)
        projection = None
        if layout.n_components is not None:  # components without variance are left out
            projection = Projection.fit(scaled, layout.n_components)
            layout = replace(layout, n_components=projection.components.shape[1])
        encoder = cls(replace(layout, numeric=scaler.columns), options)
        encoder.scaler, encoder.projection = scaler, projection
        if encoder.numeric is not None and projection is None:
            encoder.numeric.fit(scaled)
        return encoder

    def prepare(self, frame: pd.DataFrame) -> Tensor:
        """Parses rows to float32 ``(n, n_inputs)``; see `Encoder.prepare`.

        Inputs are scaled numbers (training spreads from the training mean, NaN = empty) or component scores, then level
        numbers (NaN = empty or unseen), then 1 for an empty cell, else 0.
        """
        frame = with_flags(frame, self.columns)
        check_columns(frame, self.columns, HEADER)
        scaled: Tensor = self.scaler(frame, REPAIR, HEADER)
        if self.projection is not None:
            scaled = self.projection(scaled)
        if not self.layout.categorical and not self.layout.indicated:
            return scaled
        levels = [torch.from_numpy(column)[:, None] for column in self._level_numbers(frame)]
        empty = torch.from_numpy(empty_cells(frame[self.layout.indicated]).astype(np.float32))
        return torch.cat([scaled, *levels, empty], 1)

    def _level_numbers(self, frame: pd.DataFrame) -> list[NDArray[np.float32]]:
        numbered = {column.name: level_numbers(frame[column.name], column) for column in self.layout.categorical}
        unseen = [f"column '{name}': {shown(levels)}" for name, (_, levels) in numbered.items() if levels]
        if unseen:
            text = f"{HEADER}: levels that training did not see count as the average level. {'; '.join(unseen)}"
            warnings.warn(text, DataWarning, stacklevel=3)
        return [codes for codes, _ in numbered.values()]

    def forward(self, values: Tensor) -> Tensor:
        """Encodes prepared rows ``(n, n_inputs)`` to ``(n, embedding_size)``, each independently of the others."""
        return self.layers(self._encoded(values.to(self.layers.straight.weight.dtype), self.n_numeric))

    def vector(self, values: Tensor) -> Tensor:
        """Returns scaled numbers or component scores, and centred indicators of levels; see `Encoder.vector`."""
        return self._vector(values, self.n_numeric)

    def vector_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor:
        """Returns vectors with columns behind gates; see `Encoder.vector_parts`."""
        weight, n = self.layers.straight.weight, len(self.layout.numeric)
        vector, start = self._vector(parts.content.to(weight), n), weight.new_zeros(())
        if parts.reference is not None:
            vector, start = torch.nan_to_num(vector), torch.nan_to_num(self._vector(parts.reference.to(weight), n))
        columns = torch.arange(n, device=weight.device)
        if self.levels is not None:
            columns = torch.cat([columns, n + self.levels.column])
        mixed = start + gates.to(weight)[:, columns] * (vector[rows] - start)
        if self.projection is None:
            return mixed
        return torch.cat([torch.nan_to_num(mixed[:, :n]) @ self.projection.components, mixed[:, n:]], 1)

    def _vector(self, values: Tensor, n_numeric: int) -> Tensor:
        """Returns the vectors of rows whose first ``n_numeric`` columns are numbers, NaN = empty."""
        numbers = values[:, :n_numeric]
        if self.levels is None:
            return numbers
        codes = values[:, n_numeric : n_numeric + len(self.layout.categorical)]
        indicators = self.levels(codes).masked_fill(codes.isnan()[:, self.levels.column], torch.nan)
        return torch.cat([numbers, indicators], 1)

    def parts(self, frame: pd.DataFrame, values: Tensor, patch: int) -> Parts:
        """Makes each column, with its whole encoding, a part; see `Encoder.parts`.

        The baseline of an encoding is its training mean, 0, as that of an empty cell.
        """
        content, frame = values, with_flags(frame, self.columns)
        if self.projection is not None:  # back from components to columns
            content = torch.cat([self.scaler(frame, REPAIR, HEADER), values[:, self.n_numeric :].cpu()], 1)
        baseline = "the mean of the training patients, where an empty cell stands as well"
        if self.layout.indicated:
            baseline += "; of emptiness, a cell that is not empty"
        width = -(-self.layers.straight.in_features // len(self.columns))
        return Parts.of_columns(frame, self.columns, content, baseline, width)

    def encode_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor:
        """Encodes columns behind gates, after their encoding; see `Encoder.encode_parts`."""
        weight, n, start = self.layers.straight.weight, len(self.layout.numeric), torch.zeros(())
        encoded = self._encoded(parts.content.to(weight), n)
        if parts.reference is not None:
            start = self._encoded(parts.reference.to(weight), n)
        mixed = start + gates.to(weight)[:, self._column_of(weight.device)] * (encoded[rows] - start)
        if self.projection is not None:
            mixed = torch.cat([mixed[:, :n] @ self.projection.components, mixed[:, n:]], 1)
        return self.layers(mixed)

    def _encoded(self, values: Tensor, n_numeric: int) -> Tensor:
        """Returns the inputs of the layers ``(n, n_encoded)``; the first ``n_numeric`` columns are numbers."""
        n_coded = n_numeric + len(self.layout.categorical)
        encoded = [] if self.numeric is None else [self.numeric(values[:, :n_numeric])]
        encoded += [] if self.levels is None else [self.levels(values[:, n_numeric:n_coded])]
        encoded += [values[:, n_coded:]] if self.layout.indicated else []
        return torch.cat(encoded, 1) if len(encoded) > 1 else encoded[0]

    def _column_of(self, device: torch.device) -> Tensor:
        """Returns the number in `columns` of each entry of `_encoded`, long ``(n_encoded,)``."""
        n_numeric = len(self.layout.numeric)
        numbers = torch.arange(n_numeric)
        if self.projection is None and isinstance(self.numeric, PiecewiseInput):  # block by block
            numbers = numbers.repeat(self.numeric.n_copies)
        elif self.projection is None and isinstance(self.numeric, PeriodicInput):  # column by column
            numbers = numbers.repeat_interleave(self.numeric.output_size // n_numeric)
        levels = [] if self.levels is None else [n_numeric + self.levels.column.cpu()]
        place = {name: k for k, name in enumerate(self.columns)}
        indicated = torch.tensor([place[name] for name in self.layout.indicated], dtype=torch.long)
        return torch.cat([numbers, *levels, indicated]).to(device)

    def summary(self) -> pd.DataFrame:
        """Describes every column of the training rows, for reports.

        A row has ``kind`` (numeric, categorical, dropped), ``unit``, ``minimum``, ``median``, ``maximum`` in that unit,
        ``n_empty``, ``levels``, and why the column was ``dropped``.
        """
        rows: list[dict[str, Any]] = [{"kind": "numeric", **asdict(column)} for column in self.layout.numeric]
        rows += [{"kind": "categorical", **asdict(column)} for column in self.layout.categorical]
        rows += [{"kind": "dropped", "name": name, "dropped": why} for name, why in self.layout.dropped.items()]
        shown_columns = ["kind", "unit", "minimum", "median", "maximum", "n_empty", "levels", "dropped"]
        summary = pd.DataFrame(rows).set_index("name").rename_axis("column")
        summary["unit"] = [self.options.units.get(str(name)) for name in summary.index]
        return summary.reindex(columns=shown_columns)

    def config(self) -> dict[str, JSON]:
        """Returns options and layout; the rest is in the state."""
        return {"options": self.options.model_dump(mode="json"), "layout": asdict(self.layout)}

    @classmethod
    def from_config(cls, config: Mapping[str, JSON]) -> Self:
        """Rebuilds the module, ready for ``load_state_dict``."""
        return cls(TableLayout.from_config(config["layout"]), TableOptions.model_validate(config["options"]))

    @staticmethod
    def empty_cells(frame: pd.DataFrame, options: TableOptions) -> pd.DataFrame:
        """Tells which cells of each column are empty; see `Encoder.empty_cells`."""
        return pd.DataFrame(empty_cells(frame), frame.index, frame.columns)

    @classmethod
    def with_empty_cells(cls, frame: pd.DataFrame, emptied: pd.DataFrame, options: TableOptions) -> pd.DataFrame:
        """Empties cells of columns; see `Encoder.with_empty_cells`."""
        frame = frame.copy(deep=False)
        for name in emptied:
            frame[name] = frame[name].mask(emptied[name].to_numpy())
        return frame


def _numeric_input(encoding: Numeric, n_columns: int, n_bins: int) -> ScaledInput | PiecewiseInput | PeriodicInput:
    if encoding == "piecewise":
        return PiecewiseInput(n_columns, n_bins)
    return PeriodicInput(n_columns) if encoding == "periodic" else ScaledInput(n_columns)
