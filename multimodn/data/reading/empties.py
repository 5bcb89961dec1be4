"""Texts such as `NA` that stand for an empty cell, or for sodium."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import pandas as pd

from multimodn.errors import shown


def notes_on_marks(
    n_marks: Mapping[str, Counter[str]], frame: pd.DataFrame, count_elsewhere: Callable[[str, int], int]
) -> list[str]:
    """Notes the marks that were taken for empty in text, and for numbers nowhere in the table.

    Args:
        n_marks: The number of cells of each mark, by column.
        frame: The table as read, without them.
        count_elsewhere: Counts a mark in other columns, given it and its cells in columns of text.
    """
    texts = {n: marks for n, marks in n_marks.items() if not pd.api.types.is_numeric_dtype(frame[n].dtype)}
    of_text = sum(texts.values(), Counter[str]())
    of_numbers = sum((marks for name, marks in n_marks.items() if name not in texts), Counter[str]())
    notes = []
    for mark, n_cells in of_text.items():
        if of_numbers[mark] or count_elsewhere(mark, n_cells):
            continue
        columns = {name: marks[mark] for name, marks in texts.items() if marks[mark]}
        listed = shown([f"'{name}' ({n} cells)" for name, n in columns.items()])
        others = shown([repr(text) for name in columns for text in frame[name].dropna().unique()[:3]], 3)
        notes.append(
            f"'{mark}' counts as empty in {listed}, beside values such as {others}. If it means something there, write "
            f'`empty: []` at the source; if not, `empty: ["{mark}"]`.'
        )
    return notes
