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

SAMPLE = 512  # labelled patients that must show a suspected leak before all are checked
FEW = 20  # distinct whole numbers up to which a target column is taken for classes
LEAK_ROWS = 20  # fewer patients agree by chance too easily
NEAR = 1e-6  # relative difference up to which numbers are taken for equal


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


def leak_notes(modality: str, frame: pd.DataFrame, targets: Mapping[str, pd.DataFrame]) -> list[Note]:
    """Lists input columns that equal a target column, if need be after renaming its values."""
    notes = list[Note]()
    if not frame.index.is_unique:  # several rows of a patient cannot each be a renamed target
        return notes
    for task, table in targets.items():
        for target in table.columns:
            label = table[target].reindex(frame.index).dropna()
            if len(label) < LEAK_ROWS or label.nunique() < 2:
                continue
            suspects = [name for name in _suspects(frame, label) if _is_renamed(frame[name], label)]
            if suspects:
                text = (
                    f"modality '{modality}': {shown(suspects)} has the same information as target column '{target}' of "
                    f"task '{task}'. If it is not known before the outcome, exclude it with `all_but`."
                )
                summary = "modality {} has columns with the same information as an outcome ({}), likely a leak"
                notes.append(Note(text, summary, (modality, shown(suspects))))
    return notes


def _extremes(frame: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Returns name, lowest and highest value of each numeric column; NaN where all cells are empty."""
    extremes = list[tuple[str, float, float]]()
    places = np.flatnonzero(_are_numeric(frame))
    for block in column_blocks(len(frame), len(places)):
        numbers = _numbers(frame, places[block])
        low, high = (extreme.reduce(numbers, axis=1, initial=np.nan).tolist() for extreme in (np.fmin, np.fmax))
        extremes += zip(frame.columns[places[block]], low, high, strict=True)
    return extremes


def _numbers(frame: pd.DataFrame, places: NDArray[np.intp]) -> NDArray[np.float64]:
    """Returns the cells of numeric columns ``(n_places, n)``, NaN = empty."""
    plain = are_plain(frame)[places]
    if plain.all():
        return plain_numbers(frame, places)
    numbers = np.empty((len(places), len(frame)))
    numbers[plain] = plain_numbers(frame, places[plain])
    for k in np.flatnonzero(~plain).tolist():
        numbers[k] = frame.iloc[:, places[k]].to_numpy(dtype=float, na_value=np.nan)
    return numbers


def _are_numeric(frame: pd.DataFrame) -> NDArray[np.bool_]:
    return np.array([pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes], dtype=np.bool_)


def _texts(frame: pd.DataFrame) -> list[str]:
    return frame.columns[~_are_numeric(frame)].tolist()


def _are_classes(values: pd.Series[Any], counts: pd.Series[int]) -> bool:
    if not pd.api.types.is_numeric_dtype(values.dtype):
        return len(counts) <= max(FEW, len(values) // 5)
    numbers = counts.index.to_numpy(dtype=float)
    return len(counts) <= min(FEW, int(counts.sum()) // 5) and bool((numbers == np.floor(numbers)).all())


def _suspects(frame: pd.DataFrame, label: pd.Series[Any]) -> list[str]:
    """Returns the columns that may equal the label, judged by a sample of the labelled patients."""
    are_numeric = _are_numeric(frame)
    texts, numeric = frame.columns[~are_numeric].tolist(), frame.columns[are_numeric].tolist()
    rows = np.unique(np.linspace(0, len(label) - 1, SAMPLE).astype(int))
    codes = pd.factorize(label.iloc[rows])[0]
    if not numeric:
        return texts
    if len(np.unique(codes)) > len(rows) // 2:
        return [*texts, *_near(frame, np.flatnonzero(are_numeric), label)]
    order = np.argsort(codes, kind="stable")
    sampled = frame.index.get_indexer(label.index[rows[order]])
    values = frame[numeric].iloc[sampled].to_numpy(dtype=float, na_value=np.nan)
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    low, high = np.fmin.reduceat(values, starts, axis=0), np.fmax.reduceat(values, starts, axis=0)
    same_in_class = ((low == high) | np.isnan(low)).all(axis=0)
    return [*texts, *(name for name, same in zip(numeric, same_in_class, strict=True) if same)]


def _near(frame: pd.DataFrame, places: NDArray[np.intp], label: pd.Series[Any]) -> list[str]:
    """Returns the numeric columns that may equal a label of mostly different values.

    Where more than half of the labels of a column's filled cells surely differ, `_is_renamed` asks for near numbers.
    """
    names = frame.columns[places].tolist()
    if not pd.api.types.is_numeric_dtype(label.dtype):
        return names
    rows, truth, n_different = frame.index.get_indexer(label.index), label.to_numpy(dtype=float), label.nunique()
    may_equal = list[np.bool_]()
    for block in column_blocks(len(frame), len(places)):
        cells = _numbers(frame, places[block])[:, rows]
        is_filled = ~np.isnan(cells)
        n_filled = is_filled.sum(axis=1)
        differ = n_different - (len(label) - n_filled) > n_filled // 2
        near = (np.isclose(cells, truth, rtol=NEAR) | ~is_filled).all(axis=1)
        may_equal += list(near | ~differ)
    return [name for name, may in zip(names, may_equal, strict=True) if may]


def _is_renamed(values: pd.Series[Any], label: pd.Series[Any]) -> bool:
    """Says whether values and labels correspond one to one."""
    values = values.reindex(label.index).dropna()
    label = label.loc[values.index]
    if len(values) < LEAK_ROWS:
        return False
    a, b = pd.factorize(values)[0].astype(np.int64), pd.factorize(label)[0].astype(np.int64)
    n_a, n_b = int(a.max()) + 1, int(b.max()) + 1
    if n_a != n_b or n_a < 2:
        return False
    if n_b > len(label) // 2:  # nearly every value is unique: any two such columns are renamings of each other
        if pd.api.types.is_numeric_dtype(values.dtype) and pd.api.types.is_numeric_dtype(label.dtype):
            return bool(np.allclose(values.to_numpy(dtype=float), label.to_numpy(dtype=float), rtol=NEAR))
        return bool((values.astype(str) == label.astype(str)).all())
    return len(np.unique(a * n_b + b)) == n_a
