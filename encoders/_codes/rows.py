"""Reads codes of diagnoses, drugs or procedures: one a row, or lists in cells."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from multimodn.data.list_cells import lists_as_text
from multimodn.data.time.moments import read_moments
from multimodn.encoders import _reading
from multimodn.encoders._reading import Booleans, Floats, Integers
from multimodn.errors import DataError, DataWarning, UnreadableError, raise_all

HEADER = "Encoder 'codes'"


@dataclass(frozen=True)
class CodeCells:
    """What the columns of a table of codes are called, and how to read their cells.

    Attributes:
        code: The column of codes.
        time: That of times; None: there is none.
        value: That of amounts; None: every row counts once.
        since: The column of the moments from which times count back; None: none.
        separators: Characters between the codes of one cell.
        fold: Whether codes that differ in case and dots alone are one code.
    """

    code: str
    time: str | None
    value: str | None
    since: str | None
    separators: str
    fold: bool

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        return [name for name in (self.code, self.time, self.value, self.since) if name is not None]


@dataclass(frozen=True)
class CodeRows:
    """Occurrences of codes, those of a list one by one."""

    patients: pd.Index  # the patients in the order of their first rows in the table
    patient: Integers  # the number of each occurrence's patient, ``(n,)``, as all other arrays
    code: Integers  # its number among ``codes``
    time: Floats  # NaN without times
    amount: Floats  # 1 without amounts
    since: Floats  # the moment to count back from, NaN without
    codes: list[str]  # distinct codes, folded, sorted
    spellings: list[list[str]]  # how each code is written, the first row's way first


def read_rows(frame: pd.DataFrame, cells: CodeCells) -> CodeRows:
    """Reads codes, times (numbers, dates, clocks) and amounts (numbers from 0), indexed by patient.

    Raises:
        DataError: If a column is missing, a time or an amount cannot be read, or is empty; all problems are listed.
        UnreadableError: Naming all patients whose cells are all empty; ``[]`` is a patient without codes.

    Warns:
        DataWarning: Once for rows without a code, of patients who have others.
    """
    _reading.check_columns(frame, cells.columns, HEADER)
    patient, patients = pd.factorize(frame.index)
    column = lists_as_text(frame[cells.code])
    cell, texts = pd.factorize(column.astype(object), use_na_sentinel=True)
    lists = [split(text, cells.separators) for text in texts]
    lengths = np.array([-1 if each is None else len(each) for each in lists] + [-1], dtype=np.int64)
    is_empty = lengths[cell] < 0
    _check_empty(frame, cells, patient, pd.Index(patients), is_empty)
    row = np.flatnonzero(~is_empty)  # of the rows of the table
    problems: list[str] = []
    numbers = {name: _moments(frame[name].iloc[row], problems) for name in (cells.time, cells.since) if name}
    amount = _amounts(frame[cells.value].iloc[row], problems) if cells.value else np.ones(len(row))
    if cells.since is not None and cells.time is not None and not problems:
        _check_kinds(numbers[cells.time][1], numbers[cells.since][1], cells, problems)
    raise_all(problems, DataError, HEADER)
    # one occurrence for each code of a cell
    flat, first = (
        [code for each in lists for code in each or ()],
        np.concatenate([[0], lengths[:-1].clip(min=0)]).cumsum(),
    )
    codes, spellings, of_flat = _numbered(flat, cells.fold)
    n_codes = lengths[cell[row]]
    at = np.repeat(np.arange(len(row)), n_codes)
    place = np.arange(len(at)) - np.repeat(n_codes.cumsum() - n_codes, n_codes) + first[cell[row]][at]
    nothing = np.full(len(row), np.nan)
    time = numbers[cells.time][0] if cells.time else nothing
    since = numbers[cells.since][0] if cells.since else nothing
    return CodeRows(
        pd.Index(patients), patient[row][at].astype(np.int64), of_flat[place], time[at], amount[at], since[at], codes,
        spellings,
    )  # fmt: skip


def split(cell: Any, separators: str) -> list[str] | None:
    """Returns the codes of a cell, each without blanks around it; None: the cell is empty. ``[]`` holds none."""
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return [str(int(cell))]
    text = str(cell).strip()
    if not text:
        return None
    if text[0] == "[" and text[-1] == "]":
        try:
            parts = [str(part) for part in json.loads(text) if part is not None]
        except ValueError:  # as Python writes lists, or without quotes
            parts = [part.strip(" '\"") for part in text[1:-1].split(",")]
    else:
        parts = re.split(f"[{re.escape(separators)}]", text) if separators else [text]
    return [part.strip() for part in parts if part.strip()]


def folded(code: str) -> str:
    """Returns a code in upper case and without dots."""
    return code.upper().replace(".", "")


def _numbered(flat: list[str], fold: bool) -> tuple[list[str], list[list[str]], Integers]:
    """Returns distinct codes, sorted, how each is written, and the number of each code of a list."""
    as_written, texts = pd.factorize(np.array(flat, dtype=object))
    names = np.array([folded(text) if fold else text for text in texts], dtype=object)
    number, codes = pd.factorize(names, sort=True)
    spellings: list[list[str]] = [[] for _ in codes]
    for k, text in zip(number.tolist(), texts, strict=True):
        spellings[k].append(str(text))
    return list(codes), spellings, number[as_written].astype(np.int64)


def _check_empty(
    frame: pd.DataFrame, cells: CodeCells, patient: Integers, patients: pd.Index, is_empty: Booleans
) -> None:
    n_filled = np.bincount(patient, ~is_empty, len(patients))
    without = np.flatnonzero(n_filled == 0).tolist()
    if without:
        what = f"column '{cells.code}' is empty. A patient who is known to have no code has [] there."
        raise UnreadableError(HEADER, {str(patients[i]): what for i in without})
    if is_empty.any():
        places = np.flatnonzero(is_empty).tolist()
        named = _reading.first_shown((f"'{frame.index[i]}'" for i in places), len(places))
        text = f"{len(places)} of {len(frame)} rows have no code in column '{cells.code}', and are left out"
        warnings.warn(f"{HEADER}: {text}: patient {named}.", DataWarning, stacklevel=4)


def _moments(column: pd.Series[Any], problems: list[str]) -> tuple[Floats, str]:
    found: list[str] = []
    moments = read_moments(column, found)
    problems += found
    empty = np.isnan(moments.days) & _reading.is_empty(column)
    if empty.any() and not found:
        places = np.flatnonzero(empty).tolist()
        named = _reading.first_shown((f"'{column.index[i]}'" for i in places), len(places))
        problems.append(f"column '{column.name}' is empty in {len(places)} rows that have a code: patient {named}.")
    if moments.kind == "number" and _are_years(moments.days):
        text = f"column '{column.name}' holds numbers that look like years, from {np.nanmin(moments.days):.0f}"
        problems.append(f"{text} to {np.nanmax(moments.days):.0f}. Ages are counted in days: give dates, or days.")
    return moments.days, moments.kind


def _are_years(days: Floats) -> bool:
    filled = days[~np.isnan(days)]
    return len(filled) > 0 and bool(((filled >= 1900) & (filled <= 2100) & (filled == np.floor(filled))).all())


def _check_kinds(time: str, since: str, cells: CodeCells, problems: list[str]) -> None:
    if (time == "date") != (since == "date"):
        problems.append(f"column '{cells.time}' holds {time}s and '{cells.since}' {since}s; give both as dates.")


def _amounts(column: pd.Series[Any], problems: list[str]) -> Floats:
    amounts = _reading.read_numbers(column, problems, "Clean these cells, or leave `value` out to count rows.")
    for wrong, what in ((_reading.is_empty(column), "empty"), (amounts < 0, "below 0")):
        if wrong.any():
            cells = _reading.cells_shown(column, wrong)
            problems.append(f"column '{column.name}': {int(wrong.sum())} amounts are {what}: {cells}.")
    return amounts
