"""Reads cells as numbers or as levels; errors name the patients of unreadable cells.

A cell is empty if it is NaN, None, NA, or text of blanks only. Nothing is coerced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from multimodn.base.column_blocks import are_plain, column_blocks, plain_numbers
from multimodn.data.reading.number_texts import Writings, writings
from multimodn.errors import DataError, did_you_mean, raise_all, shown

Series: TypeAlias = "pd.Series[Any]"
Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]

MINUS = "\u2212"  # the sign that text programs put for -
SAMPLE = 1000  # different texts that tell whether a column may hold numbers
N_SHOWN = 3  # cells quoted in a message; further ones are counted
MAX_MISSING_NAMED = 20  # missing columns named with the most similar name; to compare thousands would take minutes


def check_columns(frame: pd.DataFrame, columns: Iterable[str], header: str) -> None:
    """Raises a DataError unless every column occurs once, naming each that does not; further columns are ignored."""
    counts, wanted = frame.columns.value_counts().to_dict(), list(columns)
    missing = [name for name in wanted if name not in counts]
    repeated = [name for name in wanted if counts.get(name, 0) > 1]
    problems = [f"column '{name}' appears {counts[name]} times; keep one." for name in repeated]
    if len(missing) > MAX_MISSING_NAMED:
        problems.append(f"{len(missing)} of {len(wanted)} columns are missing: {shown(missing)}.")
    else:  # only a column without another use can be a mistyped one
        spare = [str(name) for name in counts.keys() - set(wanted)]
        problems += [f"column '{name}' is missing.{did_you_mean(name, spare)}" for name in missing]
    raise_all(problems, DataError, header)


def is_numeric(series: Series) -> bool:
    """Tells whether the column's dtype, or every object in it, is a number or a boolean."""
    if series.dtype == object:
        return types.infer_dtype(series, skipna=True) in {"boolean", "integer", "floating", "mixed-integer-float"}
    return types.is_numeric_dtype(series.dtype) and not types.is_complex_dtype(series.dtype)  # booleans count


def is_date(series: Series) -> bool:
    """Tells whether the column holds dates, times or durations by its dtype."""
    return types.is_datetime64_any_dtype(series.dtype) or types.is_timedelta64_dtype(series.dtype)


def parse_numbers(series: Series) -> tuple[Floats, Booleans]:
    """Returns the numbers ``(n,)``, NaN if empty or not a number, and which cells are text that is not a number."""
    if is_numeric(series):
        numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
        return numbers, np.zeros(len(series), dtype=np.bool_)
    cells = series.astype(object)
    text = cells.where(cells.isna(), cells.astype(str).str.strip().str.replace(MINUS, "-")).to_numpy(dtype=object)
    filled = ~pd.isna(text) & (text != "")
    numbers = np.full(len(series), np.nan)
    numbers[filled] = pd.to_numeric(pd.Series(text[filled], dtype=object), errors="coerce").to_numpy(np.float64)
    return numbers, filled & np.isnan(numbers)


def cell_writings(series: Series) -> Writings:
    """Finds how the filled cells of a text column are written."""
    counts = series.dropna().astype(str).str.strip().value_counts()
    counts = counts[counts.index != ""]
    n_cells = np.asarray(counts, dtype=np.int64)
    sample = writings(counts.index[:SAMPLE], n_cells[:SAMPLE])
    if len(counts) <= SAMPLE or 2 * sample.counts.get("other", 0) > sample.n_filled:  # free text
        return sample
    return writings(counts.index, n_cells)


def is_empty(series: Series) -> Booleans:
    """Tells which cells are empty, ``(n,)``."""
    empty = series.isna().to_numpy(np.bool_)
    is_text = not is_numeric(series) and not is_date(series)
    return empty | (series.astype(object).astype(str).str.strip() == "").to_numpy(np.bool_) if is_text else empty


def empty_cells(frame: pd.DataFrame) -> Booleans:
    """Tells which cells of a table are empty, ``(n, n_columns)``; only columns that are not numeric are read singly."""
    empty: Booleans = frame.isna().to_numpy(np.bool_, copy=True)
    for k, dtype in enumerate(frame.dtypes):
        if not types.is_numeric_dtype(dtype):
            empty[:, k] = is_empty(frame.iloc[:, k])
    return empty


