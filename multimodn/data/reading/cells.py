"""What the options of a source make of cells: empty ones, and numbers that stand as text."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.base.column_blocks import are_plain
from multimodn.data.reading.number_texts import GROUPS, LIMIT, PLAIN, RANGE, WITH_UNIT
from multimodn.errors import DataError, shown
from multimodn.study.sources import Limit, SourceSpec, flag_column

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Number:
    """What a text says."""

    value: float
    unit: str = ""  # empty if it has none
    side: int = 0  # -1 below, 1 above a limit


def with_options(frame: pd.DataFrame, spec: SourceSpec, literal: Collection[str], notes: list[str]) -> pd.DataFrame:
    """Applies the options of a source to a table, whatever its format; the given frame is not changed.

    A text column becomes numbers where all its filled cells are numbers under the options; others stay as they are.

    Args:
        frame: The table, indexed by patient.
        spec: The options.
        literal: Columns that stay as they are written.
        notes: What was decided, with counts and examples, is added.

    Raises:
        DataError: If a column that an option names does not exist or holds other cells, or has several units.
    """
    _check_named(frame, spec)
    if spec.empty is not None:
        frame = _emptied(frame, spec.empty, literal)
    options = (spec.decimal, spec.thousands, spec.detection_limit, spec.units, spec.ranges)
    if options == (None,) * len(options):
        return frame
    frame = frame.copy(deep=False)
    flags: dict[str, Floats] = {}
    for name in [name for name, dtype in zip(frame.columns, frame.dtypes, strict=True) if _may_be_text(dtype)]:
        if name not in literal:
            _convert(frame, name, spec, flags, notes)
    named = spec.detection_limit if isinstance(spec.detection_limit, Mapping) else {}
    for name in [name for name, how in named.items() if how == "flag" and name not in flags]:
        flags[name] = np.zeros(len(frame))
    for name, flag in flags.items():
        frame[flag_column(name)] = np.where(frame[name].isna(), np.nan, flag).astype(np.float32)
    return frame


def with_flags(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Returns the table with the flags among ``columns`` that it lacks, because no cell is beyond a detection limit."""
    have = set(frame.columns)
    lacking = [name for name in columns if name not in have]
    flags = {flag_column(str(name)): name for name in frame.columns} if lacking else {}
    lacking = [name for name in lacking if name in flags]
    if not lacking:
        return frame
    return frame.assign(**{name: frame[flags[name]].isna().map({True: np.nan, False: 0.0}) for name in lacking})


def _check_named(frame: pd.DataFrame, spec: SourceSpec) -> None:
    for option in ("detection_limit", "units"):
        given = getattr(spec, option)
        unknown = [name for name in given if name not in frame.columns] if isinstance(given, Mapping) else []
        if unknown:
            raise DataError(f"`{option}` names columns that do not exist: {shown(unknown)}.")


def _may_be_text(dtype: Any) -> bool:
    return pd.api.types.is_object_dtype(dtype) or isinstance(dtype, pd.StringDtype)


def _emptied(frame: pd.DataFrame, marks: list[str], literal: Collection[str]) -> pd.DataFrame:
    """Returns the table without the cells of some marks, as text or as numbers."""
    numbers = np.array([float(mark) for mark in marks if PLAIN.fullmatch(mark.strip())])
    is_plain, frame = are_plain(frame), frame.copy(deep=False)
    for place, name in enumerate(frame.columns):
        column = frame.iloc[:, place]
        if name in literal or (is_plain[place] and not len(numbers)):
            continue
        if is_plain[place]:
            is_mark = np.isin(column.to_numpy(), numbers)
        elif _may_be_text(column.dtype):
            is_mark = column.astype(str).str.strip().isin([mark.strip() for mark in marks]).to_numpy(bool)
        else:
            continue
        if is_mark.any():
            frame[name] = column.mask(is_mark)
    return frame


def _convert(frame: pd.DataFrame, name: str, spec: SourceSpec, flags: dict[str, Floats], notes: list[str]) -> None:
    """Replaces a text column of the table by its numbers, if its cells are numbers."""
    codes, values = pd.factorize(frame[name])
    texts = [str(value).strip() for value in values]
    read = [_Number(np.nan) if not text else _read(text, name, spec) for text in texts]
    special = "\u2212." if spec.decimal == "," else "\u2212"
    if all(not text or (PLAIN.fullmatch(text) and not set(special) & set(text)) for text in texts):
        return
    wrong = [text for text, number in zip(texts, read, strict=True) if number is None]
    named = [option for option in ("detection_limit", "units") if _names(getattr(spec, option), name)]
    if wrong and named:
        row = int(np.flatnonzero(codes == texts.index(wrong[0]))[0])
        cell = f"{wrong[0]!r} (patient '{frame.index[row]}')"
        raise DataError(f"column '{name}', which `{named[0]}` names, has cells that are no numbers: {cell}.")
    numbers = [number for number in read if number is not None]
    if wrong or not numbers:
        return
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    _note_units(frame, name, codes, numbers, counts, notes)
    _note_limits(name, spec, texts, numbers, counts, notes)
    frame[name] = _of_rows([number.value for number in numbers], codes)
    sides = np.array([number.side for number in numbers])
    if _limit_of(spec, name) == "flag" and sides.any():
        flags[name] = _of_rows(sides, codes)


