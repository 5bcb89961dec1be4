"""The names of a table's columns."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from multimodn.errors import DataError, did_you_mean, shown

NAMELESS = re.compile(r"|Unnamed: \d+|__index_level_\d+__")  # as files and pandas write a column without a name


class Wanted(NamedTuple):
    """Columns of a table that are read in a way of their own; see `read_source`."""

    patient: str
    exact: frozenset[str]
    verbatim: frozenset[str]
    literal: frozenset[str]


def with_names(names: list[str]) -> list[str]:
    """Tells several columns without a name apart, as pandas does; one alone stays as it is."""
    if names.count("") < 2:
        return names
    return [name or f"Unnamed: {k}" for k, name in enumerate(names)]


def nameless_kind(column: pd.Series[Any]) -> str | None:
    """Says what a column without a name holds that is no input; None if its cells may mean something."""
    texts = column.astype(str).str.strip()
    if bool((column.isna() | (texts == "")).all()):
        return "no values"
    if not pd.api.types.is_numeric_dtype(column.dtype) or column.isna().any():
        return None
    numbers = column.to_numpy(float)  # of some rows, where others were left out
    is_count = len(numbers) > 1 and numbers[0] >= 0 and not np.mod(numbers, 1).any() and np.diff(numbers).min() > 0
    return "row numbers" if is_count else None


def checked_header(names: list[str], wanted: Wanted, where: str) -> list[str]:
    """Returns the columns that keep their type, the key first; raises a DataError if it is missing, or a name repeated.

    Args:
        names: The names of all columns.
        wanted: The key column, and those that keep their type, if they exist.
        where: The file or query, for messages.
    """
    patient = wanted.patient
    if patient not in names:
        raise DataError(f"{where} has no key column '{patient}'.{did_you_mean(patient, names)}")
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"{where} has several columns named {shown(twice)}; rename or remove them.")
    kept = wanted.exact | wanted.verbatim | wanted.literal
    return [patient, *(name for name in names if name in kept and name != patient)]
