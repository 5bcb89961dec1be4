"""Turns a stream of Arrow record batches into a table, in about the memory of the table in float32."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute, types

from multimodn.data.list_cells import lists_as_text
from multimodn.errors import DataError
from multimodn.study.sources import EMPTY

FIRST_CELLS = 1 << 26  # room for numbers where the number of rows is unknown; doubled as needed

LARGEST_EXACT = 1 << 24  # up to it float32 holds every whole number
FLOAT32_LOSS = 1e-6  # the share of a column's spread that rounding to float32 may take

_NO_COPY: dict[str, Any] = {"copy": False} if pd.__version__.startswith("2.") else {}  # pandas 3 warns about it


class ColumnCollector:
    """Collects record batches column by column; those of ``exact`` keep their own type, the key among them.

    Those of ``verbatim`` are text as it is written: codes, with their zeros and of any number of digits.
    """

    def __init__(
        self, schema: Any, patient: str, exact: list[str], n_rows: int | None = None, verbatim: Collection[str] = ()
    ) -> None:
        # n_rows: an upper estimate; memory that is never written to costs nothing
        self.patient, self.verbatim = patient, set(verbatim) - {patient}
        self.exact = [*exact, *(name for name in schema.names if name in self.verbatim and name not in exact)]
        self.numeric = {name: row for row, name in enumerate(f.name for f in schema if self._is_number(f))}
        self.cut_digits: set[str] = set()  # columns of whole numbers with more digits than float64 holds
        self._wide: dict[str, list[np.ndarray[Any, Any]]] = {}
        self._others: dict[str, list[Any]] = {name: [] for name in schema.names if name not in self.numeric}
        if n_rows is None:
            n_rows = max(1024, FIRST_CELLS // max(1, len(self.numeric)))
        self._numbers = np.empty((len(self.numeric), n_rows), dtype=np.float32)

    def read(self, batches: Iterable[Any]) -> pd.DataFrame:
        """Reads all batches to a table; see `table`."""
        start = 0
        for batch in batches:
            self.add(batch, start)
            start += batch.num_rows
        return self.table(start)

    def add(self, piece: Any, start: int) -> None:
        """Adds rows, from number ``start`` on, of some columns: a record batch or a table."""
        stop = start + piece.num_rows
        if stop > self._numbers.shape[1]:
            grown = np.empty((len(self.numeric), 2 * stop), dtype=np.float32)
            grown[:, :start] = self._numbers[:, :start]
            self._numbers = grown
        for name in piece.schema.names:
            column = piece.column(name)
            if name in self.numeric:
                self._store(column, name, start, stop)
            else:
                # a copy, as a column of DuckDB keeps all columns of its batch in memory
                parts = getattr(column, "chunks", [column])
                self._others[name] += [pa.concat_arrays([part, part.slice(0, 0)]) for part in parts]

    def table(self, n_rows: int) -> pd.DataFrame:
        """Returns the table indexed by patient: numbers first, then text and labels."""
        if not n_rows:
            raise DataError("there are no rows.")
        block, self._numbers = self._numbers[:, :n_rows], np.empty((0, 0), dtype=np.float32)
        labels = set(self.exact) - {self.patient} - self.verbatim
        texts = {name: pa.chunked_array(parts) for name, parts in self._others.items()}
        others = {
            name: verbatim_series(column) if name in self.verbatim else text_series(column, parse=name in labels)
            for name, column in texts.items()
        }
        others |= {name: pd.Series(np.concatenate(parts)) for name, parts in self._wide.items()}
        self._others, self._wide = {}, {}
        key = text_keys(others.pop(self.patient))
        narrow = [name for name in self.numeric if name not in others]
        if len(narrow) < len(self.numeric):
            block = block[[self.numeric[name] for name in narrow]]
        numbers = pd.DataFrame(block.T, index=key, columns=narrow, copy=False)
        if not others:
            return numbers
        rest = pd.DataFrame(others).set_axis(key, axis=0)
        joined: pd.DataFrame = pd.concat([numbers, rest], axis=1, **_NO_COPY)
        return joined

    def _is_number(self, field: Any) -> bool:
        if field.name in self.verbatim:
            return False
        kind = field.type
        if types.is_interval(kind) or types.is_duration(kind):
            repair = "give a number, such as date_diff('day', first, last) in a query."
            raise DataError(f"column '{field.name}' holds spans of time ({kind}); {repair}")
        number_types = (types.is_floating, types.is_integer, types.is_decimal, types.is_boolean, types.is_null)
        text_types = (types.is_string, types.is_large_string, types.is_string_view, types.is_temporal)
        if any(is_type(kind) for is_type in number_types):
            return field.name not in self.exact
        if any(is_type(kind.value_type if types.is_dictionary(kind) else kind) for is_type in text_types):
            return False
        if types.is_binary(kind):
            raise DataError(f"column '{field.name}' holds bytes, not text in UTF-8; save it as text in that encoding.")
        raise DataError(f"column '{field.name}' holds {kind}; give numbers, booleans or text.")

    def _store(self, column: Any, name: str, start: int, stop: int) -> None:
        """Writes a piece of a column as float32, and as float64 too if float32 cannot hold its numbers."""
        row = self.numeric[name]
        place = self._numbers[row, start:stop]
        if column.type == pa.float32():
            place[:] = _values(column)
            return
        if column.type == pa.bool_():
            column = compute.cast(column, "int8")
        values = _values(compute.cast(column, pa.float64(), safe=False))
        with np.errstate(over="ignore"):
            place[:] = values
        largest = float(np.fmax.reduce(np.abs(values), initial=0.0))
        if largest <= LARGEST_EXACT and name not in self._wide:
            return
        if _has_cut_digits(values, largest):
            if types.is_integer(column.type):
                repair = "If they are codes, make them text, such as by `cast(... as varchar)` in a query."
                raise DataError(f"column '{name}' holds whole numbers of more than 15 digits. {repair}")
            self.cut_digits.add(name)
        if name in self._wide or _loses(values, place):
            before = [] if name in self._wide else [self._numbers[row, :start].astype(float)]
            self._wide.setdefault(name, before).append(values)


def text_keys(keys: Any) -> pd.Index:
    """Returns patient identifiers as text: whole numbers as their digits, missing ones as empty text."""
    if isinstance(keys, np.ndarray) and keys.dtype.kind == "S":
        keys = np.char.decode(keys)
    values: pd.Index[Any] = pd.Index(keys, name="patient")
    kind = values.dtype
    if (pd.api.types.is_float_dtype(kind) and not values.isna().all()) or pd.api.types.is_bool_dtype(kind):
        repair = "Store it as text, or as whole numbers without empty cells."
        raise DataError(f"the patient key holds {kind}, which does not distinguish 1 from 1.0. {repair}")
    missing = np.asarray(values.isna())
    if isinstance(kind, pd.StringDtype) and not missing.any():
        return values
    text = values.astype(object).where(~missing, "").map(str)
    index: pd.Index[Any] = pd.Index(text.to_numpy(dtype=object), name="patient")
    return index


def text_series(column: Any, *, parse: bool) -> pd.Series[Any]:
    """Returns a chunked array in its own type, dates as text; ``parse``: numbers without leading zeros as numbers.

    Whole numbers that a float would round, in a column with empty cells, stay text.
    """
    kind = column.type
    if types.is_dictionary(kind) or types.is_temporal(kind):
        column = compute.cast(column, pa.string())
    if parse and types.is_string(kind):
        has_leading_zero = compute.any(compute.match_substring_regex(column, "^[+-]?0[0-9]")).as_py()
        without = compute.if_else(
            compute.is_in(column, value_set=pa.array(EMPTY)), pa.scalar(None, pa.string()), column
        )
        for number in () if has_leading_zero else (pa.int64(), pa.float64()):
            try:
                column = compute.cast(without, number)
                break
            except pa.ArrowInvalid:
                continue
    if types.is_decimal(column.type):
        column = compute.cast(column, pa.float64(), safe=False)
    if types.is_integer(column.type) and column.null_count and _has_cut_digits(*_with_largest(column)):
        column = compute.cast(column, pa.string())  # pandas would make them floats
    series: pd.Series[Any] = column.to_pandas()
    return series.reset_index(drop=True)


def verbatim_series(column: Any) -> pd.Series[Any]:
    """Returns a chunked array as text: whole numbers by their digits, lists as JSON."""
    kind = column.type
    if types.is_integer(kind) or types.is_dictionary(kind) or types.is_temporal(kind) or types.is_boolean(kind):
        column = compute.cast(column, pa.string())
    elif types.is_floating(kind) or types.is_decimal(kind):
        numbers: pd.Series[Any] = compute.cast(column, pa.float64(), safe=False).to_pandas()
        return numbers.map(lambda number: f"{number:.17g}", na_action="ignore").astype(object)
    elif types.is_large_list(kind) or types.is_list(kind) or types.is_fixed_size_list(kind):
        return lists_as_text(pd.Series(column.to_pylist(), dtype=object))
    series: pd.Series[Any] = column.to_pandas()
    return series.reset_index(drop=True)


def _values(column: Any) -> np.ndarray[Any, Any]:
    options = {} if isinstance(column, pa.ChunkedArray) else {"zero_copy_only": False}
    values: np.ndarray[Any, Any] = column.to_numpy(**options)
    return values


def is_wide(values: np.ndarray[Any, Any], narrow: np.ndarray[Any, Any]) -> bool:
    """Says whether ``narrow`` loses whole numbers, numbers beyond the range of float32, or what tells numbers apart."""
    return bool(np.fmax.reduce(np.abs(values), initial=0.0) > LARGEST_EXACT) and _loses(values, narrow)


def _with_largest(column: Any) -> tuple[np.ndarray[Any, Any], float]:
    values = _values(column)
    return values, float(np.fmax.reduce(np.abs(values), initial=0.0))


def _has_cut_digits(values: np.ndarray[Any, Any], largest: float) -> bool:
    """Says whether there are whole numbers, no decimals, of 16 to 19 digits, which float64 rounds."""
    return 1 << 53 <= largest < 1e19 and bool((np.isnan(values) | (values == np.floor(values))).all())


def _loses(values: np.ndarray[Any, Any], narrow: np.ndarray[Any, Any]) -> bool:
    """See `is_wide`; for columns with numbers that float32 may round."""
    lost = (values != narrow) & np.isfinite(values)
    if (lost & ((values == np.floor(values)) | np.isinf(narrow))).any():
        return True
    # large numbers that lie close together, such as seconds since 1970 with decimals
    finite = values[np.isfinite(values)]
    rounded_away = np.abs(values[lost] - narrow[lost]).max(initial=0.0)
    return bool(rounded_away > FLOAT32_LOSS * (finite.max(initial=-np.inf) - finite.min(initial=np.inf)))
