"""Numbers as text: one rule for digits, signs, intervals, shares, p-values and small groups of patients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FEWEST = 5  # patients below whom a group is not counted exactly, and no number about it is written
FEW = f"fewer than {FEWEST}"
HIDDEN = "not shown"  # in the place of a count from which, with the total, a smaller one could be had
UNKNOWN = "not known"
DASH, MINUS, INFINITY = "\u2013", "\u2212", "\u221e"


def number(value: float, digits: int = 2) -> str:
    """Writes a number with a true minus sign; NaN is not known."""
    if np.isnan(value):
        return UNKNOWN
    text = f"{round(float(value), 9):.{digits}f}"  # 0.765 is written alike, whichever way it was computed
    return text.replace("-", MINUS if float(text) else "")


def signed(value: float, digits: int = 2) -> str:
    """Writes a number with its sign; a true minus is as wide as a plus."""
    text = f"{abs(round(float(value), 9)):.{digits}f}"
    return text if value == 0 else f"{'+' if value > 0 else MINUS}{text}"


def interval(value: float, low: float, high: float, digits: int = 2, *, is_signed: bool = False) -> str:
    """Writes ``0.79 (0.64 to 0.94)``, ``0.79 (no interval)`` or ``undefined``."""
    if np.isnan(value):
        return "undefined"
    write = signed if is_signed else number
    if np.isnan(low) or np.isnan(high):
        return f"{write(value, digits)} (no interval)"
    return f"{write(value, digits)} ({write(low, digits)} to {write(high, digits)})"


def p_value(p: float) -> str:
    """Writes a p-value with three decimals."""
    return "< .001" if p < 0.001 else f"{p:.3f}"


def percent(share: float, digits: int = 0) -> str:
    """Writes a share of 1: ``23%``, ``0.4%``, ``<0.1%``."""
    if np.isnan(share):
        return "unknown"
    if 0 < share < 0.001 or 0.999 < share < 1:
        return "<0.1%" if share < 0.5 else ">99.9%"
    is_far = 0 < share < 0.01 or 0.99 < share < 1
    return f"{share:.{max(digits, 1) if is_far else digits}%}"


def cell(value: object) -> str:
    """Writes a value of a table: numbers with three significant digits, an unknown value as a dash."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}".replace("-", MINUS)
    if isinstance(value, (float, np.floating)):
        return _three_digits(float(value)).replace("-", MINUS)
    return DASH if value is None or value is pd.NA or str(value) == "" else str(value)


def _three_digits(value: float) -> str:
    if not np.isfinite(value):
        return DASH if np.isnan(value) else f"{'-' * (value < 0)}{INFINITY}"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    digits = int(np.clip(2 - np.floor(np.log10(abs(value))), 0, 6))
    return f"{value:,.{digits}f}" if 5e-4 <= abs(value) < 1e6 else f"{value:.2e}"


def counted(n: int, noun: str) -> str:
    """Writes ``1 patient``, ``1,204 patients``."""
    plural = noun[:-1] + "ies" if noun.endswith("ty") else f"{noun}s"
    return f"{n:,} {noun if n == 1 else plural}"


def joined(names: Iterable[object], most: int = 8, last: str = "and") -> str:
    """Writes ``a``, ``a and b``, ``a, b and c``; of many names, some and how many more."""
    every = [str(name) for name in names]
    if len(every) > most:
        every = [*every[:most], f"{len(every) - most} more"]
    return f" {last} ".join([", ".join(every[:-1]), every[-1]]) if len(every) > 1 else "".join(every)


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


def shares(numbers: Sequence[int]) -> list[str]:
    """Writes counts of a whole with their shares, as far as `counts` shows them."""
    total = sum(numbers)
    texts = zip(counts(numbers), numbers, strict=True)
    return [f"{text} ({n / total:.0%})" if text[0].isdigit() and n else text for text, n in texts]


def quartiles(values: NDArray[np.float64]) -> str:
    """Writes the median and the quartiles of at least `FEWEST` numbers."""
    observed = values[~np.isnan(values)]
    if len(observed) < FEWEST:
        return HIDDEN if len(observed) else UNKNOWN
    low, middle, high = np.quantile(observed, [0.25, 0.5, 0.75])
    return f"{middle:.4g} ({low:.4g} to {high:.4g})".replace("-", MINUS)
