"""Reads the rows of a long table of measurements, and what training rows told about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.encoders._reading import (
    Booleans,
    Floats,
    Integers,
    check_columns,
    is_date,
    is_empty,
    parse_numbers,
    read_levels,
)
from multimodn.encoders._tables.scaling import CLIP
from multimodn.errors import DataError, raise_all, shown

LATEST = 1e6
"""Bound of scaled times, in training spreads; float32 must hold them."""

N_SHOWN = 3
"""Rows that a message quotes before it only counts."""


@dataclass(frozen=True)
class Variable:
    """What training rows told about a variable.

    Attributes:
        name: As the table writes it.
        mean: Of its values, in their unit.
        spread: Standard deviation, > 0; 1 where all values are the same.
        n_rows: Its measurements.
    """

    name: str
    mean: float
    spread: float
    n_rows: int


@dataclass(frozen=True)
class Rows:
    """Measurements in an order that no order of the table's rows changes: by patient, time, variable and value.

    Attributes:
        patients: The patients in the order in which the table names them first.
        patient: The number of each row's patient, ``(n,)``; the other arrays have a number a row as well.
        time: As the table has it.
        code: The number of its variable among ``variables``.
        value: In the variable's unit.
        variables: The variables of these rows, sorted.
    """

    patients: pd.Index
    patient: Integers
    time: Floats
    code: Integers
    value: Floats
    variables: list[str]

    def __len__(self) -> int:
        return len(self.patient)

    def where(self, kept: Booleans) -> Rows:
        """Returns some of the rows; patients and variables stay the same."""
        return Rows(
            self.patients, self.patient[kept], self.time[kept], self.code[kept], self.value[kept], self.variables
        )

    def counts(self) -> Integers:
        """Returns the number of rows of each patient."""
        return np.bincount(self.patient, minlength=len(self.patients))

    def latest(self, n_rows: int) -> Rows:
        """Returns the latest rows of each patient, ``n_rows`` at most."""
        counts = self.counts()
        until_end = np.repeat(counts.cumsum(), counts) - np.arange(len(self))
        return self.where(until_end <= n_rows)


def read_rows(frame: pd.DataFrame, time: str, variable: str, value: str, header: str) -> Rows:
    """Reads the rows of a frame that is indexed by patient.

    Args:
        frame: Any rows.
        time: The column of times: numbers, such as hours since admission.
        variable: The column of variables: text or codes.
        value: The column of values: numbers.
        header: Begins the message.

    Raises:
        DataError: Listing each kind of fault with the rows that have it: a missing column, dates, empty cells, text
            that is no number, infinite numbers.
    """
    check_columns(frame, [time, variable, value], header)
    if is_date(frame[time]):
        raise DataError(
            f"{header}: column '{time}' holds dates ({frame[time].dtype}), expected numbers. Give each patient's time "
            f"since a start, such as hours since admission: "
            f"(time - start) / pandas.Timedelta(hours=1)."
        )
    problems = list[str]()
    code, variables = read_levels(frame[variable])
    _note(problems, frame, (time, variable, value), code < 0, f"have no variable in column '{variable}'", "Name it.")
    numbers = {}
    for column, advice in ((time, "Times are numbers, such as hours since admission, not dates."), (value, "")):
        cells = frame[column]
        numbers[column], unreadable = parse_numbers(cells)
        infinite = np.isinf(numbers[column])
        for wrong, what, repair in (
            (
                is_empty(cells),
                f"have an empty cell in column '{column}'",
                "Leave such rows out: not measured is no row.",
            ),
            (unreadable, f"have no number in column '{column}'", advice or "Clean these cells, or leave the rows out."),
            (infinite, f"have an infinite number in column '{column}'", "Correct them, or leave the rows out."),
        ):
            _note(problems, frame, (time, variable, value), wrong, what, repair)
    raise_all(problems, DataError, header)
    patient, patients = pd.factorize(frame.index)
    order = np.lexsort((numbers[value], code, numbers[time], patient))
    return Rows(
        pd.Index(patients),
        patient[order].astype(np.int64),
        numbers[time][order],
        code[order],
        numbers[value][order],
        variables,
    )


def _note(
    problems: list[str], frame: pd.DataFrame, columns: Sequence[str], wrong: Booleans, what: str, repair: str
) -> None:
    found = np.flatnonzero(wrong)
    if not len(found):
        return
    time, variable, value = columns
    quoted = [
        f"patient '{frame.index[i]}' at {time} {frame[time].iloc[i]}, {variable} {frame[variable].iloc[i]}, "
        f"{value} {frame[value].iloc[i]}"
        for i in found[:N_SHOWN].tolist()
    ]
    listed = shown([*quoted, *[""] * (len(found) - len(quoted))], N_SHOWN).replace(", ...", "; ...")
    problems.append(f"{len(found)} of {len(frame)} rows {what}: {listed}. {repair}")


def fit_variables(rows: Rows) -> list[Variable]:
    """Returns mean and standard deviation of each variable over training rows."""
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
    return [
        Variable(name, float(mean[i] * unit[i]), float(spread[i]), int(counts[i]))
        for i, name in enumerate(rows.variables)
    ]


def fit_time(rows: Rows) -> tuple[float, float]:
    """Returns mean and standard deviation of the times of training rows; 1 for the latter if all are the same."""
    unit = float(np.abs(rows.time).max()) or 1.0
    relative = rows.time / unit
    spread = float(relative.std())
    return float(relative.mean()) * unit, spread * unit if spread > 1e-9 else 1.0


def scale_rows(rows: Rows, variables: Sequence[Variable], time_mean: float, time_spread: float) -> NDArray[np.float32]:
    """Returns scaled time, code among ``variables`` and scaled value of each row, ``(n, 3)``.

    A value is clipped to +-5 standard deviations of its variable.
    """
    of_name = {variable.name: i for i, variable in enumerate(variables)}
    code = np.array([of_name.get(name, -1) for name in rows.variables], dtype=np.int64)[rows.code]
    mean = np.array([variable.mean for variable in variables])[code]
    spread = np.array([variable.spread for variable in variables])[code]
    with np.errstate(over="ignore"):  # infinity is brought back at once
        value = ((rows.value - mean) / spread).clip(-CLIP, CLIP)
        time = ((rows.time - time_mean) / time_spread).clip(-LATEST, LATEST)
    return np.stack([time, code.astype(np.float64), value], 1).astype(np.float32)
