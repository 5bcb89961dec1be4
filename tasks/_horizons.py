"""Times with a unit, such as ``3y``, as the horizons of a survival task."""

from __future__ import annotations

import re

from multimodn.study.time import UNITS

DAYS = {unit: days for unit, days in UNITS.items() if days >= 1.0}
"""The units of time of a survival task, in days."""

_WRITTEN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)")
_NAMES = {"d": "days", "w": "weeks", "m": "months", "mo": "months", "y": "years", "a": "years", "yr": "years"}


def horizon(written: float | str, unit: str | None) -> tuple[str, float]:
    """Returns the name of a horizon, such as ``3 years``, and its time in the unit of the column of times.

    Args:
        written: A number in the unit of the column, or a text with a unit: ``3y``, ``18 months``, ``90d``.
        unit: The unit of the column, one of `DAYS`; None: not known.

    Raises:
        ValueError: If it cannot be read, is not later than 0, or has a unit where that of the column is not known.
    """
    if not isinstance(written, str):
        number, own = float(written), unit
    else:
        found = _WRITTEN.fullmatch(written.strip().lower())
        own = None if found is None else _unit(found[2])
        if found is None or own is None:
            raise ValueError(f"'{written}' is no time; write a number and d, w, m or y (days to years), such as 3y.")
        if unit is None:
            raise ValueError(f"'{written}' has a unit; say that of the column of times too, such as `unit: days`.")
        number = float(found[1])
    if not 0 < number < float("inf"):
        raise ValueError(f"{written} is no time after 0.")
    return named(number, own), number if own is None or unit is None else number * DAYS[own] / DAYS[unit]


def named(number: float, unit: str | None) -> str:
    """Writes a time: ``3 years``, ``1 year``, or the number alone where the unit is not known."""
    if unit is None:
        return f"{number:g}"
    return f"{number:g} {unit.removesuffix('s') if number == 1 else unit}"


def _unit(word: str) -> str | None:
    return _NAMES.get(word) or next((unit for unit in DAYS if word in (unit, unit.removesuffix("s"))), None)
