"""Reads tables of other programs: Excel, Stata, SPSS and SAS.

A column whose numbers all have a label (`1 = male`) holds the labels; a scale with labels at its ends stays numbers.
Dates are text as in ISO 8601. Cells that the file itself calls missing are empty.
"""

from __future__ import annotations

import datetime
import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from multimodn.data.arrow_table import ColumnCollector
from multimodn.data.reading.empties import notes_on_marks
from multimodn.data.reading.header import Wanted, checked_header, with_names
from multimodn.errors import DataError, did_you_mean, import_extra, shown
from multimodn.study.sources import EMPTY, WORKBOOKS, SourceSpec

STATISTICS_FILES = (".dta", ".sav", ".zsav", ".por", ".sas7bdat", ".xpt")
_NUMBERS = ("integer", "floating", "mixed-integer-float", "boolean")
_READERS = {".dta": "read_dta", ".por": "read_por", ".sas7bdat": "read_sas7bdat", ".xpt": "read_xport"}


def read_program_file(path: Path, spec: SourceSpec, wanted: Wanted, notes: list[str]) -> pd.DataFrame:
    """Reads a workbook or a file of a statistics program, as `read_source` does.

    Whole numbers of the key column are its digits, without decimals.

    Raises:
        DataError: If it is damaged, has several sheets and none is named, or lacks the key column.
        MissingExtraError: If the libraries of the extra `files` are not installed.
    """
    suffix, patient = path.suffix.lower(), wanted.patient
    frame = _workbook(path, spec) if suffix in WORKBOOKS else _statistics_file(path, suffix, patient)
    if frame.empty:
        raise DataError("there are no rows.")
    frame.columns = pd.Index(with_names(list(frame.columns)))
    kept = checked_header(list(frame.columns), wanted, str(path))
    marks = EMPTY if spec.empty is None else spec.empty
    n_marks: dict[str, Counter[str]] = {}
    columns = {}
    for name in map(str, frame):
        cells, n_marks[name] = _without_marks(frame[name], [] if name in wanted.literal else marks)
        if pd.api.types.infer_dtype(cells, skipna=True).startswith(
            "mixed"
        ):  # NA is no number, whatever it means in text
            cells = _numbers_of(cells)
        columns[name] = _arrow(cells, as_text=name == patient or name in wanted.verbatim)
    table = pa.table(columns)
    answer = ColumnCollector(table.schema, patient, kept, table.num_rows, wanted.verbatim).read(table.to_batches())
    if spec.empty is None:
        n_marks.pop(patient)
        notes += notes_on_marks(n_marks, answer, lambda mark, n_cells: 0)
    return answer


def _workbook(path: Path, spec: SourceSpec) -> pd.DataFrame:
    """Returns the cells of a sheet, under the names of its first row."""
    import_extra("openpyxl", f"Reading {path.name}", "files")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of openpyxl, on styles and validations that it leaves out
            with pd.ExcelFile(path) as book:
                sheet = _sheet(book, spec)
                cells = book.parse(sheet, header=None, dtype=object, keep_default_na=False, na_values=[])
            formulas = _uncomputed(path, sheet) if (cells.isna() | (cells == "")).any(axis=None) else []
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # whatever a library raises for a damaged file
        raise DataError(f"{path} cannot be read as a workbook: {error or type(error).__name__}.") from None
    if formulas:
        raise DataError(f"{path}: formulas without a value in {shown(formulas)}; open and save it in Excel.")
    if cells.empty:
        raise DataError(f"{path}: sheet '{sheet}' is empty.")
    names = ["" if pd.isna(name) else _text(name) for name in cells.iloc[0]]
    return cells.iloc[1:].set_axis(names, axis=1).reset_index(drop=True)


def _sheet(book: Any, spec: SourceSpec) -> str:
    names = [str(name) for name in book.sheet_names]
    if spec.sheet is None:
        filled = [name for name in names if not book.parse(name, header=None, nrows=1).empty]
        if len(filled) > 1:
            raise DataError(f"it has several sheets: {shown(filled)}. Name one by `sheet` at its source.")
        return filled[0] if filled else names[0]
    if isinstance(spec.sheet, int) and str(spec.sheet) not in names:
        if not 1 <= spec.sheet <= len(names):
            raise DataError(f"there is no sheet {spec.sheet}; it has {len(names)}: {shown(names)}.")
        return names[spec.sheet - 1]
    if str(spec.sheet) not in names:
        raise DataError(f"there is no sheet '{spec.sheet}'.{did_you_mean(str(spec.sheet), names)}")
    return str(spec.sheet)


def _uncomputed(path: Path, sheet: str) -> list[str]:
    """Lists the cells with a formula that no program has computed."""
    openpyxl = import_extra("openpyxl", f"Reading {path.name}", "files")
    values, formulas = (openpyxl.load_workbook(path, read_only=True, data_only=flag) for flag in (True, False))
    try:
        rows = zip(values[sheet].iter_rows(), formulas[sheet].iter_rows(), strict=False)
        pairs = (pair for both in rows for pair in zip(*both, strict=False))
        return [cell.coordinate for value, cell in pairs if cell.data_type == "f" and value.value is None]
    finally:
        values.close()
        formulas.close()


def _statistics_file(path: Path, suffix: str, patient: str) -> pd.DataFrame:
    library = import_extra("pyreadstat", f"Reading {path.name}", "files")
    read = getattr(library, _READERS.get(suffix, "read_sav"))
    try:
        frame, meta = read(str(path))
    except Exception as error:  # whatever the library raises for a damaged file
        raise DataError(f"{path} cannot be read: {error or type(error).__name__}. Is it damaged?") from None
    for name, labels in meta.variable_value_labels.items():
        if name in frame and name != patient:
            frame[name] = _labelled(frame[name], labels)
    return pd.DataFrame(frame)


def _labelled(column: pd.Series[Any], labels: Mapping[Any, str]) -> pd.Series[Any]:
    """Returns the labels of a column's values, if each has one."""
    values = column.dropna().unique()
    return column.map(labels) if len(values) and all(value in labels for value in values) else column


def _without_marks(column: pd.Series[Any], marks: Collection[str]) -> tuple[pd.Series[Any], Counter[str]]:
    """Returns the column with None for empty cells, and counts the marks in these."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column, Counter()
    texts = column.map(lambda cell: cell.strip() if isinstance(cell, str) else None)
    is_mark = texts.isin(list(marks)).to_numpy(bool)
    empty = is_mark | (texts == "").to_numpy(bool, na_value=False) | column.isna().to_numpy(bool)
    return column.astype(object).mask(empty, None), Counter(texts[is_mark].tolist())


def _numbers_of(column: pd.Series[Any]) -> pd.Series[Any]:
    """Returns the column without `NA` and the like, if all other cells are numbers."""
    without = _without_marks(column, EMPTY)[0]
    return without if pd.api.types.infer_dtype(without, skipna=True) in _NUMBERS else column


def _arrow(column: pd.Series[Any], *, as_text: bool) -> Any:
    """Returns the cells of a column as numbers, if all are, else as text."""
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if not as_text and kind in (*_NUMBERS, "empty"):
        return pa.array(column.to_numpy(np.float64, na_value=np.nan), from_pandas=True)
    return pa.array([None if pd.isna(cell) else _text(cell) for cell in column.tolist()], pa.string())


def _text(value: Any) -> str:
    """Writes a cell as a CSV would."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime):
        is_date = value.time() == datetime.time()
        return value.date().isoformat() if is_date else value.isoformat(sep=" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
