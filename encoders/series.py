"""Irregular time series: a long table with a row for each measurement, such as laboratory values and vital signs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import ClassVar, Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator
from torch import Tensor

from multimodn.base.encoder import JSON, Encoder, FileOptions, Options
from multimodn.base.feature_groups import Parts
from multimodn.base.ragged import Ragged
from multimodn.encoders._layers import Layers
from multimodn.encoders._reading import check_columns, first_shown, is_empty, read_levels
from multimodn.encoders._series.layers import MeasurementTransformer, statistics, summaries
from multimodn.encoders._series.rows import (
    Measurements,
    Variable,
    fit_time,
    fit_variables,
    outlying,
    read_rows,
    scale_rows,
)
from multimodn.errors import DataError, DataWarning, UnreadableError, shown

HEADER = "Encoder 'series'"


class SeriesOptions(FileOptions):
    """Options of a time series modality.

    Attributes:
        time: The column of times: numbers in any unit, such as hours since admission; or dates, with or without a
            clock, which count in days from the study's ``index``, or else from the patient's first row.
        variable: The column that names what was measured.
        value: The column of values: numbers.
        max_measurements: Measurements kept of a patient, the latest ones; None = all. Time and memory are quadratic.
        embedding_size: Width of the embedding that the patient state takes.
        hidden_size: Width of a measurement's token, and of hidden layers; a multiple of ``n_heads``.
        n_heads: Attention heads.
        n_layers: Layers of attention.
        dropout: Share of hidden units set to 0 in training.
        on_error: What to do with patients without any measurement of a training variable; see `FileOptions`.
    """

    time: str = "time"
    variable: str = "variable"
    value: str = "value"
    max_measurements: int | None = Field(default=512, ge=1)
    embedding_size: int = Field(default=32, ge=1)
    hidden_size: int = Field(default=32, ge=1)
    n_heads: int = Field(default=4, ge=1)
    n_layers: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.hidden_size % self.n_heads:
            raise ValueError(
                f"`hidden_size` is {self.hidden_size}; it must be a multiple of `n_heads`, {self.n_heads}."
            )
        if len({self.time, self.variable, self.value}) < 3:
            raise ValueError("`time`, `variable` and `value` must name three columns.")
        return self


class SeriesEncoder(Encoder):
    """Encodes the measurements of a patient, of any number and at any times, by attention among them.

    Values are standardised by the training rows of their variable and clipped to +-5; times by all training rows.
    Single numbers far from all others (`apart`) are named and have no part in that.
    Beside the attention (`MeasurementTransformer`) a straight path takes the last and the mean value of each variable,
    0 where it was not measured, so that training starts from what a linear model could use.

    This encoder sees which variables were measured, how often and when: where a test is ordered only for some patients,
    the network can learn from who was tested.

    The order of a table's rows does not matter. A variable that is not in the training rows is left out with a warning.
    """

    Options: ClassVar[type[Options]] = SeriesOptions
    several_rows: ClassVar[bool] = True

    def __init__(
        self, variables: Sequence[Variable], time_mean: float, time_spread: float, options: SeriesOptions
    ) -> None:
        super().__init__()
        self.options, self.on_error, self.variables = options, options.on_error, list(variables)
        self.time_mean, self.time_spread = time_mean, time_spread
        self.embedding_size = options.embedding_size
        self.columns = [options.time, options.variable, options.value]
        self.vector_size = 5 * len(self.variables)
        self.transformer = MeasurementTransformer(
            len(self.variables), options.hidden_size, options.n_heads, options.n_layers, options.dropout
        )
        input_size = options.hidden_size + 2 * len(self.variables)
        self.layers = Layers(input_size, options.hidden_size, 1, options.embedding_size, options.dropout)

    @staticmethod
    def exact_columns(options: SeriesOptions) -> list[str]:
        """Returns the columns of times and variables; see `Encoder.exact_columns`."""
        return [options.time, options.variable]

    @staticmethod
    def time_columns(options: SeriesOptions) -> list[str]:
        """Returns the column of times; see `Encoder.time_columns`."""
        return [options.time]

    @classmethod
    def fit(cls, frame: pd.DataFrame, options: SeriesOptions) -> Self:
        """Builds the encoder from training rows, one a measurement; see `Encoder.fit`, and `read_rows` for errors."""
        rows = read_rows(frame, options.time, options.variable, options.value, HEADER)
        if not len(rows):
            raise DataError(f"{HEADER}: there is no measurement in the training rows.")
        value, time = outlying(rows, HEADER)
        return cls(fit_variables(rows, value), *fit_time(rows, time), options)

    def prepare(self, frame: pd.DataFrame) -> Ragged:
        """Reads measurements; see `read_rows` for errors.

        A patient's items ``(n_measurements, 3)``, float32, are scaled time, the variable's number in `variables`, and
        scaled value, ordered by time.

        Raises:
            UnreadableError: Naming all patients who have no measurement of a training variable.

        Warns:
            DataWarning: If measurements are left out: of other variables, or beyond `max_measurements`.
        """
        rows = self._read(frame)
        items = scale_rows(rows, self.variables, self.time_mean, self.time_spread)
        return Ragged(torch.from_numpy(items), torch.from_numpy(rows.counts()).long())

    def forward(self, values: Ragged) -> Tensor:
        """Encodes n prepared rows to ``(n, embedding_size)``, each independently of the others."""
        values = Ragged(values.items.to(self.layers.straight.weight.dtype), values.lengths)
        return self.layers(torch.cat([self.transformer(values), summaries(values, len(self.variables))], 1))

    def vector(self, values: Ragged) -> Tensor:
        """Returns first, last, mean, least and greatest value of each variable; see `Encoder.vector`."""
        items = values.items.to(self.layers.straight.weight.dtype)
        return statistics(Ragged(items, values.lengths), len(self.variables))

    def parts(self, frame: pd.DataFrame, values: Ragged, patch: int) -> Parts:
        """Makes the value of each measurement a part, with its ``time``; see `Encoder.parts`.

        Closed gates leave that something was measured, and when.
        """
        rows, options = self._read(frame), self.options
        named = np.array(rows.variables, dtype=object)[rows.code]
        names = pd.DataFrame({"feature": named, "value": rows.value, "time": rows.time})
        width = options.hidden_size + options.n_heads * int(max(rows.counts(), default=0))
        baseline = "every measurement at the training mean of its variable, at its own time"
        return Parts.one_by_one(names, values.lengths, values, baseline, width)

    def encode_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor:
        """Encodes measurements with their values behind gates; see `Encoder.encode_parts`."""
        return self(self._gated(parts, rows, gates))

    def vector_parts(self, parts: Parts, rows: Tensor, gates: Tensor) -> Tensor:
        """Returns vectors of measurements with their values behind gates; see `Encoder.vector_parts`."""
        return self.vector(self._gated(parts, rows, gates))

    def _gated(self, parts: Parts, rows: Tensor, gates: Tensor) -> Ragged:
        weight = self.layers.straight.weight
        values = parts.content[rows]
        time, code, value = values.items.to(weight).unbind(1)
        return Ragged(torch.stack([time, code, value * gates.to(weight).flatten()], 1), values.lengths)

    def summary(self) -> pd.DataFrame:
        """Returns ``mean``, ``spread`` and ``n_rows`` of every variable in the training rows."""
        rows = [asdict(variable) for variable in self.variables]
        return pd.DataFrame(rows).set_index("name").rename_axis("variable")

    def config(self) -> dict[str, JSON]:
        """Returns options, variables and the scale of time; the rest is in the state."""
        return {
            "options": self.options.model_dump(mode="json"),
            "variables": [asdict(variable) for variable in self.variables],
            "time_mean": self.time_mean,
            "time_spread": self.time_spread,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, JSON]) -> Self:
        """Rebuilds the module, ready for ``load_state_dict``."""
        variables = [Variable(**variable) for variable in config["variables"]]
        options = SeriesOptions.model_validate(config["options"])
        return cls(variables, config["time_mean"], config["time_spread"], options)

    @staticmethod
    def empty_cells(frame: pd.DataFrame, options: SeriesOptions) -> pd.DataFrame:
        """Tells which variables of the frame were never measured in each patient; see `Encoder.empty_cells`."""
        check_columns(frame, [options.variable, options.value], HEADER)
        code, variables = read_levels(frame[options.variable])
        patient, patients = pd.factorize(frame.index)
        is_measured = ~is_empty(frame[options.value]) & (code >= 0)
        empty = np.ones((len(patients), len(variables)), dtype=np.bool_)
        empty[patient[is_measured], code[is_measured]] = False
        return pd.DataFrame(empty, pd.Index(patients, name=frame.index.name), variables)

    @classmethod
    def with_empty_cells(cls, frame: pd.DataFrame, emptied: pd.DataFrame, options: SeriesOptions) -> pd.DataFrame:
        """Leaves out all measurements of a variable; see `Encoder.with_empty_cells`."""
        code, variables = read_levels(frame[options.variable])
        is_emptied = emptied.reindex(columns=variables, fill_value=False).to_numpy(np.bool_)
        patient = emptied.index.get_indexer(frame.index)
        kept: pd.DataFrame = frame[(code < 0) | ~is_emptied[patient, code]]
        return kept

    def _read(self, frame: pd.DataFrame) -> Measurements:
        """Reads the measurements of training variables, at most `max_measurements`; warns of the others."""
        options = self.options
        return self._latest(self._fitted(read_rows(frame, options.time, options.variable, options.value, HEADER)))

    def _fitted(self, rows: Measurements) -> Measurements:
        """Leaves out variables that are not in the training rows, with a warning."""
        names = {variable.name for variable in self.variables}
        is_fitted = np.array([name in names for name in rows.variables], dtype=np.bool_)
        fitted = rows.where(is_fitted[rows.code])
        without = np.flatnonzero(fitted.counts() == 0).tolist()
        if without:
            count, code = rows.counts(), pd.Series(rows.code).groupby(rows.patient).unique()
            problems = {
                str(rows.patients[i]): f"none of the {count[i]} measurements is of a variable in the training rows; "
                f"they are of {shown([rows.variables[j] for j in sorted(code[i])], 3)}."
                for i in without
            }
            raise UnreadableError(HEADER, problems)
        counts = np.bincount(rows.code, minlength=len(rows.variables))
        others = [f"'{rows.variables[i]}' ({counts[i]} rows)" for i in np.flatnonzero(~is_fitted).tolist()]
        if others:
            text = "measurements are of variables that are not in the training rows, and are left out"
            text = f"{HEADER}: {len(rows) - len(fitted)} of {len(rows)} {text}: {shown(others)}."
            warnings.warn(text, DataWarning, stacklevel=4)
        return fitted

    def _latest(self, rows: Measurements) -> Measurements:
        """Leaves out measurements beyond `max_measurements`, with a warning."""
        limit, counts = self.options.max_measurements, rows.counts()
        if limit is None or not (counts > limit).any():
            return rows
        kept, more = rows.latest(limit), np.flatnonzero(counts > limit)
        named = first_shown((f"'{rows.patients[i]}' ({counts[i]})" for i in more.tolist()), len(more))
        share = f"the earliest {len(rows) - len(kept)} of {len(rows)} rows, of {len(more)} patients"
        text = f"{HEADER}: `max_measurements` is {limit}: {share}, are left out: {named}."
        warnings.warn(text, DataWarning, stacklevel=4)
        return kept
