"""Tables as text: what a page and its files say of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from multimodn.findings.numbers import cell

MOST_ROWS = 60  # of a table on the page; the file beside its figure holds all


@dataclass(frozen=True)
class TextTable:
    """A table as text."""

    columns: list[tuple[str, bool]]  # their names, and whether they hold numbers
    rows: list[list[str]]  # cells
    n_left_out: int  # rows that are not among them


def table(frame: pd.DataFrame, most: int = MOST_ROWS) -> TextTable:
    """Writes a frame's first rows as text, see `cell`; an index with a name becomes the first column."""
    shown = frame.reset_index() if frame.index.name else frame
    columns = [(str(name).replace("_", " "), pd.api.types.is_numeric_dtype(shown[name])) for name in shown.columns]
    head = shown.head(most)
    cells = [[cell(value) for value in head[name]] for name in shown.columns]
    return TextTable(columns, [list(row) for row in zip(*cells, strict=True)], len(shown) - len(head))
