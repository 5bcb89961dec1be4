"""Columns of times, whatever they are written as, in days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pandas.api import types
from pyarrow import compute

from multimodn.data.reading.dates import are_calendar_dates, parse_dates
from multimodn.errors import DataError, shown

Series: TypeAlias = "pd.Series[Any]"
Floats: TypeAlias = NDArray[np.float64]
Booleans: TypeAlias = NDArray[np.bool_]
Kind = Literal["number", "date", "duration"]

SECONDS_A_DAY = 86_400.0
FIRST_YEAR, LAST_YEAR = 1850, 2150  # of dates; whole numbers of eight digits between them are dates such as 20240131
N_SHOWN = 3
N_TRIED = 2000  # distinct cells that are tried one by one, to name those that are no dates

PLAIN = r"^(\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?)?$"  # what most files hold, read at once
ZONE = r":\d{2}.*(Z|z|UTC|GMT|[+-]\d{2}(:?\d{2})?)\s*$"
DURATION = r"^\s*(-?(\d+ days?,? )?\d+:\d{2}(:\d{2}(\.\d+)?)?)?\s*$"


@dataclass(frozen=True, eq=False)
class Moments:
    """A column of times.

    Attributes:
        days: ``(n,)``, NaN = empty: of dates days since 1970-01-01, in UTC where they have a time zone; of clocks and
            durations days; of numbers the numbers themselves.
        kind: What the cells are.
        has_zone: Whether dates have a time zone.
    """

    days: Floats
    kind: Kind
    has_zone: bool = False

    @property
    def has_clock(self) -> bool:
        """Whether any of them is not the beginning of a day."""
        filled = self.days[~np.isnan(self.days)]
        return bool((filled != np.floor(filled)).any())


def read_moments(column: Series, problems: list[str], date_format: str | None = None) -> Moments:
    """Reads a column of times.

    Numbers are numbers of days, but 20240131 is a date; 36:15 is a duration of hours and minutes. All other text is
    read as `parse_dates` does it.

    Args:
        column: Numbers, dates, durations or text, indexed by patient.
        problems: What cannot be read, or can be read in two ways, is added here, with patients and the repair.
        date_format: The format of dates, as `strftime` writes it; default: as the cells tell.
    """
    if types.is_datetime64_any_dtype(column.dtype):
        found = Moments(_days(column), "date", has_zone=isinstance(column.dtype, pd.DatetimeTZDtype))
    elif types.is_timedelta64_dtype(column.dtype):
        return Moments(np.asarray(column.dt.total_seconds(), dtype=np.float64) / SECONDS_A_DAY, "duration")
    elif types.is_numeric_dtype(column.dtype):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        if date_format is None and not are_calendar_dates(numbers, FIRST_YEAR, LAST_YEAR):
            return Moments(numbers, "number")
        texts = pd.Series(numbers, column.index, name=column.name).astype("Int64").astype(object)
        found = _read_texts(texts, problems, date_format)
    else:
        found = _read_texts(column, problems, date_format)
    if found.kind == "date":
        _note_years(column, found.days, problems)
    return found


def _read_texts(column: Series, problems: list[str], date_format: str | None) -> Moments:
    """Reads every distinct text once."""
    codes, values = pd.factorize(column.astype(object), use_na_sentinel=True)
    texts = pd.Index([str(value).strip() for value in values], dtype=object)
    filled = np.asarray(texts != "", dtype=np.bool_)
    days = np.full(len(texts), np.nan)
    kind: Kind = "date"
    try:
        days[filled], kind = _recognised(texts[filled], date_format)
    except _NotTimes as error:
        wrong = np.append(np.isin(np.arange(len(texts)), np.flatnonzero(filled)[error.places]), False)[codes]
        count, cells = f"{int(wrong.sum())} of {len(column)} cells", cells_named(column, wrong)
        problems.append(f"column '{column.name}': {count} are no {error.kind}: {cells}. {error.repair}")
        kind = "number" if error.kind == "number" else "date"
    except DataError as error:
        problems.append(f"column '{column.name}': {error}")
    has_zone = kind == "date" and bool(filled.any()) and _all_match(texts[filled], ZONE)
    return Moments(np.append(days, np.nan)[codes], kind, has_zone)  # code -1 = empty takes the last entry


class _NotTimes(Exception):
    """Some texts of a column are not what the others are."""

    def __init__(self, places: Booleans, kind: str, repair: str) -> None:
        super().__init__(kind)
        self.places, self.kind, self.repair = places, kind, repair


def _recognised(texts: pd.Index, date_format: str | None) -> tuple[Floats, Kind]:
    """Returns days of distinct texts, none of them empty; raises `_NotTimes`, or a DataError if they are in doubt."""
    if not len(texts):
        return np.zeros(0), "date"
    column = pd.Series(texts, dtype=object)
    if date_format is not None:
        days = _days(pd.to_datetime(column, format=date_format, errors="coerce", utc=True))
        if np.isnan(days).any():
            raise _NotTimes(np.isnan(days), "date", f"The `date_format` is {date_format}; correct it or the cells.")
        return days, "date"
    if _all_match(texts, PLAIN):
        days = _days(pd.to_datetime(column, format="ISO8601", errors="coerce", utc=True))
        if np.isnan(days).any():
            raise _NotTimes(np.isnan(days), "date", "There is no such day; correct them, or leave the rows out.")
        return days, "date"
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    if not np.isnan(numbers).any():
        if are_calendar_dates(numbers, FIRST_YEAR, LAST_YEAR):
            return _recognised(texts, "%Y%m%d")
        return numbers, "number"
    if _all_match(texts, DURATION):
        return _durations(column), "duration"
    seconds = parse_dates(texts)
    if seconds is not None:
        return seconds / SECONDS_A_DAY, "date"
    return _name_culprits(texts, numbers)


def _name_culprits(texts: pd.Index, numbers: Floats) -> tuple[Floats, Kind]:
    """Raises `_NotTimes` with the texts that are unlike most."""
    if np.isnan(numbers).mean() < 0.5:
        raise _NotTimes(np.isnan(numbers), "number", "Correct them, or leave the rows out.")
    wrong = np.zeros(len(texts), dtype=np.bool_)
    for k, text in enumerate(texts[:N_TRIED]):
        try:
            wrong[k] = not np.isnan(numbers[k]) or parse_dates(pd.Index([text], dtype=object)) is None
        except DataError:  # in doubt, but a date
            wrong[k] = False
    repair = "Correct them, leave the rows out, or name the format of dates in the source's `date_format`."
    raise _NotTimes(wrong if wrong.any() else ~wrong, "date", repair)


def _durations(texts: Series) -> Floats:
    """Reads 36:15 (hours and minutes), 36:15:30 and 1 day 12:15:30 as days."""
    parts = texts.str.extract(r"^(-?)(?:(\d+) days?,? )?(\d+):(\d{2})(?::([\d.]+))?$")
    days, hours, minutes, seconds = (parts[k].astype(np.float64).fillna(0.0) for k in (1, 2, 3, 4))
    length = days * SECONDS_A_DAY + hours * 3600.0 + minutes * 60.0 + seconds
    signed: Floats = np.where(parts[0] == "-", -length, length) / SECONDS_A_DAY
    return signed


def _note_years(column: Series, days: Floats, problems: list[str]) -> None:
    """Refuses years such as 9999, which stand for a date that is not known."""
    with np.errstate(invalid="ignore"):
        odd = (days < (FIRST_YEAR - 1970) * 365.25) | (days > (LAST_YEAR - 1970) * 365.25)
    if odd.any():
        count, cells = f"{int(odd.sum())} of {len(column)} cells", cells_named(column, odd)
        text = f"lie before {FIRST_YEAR} or after {LAST_YEAR}: {cells}. Leave the cell of an unknown date empty."
        problems.append(f"column '{column.name}': {count} {text}")


def _days(moments: Series) -> Floats:
    """Returns days since 1970-01-01 in UTC, NaN = empty."""
    if isinstance(moments.dtype, pd.DatetimeTZDtype):
        moments = moments.dt.tz_convert("UTC").dt.tz_localize(None)
    exact = moments.to_numpy("datetime64[us]")  # nanoseconds would not reach the years that stand for "never"
    return np.where(np.isnat(exact), np.nan, exact.astype(np.int64) / (SECONDS_A_DAY * 1e6))


def _all_match(texts: pd.Index, pattern: str) -> bool:
    matches: bool = compute.all(compute.match_substring_regex(pa.array(texts, pa.string()), pattern)).as_py()
    return matches


def cells_named(column: Series, rows: Booleans) -> str:
    """Quotes the first of some cells with their patients."""
    places = np.flatnonzero(rows).tolist()
    return shown([f"'{column.iloc[i]}' (patient '{column.index[i]}')" for i in places], N_SHOWN)
