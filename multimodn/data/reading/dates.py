"""Dates and clock times as people write them: `2024-01-31`, `31.01.2024 08:30`, `1/31/24`, `31-Jan-2024`, `9:05`.

A day and a month that could be exchanged are told apart by the other cells of the column, or by its dots, which stand
in dates with the day first; otherwise they are in doubt.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.errors import DataError, shown

_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}(?:[.,]\d+)?))?\s*(?P<half>[AaPp]\.?[Mm]\.?)?"
_AFTER = rf"(?:[T ,:]\s*{_CLOCK}\s*(?P<zone>Z|UTC|[+-]\d{{2}}:?\d{{2}})?)?"
_MONTH_NAME = r"(?P<month>[^\W\d_]{3,9})\.?"
_FORMS = {
    "year first": rf"(?P<year>\d{{4}})(?P<sign>[-/.])(?P<month>\d{{1,2}})(?P=sign)(?P<day>\d{{1,2}}){_AFTER}",
    "year last": rf"(?P<day>\d{{1,2}})(?P<sign>[-/.])(?P<month>\d{{1,2}})(?P=sign)(?P<year>\d{{4}}|\d{{2}}){_AFTER}",
    "day, name": rf"(?P<day>\d{{1,2}})\.?[-/ ]?{_MONTH_NAME}[-/, ]*(?P<year>\d{{4}}|\d{{2}}){_AFTER}",
    "name, day": rf"{_MONTH_NAME}[-/ ]?(?P<day>\d{{1,2}})(?:st|nd|rd|th)?[-/, ]+(?P<year>\d{{4}}){_AFTER}",
    "month, year": r"(?P<month>\d{1,2})(?P<sign>[-/.])(?P<year>(?:19|20)\d{2})",
    "year, month": r"(?P<year>(?:19|20)\d{2})(?P<sign>[-/.])(?P<month>\d{1,2})",
    "name, year": rf"{_MONTH_NAME}[-/., ]*(?P<year>(?:19|20)\d{{2}})",
}
LIKELY_YEARS = (1900, 2100)  # first and last, where nothing but the digits says that numbers are dates
FEWEST_DATES = 6  # different numbers that all look like dates; three of a hundred numbers do by chance
_PARTS = ["year", "month", "day", "sign", "hour", "minute", "second", "half", "zone"]
_MONTHS = {"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "oct": 10}
_MONTHS |= {"nov": 11, "dec": 12, "mär": 3, "mrz": 3, "mai": 5, "okt": 10, "dez": 12}
_MARK = re.compile(r"\d{1,4}[-/.]\d{1,4}|\d{1,2}:\d{2}|\d{1,2}\W{0,2}[^\W\d_]{3}|[^\W\d_]{3,9}\W")


def parse_dates(texts: pd.Index, date_format: str | None = None) -> NDArray[np.float64] | None:
    """Returns seconds since 1970, or since midnight for clock times, ``(n,)``; None if a text is neither.

    Args:
        texts: Distinct texts of a column, none of them empty.
        date_format: How `strptime` writes these dates; default: as the texts tell.

    Raises:
        DataError: If they are dates in doubt: the day could be the month, or only some have a time zone.
    """
    stripped = pd.Series(texts, dtype=object).str.strip()
    if date_format is not None:
        return _seconds(pd.to_datetime(stripped, format=date_format, errors="coerce", utc=True))
    if not len(stripped) or not _MARK.match(str(stripped.iloc[0])):
        return None
    clock = stripped.str.extract(f"^{_CLOCK}$")
    if clock["minute"].notna().all():
        return _seconds_of_parts(clock.fillna("").reindex(columns=_PARTS, fill_value=""))
    parts = pd.DataFrame("", index=stripped.index, columns=_PARTS, dtype=object)
    for form, pattern in _FORMS.items():
        left = parts.index[parts["year"] == ""]
        found = stripped[left].str.extract(f"^{pattern}$").dropna(subset="year").fillna("")
        if form == "year last":
            found = _days_first(found, stripped[found.index])
        parts.loc[found.index, found.columns] = found
    if (parts["year"] == "").any():
        return None
    if (parts["zone"] != "").nunique() > 1:
        raise DataError("some of the times have a time zone, others have none. Write all of them in one way.")
    return _seconds_of_parts(parts)


def are_dates(texts: pd.Index) -> bool:
    """Says whether distinct texts are dates, be it with day and month in doubt; clock times alone are none."""
    if not len(texts) or re.fullmatch(_CLOCK, str(texts[0]).strip()):
        return False
    try:
        return parse_dates(texts) is not None
    except DataError:
        return True


def are_calendar_dates(numbers: NDArray[np.float64], first_year: int, last_year: int) -> bool:
    """Says whether all numbers, NaN apart, are dates such as 20240131, of years from the first to the last."""
    filled = numbers[~np.isnan(numbers)]
    if not len(filled) or (filled != np.floor(filled)).any():
        return False
    return _in_calendar(filled // 10_000, filled // 100 % 100, filled % 100, first_year, last_year)


def are_date_numbers(numbers: NDArray[np.float64]) -> bool:
    """Says whether all numbers, NaN apart, are dates such as 20240131, 31012024 or 202401; some by chance are not."""
    filled = np.unique(numbers[~np.isnan(numbers)])
    if len(filled) < FEWEST_DATES or not (filled == np.floor(filled)).all() or not 1e5 < filled[0] <= filled[-1] < 1e8:
        return False
    whole = filled.astype(np.int64)
    forms = [(whole // 10000, whole // 100 % 100, whole % 100), (whole % 10000, whole // 10000 % 100, whole // 10**6)]
    if filled[-1] < 1e6:
        forms = [(whole // 100, whole % 100, np.ones_like(whole))]
    return any(_in_calendar(*parts, *LIKELY_YEARS) for parts in forms)


def _in_calendar(year: NDArray[Any], month: NDArray[Any], day: NDArray[Any], first_year: int, last_year: int) -> bool:
    in_range = (year >= first_year) & (year <= last_year) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    return bool(in_range.all())


def _days_first(parts: pd.DataFrame, texts: pd.Series[Any]) -> pd.DataFrame:
    """Returns the parts of dates with the year last, exchanged where the month comes first."""
    parts = parts.copy()
    for sign, some in parts.groupby("sign"):
        first, second = some["day"].astype(int).max(), some["month"].astype(int).max()
        # 24-01-05 may be the fifth of January as well
        is_short = sign == "-" and bool((some["year"].str.len() == 2).all()) and second <= 12
        if (first > 12 and second > 12) or (first <= 12 and second <= 12 and sign != ".") or is_short:
            listed = shown([repr(text) for text in texts[some.index]], 3)
            raise DataError(
                f"dates such as {listed} may have the day or the month first; say so by `date_format` of the source, "
                f'such as `date_format: "%d{sign}%m{sign}%Y"`.'
            )
        if second > 12:
            parts.loc[some.index, ["day", "month"]] = some[["month", "day"]].to_numpy()
    return parts


def _seconds_of_parts(parts: pd.DataFrame) -> NDArray[np.float64] | None:
    """Returns seconds, or None if there is no such day or time."""
    hour, minute = parts["hour"].replace("", "0").astype(int), parts["minute"].replace("", "0").astype(int)
    second = parts["second"].replace("", "0").str.replace(",", ".").astype(float)
    half = parts["half"].str.lower().str.replace(".", "")
    if (hour > 24).any() or (minute > 59).any() or ((half != "") & ((hour > 12) | (hour == 0))).any():
        return None
    hour = hour.where(half == "", hour % 12 + 12 * (half == "pm"))
    clock = np.asarray(3600.0 * hour + 60 * minute + second, dtype=np.float64)
    if (parts["year"] == "").all():
        return clock
    month = parts["month"].map(lambda text: int(text) if text.isdigit() else _MONTHS.get(text[:3].lower(), 0))
    year = parts["year"].astype(int)
    year = year.where(parts["year"].str.len() == 4, year + np.where(year < 69, 2000, 1900))  # as `strptime` does
    days = pd.DataFrame({"year": year, "month": month, "day": parts["day"].replace("", "1").astype(int)})
    seconds = _seconds(pd.to_datetime(days, errors="coerce"))
    if seconds is None:
        return None
    zone = parts["zone"].str.extract(r"(?P<sign>[+-])(?P<hour>\d{2}):?(?P<minute>\d{2})").fillna("0")
    ahead = 3600.0 * zone["hour"].astype(int) + 60 * zone["minute"].astype(int)
    return seconds + clock - np.where(zone["sign"] == "-", -1, 1) * ahead.to_numpy()


def _seconds(dates: pd.Series[Any]) -> NDArray[np.float64] | None:
    if dates.isna().any():
        return None
    plain = dates.dt.tz_localize(None) if dates.dt.tz is not None else dates
    seconds: NDArray[np.float64] = plain.astype("datetime64[us]").astype(np.int64).to_numpy() / 1e6
    return seconds
