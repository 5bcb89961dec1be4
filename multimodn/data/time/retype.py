"""Types of columns as a file without the rows that were left out would have them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from pandas.api import types

from multimodn.data.arrow_table import is_wide

Series: TypeAlias = "pd.Series[Any]"

_BOOLEANS = {"true": 1.0, "True": 1.0, "TRUE": 1.0, "false": 0.0, "False": 0.0, "FALSE": 0.0}


def retyped(frame: pd.DataFrame, as_they_are: Collection[str]) -> pd.DataFrame:
    """Returns the frame with columns of text that are numbers as numbers, and in single precision where that suffices.

    A source is read as a whole, so that a text in a row that is not known yet makes its column text.
    """
    changed = {}
    for name in frame.columns:
        if name not in as_they_are:
            column = frame[name]
            narrow = _narrowed(_as_numbers(column))
            if narrow.dtype != column.dtype:
                changed[name] = narrow
    return frame.assign(**changed) if changed else frame


def _as_numbers(column: Series) -> Series:
    if types.is_numeric_dtype(column.dtype):  # of a file they are real numbers too
        is_real = column.dtype in (np.float32, np.float64)
        return column if is_real else pd.Series(column.to_numpy(np.float64, na_value=np.nan), column.index)
    if not (types.is_object_dtype(column.dtype) or isinstance(column.dtype, pd.StringDtype)):
        return column
    filled = column.dropna()
    if not len(filled):
        return pd.Series(np.full(len(column), np.nan, np.float32), column.index, name=column.name)
    if not isinstance(filled.iloc[0], str):  # numbers in a column of objects
        is_number = types.infer_dtype(filled, skipna=True) in {"integer", "floating", "mixed-integer-float", "boolean"}
        return column.astype(np.float64) if is_number else column
    if filled.isin(_BOOLEANS.keys()).all():
        return column.map(_BOOLEANS).astype(np.float32)
    numbers = pd.to_numeric(filled, errors="coerce")
    if numbers.isna().any():
        return column
    values = np.full(len(column), np.nan)
    values[column.notna().to_numpy()] = numbers.to_numpy()
    return pd.Series(values, column.index, name=column.name)


def _narrowed(column: Series) -> Series:
    if column.dtype != np.float64:
        return column
    values = column.to_numpy()
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    return column if is_wide(values, narrow) else pd.Series(narrow, column.index, name=column.name)
