"""Reads a long table of measurements; means and standard deviations of its variables."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.encoders import _reading
from multimodn.encoders._outliers import apart
from multimodn.encoders._reading import Booleans, Floats, Integers
from multimodn.encoders._tables.scaling import CLIP
from multimodn.errors import DataError, DataWarning, raise_all

MOST_NOTES = 5  # variables that a note names
LATEST = 1e6  # bound of scaled times, in training spreads; float32 must hold them


@dataclass(frozen=True)
class Variable:
    """Statistics of a variable in the training rows."""

    name: str  # as the table writes it
    mean: float  # of its values, in their unit
    spread: float  # standard deviation, > 0; 1 where all values are the same
    n_rows: int  # its measurements


@dataclass(frozen=True)
class Measurements:
    """Measurements by patient, time, variable and value, whatever the order of the table's rows."""

    patients: pd.Index  # the patients in the order of their first rows in the table
    patient: Integers  # the number of each row's patient, ``(n,)``, as all other arrays
    time: Floats  # in the unit of the table
    code: Integers  # the number of its variable among ``variables``
    value: Floats  # in the variable's unit
    variables: list[str]  # the variables of these rows, sorted

    def __len__(self) -> int:
        return len(self.patient)

    def where(self, kept: Booleans) -> Measurements:
        """Returns some of the rows; patients and variables stay the same."""
        arrays = {name: getattr(self, name)[kept] for name in ("patient", "time", "code", "value")}
        return replace(self, **arrays)

    def counts(self) -> Integers:
        """Returns the number of rows of each patient."""
        return np.bincount(self.patient, minlength=len(self.patients))

    def latest(self, n_rows: int) -> Measurements:
        """Returns the latest rows of each patient, ``n_rows`` at most."""
        counts = self.counts()
        until_end = np.repeat(counts.cumsum(), counts) - np.arange(len(self))
        return self.where(until_end <= n_rows)


def read_rows(frame: pd.DataFrame, time: str, variable: str, value: str, header: str) -> Measurements:
    """Reads the columns of times (numbers), variables (text or codes) and values (numbers), indexed by patient.

    Raises:
        DataError: If a column is missing or holds dates, or cells are empty or not finite numbers; all are listed.
    """
    _reading.check_columns(frame, [time, variable, value], header)
    if _reading.is_date(frame[time]):
        raise DataError(
            f"{header}: column '{time}' holds dates ({frame[time].dtype}), expected numbers. Give each patient's time "
            f"since a start, such as hours since admission: (time - start) / pandas.Timedelta(hours=1)."
        )
    problems = list[str]()
    code, variables = _reading.read_levels(frame[variable])
    columns, numbers = (time, variable, value), {}
    _note(problems, frame, columns, code < 0, f"have no variable in column '{variable}'", "Name it.")
    no_time = "Times are numbers, such as hours since admission, not dates."
    for column, advice in ((time, no_time), (value, "Clean these cells, or leave the rows out.")):
        is_empty = _reading.is_empty(frame[column])
        numbers[column], unreadable = _reading.parse_numbers(frame[column])
        for wrong, what, repair in (
            (is_empty, "an empty cell", "Leave out the rows of what was not measured."),
            (unreadable, "no number", advice),
            (np.isinf(numbers[column]), "an infinite number", "Correct them, or leave the rows out."),
        ):
            _note(problems, frame, columns, wrong, f"have {what} in column '{column}'", repair)
    raise_all(problems, DataError, header)
    patient, patients = pd.factorize(frame.index)
    order = np.lexsort((numbers[value], code, numbers[time], patient))
    times, values = numbers[time][order], numbers[value][order]
    return Measurements(pd.Index(patients), patient[order].astype(np.int64), times, code[order], values, variables)


def _note(
    problems: list[str], frame: pd.DataFrame, columns: Sequence[str], wrong: Booleans, what: str, repair: str
) -> None:
    def quoted(i: int) -> str:
        return f"patient '{frame.index[i]}' at " + ", ".join(f"{name} {frame[name].iloc[i]}" for name in columns)

    places = np.flatnonzero(wrong)
    if len(places):
        listed = _reading.first_shown(map(quoted, places.tolist()), len(places), "; ")
        problems.append(f"{len(places)} of {len(frame)} rows {what}: {listed}. {repair}")


