"""Tables as text: what a page and its files say of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

MOST_ROWS = 60
"""Of a table on the page; the file beside its figure holds all."""
DASH, MINUS, INFINITY = "\u2013", "\u2212", "\u221e"


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
        columns: Their names, and whether they hold numbers.
        rows: Cells.
        n_left_out: Rows that are not among them.
    """

    columns: list[tuple[str, bool]]
    rows: list[list[str]]
    n_left_out: int


def table(frame: pd.DataFrame, most: int = MOST_ROWS) -> Table:
    """Writes a frame as text: numbers with three significant digits, an unknown value as a dash.

    Args:
        frame: Any; an index with a name becomes the first column.
        most: Rows that are written.
    """
    shown = frame.reset_index() if frame.index.name else frame
    columns = [(str(name).replace("_", " "), pd.api.types.is_numeric_dtype(shown[name])) for name in shown.columns]
    head = shown.head(most)
    cells = [[_cell(value) for value in head[name]] for name in shown.columns]
    return Table(columns, [list(row) for row in zip(*cells, strict=True)], len(shown) - len(head))


def _cell(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}".replace("-", MINUS)
    if isinstance(value, (float, np.floating)):
        return _number(float(value))
    return DASH if value is None or value is pd.NA or str(value) == "" else str(value)


def _number(value: float) -> str:
    if not np.isfinite(value):
        return DASH if np.isnan(value) else INFINITY if value > 0 else MINUS + INFINITY
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}".replace("-", MINUS)
    size = abs(value)
    if size < 5e-4 or size >= 1e6:
        return f"{value:.2e}".replace("-", MINUS)
    digits = int(np.clip(2 - np.floor(np.log10(size)), 0, 6))
    return f"{value:,.{digits}f}".replace("-", MINUS)
