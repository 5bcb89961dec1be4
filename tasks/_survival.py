"""Reading and scoring of censored times."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from multimodn.errors import DataError, DataWarning, raise_all
from multimodn.metrics.predictions import Bools
from multimodn.statistics.bootstrap import Floats
from multimodn.tasks._labels import Label, encode, read_numbers, two_classes, whose


def event_classes(task: str, frame: pd.DataFrame, column: str, positive: Label | None) -> list[str]:
    """Returns the texts of the censored and of the event class; training rows may all have the event.

    Raises:
        DataError: See `two_classes`.
    """
    return two_classes(task, frame, column, positive, key="event_positive")


def read_survival(task: str, frame: pd.DataFrame, time: str, event: str, classes: list[str]) -> tuple[Floats, Bools]:
    """Returns the times, NaN = no label, and whether the event happened.

    A row that lacks the time or the event has no label.

    Raises:
        DataError: If a cell cannot be read, a time is negative, or an event has no time; the message names the patient.
    """
    codes, times = encode(task, frame, event, classes), read_numbers(task, frame, time)
    negative, timeless = times < 0, (codes == 1) & np.isnan(times)
    problems = []
    if negative.any():
        found = f"{whose(frame, negative)} has {times[negative][0]:g}"
        problems.append(f"column '{time}': {found}, expected a time of 0 or later. Correct or empty the cell.")
    if timeless.any():
        found = f"{whose(frame, timeless)} has an event ('{classes[1]}') but no time in column '{time}'"
        problems.append(f"column '{event}': {found}. Give the time, or empty both cells.")
    raise_all(problems, DataError, f"Task '{task}'")
    return np.where(codes < 0, np.nan, times), codes == 1


def time_edges(task: str, column: str, event_times: Floats, n_intervals: int) -> list[float]:
    """Returns increasing ends of at most ``n_intervals`` intervals, each with an event.

    The last end is the latest event.

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
    edges = np.unique(quantiles.astype(np.float32))  # times are kept in single precision, so compare in it
    kept: list[float] = edges[edges > 0].tolist()
    return kept
