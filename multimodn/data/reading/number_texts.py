"""Numbers that stand as text: with a decimal comma, a unit, a percent sign, thousands, below a limit, as a range."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Writing = Literal["plain", "comma", "thousands", "percent", "unit", "limit", "range", "other"]

_SIGN = r"[+\-\u2212]?"
_NUMBER = rf"{_SIGN}(?:\d[\d.,'\u2019]*(?:[ \u00a0\u2009\u202f]\d{{3}})*|[.,]\d+)(?:[eE][+-]?\d+)?"
_UNIT = (
    r"(?:[x\u00d7*]\s?)?(?:10\s?\^?\s?\d{1,2}\s?/\s?)?[^\W\d_][\w^]*\.?(?:\s?[/.*\u00b7]\s?[\w^%.]+)*|\u00b0\s?[CFK]"
)
GROUPS = {",": ",", ".": r"\.", "'": "['\u2019]", " ": "[ \u00a0\u2009\u202f]"}  # signs between thousands
PLAIN = re.compile(rf"{_SIGN}(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
LIMIT = re.compile(r"([<>\u2264\u2265])\s*=?\s*(.*)")
RANGE = re.compile(rf"({_NUMBER})\s*(?:-|\u2013|\u2014|to|bis)\s*({_NUMBER})")
WITH_UNIT = re.compile(rf"({_NUMBER})\s*(%|{_UNIT})")
COMMA = re.compile(rf"{_SIGN}(?:\d*,\d+|\d{{1,3}}(?:\.\d{{3}})+,\d+)(?:[eE][+-]?\d+)?")
THOUSANDS = re.compile(
    rf"{_SIGN}\d{{1,3}}(?:(?:,\d{{3}})+(?:\.\d+)?|(?:['\u2019]\d{{3}})+(?:[.,]\d+)?"
    rf"|(?:[ \u00a0\u2009\u202f]\d{{3}})+(?:[.,]\d+)?|(?:\.\d{{3}}){{2,}}(?:,\d+)?)"
)
_UNITS = re.compile(
    r"(?:[kcdm\u00b5\u03bcunp]?(?:g|l|m|mol|eq|iu|u|gy|bq|pa|cal|s|sec|osm)|mm\s?hg|bpm|kda|ppm|fold|cells?|copies"
    r"|y(?:(?:ea)?rs?)?|months?|mos?|weeks?|wks?|days?|hours?|hrs?|h|d|min(?:utes)?|jahre?|monate?|tage?|\u00b0\s?[cfk]).?",
    re.IGNORECASE,
)

REPAIRS: dict[Writing, str] = {
    "comma": 'write `decimal: ","` at its source',
    "thousands": 'write `thousands: "{sign}"` at its source (`decimal: ","` if a comma stands before decimals)',
    "percent": "write `units: strip` at its source",
    "unit": "write `units: strip` at its source",
    "limit": "write `detection_limit: half`, `limit` or `flag` at its source",
    "range": "write `ranges: middle` at its source",
}
_NAMES: dict[Writing, str] = {
    "comma": "with a decimal comma",
    "thousands": "with signs between thousands",
    "percent": "with a percent sign",
    "unit": "with a unit",
    "limit": "below or above a limit",
    "range": "as ranges",
}


@dataclass(frozen=True)
class Writings:
    """How the filled cells of a text column are written."""

    counts: dict[Writing, int]  # number of cells of each writing, largest first
    examples: dict[Writing, list[str]]  # up to three texts of each
    units: list[str]  # the units in its cells
    inner: set[Writing]  # how the numbers in units, limits and ranges are written
    n_texts: int  # number of distinct texts

    @property
    def n_filled(self) -> int:
        """The number of filled cells."""
        return sum(self.counts.values())

    @property
    def are_numbers(self) -> bool:
        """Whether nearly all cells are numbers, some of them not in a plain writing."""
        n_other = self.counts.get("other", 0)
        return set(self.counts) - {"plain", "other"} != set() and 10 * n_other <= self.n_filled

    @property
    def are_bands(self) -> bool:
        """Whether the cells are ranges and limits alone, such as `<40`, `40-49`, `>=50`."""
        return self.are_numbers and set(self.counts) <= {"range", "limit", "other"}

    def counted(self) -> str:
        """Counts the cells of each writing, plain ones apart, with examples."""
        named = [f"{self.counts[kind]} {_NAMES[kind]}{self._quoted(kind)}" for kind in self.counts if kind in _NAMES]
        others = [f"{self.counts['other']} of other text{self._quoted('other')}"] if "other" in self.counts else []
        return "Cells: " + ", ".join([*named, *others])

    def _quoted(self, kind: Writing) -> str:
        return f" ({', '.join(map(repr, self.examples[kind]))})"

    def repair(self) -> str:
        """Says which options settle how these cells are read."""
        found = [*self.counts, *(writing for writing in sorted(self.inner) if writing not in self.counts)]
        advice = [self._advice(writing) for writing in found if writing in REPAIRS]
        if "other" in self.counts:
            listed = ", ".join(f'"{text}"' for text in self.examples["other"])
            advice.append(f"list texts that mean unknown, `empty: [{listed}]`")
        return ", and ".join(dict.fromkeys(advice))

    def _advice(self, writing: Writing) -> str:
        if writing == "unit" and len(self.units) > 1:
            return f"convert the units {', '.join(self.units)} to one"
        texts = self.examples.get(writing) or [text for some in self.examples.values() for text in some]
        sign = next((sign for text in texts for sign in GROUPS if re.search(rf"\d{GROUPS[sign]}\d{{3}}", text)), ",")
        return REPAIRS[writing].format(sign=sign)


def writings(texts: pd.Index, counts: NDArray[np.int64]) -> Writings:
    """Finds how texts are written.

    Args:
        texts: The distinct texts of a column, none of them empty.
        counts: The number of cells of each.
    """
    stripped = [str(text).strip() for text in texts]
    found = [_writing(text) for text in stripped]
    if "comma" in found:  # 4,238 beside 4,2
        found = ["comma" if _is_one_comma(*item) else item[1] for item in zip(stripped, found, strict=True)]
    units = _units([text for text, writing in zip(stripped, found, strict=True) if writing in ("unit", "limit")])
    if not _are_units(units) or ("plain" in found and set(units) <= {"H", "L", "N"}):  # marks of high and low
        found = ["other" if writing == "unit" else writing for writing in found]
    kinds = np.array(found, dtype=object)
    totals = {kind: int(counts[kinds == kind].sum()) for kind in dict.fromkeys(found)}
    totals = dict(sorted(totals.items(), key=lambda item: -item[1]))
    examples = {kind: [text for text, k in zip(stripped, found, strict=True) if k == kind][:3] for kind in totals}
    return Writings(totals, examples, units if "unit" in totals else [], _inner(stripped, found), len(texts))


def _is_one_comma(text: str, writing: Writing) -> bool:
    return writing == "thousands" and re.fullmatch(r"\D?\d+,\d{3}", text) is not None


def _inner(texts: list[str], found: list[Writing]) -> set[Writing]:
    composed = [
        text for text, writing in zip(texts, found, strict=True) if writing in ("unit", "percent", "limit", "range")
    ]
    numbers = [number for text in composed for number in re.findall(_NUMBER, text.lstrip("<>\u2264\u2265= "))[:1]]
    return {_writing(number.strip()) for number in numbers} & {"comma", "thousands"}


def _writing(text: str) -> Writing:
    if PLAIN.fullmatch(text):
        return "plain"
    if THOUSANDS.fullmatch(text):
        return "thousands"
    if COMMA.fullmatch(text):
        return "comma"
    limit = LIMIT.fullmatch(text)
    if limit:
        return "limit" if _writing(limit.group(2)) not in ("other", "limit", "range") else "other"
    if RANGE.fullmatch(text):
        return "range"
    match = WITH_UNIT.fullmatch(text)
    if match is None or _writing(match.group(1)) == "other":
        return "other"
    return "percent" if match.group(2) == "%" else "unit"


def _units(texts: Iterable[str]) -> list[str]:
    matches = [WITH_UNIT.fullmatch(text.lstrip("<>\u2264\u2265= ")) for text in texts]
    return list(dict.fromkeys(match.group(2) for match in matches if match and match.group(2) != "%"))


def _are_units(units: list[str]) -> bool:
    """Says whether what follows numbers is a unit: the same everywhere, or words that are known as units."""
    if len({unit.casefold() for unit in units}) == 1 and len(units[0]) > 1:
        return True
    return bool(units) and all("/" in unit or _UNITS.fullmatch(unit) is not None for unit in units)
