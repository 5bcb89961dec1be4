"""What is looked for in a cohort before training: problems, which are errors, and notes, which are warnings.

Every function goes over columns, never over patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.errors import shown

SAMPLE = 512  # labelled patients on which a suspected leak has to show before all are looked at
FEW = 20  # distinct whole numbers up to which a target column is taken for classes
LEAK_ROWS = 20  # fewer patients than this agree by chance too easily


def key_problems(source: str, frame: pd.DataFrame, *, several_rows: bool = False) -> list[str]:
    """Finds empty and repeated patients of a source, and a source without rows.

    Args:
        source: Its name.
        frame: Its rows, indexed by patient.
        several_rows: Whether a patient may have several of them.
    """
    keys = frame.index
    problems = []
    if not len(keys):
        return [f"source '{source}' has no rows."]
    blank = np.asarray(pd.Series(keys).str.strip() == "")
    if blank.any():
        first = int(np.flatnonzero(blank)[0]) + 1
        problems.append(
            f"source '{source}': the patient key is empty in {int(blank.sum())} row(s), first in row {first}."
        )
    repeated = keys[keys.duplicated() & ~blank].unique()
    if len(repeated) and not several_rows:
        problems.append(
            f"source '{source}': {len(repeated)} patient(s) stand in several rows: {shown(list(repeated))}. "
            f"Keep one row a patient, aggregate them in a query, or say `repeats:` at its modality if they are visits."
        )
    return problems


def infinite_problems(modality: str, frame: pd.DataFrame) -> list[str]:
    """Finds infinite numbers; the message names patient and column."""
    problems = []
    for name, low, high in _extremes(frame):
        if np.isinf(low) or np.isinf(high):
            at = np.flatnonzero(np.isinf(frame[name].to_numpy(dtype=float, na_value=np.nan)))
            problems.append(
                f"modality '{modality}', column '{name}': {len(at)} infinite value(s), first of patient "
                f"'{frame.index[at[0]]}'. Leave the cell empty where nothing was measured."
            )
    return problems


def column_notes(modality: str, frame: pd.DataFrame) -> list[str]:
    """Lists columns that say nothing: the same value for everyone, or none."""
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
    if empty:
        notes.append(f"modality '{modality}': {len(empty)} column(s) are empty throughout: {shown(empty)}.")
    if constant:
        notes.append(f"modality '{modality}': {len(constant)} column(s) are constant: {shown(constant)}.")
    return notes


def orphan_notes(patients: pd.Index, labelled: pd.Index, frames: Mapping[str, pd.DataFrame]) -> list[str]:
    """Lists patients of a modality whom no targets source knows; they are kept, without labels."""
    notes = []
    for modality, frame in frames.items():
        patients = frame.index.unique()
        orphans = patients.difference(labelled)
        if len(orphans):
            notes.append(
                f"modality '{modality}': {len(orphans)} of {len(patients)} patients have no row in the targets' "
                f"source and stay unlabelled: {shown(list(orphans))}."
            )
    return notes


def class_notes(task: str, targets: pd.DataFrame) -> list[str]:
    """Lists classes that one patient alone has."""
    notes = []
    for name in targets.columns:
        counts = targets[name].value_counts()
        if not _are_classes(targets[name], counts):
            continue
        once = list(counts.index[counts == 1])
        if once:
            listed = shown(sorted(str(value) for value in once))
            notes.append(f"task '{task}', column '{name}': {len(once)} class(es) are seen once: {listed}.")
    return notes


def leak_notes(modality: str, frame: pd.DataFrame, targets: Mapping[str, pd.DataFrame]) -> list[str]:
    """Lists input columns that say the same as a target column, in other words perhaps."""
    notes: list[str] = []
    if not frame.index.is_unique:  # several rows of a patient cannot each be a renamed target
        return notes
    for task, table in targets.items():
        for target in table.columns:
            label = table[target].reindex(frame.index).dropna()
            if len(label) < LEAK_ROWS or label.nunique() < 2:
                continue
            suspects = [name for name in _suspects(frame, label) if _is_renamed(frame[name], label)]
            if suspects:
                notes.append(
                    f"modality '{modality}': {shown(suspects)} says the same as target column '{target}' of "
                    f"task '{task}'. If it is not known before the outcome, leave it out with `all_but`."
                )
    return notes


def _extremes(frame: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Returns name, lowest and highest value of each numeric column; NaN where all cells are empty."""
    found = []
    for name in frame.columns:
        if pd.api.types.is_numeric_dtype(frame[name].dtype):
            values = frame[name].to_numpy()
            if values.dtype.kind not in "fiu":
                values = frame[name].to_numpy(dtype=float, na_value=np.nan)
            low, high = (np.fmin.reduce(values), np.fmax.reduce(values)) if len(values) else (np.nan, np.nan)
            found.append((name, float(low), float(high)))
    return found


def _texts(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name].dtype)]


def _are_classes(values: pd.Series[Any], counts: pd.Series[int]) -> bool:
    if not pd.api.types.is_numeric_dtype(values.dtype):
        return len(counts) <= max(FEW, len(values) // 5)
    numbers = counts.index.to_numpy(dtype=float)
    return len(counts) <= min(FEW, int(counts.sum()) // 5) and bool((numbers == np.floor(numbers)).all())


def _suspects(frame: pd.DataFrame, label: pd.Series[Any]) -> list[str]:
    """Returns the columns that a sample of the labelled patients does not clear of suspicion."""
    texts = _texts(frame)
    numeric = [name for name in frame.columns if name not in set(texts)]
    rows = np.unique(np.linspace(0, len(label) - 1, SAMPLE).astype(int))
    codes = pd.factorize(label.iloc[rows])[0]
    if not numeric or len(np.unique(codes)) > len(rows) // 2:
        return [*texts, *numeric]
    order = np.argsort(codes, kind="stable")
    at = frame.index.get_indexer(label.index[rows[order]])
    values = frame[numeric].iloc[at].to_numpy(dtype=float, na_value=np.nan)
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    low, high = np.fmin.reduceat(values, starts, axis=0), np.fmax.reduceat(values, starts, axis=0)
    same_in_class = ((low == high) | np.isnan(low)).all(axis=0)
    return [*texts, *(name for name, same in zip(numeric, same_in_class, strict=True) if same)]


def _is_renamed(values: pd.Series[Any], label: pd.Series[Any]) -> bool:
    """Says whether each value goes with one label and each label with one value."""
    known = values.reindex(label.index).dropna()
    label = label.loc[known.index]
    if len(known) < LEAK_ROWS:
        return False
    a, b = pd.factorize(known)[0].astype(np.int64), pd.factorize(label)[0].astype(np.int64)
    n_a, n_b = int(a.max()) + 1, int(b.max()) + 1
    if n_a != n_b or n_a < 2:
        return False
    if n_b > len(label) // 2:  # nearly every value is unique: any two such columns are renamings of each other
        return _is_equal(known, label)
    pairs: NDArray[np.int64] = a * n_b + b
    return len(np.unique(pairs)) == n_a


def _is_equal(values: pd.Series[Any], label: pd.Series[Any]) -> bool:
    if pd.api.types.is_numeric_dtype(values.dtype) and pd.api.types.is_numeric_dtype(label.dtype):
        return bool(np.allclose(values.to_numpy(dtype=float), label.to_numpy(dtype=float), rtol=1e-6))
    return bool((values.astype(str) == label.astype(str)).all())
