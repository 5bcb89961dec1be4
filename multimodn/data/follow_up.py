"""Columns that are times until an outcome or the end of observation, told by their names and values."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

ENDPOINTS = frozenset((
    "os", "pfs", "dfs", "rfs", "efs", "dss", "css", "mfs", "dmfs", "lrfs", "bcr", "pfi", "dfi", "ttp", "survival",
    "surv", "event", "death", "died", "dead", "deceased", "recurrence", "recurred", "relapse", "progression",
    "metastasis", "failure", "vital", "status", "followup", "fu", "contact", "last", "censored", "censoring",
))  # fmt: skip
UNITS = {"day": "days", "week": "weeks", "month": "months", "mo": "months", "year": "years", "yr": "years"}
TIMES = frozenset(["time", *UNITS, *(f"{unit}s" for unit in UNITS)])
ALONE = (TIMES - set(UNITS)) | frozenset((
    "futime", "fudays", "followup", "tte", "ttp", "ttd", "duration", "tstop", "dtime", "etime", "stime", "rtime",
    "os", "pfs", "dfs", "rfs", "efs", "dss", "css", "mfs", "dmfs", "pfi", "dfi", "survival",
))  # fmt: skip
_ENDPOINT = "(?:os|[pdre]fs|dss|css|d?mfs|lrfs|pfi|dfi|ttp|surv(?:ival)?|fu|followup)"
_UNIT = "(?:time|days?|mo(?:nths?)?|weeks?|y(?:ea)?rs?)"
GLUED = re.compile(f"{_ENDPOINT}{_UNIT}|{_UNIT}{_ENDPOINT}")
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
        return (alone and words[0] in ALONE) or words[0] in {"futime", "tte"} or bool(GLUED.fullmatch(words[0]))
    has_unit = bool(TIMES & set(words))
    return (has_unit and bool(ENDPOINTS & set(words))) or any(GLUED.fullmatch(word) for word in words)


def is_time(name: str, values: pd.Series[Any], *, alone: bool = True) -> bool:
    """Says whether a column is a time by its name, and by its values: numbers, 0 or more, of more than two kinds."""
    if not is_time_name(name, alone=alone) or not pd.api.types.is_numeric_dtype(values.dtype):
        return False
    numbers = values.dropna().to_numpy(dtype=float)
    return len(np.unique(numbers)) > 2 and float(np.mean(numbers < 0)) < 0.05
