"""The text of a label, however a table stores it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from multimodn.data.outcome_words import is_empty_word
from multimodn.data.reading.dates import LIKELY_YEARS, are_calendar_dates, are_dates
from multimodn.errors import shown

_WHOLE = re.compile(r"([+-]?\d+)\.0+")


def as_text(label: object) -> str:
    """Returns the text under which ``label`` is compared; empty if it holds nothing."""
    text = str(label).strip()
    whole = _WHOLE.fullmatch(text)
    if whole:
        return whole[1]
    return text.lower() if text.lower() in {"true", "false"} else text


def as_number(text: str) -> float | None:
    """Returns the finite number that ``text`` writes, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def dates_among(values: Sequence[Any]) -> list[str]:
    """Returns the values if (nearly) all are dates, as text or as numbers like 20240131; else an empty list."""
    texts = [as_text(value) for value in values]
    texts = [text for text in texts if text and not is_empty_word(text)]
    numbers = [text for text in texts if text.isdigit() and len(text) == 8]
    if texts and len(numbers) == len(texts):
        return texts if are_calendar_dates(np.array(texts, dtype=np.float64), *LIKELY_YEARS) else []
    return texts if not any(as_number(text) is not None for text in texts) and are_dates(pd.Index(texts)) else []


def counted(counts: Mapping[str, int], texts: Sequence[str]) -> str:
    """Lists some texts of a column with the number of their cells."""
    return shown([f"'{text}' ({counts[text]:,})" for text in texts])
