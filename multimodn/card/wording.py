"""Words that the sections of a card share."""

from __future__ import annotations

from typing import Any

import pandas as pd

from multimodn.findings.markdown import Markup, code, escaped
from multimodn.findings.numbers import count


def patients(n: int) -> str:
    """Writes ``1 patient`` as ``fewer than 5 patients``, and ``18 patients``."""
    return f"{count(n)} patients"


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
