"""Blocks of columns of a wide table: one pandas operation a column would take most of the time.

A plain column has a real NumPy dtype, whose cells become float64 without a look at each; others are read one by one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BLOCK_CELLS = 1 << 20  # bounds the memory that a block takes, 8 MB in float64


def column_blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Divides columns into blocks of at most `BLOCK_CELLS` cells, or of one column."""
    width = max(1, BLOCK_CELLS // max(1, n_rows))
    for start in range(0, n_columns, width):
        yield slice(start, min(start + width, n_columns))


def are_plain(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Tells which columns have booleans, integers or floats of NumPy, ``(n_columns,)``."""
    return np.array([isinstance(dtype, np.dtype) and dtype.kind in "biuf" for dtype in frame.dtypes], dtype=np.bool_)


def plain_numbers(frame: pd.DataFrame, places: NDArray[np.intp]) -> NDArray[np.float64]:
    """Returns the cells of plain columns, ``(n_places, n)``, a row for each column; they must not be written to."""
    return np.ascontiguousarray(frame.iloc[:, places].to_numpy(dtype=np.float64).T)
