"""Options with which a table is read as it is meant: delimiter, encoding, decimal sign, units, limits, empty cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from multimodn.data.outcome_words import is_empty_word
from multimodn.data.reading.number_texts import GROUPS, Writings, writings
from multimodn.data.reading.text_files import DELIMITERS
from multimodn.data.sources import read_source
from multimodn.errors import DataError, shown
from multimodn.study.sources import EMPTY, TEXT_FILES
from multimodn.study.study import SourceSpec

ENCODINGS = (None, "cp1252", "utf-16-le", "utf-16-be")
MOST = 0.9  # share of the cells of a column that are numbers
OPTION = {"percent": "units", "unit": "units", "limit": "detection_limit", "range": "ranges"}
VALUE = {"units": "strip", "detection_limit": "half", "ranges": "middle"}


def read_table(path: Path, patient: str, targets: Sequence[str]) -> tuple[pd.DataFrame, dict[str, Any], list[str]]:
    """Reads a table, and finds the options that it needs.

    Returns:
        The table, indexed by patient, the options of its source, and notes on those that are guesses.

    Raises:
        DataError: If it cannot be read, whatever the options.
    """
    table, options = _readable(path, patient, targets)
    found, notes = _of_cells(table, targets)
    if not found:
        return table, options, []
    try:
        return (
            read_source(SourceSpec(path=str(path), **options, **found), Path(), patient, targets),
            options | found,
            notes,
        )
    except DataError as error:
        return table, options, [f"cells are no plain numbers, and `{', '.join(found)}` cannot settle it: {error}"]


def _readable(path: Path, patient: str, targets: Sequence[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    try:
        return read_source(SourceSpec(path=str(path)), Path(), patient, targets), {}
    except DataError:
        if not path.is_file() or not path.name.lower().removesuffix(".gz").endswith(TEXT_FILES):
            raise
        for options in _forms():
            try:
                return read_source(SourceSpec(path=str(path), **options), Path(), patient, targets), options
            except DataError:
                continue
        raise


def _forms() -> Iterator[dict[str, Any]]:
    for encoding in ENCODINGS:
        for delimiter in (None, *("tab" if sign == "\t" else sign for sign in DELIMITERS)):
            given = {"encoding": encoding, "delimiter": delimiter}
            if delimiter or encoding:
                yield {name: value for name, value in given.items() if value is not None}


def _of_cells(table: pd.DataFrame, targets: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Finds the options that make numbers of text columns which hold (nearly) nothing else."""
    found, notes, empty = dict[str, Any](), list[str](), dict[str, int]()
    for name, dtype in zip(table.columns, table.dtypes, strict=True):
        if not (pd.api.types.is_object_dtype(dtype) or isinstance(dtype, pd.StringDtype)):
            continue
        counts = table[name].dropna().astype(str).str.strip().value_counts()
        counts = counts[counts.index != ""]
        if not len(counts):
            continue
        marks = [text for text in counts.index if is_empty_word(text)]
        written = writings(counts.index, np.asarray(counts, dtype=np.int64))
        n_other = written.counts.get("other", 0) - int(counts[marks].sum())
        if name in targets and marks and len(counts) - len(marks) > 1:  # as `infer_task` takes them
            empty |= {text: empty.get(text, 0) + int(counts[text]) for text in marks}
            notes.append(f"{name}: empty cells {shown([repr(text) for text in marks], 3)}")
        if written.are_bands or n_other > 0 or not _are_numbers(written, int(counts[marks].sum())):
            continue
        own = _options(written)
        if own or (marks and name not in targets):
            empty |= {text: empty.get(text, 0) + int(counts[text]) for text in marks}
            found |= own
            notes.append(f"{name}: {written.counted()[7:]}")
    if empty:
        found["empty"] = [*EMPTY, *(text for text in empty if text not in EMPTY)]
    return found, [shown(notes, 4)] if notes else []


def _are_numbers(written: Writings, n_empty: int) -> bool:
    n_numbers = written.n_filled - written.counts.get("other", 0)
    return n_numbers > 0 and n_numbers >= MOST * (n_numbers + n_empty)


def _options(written: Writings) -> dict[str, Any]:
    options = dict[str, Any]()
    kinds = set(written.counts) | written.inner
    if len(written.units) > 1:
        return {}  # one column in several units: for the reader to convert
    if "comma" in kinds:
        options["decimal"] = ","
    if "thousands" in kinds:
        texts = [text for some in written.examples.values() for text in some]
        signs = [sign for sign in GROUPS for text in texts if re.search(rf"\d{GROUPS[sign]}\d{{3}}", text)]
        options |= {"thousands": signs[0]} if signs and signs[0] != options.get("decimal") else {}
    for kind in written.counts:
        if kind in OPTION:
            options[OPTION[kind]] = VALUE[OPTION[kind]]
    return options
