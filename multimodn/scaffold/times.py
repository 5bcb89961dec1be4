"""Which columns are times of an outcome, told by their names and values, and which of them belong to an event."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

ENDPOINTS = frozenset((
    "os", "pfs", "dfs", "rfs", "efs", "dss", "css", "mfs", "dmfs", "lrfs", "bcr", "pfi", "dfi", "ttp", "survival",
    "surv", "event", "death", "died", "dead", "deceased", "recurrence", "recurred", "relapse", "progression",
    "metastasis", "failure", "vital", "status", "followup", "fu", "contact", "last", "censored", "censoring",
))  # fmt: skip
UNITS = {"day": "days", "week": "weeks", "month": "months", "mo": "months", "year": "years", "yr": "years"}
_TIMES = frozenset(["time", *UNITS, *(f"{unit}s" for unit in UNITS)])
ALONE = (_TIMES - set(UNITS)) | frozenset((
    "futime", "fudays", "followup", "tte", "ttp", "ttd", "duration", "tstop", "dtime", "etime", "stime", "rtime",
    "os", "pfs", "dfs", "rfs", "efs", "dss", "css", "mfs", "dmfs", "pfi", "dfi", "survival",
))  # fmt: skip
_ENDPOINT = "(?:os|[pdre]fs|dss|css|d?mfs|lrfs|pfi|dfi|ttp|surv(?:ival)?|fu|followup)"
_UNIT = "(?:time|days?|mo(?:nths?)?|weeks?|y(?:ea)?rs?)"
_GLUED = re.compile(f"{_ENDPOINT}{_UNIT}|{_UNIT}{_ENDPOINT}")
_BEFORE = frozenset(["birth", "diagnosis", "age", "born"])  # times until these are no follow-up


def words_of(name: str) -> list[str]:
    """Splits the name of a column: ``OS.time``, ``OS_time`` and ``osTime`` are os and time."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    joined = re.sub(r"follow[\W_]*up", "followup", apart, flags=re.IGNORECASE)
    return re.findall(r"[^\W\d_]+", joined.lower())


def is_time_name(name: str, *, alone: bool = True) -> bool:
    """Says whether a name is that of a time to an outcome or the end of observation.

    Such as ``days_to_death``, ``OS_MONTHS``, ``futime``; with ``alone`` also ``days`` or ``OS``, which may be others.
    """
    words = words_of(name)
    if not words or _BEFORE & set(words):
        return False
    if len(words) == 1:
        return (alone and words[0] in ALONE) or words[0] in {"futime", "tte"} or bool(_GLUED.fullmatch(words[0]))
    has_unit = bool(_TIMES & set(words))
    return (has_unit and bool(ENDPOINTS & set(words))) or any(_GLUED.fullmatch(word) for word in words)


def is_time(name: str, values: pd.Series[Any], *, alone: bool = True) -> bool:
    """Says whether a column is a time by its name, and by its values: numbers, 0 or more, of more than two kinds."""
    if not is_time_name(name, alone=alone) or not pd.api.types.is_numeric_dtype(values.dtype):
        return False
    numbers = values.dropna().to_numpy(dtype=float)
    return len(np.unique(numbers)) > 2 and float(np.mean(numbers < 0)) < 0.05


def unit_of(names: Sequence[str]) -> str | None:
    """Returns the unit that the names of times tell: days, weeks, months or years; None if none or several."""
    words = {word.removesuffix("s") if word != "os" else word for name in names for word in words_of(name)}
    found = {UNITS[word] for word in words if word in UNITS}
    found |= {unit for name in names for word in words_of(name) for unit in [_glued_unit(word)] if unit}
    return found.pop() if len(found) == 1 else None


def _glued_unit(word: str) -> str | None:
    if not _GLUED.fullmatch(word):
        return None
    return next((unit for stem, unit in UNITS.items() if len(stem) > 2 and stem in word), None)


def times_of(event: str, happened: pd.Series[Any], frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Returns the columns that together give the time of most patients, the first of them that of the event.

    Args:
        event: The name of the column of the event.
        happened: Whether it did, by row; empty: unknown.
        frame: The table.
        names: Its columns that are times.
    """
    if not names:
        return []
    known, did = happened.notna().to_numpy(), (happened == True).to_numpy(dtype=bool)  # noqa: E712 - empty is not True
    filled = {name: frame[name].notna().to_numpy() for name in names}
    shared = {name: len(_stem(name) & _stem(event)) for name in names}

    def share(name: str, rows: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
        return float(filled[name][rows].mean()) if rows.any() else 0.0

    first = max(names, key=lambda name: (round(share(name, known & did), 1), shared[name], share(name, known)))
    chosen, covered = [first], filled[first]
    while (known & ~covered).any():
        rest = known & ~covered
        best = max((name for name in names if name not in chosen), key=lambda name: share(name, rest), default=None)
        if best is None or share(best, rest) < 0.05:
            break
        chosen, covered = [*chosen, best], covered | filled[best]
    return chosen


def _stem(name: str) -> set[str]:
    """Returns the words of a name that tell which endpoint it belongs to."""
    return set(words_of(name)) - _TIMES - {"status", "event", "to", "of", "vital", "survival"}
