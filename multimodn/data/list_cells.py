"""Lists in the cells of a column, as JSON text: one form for hashing, checks and encoders, whatever the source was."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Series: TypeAlias = "pd.Series[Any]"

LISTS = (list, tuple, set, frozenset, np.ndarray)


def lists_as_text(column: Series) -> Series:
    """Returns the column with lists as JSON text and all other cells as they are; itself if it has no lists.

    A missing entry of a list is left out; numbers are written as whole numbers where they are.
    """
    if column.dtype != object or not any(isinstance(cell, LISTS) for cell in column):
        return column
    cells = [_json(cell) if isinstance(cell, LISTS) else cell for cell in column]
    return pd.Series(cells, column.index, dtype=object, name=column.name)


def holds_lists(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Tells which columns hold lists, ``(n_columns,)``, by the first filled cell of each column of objects."""
    found = np.zeros(frame.shape[1], dtype=np.bool_)
    for k in np.flatnonzero([dtype == np.dtype(object) for dtype in frame.dtypes]).tolist():
        filled = frame.iloc[:, k].notna().to_numpy()
        found[k] = filled.any() and isinstance(frame.iloc[int(filled.argmax()), k], LISTS)
    return found


def _json(cells: Any) -> str:
    listed = sorted(cells, key=str) if isinstance(cells, set | frozenset) else list(cells)
    return json.dumps([_text(cell) for cell in listed if not (cell is None or cell != cell)], ensure_ascii=False)


def _text(cell: Any) -> str:
    return str(int(cell)) if isinstance(cell, float | np.floating) and float(cell).is_integer() else str(cell)
