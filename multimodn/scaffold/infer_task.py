"""Infers the kind of task from the values of a target column."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from multimodn.errors import DataError, shown

FEW = 10  # distinct values up to which a column is taken for classes
ROMAN = {numeral: i for i, numeral in enumerate(["0", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii"])}
YES = ("yes", "true", "y", "t", "1", "on")


@dataclass(frozen=True)
class Inferred:
    """The task that fits a target column."""

    kind: str
    options: dict[str, Any]  # further keys of the kind
    reason: str  # the property of the values behind it
    alternatives: str  # kinds to consider instead


def infer_task(values: pd.Series[Any]) -> Inferred:
    """Infers a task kind from a target column."""
    values = values.dropna()
    distinct = sorted(values.unique().tolist(), key=lambda value: (isinstance(value, str), value))
    n = len(distinct)
    if n < 2:
        raise DataError(f"target '{values.name}' has {n} distinct value(s); nothing can be learned from it.")
    listed = shown([_plain(value) for value in distinct])
    if n == 2:
        is_plain = not isinstance(distinct[1], str) or str(distinct[1]).lower() in YES
        positive = _plain(distinct[1] if is_plain else values.value_counts().idxmin())  # events are rare
        return Inferred("binary", {"positive": positive}, f"two values, {listed}", "multiclass")
    order = _ordered(distinct)
    if order is not None:
        classes = [_plain(value) for value in order]
        return Inferred("ordinal", {"classes": classes}, f"values {shown(classes)} look ordered", "multiclass")
    if pd.api.types.is_numeric_dtype(values.dtype):
        return Inferred("regression", {}, f"{n} distinct numbers", "ordinal, survival")
    if n > max(FEW, len(values) // 5):
        reason = f"{n} distinct texts among {len(values)}, which are many for classes; check the column"
        return Inferred("multiclass", {}, reason, "another column")
    return Inferred("multiclass", {}, f"{n} texts without an order, {listed}", "ordinal")


def _ordered(distinct: list[Any]) -> list[Any] | None:
    """Returns grades, T stages, Roman numerals or small whole numbers in their order; None for others."""
    if len(distinct) > FEW:
        return None
    if all(not isinstance(value, str) for value in distinct):
        whole = all(float(value).is_integer() and 0 <= value <= 20 for value in distinct)
        return sorted(distinct) if whole else None
    ranks = [_rank(str(value)) for value in distinct]
    if any(rank is None for rank in ranks):
        return None
    return [value for _, value in sorted(zip(ranks, distinct, strict=True), key=lambda pair: (pair[0], str(pair[1])))]


def _rank(text: str) -> tuple[int, str] | None:
    """Returns the place of ``Stage IIIa``, ``pT2``, ``G3``, ``grade 1`` in their order, or None."""
    match = re.fullmatch(r"(?:stage|grade|[pcy]*[tnmg])?[\s_]*([ivx]+|\d)[\s_]*([a-d]?)", text.strip().lower())
    if match is None:
        return None
    numeral, letter = match.groups()
    if numeral.isdigit():
        return int(numeral), letter
    return (ROMAN[numeral], letter) if numeral in ROMAN else None


def _plain(value: Any) -> Any:
    """Returns 1 for 1.0: a column with empty cells stores whole numbers as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
