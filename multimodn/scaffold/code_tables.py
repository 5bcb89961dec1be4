"""Recognises tables of codes: repeated rows of a patient, or lists in cells, of ICD-10, ATC, SNOMED and the like."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from multimodn.scaffold.yaml_lines import scalar

Series: TypeAlias = "pd.Series[Any]"

N_LOOKED_AT = 5000  # distinct cells that decide
MOST = 0.9  # share of them that must look like codes
FEWEST = 3  # distinct codes
NAMES = re.compile(
    r"(^|[_\W])(icd|icd_?10|icd_?9|atc|snomed|sctid|ops|cpt|opcs|icpc|loinc|read|rxnorm|ndc|codes?|dx|diagnos[ei]s)"
    r"(_?(codes?|cd|cm|10|9|id))*($|[_\W])",
    re.IGNORECASE,
)  # fmt: skip
ICD10 = re.compile(r"[A-Z]\d\d(\.?[0-9A-Z]{1,4})?[-+*!]?")
ATC = re.compile(r"[A-Z]\d\d([A-Z]([A-Z](\d\d)?)?)?")
ICD9 = re.compile(r"[VE]?\d{2,3}\.\d{1,2}")
OPS = re.compile(r"\d-\d{2,3}[0-9a-z](\.[0-9a-z]{1,2})?")
DIGITS = re.compile(r"\d{4,18}")  # such as SNOMED CT; counted by name alone
SYSTEMS = {  # what looks like ATC may look like ICD-10 too, hence the order
    "ATC": (ATC, "[1, 3, 4, 5, full]"),
    "ICD-10": (ICD10, "[1, 3, full]"),
    "ICD-9": (ICD9, "[3, full]"),
    "OPS": (OPS, "[3, 5, full]"),
}


@dataclass(frozen=True)
class CodeColumn:
    """A column of codes."""

    name: str
    system: str  # what they look like, in words
    levels: str  # of their hierarchy, as a study file writes them
    are_lists: bool


def code_column(frame: pd.DataFrame) -> CodeColumn | None:
    """Returns the column of codes of a table, indexed by patient; None: it is no table of codes.

    A table of codes has several rows of some patient, and one column of codes, or lists of codes in one column.
    """
    found = [column for name in frame.columns if (column := _as_codes(str(name), frame[name])) is not None]
    if not frame.index.is_unique:
        found = [column for column in found if not column.are_lists] or found
    else:
        found = [column for column in found if column.are_lists]
    return found[0] if len(found) == 1 else None


def code_lines(column: CodeColumn, frame: pd.DataFrame) -> list[str]:
    """Returns the keys of a modality of kind `codes`, as lines of a study file."""
    lines = [f"    code: {scalar(column.name)}   # looks like {column.system}"]
    lines.append(f"    levels: {column.levels}   # lengths of prefixes; full = the code")
    others = [str(name) for name in frame.columns if str(name) != column.name]
    if others:
        lines.append("    # time: ...   # a column of dates, and weight: recency, let recent codes count more")
    return lines


def _as_codes(name: str, column: Series) -> CodeColumn | None:
    is_named = NAMES.search(name) is not None
    if pd.api.types.is_numeric_dtype(column.dtype):
        cells = column.dropna()
        is_whole = len(cells) > 0 and not pd.api.types.is_bool_dtype(column.dtype) and bool((cells % 1 == 0).all())
        is_code = is_named and is_whole and cells.nunique() >= FEWEST and float(cells.min()) >= 1000
        return CodeColumn(name, "codes of digits", "[full]", are_lists=False) if is_code else None
    distinct = column.dropna().drop_duplicates().astype(str).str.strip().head(N_LOOKED_AT)
    pieces = distinct.str.strip("[] ").str.split(r"[;,|]\s*", regex=True)
    are_lists = bool(len(pieces)) and float(pieces.map(len).gt(1).mean()) > 0.2
    codes = pieces.explode().dropna().str.strip(" '\"").drop_duplicates()
    codes = codes[codes != ""]
    if codes.nunique() < FEWEST or not (is_named or codes.str[:1].nunique() > 1):
        return None
    upper = codes.str.upper()
    for system, (pattern, levels) in SYSTEMS.items():
        texts = codes if system == "OPS" else upper
        if texts.str.fullmatch(pattern).mean() >= MOST and (system != "ATC" or (upper.str.len() > 3).mean() > 0.5):
            return CodeColumn(name, system, levels, are_lists)
    if is_named and codes.str.fullmatch(DIGITS).mean() >= MOST:
        return CodeColumn(name, "codes of digits", "[full]", are_lists)
    return None
