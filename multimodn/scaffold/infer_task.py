"""Infers the kind of task from the values of a target column."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from multimodn.data.label_texts import as_number, as_text, counted, dates_among
from multimodn.data.outcome_words import is_empty_word, positive_of, spellings
from multimodn.errors import DataError, shown

FEW = 10  # distinct values up to which a column is taken for classes
MOST = 0.8  # share of the cells that are numbers in a column of numbers with some texts
ROMAN = {numeral: i for i, numeral in enumerate(["0", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii"])}


@dataclass(frozen=True)
class Inferred:
    """The task that fits a target column."""

    kind: str
    options: dict[str, Any]  # further keys of the kind
    reason: str  # the property of the values behind it
    alternatives: str  # kinds to consider instead
    empty: list[str] = field(default_factory=list)  # cells that mean that nothing is known
    notes: list[str] = field(default_factory=list)  # what the reader should check


def infer_task(values: pd.Series[Any]) -> Inferred:
    """Infers a task kind from a target column.

    Raises:
        DataError: If the column has one value only, or holds dates.
    """
    values = values.dropna()
    distinct, empty, notes = _distinct(values)
    n = len(distinct)
    dates = dates_among(distinct)
    if n > 2 and dates:
        raise DataError(
            f"target '{values.name}' holds dates such as '{dates[0]}'. Make them numbers in a column of their "
            f"own, such as days since the diagnosis, or a column that says what happened."
        )
    if n < 2:
        raise DataError(f"target '{values.name}' has {n} distinct value(s); nothing can be learned from it.")
    inferred = _of_values(distinct, values)
    return replace(inferred, empty=empty, notes=[*inferred.notes, *notes])


def _of_values(distinct: list[Any], values: pd.Series[Any]) -> Inferred:
    n, listed = len(distinct), shown([_plain(value) for value in distinct])
    if n == 2:
        positive, why = _positive(distinct, values)
        notes = [] if why else ["positive: the rarer one, as no word tells; check"]
        return Inferred("binary", {"positive": positive}, f"two values, {listed}", "multiclass", notes=notes)
    order = _ordered(distinct)
    if order is not None:
        classes = [_plain(value) for value in order]
        return Inferred("ordinal", {"classes": classes}, f"values {shown(classes)} look ordered", "multiclass")
    if not any(isinstance(value, str) for value in distinct):
        return Inferred("regression", {}, f"{n} distinct numbers", "ordinal, survival")
    if n > max(FEW, len(values) // 5):
        reason = f"{n} distinct texts among {len(values)}, which are many for classes; check the column"
        return Inferred("multiclass", {}, reason, "another column")
    return Inferred("multiclass", {}, f"{n} texts without an order, {listed}", "ordinal")


def _distinct(values: pd.Series[Any]) -> tuple[list[Any], list[str], list[str]]:
    """Returns the distinct values in their usual spelling, sorted, the cells that mean empty, and notes."""
    if pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_datetime64_any_dtype(values.dtype):
        return sorted(values.unique().tolist()), [], []
    counts = {str(text): int(n) for text, n in values.map(as_text).value_counts().items() if text}
    empty = [text for text in counts if is_empty_word(text)]
    empty = empty if len(counts) - len(empty) > 1 else []
    known = {text: n for text, n in counts.items() if text not in empty}
    notes = [f"cells that seem to be empty: {counted(counts, empty)}"] if empty else []
    numbers = {text: number for text in known if (number := as_number(text)) is not None}
    others = [text for text in known if text not in numbers]
    are_most = len(numbers) > FEW and sum(known[text] for text in numbers) >= MOST * sum(known.values())
    if numbers and (are_most or not others):
        notes += [f"cells that are no numbers: {counted(known, others)}"] if others else []
        return sorted(_plain(number) for number in set(numbers.values())), [*empty, *others], notes
    usual = spellings(known, are_answers=True)
    other = [f"'{text}' as '{name}' ({known[text]})" for text, name in usual.items() if text != name]
    notes += [f"other spellings: {shown(other)}"] if other else []
    return sorted(set(usual.values())), empty, notes


def _positive(distinct: list[Any], values: pd.Series[Any]) -> tuple[Any, str]:
    """Returns the positive one of two values, and what tells it; empty if only its rarity does."""
    if not isinstance(distinct[1], str):
        return _plain(distinct[1]), "as the larger number"
    positive, why = positive_of(distinct)
    if positive is None:
        counts = values.map(as_text).value_counts()
        positive = min(distinct, key=lambda text: counts[text])
    return positive, why


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
