"""Checks of a cohort before training: problems, which become errors, and notes, which become warnings.

No function loops over patients, and none reads numeric columns one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.base.column_blocks import are_plain, column_blocks, plain_numbers
from multimodn.errors import shown

FEW = 20  # distinct whole numbers up to which a target column is taken for classes


@dataclass(frozen=True)
class Note:
    """A note on the data, for the reader of a warning."""

    text: str  # may name patients and their values
    summary: str | None = None  # the same without them, with a place {} for each of `values`
    values: tuple[str | int, ...] = ()  # names and counts of the summary

    def __str__(self) -> str:
        return self.text


def key_problems(source: str, frame: pd.DataFrame, *, several_rows: bool = False) -> list[str]:
    """Finds empty and repeated patient keys of a source, and a source without rows."""
    keys, problems = frame.index, []
    if not len(keys):
        return [f"source '{source}' has no rows."]
    blank = np.asarray(pd.Series(keys).str.strip() == "")
    if blank.any():
        n, first = int(blank.sum()), int(np.flatnonzero(blank)[0]) + 1
        problems.append(f"source '{source}': the patient key is empty in {n} row(s), first in row {first}.")
    repeated = keys[keys.duplicated() & ~blank].unique()
    if len(repeated) and not several_rows:
        problems.append(
            f"source '{source}': {len(repeated)} patient(s) have several rows: {shown(list(repeated))}. "
            f"Keep one row per patient, aggregate them in a query, or set its modality's `repeats:` if they are visits."
        )
    return problems


def infinite_problems(modality: str, frame: pd.DataFrame) -> list[str]:
    """Finds infinite numbers; each problem names column and patient."""
    problems = []
    for name, low, high in _extremes(frame):
        if np.isinf(low) or np.isinf(high):
            rows = np.flatnonzero(np.isinf(frame[name].to_numpy(dtype=float, na_value=np.nan)))
            problems.append(
                f"modality '{modality}', column '{name}': {len(rows)} infinite value(s), first of patient "
                f"'{frame.index[rows[0]]}'. Leave the cell empty where nothing was measured."
            )
    return problems


def column_notes(modality: str, frame: pd.DataFrame) -> list[Note]:
    """Lists columns without information: the same value for all patients, or none."""
    empty, constant = [], []
    for name, low, high in _extremes(frame):
        if np.isnan(low):
            empty.append(name)
        elif low == high:
            constant.append(name)
    for name in _texts(frame):
        n_values = frame[name].nunique()
        if n_values < 2:
            (constant if n_values else empty).append(name)
    notes = []
    for what, some in (("empty", empty), ("constant", constant)):
        if some:
            text = f"modality '{modality}': {len(some)} column(s) are {what}: {shown(some)}."
            notes.append(Note(text, f"modality {{}}: {{}} columns are {what}", (modality, len(some))))
    return notes


def orphan_notes(with_targets: pd.Index, frames: Mapping[str, pd.DataFrame]) -> list[Note]:
    """Lists patients of a modality who are in no targets' source; they are kept, without labels."""
    notes = []
    for modality, frame in frames.items():
        patients = frame.index.unique()
        orphans = patients.difference(with_targets)
        if len(orphans):
            text = (
                f"modality '{modality}': {len(orphans)} of {len(patients)} patients have no row in the targets' "
                f"source and stay unlabelled: {shown(list(orphans))}."
            )
            summary = "of modality {}, {} patients have no row in the source of the targets, and therefore no labels"
            notes.append(Note(text, summary, (modality, len(orphans))))
    return notes


def class_notes(task: str, targets: pd.DataFrame) -> list[Note]:
    """Lists classes that only one patient has."""
    notes = []
    for name in targets.columns:
        counts = targets[name].value_counts()
        if not _are_classes(targets[name], counts):
            continue
        single = sorted(str(value) for value in counts.index[counts == 1])
        if single:
            text = f"task '{task}', column '{name}': {len(single)} class(es) occur once: {shown(single)}."
            notes.append(Note(text, "task {}, column {}: some classes occur in one patient only", (task, str(name))))
    return notes


def _extremes(frame: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Returns name, lowest and highest value of each numeric column; NaN where all cells are empty."""
    extremes = list[tuple[str, float, float]]()
    places = np.flatnonzero(are_numeric(frame))
    for block in column_blocks(len(frame), len(places)):
        numbers = numbers_of(frame, places[block])
        low, high = (extreme.reduce(numbers, axis=1, initial=np.nan).tolist() for extreme in (np.fmin, np.fmax))
        extremes += zip(frame.columns[places[block]], low, high, strict=True)
    return extremes


def numbers_of(frame: pd.DataFrame, places: NDArray[np.intp]) -> NDArray[np.float64]:
    """Returns the cells of numeric columns ``(n_places, n)``, NaN = empty."""
    plain = are_plain(frame)[places]
    if plain.all():
        return plain_numbers(frame, places)
    numbers = np.empty((len(places), len(frame)))
    numbers[plain] = plain_numbers(frame, places[plain])
    for k in np.flatnonzero(~plain).tolist():
        numbers[k] = frame.iloc[:, places[k]].to_numpy(dtype=float, na_value=np.nan)
    return numbers


def are_numeric(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Tells which columns hold numbers, ``(n_columns,)``."""
    known = {dtype: pd.api.types.is_numeric_dtype(dtype) for dtype in set(frame.dtypes)}
    return np.array([known[dtype] for dtype in frame.dtypes], dtype=np.bool_)


def _texts(frame: pd.DataFrame) -> list[str]:
    return frame.columns[~are_numeric(frame)].tolist()


def _are_classes(values: pd.Series[Any], counts: pd.Series[int]) -> bool:
    if not pd.api.types.is_numeric_dtype(values.dtype):
        return len(counts) <= max(FEW, len(values) // 5)
    numbers = counts.index.to_numpy(dtype=float)
    return len(counts) <= min(FEW, int(counts.sum()) // 5) and bool((numbers == np.floor(numbers)).all())