def outlying(rows: Measurements, header: str) -> tuple[Booleans, Booleans]:
    """Marks values that lie apart from all others of their variable, and times from all other times, ``(n,)`` each.

    Warns:
        DataWarning: Naming them: mean and standard deviation do without them, and they count as clipped.
    """
    value, notes = np.zeros(len(rows), dtype=np.bool_), list[str]()
    order = np.argsort(rows.code, kind="stable")
    ends = np.bincount(rows.code, minlength=len(rows.variables)).cumsum()
    for name, places in zip(rows.variables, np.split(order, ends[:-1]), strict=True):
        marked = apart(rows.value[places])
        if marked.any():
            value[places[marked]] = True
            notes.append(_apart(f"'{name}'", rows, rows.value, places[marked], len(places)))
    time = apart(rows.time)
    if time.any():
        notes.append(_apart("times", rows, rows.time, np.flatnonzero(time), len(rows)))
    if notes:
        more = [f"{len(notes) - MOST_NOTES} more variables"] if len(notes) > MOST_NOTES else []
        listed = "; ".join([*notes[:MOST_NOTES], *more])
        text = "They are left out of mean and spread, and clipped; if wrong, correct them or leave the rows out."
        warnings.warn(f"{header}: numbers far from all others: {listed}. {text}", DataWarning, stacklevel=3)
    return value, time


def _apart(name: str, rows: Measurements, numbers: Floats, places: Integers, n: int) -> str:
    shown = [f"{numbers[i]:g} (patient '{rows.patients[rows.patient[i]]}')" for i in places[:3].tolist()]
    more = f", ... ({len(places) - 3} more)" if len(places) > 3 else ""
    return f"{name} {', '.join(shown)}{more}, of {n}"


def fit_variables(rows: Measurements, outlying: Booleans) -> list[Variable]:
    """Returns mean and standard deviation of each variable over training rows without ``outlying`` values ``(n,)``."""
    all_counts = np.bincount(rows.code, minlength=len(rows.variables))
    if outlying.any():
        rows = rows.where(~outlying)
    n_variables = len(rows.variables)
    counts = np.bincount(rows.code, minlength=n_variables)
    unit = np.zeros(n_variables)
    np.maximum.at(unit, rows.code, np.abs(rows.value))  # squares of huge values would overflow
    unit[unit == 0.0] = 1.0
    relative = rows.value / unit[rows.code]
    mean = np.bincount(rows.code, relative, n_variables) / counts
    variance = np.bincount(rows.code, (relative - mean[rows.code]) ** 2, n_variables) / counts
    is_varied = variance > 1e-18  # below that it is rounding
    spread = np.where(is_varied, np.sqrt(variance) * unit, 1.0)
    columns = (rows.variables, (mean * unit).tolist(), spread.tolist(), all_counts.tolist())
    return [Variable(*statistics) for statistics in zip(*columns, strict=True)]


def fit_time(rows: Measurements, outlying: Booleans) -> tuple[float, float]:
    """Returns mean and standard deviation (1 if all are the same) of times of training rows, without ``outlying``."""
    times = rows.time[~outlying]
    unit = float(np.abs(times).max()) or 1.0
    relative = times / unit
    spread = float(relative.std())
    return float(relative.mean()) * unit, spread * unit if spread > 1e-9 else 1.0


def scale_rows(
    rows: Measurements, variables: Sequence[Variable], time_mean: float, time_spread: float
) -> NDArray[np.float32]:
    """Returns scaled time, code among ``variables`` and scaled value of each row, ``(n, 3)``.

    A value is clipped to +-5 standard deviations of its variable.
    """
    of_name = {variable.name: i for i, variable in enumerate(variables)}
    code = np.array([of_name.get(name, -1) for name in rows.variables], dtype=np.int64)[rows.code]
    mean = np.array([variable.mean for variable in variables])[code]
    spread = np.array([variable.spread for variable in variables])[code]
    with np.errstate(over="ignore"):  # infinity is clipped at once
        value = ((rows.value - mean) / spread).clip(-CLIP, CLIP)
        time = ((rows.time - time_mean) / time_spread).clip(-LATEST, LATEST)
    return np.stack([time, code.astype(np.float64), value], 1).astype(np.float32)
