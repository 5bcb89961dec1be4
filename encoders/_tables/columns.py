"""Infers the kind of each column of a table: numeric, categorical, or of no use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.base.column_blocks import are_plain, column_blocks, plain_numbers
from multimodn.data.reading.dates import are_date_numbers, are_dates
from multimodn.encoders._reading import (
    Booleans,
    Series,
    cell_writings,
    cells_shown,
    is_date,
    is_empty,
    parse_numbers,
    read_levels,
)
from multimodn.errors import DataError, StudyError, did_you_mean, raise_all

MAX_LEVELS = 256  # levels that a categorical column keeps, the most frequent ones; others count as unseen
FEW_LEVELS = 5  # numbers as text of at most so many levels may be meant as categories, such as doses
MANY_LEVELS = 20  # a text column with more levels, and more than one for two filled cells, is not categorical


@dataclass(frozen=True)
class CategoricalColumn:
    """Statistics of a categorical column in the training rows."""

    name: str  # the column
    levels: list[str]  # its levels, as text
    frequency: list[float]  # the share of each level among the non-empty training cells
    n_empty: int  # empty training cells


@dataclass
class ColumnKinds:
    """The kinds of a table's columns."""

    numeric: list[str] = field(default_factory=list)  # numeric columns with more than two values, or declared
    two_valued: list[str] = field(default_factory=list)  # other numeric ones: levels in a narrow table, else numbers
    categorical: list[str] = field(default_factory=list)  # text columns and declared ones
    dropped: dict[str, str] = field(default_factory=dict)  # the reason why a column is of no use
    notes: list[str] = field(default_factory=list)  # what was decided where there may be doubt


def check_declared(frame: pd.DataFrame, declared: Mapping[str, Sequence[str]], header: str) -> None:
    """Raises a StudyError if an option names a column that the frame lacks, or one is both categorical and numeric."""
    problems = [
        f"'{option}' names column '{name}', which does not exist.{did_you_mean(name, map(str, frame.columns))}"
        for option, names in declared.items()
        for name in names
        if name not in frame.columns
    ]
    both = set(declared.get("categorical", ())) & set(declared.get("numeric_columns", ()))
    problems += [f"column '{name}' is declared both categorical and numeric." for name in sorted(both)]
    raise_all(problems, StudyError, header)


def infer_kinds(frame: pd.DataFrame, categorical: Sequence[str], numeric: Sequence[str], header: str) -> ColumnKinds:
    """Infers from training rows the kind of every column that is not declared categorical or numeric.

    Raises a DataError if most cells of a text column, but not all, are numbers, or if they are numbers that are not
    written as such.
    """
    kinds, problems = ColumnKinds(), list[str]()
    declared = dict.fromkeys(numeric, "numeric") | dict.fromkeys(categorical, "categorical")
    undeclared = np.array([name not in declared for name in frame.columns], dtype=np.bool_)
    n_values, may_be_dates = _count_values(frame, np.flatnonzero(undeclared & are_plain(frame)))
    for place, (name, dtype) in enumerate(zip(frame.columns, frame.dtypes, strict=True)):
        kind = declared.get(name, "categorical" if isinstance(dtype, pd.CategoricalDtype) else "")
        if kind == "categorical":
            kinds.categorical.append(name)
        elif kind == "numeric":
            kinds.numeric.append(name)
        elif place in n_values:
            if place in may_be_dates and are_date_numbers(frame.iloc[:, place].to_numpy(np.float64)):
                kinds.dropped[name] = _dates(frame.iloc[:, place])
            else:
                _add_numbers(name, n_values[place], kinds)
        else:
            _infer(name, frame.iloc[:, place], kinds, problems)
    raise_all(problems, DataError, header)
    return kinds


def _count_values(frame: pd.DataFrame, places: NDArray[np.intp]) -> tuple[dict[int, int], set[int]]:
    """Counts the distinct values of plain columns, up to 3 = more than two; an empty cell has none.

    Returns the places too of columns whose numbers have as many digits as dates, and no decimals.
    """
    counts, may_be_dates = list[int](), set[int]()
    for block in column_blocks(len(frame), len(places)):
        cells = plain_numbers(frame, places[block])
        low, high = (extreme.reduce(cells, axis=1, initial=np.nan)[:, None] for extreme in (np.fmin, np.fmax))
        has_more = ((cells != low) & (cells != high) & ~np.isnan(cells)).any(axis=1)
        n_extremes = np.where(np.isnan(low), 0, np.where(low == high, 1, 2))[:, 0]
        counts += np.where(has_more, 3, n_extremes).tolist()
        of_size = np.flatnonzero((low[:, 0] > 1e5) & (high[:, 0] < 1e8))
        whole = [k for k in of_size.tolist() if not np.mod(cells[k][~np.isnan(cells[k])], 1).any()]
        may_be_dates |= set(places[block][whole].tolist())
    return dict(zip(places.tolist(), counts, strict=True)), may_be_dates


