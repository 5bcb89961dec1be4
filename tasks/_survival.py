"""Reading and scoring of censored times."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.data.label_texts import as_text
from multimodn.errors import DataError, DataWarning, raise_all, shown
from multimodn.metrics.predictions import Bools
from multimodn.statistics.bootstrap import Floats
from multimodn.tasks._labels import Label, encode, find_class, read_labels, read_numbers, two_classes, whose

COMPETING = (
    "If several events compete, do not empty cells: who had another event was observed until then. Name what is asked "
    "for and what counts as censored at its time, such as `event_positive: {0}, censored: [{1}]` (the chance is then "
    "that without the other events), or events that count together, `event_positive: [...]`."
)


@dataclass(frozen=True)
class Events:
    """The values of a column of events."""

    classes: list[str]  # texts of the censored and of the event class
    others: dict[str, int]  # further texts, each with the class that it counts as, 0 or 1

    def codes(self, task: str, frame: pd.DataFrame, column: str) -> NDArray[np.int64]:
        """Returns 1 = event, 0 = censored, -1 = no label for each row; see `encode`."""
        codes = encode(task, frame, column, [*self.classes, *self.others])
        return np.array([0, 1, *self.others.values(), -1], dtype=np.int64)[codes]


def find_events(
    task: str, frame: pd.DataFrame, column: str, positive: Sequence[Label], censored: Sequence[Label]
) -> Events:
    """Returns the values of a column of events; training rows may all have the event.

    Raises:
        DataError: See `two_classes`; or if a value is neither an event nor censored.
    """
    if not censored and len(positive) <= 1:
        several = COMPETING.format(*_example(read_labels(task, frame, column)[1]))
        classes = two_classes(task, frame, column, next(iter(positive), None), key="event_positive", several=several)
        return Events(classes, {})
    values = read_labels(task, frame, column)[1]
    events, others = [as_text(value) for value in positive], [as_text(value) for value in censored]
    unclaimed = [value for value in values if find_class(value, [*events, *others]) < 0]
    if len(unclaimed) == 1 and not (events and others):
        (others if events else events).append(unclaimed.pop())
    where = f"Task '{task}': column '{column}'"
    if unclaimed or not events or not others:
        listed = f"the value(s) {shown(unclaimed)}" if unclaimed else "one value only"
        raise DataError(f"{where} has {listed}: name each in `event_positive` or in `censored`.")
    if set(events) & set(others):
        raise DataError(f"{where}: {shown(sorted(set(events) & set(others)))} is an event and censored; name it once.")
    return Events([others[0], events[0]], dict.fromkeys(others[1:], 0) | dict.fromkeys(events[1:], 1))


def _example(values: Sequence[str]) -> tuple[str, str]:
    """Returns a value that may be the event, and the others."""
    event = next((value for value in values[1:]), "1")
    return event, ", ".join(value for value in values if value != event)


def read_times(task: str, frame: pd.DataFrame, columns: Sequence[str]) -> Floats:
    """Returns the number in the first of some columns that is filled; NaN = all are empty."""
    times = np.full(len(frame), np.nan)
    for column in columns:
        times = np.where(np.isnan(times), read_numbers(task, frame, column), times)
    return times


def read_survival(
    task: str, frame: pd.DataFrame, columns: Sequence[str], event: str, events: Events
) -> tuple[Floats, Bools]:
    """Returns the times, NaN = no label, and whether the event happened.

    A row that lacks the time or the event has no label; see `lacking_times`.

    Raises:
        DataError: If a cell cannot be read, a time is negative, or an event has no time; the message names the patient.
    """
    codes, times = events.codes(task, frame, event), read_times(task, frame, columns)
    negative, timeless = times < 0, (codes == 1) & np.isnan(times)
    where, problems = f"column {' or '.join(map(repr, columns))}", []
    if negative.any():
        found = f"{whose(frame, negative)} has {times[negative][0]:g}"
        problems.append(f"{where}: {found}, expected a time of 0 or later. Correct or empty the cell.")
    if timeless.any():
        word = as_text(frame[event][timeless].iloc[0])
        found = f"{whose(frame, timeless)} has an event ('{word}') but no time in {where}"
        problems.append(f"column '{event}': {found}. Give the time, or empty both cells.")
    raise_all(problems, DataError, f"Task '{task}'")
    return np.where(codes < 0, np.nan, times), codes == 1


def lacking_times(frame: pd.DataFrame, columns: Sequence[str], event: str, events: Events) -> list[str]:
    """Returns notes on patients who have no time, or that of another column than the first.

    Raises:
        DataError: If most of the patients without the event have no time, as where times to death alone are given:
            those who live would be left out, and all others die.
    """
    codes, first = events.codes("", frame, event), read_times("", frame, columns[:1])
    times, where = read_times("", frame, columns), f"column '{event}'"
    timeless, names = (codes == 0) & np.isnan(times), " or ".join(map(repr, columns))
    n, n_censored, notes = int(timeless.sum()), int((codes == 0).sum()), list[str]()
    whom = f"{n:,} of {n_censored:,} patients without the event ('{events.classes[0]}')"
    if n > n_censored / 2:
        raise DataError(
            f"{where}: {whom} have no time in {names}; they would be left out, and nearly all others have the event. "
            f"Name a second column with the end of their observation: "
            f"`time: [{', '.join(columns)}, days_to_last_followup]`, the first that is filled counts."
        )
    if n:
        who = shown(list(frame.index[timeless]), 3)
        notes.append(f"{where}: {whom} have no time in {names} and are left out: {who}.")
    later = (codes == 1) & np.isnan(first) & ~np.isnan(times)
    if later.any():
        text = f"{where}: {int(later.sum()):,} patient(s) with the event have no '{columns[0]}'; their time is that of"
        notes.append(f"{text} a later column, which may be before it: {shown(list(frame.index[later]), 3)}.")
    return notes


def time_edges(
    task: str, column: str, event_times: Floats, n_intervals: int, horizons: Sequence[float] = ()
) -> list[float]:
    """Returns increasing ends of at most ``n_intervals`` intervals, each with an event, and the ``horizons``.

    The last end is the latest event, or a horizon after it.

    Raises:
        DataError: If there is no event later than time 0.
    """
    where = f"Task '{task}': column '{column}'"
    if not (event_times > 0).any():
        raise DataError(f"{where} has no event later than time 0 in the training rows: no hazard can be learned.")
    if len(event_times) == 1:
        message = f"{where} has one event only in the training rows. Nothing can be learned from it: add patients."
        warnings.warn(message, DataWarning, stacklevel=3)
    quantiles = np.quantile(event_times, np.arange(1, n_intervals + 1) / n_intervals, method="inverted_cdf")
    edges = np.unique(
        np.concatenate([quantiles, horizons]).astype(np.float32)
    )  # times are kept in single precision, so compare in it
    kept: list[float] = edges[edges > 0].tolist()
    return kept
