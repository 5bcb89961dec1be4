"""What texts of figures add to `multimodn.findings`: names that fit, digits that matter, sentences of a caption."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.findings.names import metric_name
from multimodn.findings.numbers import counted

Floats = NDArray[np.float64]

LONGEST = 26


def metrics_words(metrics: Sequence[str] | pd.Series[Any]) -> str:
    """Writes distinct metrics, ``AUROC or R²``."""
    return " or ".join(dict.fromkeys(metric_name(metric) for metric in metrics))


def shorten(name: object, longest: int = LONGEST) -> str:
    """Cuts a name to ``longest`` letters; its end stays, as names often differ there."""
    text = " ".join(str(name).split())
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 1].rstrip()}…{text[-tail:].lstrip()}"


def digits_for(values: Floats, most: int = 4) -> int:
    """Returns how many decimals tell the largest of ``values``: two digits below 1, three above, none from 100 on."""
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    if not np.isfinite(largest) or largest == 0:
        return 2
    return int(np.clip((2 if largest >= 1 else 1) - np.floor(np.log10(largest)), 0, most))


def spanned(sizes: pd.Series[Any]) -> str:
    """Writes the smallest and the largest of some counts, ``46 to 92``, or the one that there is."""
    counts = sizes.dropna()
    low, high = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
    return f"{low:,} to {high:,}" if low < high else f"{high:,}"


def slug(*parts: object) -> str:
    """Joins names to a stem of lower case letters, digits and hyphens; different names give different stems."""
    raw = "-".join(str(part) for part in parts if part not in (None, ""))
    plain = re.sub(r"[^a-z0-9]+", "-", raw.lower()).strip("-")[:60].strip("-")
    return plain if plain == raw else f"{plain}-{zlib.crc32(raw.encode()) & 0xFFFF:04x}"


def not_shown(n: int, noun: str, why: str = "") -> str:
    """Writes `` 2 tasks not shown.`` to end a caption; nothing for 0."""
    return f" {counted(n, noun)}{why and ' '}{why} not shown." if n > 0 else ""
