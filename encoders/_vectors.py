"""Vectors that their network did not make: constant ones, and cells that hold a code such as -999."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from multimodn.encoders._outliers import apart
from multimodn.encoders._reading import Booleans, Floats
from multimodn.encoders._tables.scaling import NumericColumn

LEAST_COLUMNS = 8  # narrower vectors may well be constant
SPARSE = 0.01  # share of zeros in other vectors from which a vector of zeros is nothing special
REACH = 10.0  # times the training range that a code lies beyond it
NINES = [99.0, 999.0, 9999.0, 99999.0, 999999.0, 9999999.0, 1e9, 1e30]
CODES = np.array(NINES + [-code for code in NINES], dtype=np.float32)


class ConstantRows:
    """Finds vectors all of whose cells are equal, block of columns by block."""

    def __init__(self, n_rows: int) -> None:
        self.low, self.high = np.full(n_rows, np.inf), np.full(n_rows, -np.inf)
        self.n_zeros, self.n_columns = np.zeros(n_rows, dtype=np.int64), 0

    def add(self, numbers: Floats) -> None:
        """Looks at a block ``(n_columns, n)``."""
        if len(numbers):
            np.minimum(self.low, numbers.min(0), out=self.low)
            np.maximum(self.high, numbers.max(0), out=self.high)
            self.n_zeros += (numbers == 0.0).sum(0)
            self.n_columns += len(numbers)

    def found(self, columns: Sequence[NumericColumn] = ()) -> Booleans:
        """Marks constant vectors ``(n,)``; those of zeros only where a zero is rare.

        That is, in other vectors, or, where there are none, if it is out of the range of some training ``columns``.
        """
        constant = self.low == self.high
        if self.n_columns < LEAST_COLUMNS:
            return np.zeros(len(constant), dtype=np.bool_)
        if constant.all():
            is_rare = any(not column.minimum <= 0.0 <= column.maximum for column in columns)
        else:
            is_rare = self.n_zeros[~constant].sum() < SPARSE * self.n_columns * int((~constant).sum())
        marked: Booleans = constant & ((self.low != 0.0) | is_rare)
        return marked


def code_cells(numbers: Floats, columns: Sequence[NumericColumn] = ()) -> Iterator[tuple[int, Booleans]]:
    """Yields columns of a block ``(n_columns, n)`` and their cells that hold a code of nines far from all others.

    With training ``columns``, far from their range.
    """
    if not numbers.size:
        return
    with np.errstate(over="ignore"):
        ends = np.stack([numbers.min(1), numbers.max(1)]).astype(np.float32)
        for k in np.flatnonzero(np.isin(ends, CODES).any(0)).tolist():
            is_far = _out_of_range(numbers[k], columns[k]) if columns else apart(numbers[k])
            marked = is_far & np.isin(numbers[k].astype(np.float32), CODES)
            if marked.any():
                yield k, marked


def _out_of_range(numbers: Floats, column: NumericColumn) -> Booleans:
    margin = REACH * (column.maximum - column.minimum)
    out: Booleans = (numbers < column.minimum - margin) | (numbers > column.maximum + margin)
    return out


def suspicious_vectors(constant: Booleans, low: Floats, codes: dict[int, list[str]], index: pd.Index) -> dict[str, str]:
    """Says for each patient what is wrong with the vector; ``codes``: cells that hold codes, by row."""
    problems = {str(index[i]): f"all cells of the vector are {low[i]:g}." for i in np.flatnonzero(constant).tolist()}
    for i, cells in codes.items():
        more = f" and {len(cells) - 3} more cells" if len(cells) > 3 else ""
        problems.setdefault(str(index[i]), f"{', '.join(cells[:3])}{more}, far from all other vectors.")
    return problems
