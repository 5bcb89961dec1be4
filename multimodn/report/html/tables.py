"""Tables as text: what a page and its files say of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from multimodn.findings.numbers import cell

MOST_ROWS = 60
"""Of a table on the page; the file beside its figure holds all."""


@dataclass(frozen=True)
class TextTable:
    """A table as text.

    Attributes:
        columns: Their names, and whether they hold numbers.
        rows: Cells.
        n_left_out: Rows that are not among them.
    """

    columns: list[tuple[str, bool]]
    rows: list[list[str]]
    n_left_out: int


def table(frame: pd.DataFrame, most: int = MOST_ROWS) -> TextTable:
    """Writes a frame as text: numbers with three significant digits, an unknown value as a dash.

    Args:
        frame: Any; an index with a name becomes the first column.
        most: Rows that are written.
    """
    shown = frame.reset_index() if frame.index.name else frame
    columns = [(str(name).replace("_", " "), pd.api.types.is_numeric_dtype(shown[name])) for name in shown.columns]
    head = shown.head(most)
    cells = [[cell(value) for value in head[name]] for name in shown.columns]
    return TextTable(columns, [list(row) for row in zip(*cells, strict=True)], len(shown) - len(head))