def cells_shown(series: Series, rows: Booleans) -> str:
    """Quotes the first of some cells with their patients, and the number of the others."""
    places = np.flatnonzero(rows)
    return first_shown((f"{series.iloc[i]!r} (patient '{series.index[i]}')" for i in places.tolist()), len(places))


def first_shown(quoted: Iterable[str], n: int, separator: str = ", ") -> str:
    """Joins the first `N_SHOWN` of n texts, and says how many more there are."""
    more = [f"... ({n - N_SHOWN} more)"] if n > N_SHOWN else []
    return separator.join([*islice(quoted, N_SHOWN), *more])


def read_numbers(series: Series, problems: list[str], repair: str) -> Floats:
    """Returns the numbers ``(n,)`` of a column that is indexed by patient, NaN where the cell is empty.

    A message for each kind of cell that is not a finite number goes to ``problems``; ``repair`` is advice for text.
    """
    column = f"column '{series.name}'"
    if is_date(series):
        advice = "derive a number, such as age in years or days since diagnosis."
        problems.append(f"{column} holds dates ({series.dtype}); {advice}")
        return np.full(len(series), np.nan)
    numbers, unreadable = parse_numbers(series)
    if unreadable.any():
        count, cells = f"{int(unreadable.sum())} of {len(series)}", cells_shown(series, unreadable)
        found = cell_writings(series[unreadable])
        hint = f"{found.counted()}: {found.repair()}. " if found.are_numbers else ""
        problems.append(f"{column} is numeric, but {count} cells are not numbers: {cells}. {hint}{repair}")
    infinite = np.isinf(numbers)
    if infinite.any():
        count, cells = str(int(infinite.sum())), cells_shown(series, infinite)
        problems.append(f"{column} has {count} infinite cells: {cells}. Correct them, or leave them empty.")
    return numbers


def read_number_blocks(
    frame: pd.DataFrame, names: Sequence[str], problems: list[str], repair: str
) -> Iterator[tuple[slice, Floats]]:
    """Reads columns that each occur once, as `read_numbers` does, in blocks that bound the memory.

    Yields the places of a block in ``names`` and its numbers ``(n_columns, n)``, not to be written to.
    """
    places, plain = frame.columns.get_indexer_for(pd.Index(list(names))), are_plain(frame)
    for block in column_blocks(len(frame), len(places)):
        some = places[block]
        is_plain = plain[some]
        if is_plain.all():
            numbers = plain_numbers(frame, some)
        else:
            numbers = np.empty((len(some), len(frame)))
            numbers[is_plain] = plain_numbers(frame, some[is_plain])
        single = ~is_plain | np.isinf(numbers, where=is_plain[:, None], out=np.zeros(numbers.shape, np.bool_)).any(1)
        for k in np.flatnonzero(single).tolist():
            column = read_numbers(frame.iloc[:, some[k]], problems, repair)
            if not is_plain[k]:
                numbers[k] = column
        yield block, numbers


def read_levels(series: Series) -> tuple[Integers, list[str]]:
    """Returns the number of each cell's level, -1 = empty, ``(n,)``, and the sorted levels of a categorical column.

    A level is the cell's text without blanks around it; 1, 1.0 and True are all the level '1', so that a column of
    integers that pandas made floats, because of empty cells, keeps its levels.
    """
    codes, values = pd.factorize(series, use_na_sentinel=True)
    names = pd.Index([_level_name(value) for value in values], dtype=object)
    levels = sorted(set(names) - {""})
    of_value = np.append(pd.Index(levels, dtype=object).get_indexer(names), -1).astype(np.int64)
    return of_value[codes], levels  # code -1 = empty takes the last entry


def _level_name(value: Any) -> str:
    is_whole = isinstance(value, (float, np.floating)) and value.is_integer()
    return str(int(value)) if is_whole or isinstance(value, (bool, np.bool_)) else str(value).strip()
