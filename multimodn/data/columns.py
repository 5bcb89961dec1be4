"""Turns a stream of Arrow record batches into a table, at the price of the table in float32."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from multimodn.errors import DataError

_COPIES = int(pd.__version__.split(".")[0]) < 3  # pandas 2 copies unless told not to; pandas 3 warns if told


class Columns:
    """Collects record batches column by column.

    Args:
        patient: The key column.
        exact: Columns that keep their own type, the key among them.
        n_rows: At least as many rows as there are. Memory that is never written to costs nothing.
    """

    def __init__(self, patient: str, exact: list[str], n_rows: int) -> None:
        self.patient, self.exact, self.n_rows = patient, exact, n_rows
        self._numbers: np.ndarray[Any, Any] = np.empty((0, 0), dtype=np.float32)
        self._wide: dict[str, list[np.ndarray[Any, Any]]] = {}
        self._others: dict[str, list[Any]] = {}

    def read(self, batches: Iterable[Any]) -> pd.DataFrame:
        """Reads all batches to a table indexed by patient: numbers first, then text, then labels.

        Raises:
            DataError: If a column is neither number, truth value nor text, or there are no rows.
        """
        names: list[str] | None = None
        numeric: list[str] = []
        start = 0
        for batch in batches:
            if names is None:
                names = batch.schema.names
                numeric = [field.name for field in batch.schema if self._is_number(field)]
                self._others = {name: [] for name in names if name not in set(numeric)}
                self._numbers = np.empty((len(numeric), self.n_rows), dtype=np.float32)
            stop = start + batch.num_rows
            for name, chunks in self._others.items():
                chunks.append(batch.column(name))
            for row, name in enumerate(numeric):
                self._store(batch.column(name), name, row, start, stop)
            start = stop
        if names is None or not start:
            raise DataError("there are no rows.")
        return self._table(numeric, start)

    def _is_number(self, field: Any) -> bool:
        from pyarrow import types

        if field.name in self.exact:
            return False
        kind = field.type
        if types.is_floating(kind) or types.is_integer(kind) or types.is_decimal(kind):
            return True
        if types.is_boolean(kind) or types.is_null(kind):
            return True
        text = kind.value_type if types.is_dictionary(kind) else kind
        if types.is_string(text) or types.is_large_string(text) or types.is_string_view(text):
            return False
        if types.is_temporal(kind):
            return False
        raise DataError(f"column '{field.name}' holds {kind}; give numbers, truth values or text.")

    def _store(self, column: Any, name: str, row: int, start: int, stop: int) -> None:
        """Writes a piece of a column as float32, and as float64 too if it holds whole numbers beyond that."""
        from pyarrow import bool_, compute, float32, float64

        place = self._numbers[row, start:stop]
        if column.type == float32():
            place[:] = column.to_numpy(zero_copy_only=False)
            return
        if column.type == bool_():
            column = compute.cast(column, "int8")
        values = compute.cast(column, float64(), safe=False).to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            place[:] = values
        if name in self._wide or _is_wide(values, place):
            before = [] if name in self._wide else [self._numbers[row, :start].astype(float)]
            self._wide.setdefault(name, before).append(values)

    def _table(self, numeric: list[str], n_rows: int) -> pd.DataFrame:
        from pyarrow import chunked_array

        block, self._numbers = self._numbers[:, :n_rows], np.empty((0, 0), dtype=np.float32)
        labels = set(self.exact) - {self.patient}
        others = {
            name: text_series(chunked_array(parts), parse=name in labels)
            for name, parts in self._others.items()
        }
        others |= {name: pd.Series(np.concatenate(parts)) for name, parts in self._wide.items()}
        self._others, self._wide = {}, {}
        key = text_keys(others.pop(self.patient))
        narrow = [name for name in numeric if name not in others]
        if len(narrow) < len(numeric):
            block = block[[numeric.index(name) for name in narrow]]
        numbers = pd.DataFrame(block.T, index=key, columns=narrow, copy=False)
        if not others:
            return numbers
        rest = pd.DataFrame(others).set_axis(key, axis=0)
        return (
            pd.concat([numbers, rest], axis=1, copy=False) if _COPIES else pd.concat([numbers, rest], axis=1)
        )


def text_keys(keys: Any) -> pd.Index:
    """Returns patient identifiers as text; whole numbers become their digits, missing ones become empty text.

    Raises:
        DataError: If the keys are neither text nor whole numbers.
    """
    if isinstance(keys, np.ndarray) and keys.dtype.kind == "S":
        keys = np.char.decode(keys)
    values: pd.Index[Any] = pd.Index(keys, name="patient")
    kind = values.dtype
    if (pd.api.types.is_float_dtype(kind) and not values.isna().all()) or pd.api.types.is_bool_dtype(kind):
        raise DataError(
            f"the patient key holds {kind}, in which 1 and 1.0 cannot be told apart. Store it as text, or as "
            f"whole numbers without empty cells."
        )
    missing = np.asarray(values.isna())
    if isinstance(kind, pd.StringDtype) and not missing.any():
        return values
    text = values.astype(object).where(~missing, "").map(str)
    answer: pd.Index[Any] = pd.Index(text.to_numpy(dtype=object), name="patient")
    return answer


def text_series(column: Any, *, parse: bool) -> pd.Series[Any]:
    """Returns an Arrow column in its own type, dates as text.

    Args:
        column: A chunked array.
        parse: Whether text that is nothing but numbers, none with a leading zero, becomes numbers.
    """
    from pyarrow import ArrowInvalid, compute, float64, int64, string, types

    kind = column.type
    if types.is_dictionary(kind) or types.is_temporal(kind):
        column = compute.cast(column, string())
    if (
        parse
        and types.is_string(kind)
        and not compute.any(compute.match_substring_regex(column, "^[+-]?0[0-9]")).as_py()
    ):
        for number in (int64(), float64()):
            try:
                column = compute.cast(column, number)
                break
            except ArrowInvalid:
                continue
    series: pd.Series[Any] = column.to_pandas()
    return series.reset_index(drop=True)


def _is_wide(values: np.ndarray[Any, Any], narrow: np.ndarray[Any, Any]) -> bool:
    """Says whether whole numbers, or numbers beyond the range of float32, are lost in ``narrow``."""
    largest = np.fmax.reduce(np.abs(values), initial=0.0)
    if largest <= 1 << 24:
        return False
    lost = (values != narrow) & np.isfinite(values)
    return bool((lost & ((values == np.floor(values)) | np.isinf(narrow))).any())
