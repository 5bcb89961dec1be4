"""Input columns that tell an outcome by themselves: copies of a target, near copies, and what follows the outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.base.column_blocks import column_blocks
from multimodn.data.checks import Note, are_numeric, numbers_of
from multimodn.data.follow_up import is_time, is_time_name
from multimodn.data.near_copies import near_copies
from multimodn.errors import shown

SAMPLE = 512  # labelled patients that must show a suspected leak before all are checked
LEAK_ROWS = 20  # fewer patients agree by chance too easily
NEAR = 1e-6  # relative difference up to which numbers are taken for equal


def leak_notes(modality: str, frame: pd.DataFrame, targets: Mapping[str, pd.DataFrame]) -> list[Note]:
    """Lists input columns that equal a target column, if need be after renaming its values, or nearly tell it."""
    notes = list[Note]()
    if not frame.index.is_unique:  # several rows of a patient cannot each be a renamed target
        return notes
    for task, table in targets.items():
        for target in table.columns:
            label = table[target].reindex(frame.index).dropna()
            suspects = copies(frame, label)
            if suspects:
                text = (
                    f"modality '{modality}': {shown(suspects)} has the same information as target column '{target}' of "
                    f"task '{task}'. If it is not known before the outcome, exclude it with `all_but`."
                )
                summary = "modality {} has columns with the same information as an outcome ({}), likely a leak"
                notes.append(Note(text, summary, (modality, shown(suspects))))
            near = near_copies(frame, label, suspects)
            if near:
                listed = shown([f"{name} ({how})" for name, how in near.items()])
                text = (
                    f"modality '{modality}': {listed} nearly tells target column '{target}' of task '{task}'. "
                    f"If it is not known before the outcome, exclude it with `all_but`."
                )
                summary = "modality {} has columns that nearly tell an outcome by themselves ({}), perhaps a leak"
                notes.append(Note(text, summary, (modality, shown(list(near)))))
    return notes


def copies(frame: pd.DataFrame, label: pd.Series[Any]) -> list[str]:
    """Returns the columns that equal a label of some patients, if need be after renaming its values."""
    if len(label) < LEAK_ROWS or label.nunique() < 2:
        return []
    return [str(name) for name in _suspects(frame, label) if _is_renamed(frame[name], label)]


def telling_columns(frame: pd.DataFrame, label: pd.Series[Any]) -> dict[str, str]:
    """Returns the columns that equal or nearly tell a label, and how they were found; see `copies`, `near_copies`."""
    label = label[label.index.isin(frame.index)].dropna()
    if not frame.index.is_unique or not label.index.is_unique:
        return {}
    same = copies(frame, label)
    return dict.fromkeys(same, "the same") | near_copies(frame, label, same)


def follow_up_notes(modality: str, frame: pd.DataFrame) -> list[Note]:
    """Lists input columns that are called like a time until an outcome or the end of observation."""
    times = [name for name in map(str, frame.columns) if is_time_name(name, alone=False)]
    times = [name for name in times if is_time(name, frame[name], alone=False)]
    if not times:
        return []
    text = (
        f"modality '{modality}': {shown(times)} is called like a time until an outcome or the end of observation, "
        f"which nobody knows beforehand. Exclude it with `all_but` if it is one."
    )
    summary = "modality {} has columns that are called like a time of follow-up ({}), likely a leak"
    return [Note(text, summary, (modality, shown(times)))]


def _suspects(frame: pd.DataFrame, label: pd.Series[Any]) -> list[str]:
    """Returns the columns that may equal the label, judged by a sample of the labelled patients."""
    is_numeric = are_numeric(frame)
    texts, numeric = frame.columns[~is_numeric].tolist(), frame.columns[is_numeric].tolist()
    rows = np.unique(np.linspace(0, len(label) - 1, SAMPLE).astype(int))
    codes = pd.factorize(label.iloc[rows])[0]
    if not numeric:
        return texts
    if len(np.unique(codes)) > len(rows) // 2:
        return [*texts, *_near(frame, np.flatnonzero(is_numeric), label)]
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
        cells = numbers_of(frame, places[block])[:, rows]
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
