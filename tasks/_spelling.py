"""One spelling for each label of a target column, and notes on labels that are hardly classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from multimodn.data.label_texts import as_number, as_text, counted, dates_among
from multimodn.data.outcome_words import is_empty_word, spellings
from multimodn.errors import DataError, shown
from multimodn.tasks._labels import Label, find_class

FEW = 10  # different numbers up to which a column with other texts is taken for classes
AS_EMPTY = "Empty these cells if they mean that nothing is known."


def tidy_labels(
    frame: pd.DataFrame, column: str, classes: Sequence[Label] | None = None, *, are_answers: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """Writes labels that differ in upper case, blanks or accents only in their most frequent spelling.

    Args:
        frame: Target columns, one row for each patient.
        column: The column of the labels.
        classes: The classes that the study names, in their spelling.
        are_answers: Whether all words for yes are one label, and all for no, where the column holds such words only.

    Returns:
        The frame itself if nothing is written anew, and notes.
    """
    codes, distinct = pd.factorize(frame[column])
    texts = [as_text(label) for label in distinct]
    counts = dict[str, int]()
    for text, n in zip(texts, np.bincount(codes[codes >= 0], minlength=len(texts)).tolist(), strict=True):
        if text:
            counts[text] = counts.get(text, 0) + n
    named = [as_text(label) for label in classes or []]
    empty = _empty(counts, named, are_answers=are_answers)
    known = {text: n for text, n in counts.items() if text not in empty}
    new = _new_texts(known, named, are_answers=are_answers)
    notes = _empty_notes(column, counts, empty) + ([] if named or are_answers else _doubts(column, known))
    changed = [text for text in known if new[text] != text]
    if not changed and not empty:
        return frame, notes
    pairs = [f"'{text}' as '{new[text]}' ({counts[text]:,})" for text in changed]
    n = sum(counts[text] for text in changed)
    other = "Name both in `classes` if they are different" if not are_answers else "Rename one if they are different"
    if changed:
        notes.insert(0, f"column '{column}': {n:,} labels are read in another spelling: {shown(pairs)}. {other}.")
    label_of = {text: new[text] for text in changed} | dict.fromkeys(empty)
    labels = [label_of.get(text, label) for text, label in zip(texts, distinct, strict=True)]
    rewritten = np.array([*labels, None], dtype=object)  # code -1, no label, reads the last
    return frame.assign(**{column: pd.Series(rewritten[codes], index=frame.index, dtype=object)}), notes


def tidy_numbers(frame: pd.DataFrame, column: str) -> tuple[pd.DataFrame, list[str]]:
    """Empties the cells of a column of numbers that are words for an empty cell; returns the frame and notes."""
    if column not in frame or pd.api.types.is_numeric_dtype(frame[column].dtype):
        return frame, []
    texts = frame[column].astype(object).map(as_text, na_action="ignore")
    counts = {str(text): int(n) for text, n in texts.value_counts().items()}
    empty = [text for text in counts if text and as_number(text) is None and is_empty_word(text)]
    if not empty or len(empty) == len(counts):
        return frame, []
    cells = frame[column].astype(object).mask(texts.isin(empty), None)
    return frame.assign(**{column: cells}), _empty_notes(column, counts, empty)


def _empty(counts: dict[str, int], named: list[str], *, are_answers: bool) -> list[str]:
    """Returns the words for an empty cell that cannot be a class beside the others."""
    words = [text for text in counts if is_empty_word(text)]
    if named:
        return [text for text in words if find_class(text, named) < 0]
    known = {text: n for text, n in counts.items() if text not in words}
    is_third = are_answers and len(set(spellings(known, are_answers=True).values())) == 2
    return words if is_third else []


def _empty_notes(column: str, counts: dict[str, int], empty: list[str]) -> list[str]:
    n = sum(counts[text] for text in empty)
    return [f"column '{column}': {n:,} cells count as no label: {counted(counts, empty)}."] if empty else []


def _new_texts(counts: dict[str, int], named: list[str], *, are_answers: bool) -> dict[str, str]:
    if named:
        places = {text: find_class(text, named) for text in counts}
        return {text: named[at] if at >= 0 else text for text, at in places.items()}
    return spellings(counts, are_answers=are_answers)


def _doubts(column: str, counts: dict[str, int]) -> list[str]:
    """Notes on labels that mean an empty cell, and on numbers among texts."""
    if len(counts) < 3:
        return []
    empty = [text for text in counts if is_empty_word(text)]
    texts = [text for text in counts if as_number(text) is None]
    n_numbers, notes = len(counts) - len(texts), []
    if empty:
        notes.append(f"column '{column}': {counted(counts, empty)} is a label like others. {AS_EMPTY}")
    if n_numbers > FEW and texts and not set(texts) <= set(empty):
        listed = shown([f"'{text}'" for text in texts])
        notes.append(
            f"column '{column}': {n_numbers} different numbers and {listed} are taken for classes. "
            f"Correct these cells and use `kind: regression` if the numbers are measured."
        )
    return notes


def refuse_dates(task: str, column: str, values: Sequence[str]) -> None:
    """Refuses labels that are dates.

    Raises:
        DataError: If nearly all are.
    """
    found = dates_among(values)
    if len(values) > 2 and found:
        raise DataError(
            f"Task '{task}': column '{column}' holds dates such as '{found[0]}', which are no classes. Make them "
            f"numbers, such as days since the diagnosis, or name the classes with `classes: [...]` if they are meant."
        )


def date_notes(frame: pd.DataFrame, column: str) -> list[str]:
    """Notes that the numbers of a column are dates such as 20240131, whose differences are no times."""
    found = dates_among([as_text(value) for value in frame[column].dropna().unique()])
    text = f"column '{column}': its numbers are dates such as {found[0]}; make them days since" if found else ""
    return [f"{text} an event of each patient, unless such numbers are to be predicted."] if found else []