def _add_numbers(name: str, n_values: int, kinds: ColumnKinds) -> None:
    if n_values < 2:
        kinds.dropped[name] = "constant" if n_values else "empty"
    else:
        (kinds.two_valued if n_values == 2 else kinds.numeric).append(name)


def _infer(name: str, series: Series, kinds: ColumnKinds, problems: list[str]) -> None:
    if is_date(series):  # refused where numbers are read
        kinds.numeric.append(name)
        return
    numbers, unreadable = parse_numbers(series)
    filled = numbers[~np.isnan(numbers)]
    if unreadable.any():
        _infer_text(name, series, unreadable, kinds, problems)
        return
    if are_date_numbers(numbers):
        kinds.dropped[name] = _dates(series)
        return
    seen = pd.unique(filled[:1000])
    seen = seen if len(seen) > 2 else pd.unique(filled)  # some cells mostly suffice
    _add_numbers(name, len(seen), kinds)


def _infer_text(name: str, series: Series, unreadable: Booleans, kinds: ColumnKinds, problems: list[str]) -> None:
    """Decides on a column with cells that are not plain numbers."""
    n_filled, n_values, n_unreadable = int(series.notna().sum()), series.nunique(), int(unreadable.sum())
    found, column = cell_writings(series), f"column '{series.name}'"
    cells = f"{n_unreadable} of {len(series)} cells are not numbers: {cells_shown(series, unreadable)}"
    if 2 * n_unreadable < int((~is_empty(series)).sum()):
        hint = f" {found.counted()}: {found.repair()}." if set(found.counts) != {"plain", "other"} else ""
        problems.append(
            f"{column} holds numbers, but {cells}. Clean these cells (empty = unknown), or declare the column under "
            f"`categorical` if its numbers are codes.{hint}"
        )
    elif found.are_numbers and not found.are_bands and n_values > FEW_LEVELS:
        problems.append(
            f"{column} holds numbers as text: {cells}. {found.counted()}: {found.repair()}, or declare the column "
            f"under `categorical` if these are categories."
        )
    elif are_dates(pd.Index(series.dropna().astype(str).unique())):
        kinds.dropped[name] = _dates(series)
    elif n_values > MANY_LEVELS and 2 * n_values > n_filled:
        kinds.dropped[name] = f"free text or an identifier ({n_values} values in {n_filled} cells)"
    else:
        kinds.categorical.append(name)
        if found.are_numbers and not (found.are_bands and n_values == 2):  # <40 and >=40 are two groups
            kinds.notes.append(
                f"{column} counts as categories without an order. {found.counted()}: if these are numbers, "
                f"{found.repair()}; if not, declare the column under `categorical`."
            )


def _dates(series: Series) -> str:
    first = series.dropna().iloc[0]
    text = int(first) if isinstance(first, float) else first
    return f"dates, such as {text}; give a number instead, such as age in years or days since diagnosis"


def fit_levels(series: Series) -> CategoricalColumn | str:
    """Fits a categorical column on training cells, or returns why it is of no use."""
    codes, levels = read_levels(series)
    counts = np.bincount(codes[codes >= 0], minlength=len(levels))
    if len(levels) < 2:
        return "constant" if levels else "empty"
    kept = np.sort(np.argsort(-counts, kind="stable")[:MAX_LEVELS])
    frequency = (counts[kept] / counts[kept].sum()).tolist()
    return CategoricalColumn(str(series.name), [levels[i] for i in kept], frequency, int((codes < 0).sum()))


def level_numbers(series: Series, column: CategoricalColumn) -> tuple[NDArray[np.float32], list[str]]:
    """Returns level numbers ``(n,)`` of cells, float32, NaN = empty or unseen, and a line for each unseen level."""
    codes, levels = read_levels(series)
    number = pd.Index(column.levels, dtype=object).get_indexer(pd.Index(levels, dtype=object))
    of_level = np.append(np.where(number < 0, np.nan, number), np.nan).astype(np.float32)
    counts = np.bincount(codes[codes >= 0], minlength=len(levels))
    unseen = [f"'{levels[i]}' ({counts[i]} patients)" for i in np.flatnonzero(number < 0)]
    return of_level[codes], unseen
