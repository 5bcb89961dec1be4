"""The order in time of repeated readings, from numbers, dates or text such as `visit 10` and `6_month_arm_1`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.data.reading.dates import parse_dates
from multimodn.errors import DataError, shown
from multimodn.study.time import UNITS

Ranks = NDArray[np.int64]
Key = tuple[float, ...]

N_SHOWN = 6
_NUMBER = re.compile(r"(?:(?<![^\s_(])[-\u2212])?\d+(?:\.\d+)?")
_ARM = re.compile(r"[\s_(]*\barm[\s_]*\d+.*$|[\s_(]*(?<=_)arm[\s_]*\d+.*$")  # of REDCap: baseline_arm_1
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b")  # 1st visit
_COMMA = r"[+-]?\d+(?:,\d+)?"
_WORDS_BEFORE_NUMBERS = {"screening": -2.0, "baseline": -1.0}
_SHORT = {"min": "minutes", "hr": "hours", "h": "hours", "d": "days", "wk": "weeks", "w": "weeks"}
_SHORT |= {"mo": "months", "m": "months", "yr": "years", "y": "years"}
_DAYS = {unit.removesuffix("s"): days for unit, days in UNITS.items()} | {word: UNITS[_SHORT[word]] for word in _SHORT}


def order_of_readings(
    by: pd.Series[Any], order: Sequence[str] | None = None, date_format: str | None = None
) -> tuple[Ranks, str | None]:
    """Ranks the rows of a column that orders readings, none of them empty.

    Args:
        by: Numbers, dates, or text.
        order: The texts in their order; default: as they tell.
        date_format: How `strptime` writes dates.

    Returns:
        Ranks ``(n,)`` from 0, equal for the same time, and how text was read if that was decided here.

    Raises:
        DataError: If a text is not in ``order``, or the order of the texts is in doubt.
    """
    codes, values = pd.factorize(by)
    if order is not None:
        return _ranks(_by_list(by, codes, values, order))[codes], None
    if isinstance(by.dtype, pd.CategoricalDtype) and by.dtype.ordered:
        return _ranks(by.dtype.categories.get_indexer(values))[codes], None
    if pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_datetime64_any_dtype(values.dtype):
        return _ranks(values.to_numpy() if isinstance(values, pd.Index) else values)[codes], None
    if len(values) == 1:
        return np.zeros(len(by), np.int64), None
    texts = pd.Index([str(value).strip() for value in values], dtype=object)
    keys, how = _keys(texts, date_format)
    return _ranks(keys)[codes], how


def _ranks(keys: Any) -> Ranks:
    return np.unique(np.asarray(keys), return_inverse=True)[1].astype(np.int64)


def _by_list(by: pd.Series[Any], codes: Ranks, values: Any, order: Sequence[str]) -> Ranks:
    texts = pd.Index([_text(value) for value in values], dtype=object)
    places = pd.Index([text.strip() for text in order], dtype=object).get_indexer(texts)
    unknown = np.flatnonzero(places < 0)
    if len(unknown):
        row = int(np.flatnonzero(np.isin(codes, unknown))[0])
        listed = shown([repr(text) for text in texts[unknown]], N_SHOWN)
        raise DataError(f"`order` does not name {listed} (first of patient '{by.index[row]}').")
    return places.astype(np.int64)


def _text(value: Any) -> str:
    is_whole = isinstance(value, (float, np.floating)) and value.is_integer()
    return str(int(value) if is_whole else value).strip()


def _keys(texts: pd.Index, date_format: str | None) -> tuple[Any, str | None]:
    """Returns what sorts distinct texts, and how they were read; None: as everyone would."""
    numbers = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").to_numpy(float)
    is_month = all(re.fullmatch(r"\d{1,2}\.(?:19|20)\d{2}", text) for text in texts)  # 01.2024, no decimals
    if date_format is None and not is_month and not np.isnan(numbers).any():
        return numbers, None
    seconds = parse_dates(texts, date_format)
    if seconds is not None:
        is_plain = all(re.match(r"\d{4}-\d\d-\d\d", text) for text in texts)
        return seconds, None if is_plain else f"as dates or times, from {_ends(texts, seconds)}"
    if date_format is not None:
        raise DataError(f"{_first(texts)} are not dates of the form `date_format: {date_format}`.")
    if all(re.fullmatch(_COMMA, text) for text in texts):
        if all(re.fullmatch(r"\D?\d{1,3}(?:,\d{3})?", text) for text in texts):
            raise DataError(
                f"the comma of {_first([text for text in texts if ',' in text])} may stand before decimals or between "
                'thousands; write `decimal: ","` or `thousands: ","` at the source.'
            )
        numbers = np.array([float(text.replace(",", ".")) for text in texts])
        return numbers, f"as numbers with a decimal comma, from {_ends(texts, numbers)}"
    keys = _numbers_in(texts)
    if keys is None:
        raise DataError(
            f"the order of {_first(texts)} is not clear. List the texts in their order, `repeats: {{by: ..., order: "
            f"[{shown(list(texts), 3)}]}}`, or give numbers or dates (`date_format` of the source says how they are "
            "written)."
        )
    return _ranks_of_keys(keys), f"by the numbers in them, from {_ends(texts, _ranks_of_keys(keys))}"


def _first(texts: Iterable[str]) -> str:
    return shown([repr(text) for text in texts], N_SHOWN)


def _ends(texts: pd.Index, keys: Any) -> str:
    in_order = texts[np.argsort(np.asarray(keys), kind="stable")]
    middle = [repr(in_order[len(in_order) // 2]), "..."] if len(in_order) > 2 else []
    return ", ".join([repr(in_order[0]), *middle[: len(in_order) - 2], repr(in_order[-1])])


def _ranks_of_keys(keys: list[Key]) -> Ranks:
    place = {key: k for k, key in enumerate(sorted(set(keys)))}
    return np.array([place[key] for key in keys], dtype=np.int64)


def _numbers_in(texts: pd.Index) -> list[Key] | None:
    """Returns the numbers in texts that are the same but for them, after `baseline`; None if they are not the same.

    Texts that differ by a unit of time too, such as `6 weeks` and `1 year`, are compared in days.
    """
    plain = [_ARM.sub("", _ORDINAL.sub("", text.casefold())) for text in texts]
    split = [_split(text) for text in plain]
    if not any(re.search(r"[^\W\d_]", text) for text in plain):
        return None  # numbers alone, with signs between them: a kind of date?
    words = {skeleton[0] for skeleton, numbers in split if not numbers}
    if not words <= set(_WORDS_BEFORE_NUMBERS) or (all(not numbers for _, numbers in split) and len(words) < 2):
        return None
    if len({skeleton for skeleton, numbers in split if numbers}) > 1:
        split = [_in_days(skeleton, numbers) if numbers else (skeleton, numbers) for skeleton, numbers in split]
    with_numbers = [numbers for _, numbers in split if numbers]
    if len({skeleton for skeleton, numbers in split if numbers}) > 1:
        return None
    if any(1900 <= number <= 2100 for numbers in with_numbers for number in numbers[1:]):
        return None  # a year that comes last says more than what is before it
    if words and any(number < 0 for numbers in with_numbers for number in numbers):
        return None  # is the first negative day before the baseline?
    return [(0.0, *numbers) if numbers else (_WORDS_BEFORE_NUMBERS[skeleton[0]],) for skeleton, numbers in split]


def _split(text: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Returns the words between the numbers of a text, and the numbers."""
    between = tuple(" ".join(re.split(r"[\s_.,:;()\-]+", part)).strip() for part in _NUMBER.split(text))
    return between, tuple(float(number.replace("\u2212", "-")) for number in _NUMBER.findall(text))


def _in_days(skeleton: tuple[str, ...], numbers: tuple[float, ...]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Turns one number with a unit of time, before or after it, into days."""
    words = [word for part in skeleton for word in part.split()]
    units = [word for word in words if (word.removesuffix("s") or word) in _DAYS]
    if len(numbers) != 1 or len(units) != 1:
        return skeleton, numbers
    rest = tuple(word for word in words if word not in units)
    return ("in days", *rest), (numbers[0] * _DAYS[units[0].removesuffix("s") or units[0]],)
