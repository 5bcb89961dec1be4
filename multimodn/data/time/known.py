"""What of a table is known at each patient's moment of prediction: no row, and no date, from after it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from multimodn.data.checks import Note
from multimodn.data.reading.dates import are_calendar_dates, are_dates
from multimodn.data.time.index import Days, Index
from multimodn.data.time.moments import FIRST_YEAR, LAST_YEAR, Moments, read_moments
from multimodn.data.time.retype import retyped
from multimodn.errors import did_you_mean
from multimodn.study.study import ModalitySpec
from multimodn.study.time import WindowSpec

Booleans: TypeAlias = NDArray[np.bool_]

MOSTLY = 0.5  # share of a column's texts that look like dates, from which the others are mistakes
DATE = r"\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"
N_LOOKED_AT = 200  # distinct texts


@dataclass(frozen=True)
class TimeCut(Note):
    """A note on what of a modality is not used because of its time.

    Attributes:
        modality: Its name.
        column: The column of times.
        n: Rows, or cells of a column of dates.
        n_after: Of them, those after the moment of prediction.
        n_before: Those further back than the window.
        n_same_day: Those of the day of the moment, without a clock.
    """

    modality: str = ""
    column: str = ""
    n: int = 0
    n_after: int = 0
    n_before: int = 0
    n_same_day: int = 0

    @classmethod
    def of(cls, modality: str, column: str, n: int, after: int, before: int = 0, same_day: int = 0) -> Self:
        """Says how many of ``n`` rows are left out."""
        parts = [(after, "after the moment of prediction"), (before, "before the window")]
        parts.append(
            (same_day, "of the day of the moment of prediction, without a clock (`same_day: keep` keeps them)")
        )
        listed = " and ".join(f"{count} {what}" for count, what in parts if count)
        text = f"modality '{modality}': of {n} rows, {listed}, by '{column}', are not used."
        summary = "modality {}: of {} rows, {} after the moment of prediction and {} before the window are not used"
        return cls(text, summary, (modality, n, after + same_day, before), modality, column, n, after, before, same_day)

    @classmethod
    def of_cells(cls, modality: str, column: str, n: int, after: int) -> Self:
        """Says how many of ``n`` cells of a column of dates count as empty."""
        text = f"modality '{modality}': {after} of {n} dates in '{column}' lie after the moment of prediction, and"
        summary = "modality {}: {} of {} dates of a column lie after the moment of prediction, and count as empty"
        return cls(f"{text} count as empty.", summary, (modality, after, n), modality, column, n, after)


def as_known(
    modality: ModalitySpec, table: pd.DataFrame, columns: Sequence[str], index: Index | None, date_format: str | None,
    problems: list[str], notes: list[Note],
) -> pd.DataFrame:  # fmt: skip
    """Returns a modality's source as it is known at each moment of prediction, with a row for each row of the cohort.

    Rows after it, and outside the modality's window, are left out. Columns of times that its kind or ``repeats`` reads
    become days from it (negative = before). Of a table, columns of dates become days before it, and a date after it an
    empty cell. Without an index, dates that the kind reads as times become days from the patient's first.

    Args:
        modality: The modality.
        table: Its source, indexed by patient.
        columns: Its inputs.
        index: The moments of prediction.
        date_format: That of the source.
        problems: What cannot be read or compared is added here.
        notes: What is cut is added here.
    """
    read, found = [name for name in modality.time_columns if name in table], list[str]()
    if index is not None and (by := _dated_readings(modality, table, index)) is not None and by not in read:
        read.append(by)
    if index is None:
        known = _from_first(table, {name: read_moments(table[name], found, date_format) for name in read})
    else:
        found += _missing_time(modality, table)
        known = table if found else _cut(modality, table, columns, read, index, date_format, found, notes)
    problems += [f"modality '{modality.name}': {text}" for text in found]
    return known


def _from_first(table: pd.DataFrame, moments: dict[str, Moments]) -> pd.DataFrame:
    """Turns columns of dates into days from the first date of each patient, and clocks into days."""
    dates = {name: pd.Series(each.days, table.index) for name, each in moments.items() if each.kind == "date"}
    changed = {name: each.days for name, each in moments.items() if each.kind == "duration"}
    if dates:
        first = pd.DataFrame(dates).min(axis=1).groupby(level=0).transform("min").to_numpy()
        changed |= {name: days.to_numpy() - first for name, days in dates.items()}
    return table.assign(**changed) if changed else table


def _cut(
    modality: ModalitySpec, table: pd.DataFrame, columns: Sequence[str], read: Sequence[str], index: Index,
    date_format: str | None, problems: list[str], notes: list[Note],
) -> pd.DataFrame:  # fmt: skip
    row, names, moment = index.rows(modality.source, table.index)
    window = modality.window or WindowSpec()
    first, last = window.limits
    time = _time_of_rows(modality, table, index)
    kept = np.ones(len(row), dtype=np.bool_)
    if time is not None:
        days = _days_from(index, table[time].iloc[row], moment, date_format, problems)
        with np.errstate(invalid="ignore"):
            after, before = days > last, days < first
        same_day = _of_the_same_day(days, moment, last) & ~after & ~before
        if window.same_day == "keep" or index.read.kind != "date":
            same_day[:] = False
        kept = ~(after | before | same_day)
        if not kept.all():
            counts = (int(each.sum()) for each in (after, before, same_day))
            notes.append(TimeCut.of(modality.name, time, len(row), *counts))
    elif modality.has_several_rows:
        text = f"modality '{modality.name}': its rows have no time, so that none of them is left out"
        notes.append(Note(f"{text}; `window: {{time: COLUMN}}` names it."))
    n_lost = len(table) - len(np.unique(row))
    if n_lost:
        text = (
            f"modality '{modality.name}': {n_lost} of {len(table)} rows are of patients without a moment of prediction"
        )
        summary = "modality {}: {} rows are of patients without a moment of prediction, and are not used"
        notes.append(Note(f"{text}, and are not used.", summary, (modality.name, n_lost)))
    known, moment = table.iloc[row[kept]].set_axis(names[kept], axis=0), moment[kept]
    as_they_are = {*read, *modality.verbatim_columns, *modality.exact_columns}
    as_they_are |= {str(modality.repeats.by)} if modality.repeats is not None else set()
    known = retyped(known, as_they_are)  # also where nothing is left out, or that would show in the last digit
    changed = {name: _days_from(index, known[name], moment, date_format, problems) for name in read}
    for name in _date_columns(modality, known, columns, index, read):
        days = _days_from(index, known[name], moment, date_format, problems)
        is_later = days > last
        if is_later.any():
            notes.append(TimeCut.of_cells(modality.name, name, len(days), int(is_later.sum())))
        changed[name] = np.where(is_later, np.nan, -days)
    return known.assign(**changed) if changed else known


def _days_from(
    index: Index, column: pd.Series[Any], moment: Days, date_format: str | None, problems: list[str]
) -> Days:
    """Returns days from the moments of prediction, negative = before; NaN where the cell is empty."""
    found: list[str] = []
    read = read_moments(column, found, date_format)
    if not found and not np.isnan(read.days).all():
        found = _differences(index, read, str(column.name))
    problems += [text for text in found if text not in problems]
    return (read.days * index.unit if read.kind == "number" else read.days) - moment


def _differences(index: Index, read: Moments, name: str) -> list[str]:
    """Says why a column cannot be compared with the moments of prediction."""
    if (read.kind == "date") != (index.read.kind == "date"):
        these, others = (f"{each.kind}s" for each in (read, index.read))
        text = f"column '{name}' holds {these}, and the moments of prediction ({index.what}) are {others}"
        return [f"{text}. Give both as dates, or both as numbers from the same start."]
    if read.kind == "date" and read.has_zone != index.read.has_zone and read.has_clock and index.read.has_clock:
        has, lacks = (f"column '{name}'", index.what) if read.has_zone else (index.what, f"column '{name}'")
        return [f"{has} has a time zone and {lacks} has none: which is earlier is not clear. Write both in one way."]
    return []


def _of_the_same_day(days: Days, moment: Days, last: float) -> Booleans:
    """Tells which dates without a clock are on the day of a limit that has one."""
    time, limit = days + moment, moment + last
    with np.errstate(invalid="ignore"):
        is_day = np.abs(time - np.round(time)) < 1e-9
        same: Booleans = is_day & (np.round(time) == np.floor(limit)) & (limit - np.floor(limit) > 1e-9)
    return same


def _missing_time(modality: ModalitySpec, table: pd.DataFrame) -> list[str]:
    time = None if modality.window is None else modality.window.time
    if time is None or time in table:
        return []
    nearest = did_you_mean(time, map(str, table.columns))
    return [f"source '{modality.source}' has no column '{time}', the `time` of its `window`.{nearest}"]


def _time_of_rows(modality: ModalitySpec, table: pd.DataFrame, index: Index) -> str | None:
    """Returns the column of the times of rows; that of repeated readings only if it holds dates."""
    named = modality.window.time if modality.window is not None else None
    for name in [named, *modality.time_columns[:1]]:
        if name is not None and name in table:
            return name
    return _dated_readings(modality, table, index)


def _dated_readings(modality: ModalitySpec, table: pd.DataFrame, index: Index) -> str | None:
    by = None if modality.repeats is None else modality.repeats.by
    return by if by is not None and by in table and index.read.kind == "date" and _holds_dates(table[by]) else None


def _date_columns(
    modality: ModalitySpec, known: pd.DataFrame, columns: Sequence[str], index: Index, read: Sequence[str]
) -> list[str]:
    """Returns the inputs of a kind that reads whole tables which hold dates."""
    if modality.takes_several_rows or index.read.kind != "date":
        return []
    candidates = [name for name in columns if name not in {*read, *modality.file_columns} and name in known]
    if len(candidates) > 100:  # a look at the whole block, before one at each column
        numbers = known[candidates].select_dtypes("number")
        large = numbers.columns[(numbers.min() >= FIRST_YEAR * 10_000).to_numpy()]
        candidates = [name for name in candidates if name in set(large) or name not in numbers]
    return [name for name in candidates if _holds_dates(known[name])]


def _holds_dates(column: pd.Series[Any]) -> bool:
    """Tells whether a column holds dates, be it with some mistakes."""
    if types.is_datetime64_any_dtype(column.dtype):
        return True
    if types.is_numeric_dtype(column.dtype):
        is_number = not types.is_bool_dtype(column.dtype)
        return is_number and are_calendar_dates(
            column.to_numpy(dtype=np.float64, na_value=np.nan), FIRST_YEAR, LAST_YEAR
        )
    if types.is_timedelta64_dtype(column.dtype):
        return False
    texts = pd.Series(pd.unique(column.dropna().head(10 * N_LOOKED_AT)), dtype=object).astype(str).head(N_LOOKED_AT)
    texts = texts[texts.str.strip() != ""]
    if not len(texts):
        return False
    return bool(texts.str.match(DATE).mean() > MOSTLY) or are_dates(pd.Index(texts))
