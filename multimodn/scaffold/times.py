"""The times that belong to an event, and their unit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from multimodn.data.follow_up import GLUED, TIMES, UNITS, words_of


def unit_of(names: Sequence[str]) -> str | None:
    """Returns the unit that the names of times tell: days, weeks, months or years; None if none or several."""
    words = {word.removesuffix("s") if word != "os" else word for name in names for word in words_of(name)}
    found = {UNITS[word] for word in words if word in UNITS}
    found |= {unit for name in names for word in words_of(name) for unit in [_glued_unit(word)] if unit}
    return found.pop() if len(found) == 1 else None


def _glued_unit(word: str) -> str | None:
    if not GLUED.fullmatch(word):
        return None
    return next((unit for stem, unit in UNITS.items() if len(stem) > 2 and stem in word), None)


FOLLOW_UP = re.compile(r"follow|last|contact|alive|censor|known", re.IGNORECASE)
"""In the name of a time until the end of the observation."""


def times_of(
    event: str, happened: pd.Series[Any], frame: pd.DataFrame, names: Sequence[str], more: Sequence[str] = ()
) -> list[str]:
    """Returns the columns that together give the time of most patients, the first of them that of the event.

    Args:
        event: The name of the column of the event.
        happened: Whether it did, by row; empty: unknown.
        frame: The table.
        names: Its columns that are times.
        more: Columns that give the time of patients who have none in these.
    """
    if not names:
        return []
    known, did = happened.notna().to_numpy(), (happened == True).to_numpy(dtype=bool)  # noqa: E712 - empty is not True
    filled = {name: frame[name].notna().to_numpy() for name in (*names, *more)}
    shared = {name: len(_stem(name) & _stem(event)) for name in names}

    def share(name: str, rows: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
        return float(filled[name][rows].mean()) if rows.any() else 0.0

    first = max(names, key=lambda name: (round(share(name, known & did), 1), shared[name], share(name, known)))
    chosen, covered = [first], filled[first]
    while (known & ~covered).any():
        rest = known & ~covered
        best = max((name for name in filled if name not in chosen), key=lambda name: share(name, rest), default=None)
        if best is None or share(best, rest) < 0.05:
            break
        chosen, covered = [*chosen, best], covered | filled[best]
    return chosen


def _stem(name: str) -> set[str]:
    """Returns the words of a name that tell which endpoint it belongs to."""
    return set(words_of(name)) - TIMES - {"status", "event", "to", "of", "vital", "survival"}
