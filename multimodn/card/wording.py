"""Numbers in words: intervals, shares, and counts that tell nothing of single patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from multimodn.card.markdown import Markup, code, escaped
from multimodn.figures.forest import metric_words

FEWEST = 5
"""Patients below whom a group is not counted exactly."""
FEW = f"fewer than {FEWEST}"
HIDDEN = "not shown"
"""In the place of a count from which, with the total, a smaller one could be had."""
UNKNOWN = "not known"


def count(n: int) -> str:
    """Writes a count of patients; 1 to 4 as ``fewer than 5``."""
    return FEW if 0 < n < FEWEST else f"{n:,}"


def counts(numbers: Sequence[int]) -> list[str]:
    """Writes counts whose sum is known, hiding as many that none from 1 to 4 follows from the others.

    Example:
        >>> counts([16, 2])
        ['not shown', 'fewer than 5']
        >>> counts([16, 0])
        ['16', '0']
    """
    small = {k for k, n in enumerate(numbers) if 0 < n < FEWEST}
    others = sorted((k for k, n in enumerate(numbers) if n >= FEWEST), key=lambda k: numbers[k])
    hidden: set[int] = set()
    while small and not _is_open([numbers[k] for k in small], [numbers[k] for k in hidden]) and others:
        hidden.add(others.pop(0))
    return [FEW if k in small else HIDDEN if k in hidden else f"{n:,}" for k, n in enumerate(numbers)]


def _is_open(small: Sequence[int], hidden: Sequence[int]) -> bool:
    """Says whether several sets of counts have the same sum: 1 to 4 each, and `FEWEST` or more each."""
    total, least = sum(small) + sum(hidden), len(small) + FEWEST * len(hidden)
    return total > least and (bool(hidden) or (len(small) > 1 and total < (FEWEST - 1) * len(small)))


def share(part: int, whole: int) -> str:
    """Writes ``12 of 40 (30%)``; a part of 1 to 4, or all but as few, without its share."""
    if 0 < whole - part < FEWEST:
        return f"all but {FEW} of {whole:,}"
    if not 0 < part < FEWEST and whole:
        return f"{part:,} of {whole:,} ({part / whole:.0%})"
    return f"{count(part)} of {whole:,}"


def patients(n: int) -> str:
    """Writes ``1 patient`` as ``fewer than 5 patients``, and ``18 patients``."""
    return f"{count(n)} patients"


def number(value: float, digits: int = 2) -> str:
    """Writes a number with a true minus sign; NaN is not known."""
    if np.isnan(value):
        return UNKNOWN
    text = f"{round(value, 9):.{digits}f}"  # 0.765 is written alike, whichever way it was computed
    return text.replace("-", "\u2212") if float(text) else text.replace("-", "")


def interval(value: float, low: float, high: float, digits: int = 2) -> str:
    """Writes ``0.79 (0.64 to 0.94)``; without an interval it says so."""
    if np.isnan(value):
        return "undefined"
    if np.isnan(low) or np.isnan(high):
        return f"{number(value, digits)} (no interval)"
    return f"{number(value, digits)} ({number(low, digits)} to {number(high, digits)})"


def quartiles(values: np.typing.NDArray[np.float64]) -> str:
    """Writes the median and the quartiles of at least `FEWEST` numbers."""
    known = values[~np.isnan(values)]
    if len(known) < FEWEST:
        return HIDDEN if len(known) else UNKNOWN
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    return f"{middle:.4g} ({low:.4g} to {high:.4g})".replace("-", "\u2212")


METRICS = {
    "brier": "Brier score",
    "integrated_brier": "integrated Brier score",
    "uno_cindex": "C-index (Uno)",
    "auroc_over_time": "AUROC over time",
    "r2": "R²",
}


def metric_name(metric: object) -> str:
    """Writes a metric as people do."""
    return METRICS.get(str(metric)) or metric_words(str(metric))


def missing(key: str) -> Markup:
    """Says which key of the study would fill a gap."""
    return Markup(f"*not provided by the user* ({code(f'card.{key}')})")


def given(text: str | None, key: str) -> Markup:
    """Returns the user's words, or says that they are missing."""
    return escaped(text) if text and text.strip() else missing(key)


def rows_of(frame: pd.DataFrame) -> list[Any]:
    """Returns the rows of a frame, each with its columns as attributes."""
    return list(frame.itertuples(index=False))


def sentence(text: str) -> str:
    """Ends a text with a full stop, if it has no end."""
    return text if text.endswith((".", "!", "?", ":")) else f"{text}."