def _of_rows(values: Any, codes: NDArray[np.intp]) -> Floats:
    rows: Floats = np.append(np.asarray(values, dtype=np.float64), np.nan)[codes]  # code -1 = empty
    return rows


def _names(option: Any, name: str) -> bool:
    return isinstance(option, Mapping) and name in option


def _limit_of(spec: SourceSpec, name: str) -> Limit | None:
    limit = spec.detection_limit
    return limit.get(name) if isinstance(limit, dict) else limit


def _read(text: str, name: str, spec: SourceSpec) -> _Number | None:
    """Reads a text as the options say; None if it is no number under them."""
    how, side = _limit_of(spec, name), 0
    match = LIMIT.fullmatch(text)
    if match is not None:
        if how is None:
            return None
        side, text = (-1 if match.group(1) in "<\u2264" else 1), match.group(2).strip()
    value = _plain(text, spec)
    unit = ""
    if value is None and spec.units is not None:
        with_unit = WITH_UNIT.fullmatch(text)
        if with_unit is not None and (spec.units == "strip" or _names(spec.units, name)):
            value, unit = _plain(with_unit.group(1), spec), with_unit.group(2)
    if value is None and spec.ranges is not None and not side:
        span = RANGE.fullmatch(text)
        ends = [_plain(end, spec) for end in span.groups()] if span else [None]
        if len(ends) == 2 and ends[0] is not None and ends[1] is not None and ends[0] <= ends[1]:
            value = (ends[0] + ends[1]) / 2
    if value is None or (isinstance(spec.units, Mapping) and unit and _same(unit) != _same(spec.units[name])):
        return None
    return _Number(value / 2 if side < 0 and how == "half" else value, unit, side)


def _plain(text: str, spec: SourceSpec) -> float | None:
    """Reads a number without unit; a comma or a dot means what the options say."""
    text, decimal = text.strip().replace("\u2212", "-"), spec.decimal or "."
    thousands = spec.thousands or ("." if decimal == "," else None)  # before a decimal comma a dot means nothing else
    if thousands is not None:
        sign, point = GROUPS[thousands], re.escape(decimal)
        if re.fullmatch(rf"[+-]?\d{{1,3}}(?:{sign}\d{{3}})+(?:{point}\d*)?", text):
            text = re.sub(sign, "", text)
    if decimal == ",":
        if "." in text:
            return None
        text = text.replace(",", ".")
    return float(text) if PLAIN.fullmatch(text) else None


def _same(unit: str) -> str:
    return re.sub(r"\s", "", unit).casefold().replace("\u03bc", "u").replace("\u00b5", "u")


def _note_units(
    frame: pd.DataFrame, name: str, codes: NDArray[np.intp], numbers: list[_Number], counts: Any, notes: list[str]
) -> None:
    """Notes the unit that was left out; raises a DataError if there are several."""
    units = dict.fromkeys(_same(number.unit) for number in numbers if number.unit)
    if not units:
        return
    of_unit = {unit: [k for k, number in enumerate(numbers) if _same(number.unit) == unit] for unit in ["", *units]}
    n_cells = {unit: int(counts[places].sum()) for unit, places in of_unit.items()}
    if len(units) > 1:
        listed = [f"{numbers[of_unit[unit][0]].unit} in {n_cells[unit]} cells" for unit in units]
        rare = min(units, key=lambda unit: n_cells[unit])
        patient = frame.index[int(np.flatnonzero(np.isin(codes, of_unit[rare]))[0])]
        problem = f"column '{name}' has several units: {shown(listed)} (first of patient '{patient}')"
        raise DataError(f"{problem}. Convert them to one.")
    unit = numbers[of_unit[next(iter(units))][0]].unit
    without = f"; {n_cells['']} cells without a unit count as in {unit}" if n_cells[""] else ""
    notes.append(f"column '{name}': {n_cells[_same(unit)]} cells have the unit {unit}, which is left out{without}.")


def _note_limits(
    name: str, spec: SourceSpec, texts: list[str], numbers: list[_Number], counts: Any, notes: list[str]
) -> None:
    places = [k for k, number in enumerate(numbers) if number.side]
    if places:
        how = "half the limit where below it, else the limit" if _limit_of(spec, name) == "half" else "the limit"
        flag = f", flagged in '{flag_column(name)}'" if _limit_of(spec, name) == "flag" else ""
        quoted = shown([repr(texts[k]) for k in places], 3)
        n_cells = int(counts[places].sum())
        notes.append(f"column '{name}': {n_cells} cells beyond a detection limit ({quoted}) count as {how}{flag}.")
