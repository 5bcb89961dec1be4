"""Reads text files of tables, CSV and the like, in blocks."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import compute, csv, types

from multimodn.data.arrow_table import ColumnCollector, text_keys
from multimodn.data.reading.empties import notes_on_marks
from multimodn.data.reading.header import Wanted, checked_header
from multimodn.data.reading.text_files import TextForm, open_bytes, text_form
from multimodn.errors import DataError, did_you_mean
from multimodn.study.sources import EMPTY, SourceSpec

BLOCK_BYTES = 1 << 22
LARGEST_BLOCK = 1 << 30


def read_delimited(path: Path, spec: SourceSpec, wanted: Wanted, notes: list[str]) -> pd.DataFrame:
    """Reads a text file in blocks, with the types of the first one; a column with other cells later on is text.

    Raises a DataError that names the file, and the line or column, if it cannot be read.
    """
    form = text_form(path, spec, wanted.patient)
    kept = checked_header(form.header, wanted, str(path))
    try:
        return _Reader(form, spec, wanted, kept, notes).read()
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} cannot be read as CSV: {_said(error)}") from None
    except (pa.ArrowException, UnicodeError, OverflowError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from None


def read_patients(path: Path, patient: str) -> pd.Index:
    """Reads the patients that a CSV lists, in its key column or in its only one."""
    if not path.is_file():
        raise DataError(f"the file {path} does not exist.")
    form = text_form(path, SourceSpec(path=str(path.with_suffix(".csv"))), None)
    column = patient if patient in form.header else form.header[0]
    if column != patient and len(form.header) > 1:
        raise DataError(f"{path} has no key column '{patient}'.{did_you_mean(patient, form.header)}")
    try:
        read = csv.ReadOptions(skip_rows=form.n_skipped, encoding=form.encoding)
        parse = csv.ParseOptions(delimiter=form.delimiter)
        options = csv.ConvertOptions(include_columns=[column], column_types={column: pa.string()})
        with open_bytes(path) as file:
            return text_keys(csv.read_csv(file, read, parse, options)[column].to_pandas())
    except (pa.ArrowException, UnicodeError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from None


class _Reader:
    """Reads one file of a known form."""

    def __init__(self, form: TextForm, spec: SourceSpec, wanted: Wanted, kept: list[str], notes: list[str]) -> None:
        self.form, self.spec, self.wanted, self.kept, self.notes = form, spec, wanted, kept, notes
        self.marks = list(EMPTY if spec.empty is None else spec.empty)
        self.marks_of_numbers = list(dict.fromkeys([*EMPTY, *self.marks]))  # NA is no number, whatever it means in text
        self.marks_of_numbers = list(dict.fromkeys([*EMPTY, *self.marks]))  # NA is no number, whatever it is in text
        self.block_size = min(max(BLOCK_BYTES, 64 * form.header_bytes), LARGEST_BLOCK)
        self.n_marks: dict[str, Counter[str]] = {}  # cells of text that count as empty, by column

    def read(self) -> pd.DataFrame:
        """Reads the table, again with other types or larger blocks where the first try does not do."""
        texts = set(self.kept)
        while True:
            self.n_marks = {}
            try:
                schema = self._open({name: pa.string() for name in texts}).schema
                guess = {field.name: _guess(field.type) for field in schema if field.name not in texts}
                stream = self._open(guess | {name: pa.string() for name in texts})
                collector = ColumnCollector(
                    stream.schema, self.kept[0], self.kept, self.form.n_lines, self.wanted.verbatim
                )
                frame = collector.read(self._without_marks(batch) for batch in stream)
            except pa.ArrowInvalid as error:
                if "straddling" in str(error) and self.block_size < LARGEST_BLOCK:  # a row longer than a block
                    self.block_size = min(16 * self.block_size, LARGEST_BLOCK)
                    continue
                other = self._not_of_type(guess) if "conversion error" in str(error) else set()
                if not other:
                    raise
                texts |= other
                continue
            if collector.cut_digits and not collector.cut_digits <= texts:
                texts |= collector.cut_digits
                continue
            if self.spec.empty is None:
                n_marks = {name: marks for name, marks in self.n_marks.items() if name != self.kept[0]}
                self.notes += notes_on_marks(n_marks, frame, lambda mark, n_cells: self._count(mark) - n_cells)
            return frame

    def _open(self, column_types: dict[str, Any]) -> Any:
        decimal = self.spec.decimal or "."
        read = csv.ReadOptions(block_size=self.block_size, encoding=self.form.encoding, **self._header())
        parse = csv.ParseOptions(delimiter=self.form.delimiter, newlines_in_values=True)
        marks = ["", *self.marks_of_numbers]
        convert = csv.ConvertOptions(column_types=column_types, null_values=marks, decimal_point=decimal)
        return csv.open_csv(self.form.path, read, parse, convert)

    def _header(self) -> dict[str, Any]:
        """Returns where the names of the columns come from: the file, or the form where some have no name."""
        if not any(name.startswith("Unnamed: ") for name in self.form.header):
            return {"skip_rows": self.form.n_skipped}
        return {"column_names": self.form.header, "skip_rows": self.form.n_skipped + 1}

    def _without_marks(self, batch: Any) -> Any:
        """Returns a batch whose text cells are missing where they are empty, and counts what stands in these."""
        columns = []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if types.is_string(column.type):
                marks = [] if name in self.wanted.literal else self.marks
                is_empty = compute.is_in(column, value_set=pa.array(["", *marks], pa.string()))
                found = compute.value_counts(column.filter(is_empty)).to_pylist()
                counts = {entry["values"]: entry["counts"] for entry in found if entry["values"]}
                if counts:
                    self.n_marks.setdefault(name, Counter()).update(counts)
                column = compute.if_else(is_empty, pa.scalar(None, pa.string()), column)
            columns.append(column)
        return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)

    def _not_of_type(self, guess: dict[str, Any]) -> set[str]:
        """Finds the columns with a cell that is not of the type of the first cells."""
        others: set[str] = set()
        for batch in self._open({name: pa.string() for name in self.form.header}):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                if name in guess and name not in others and not types.is_string(guess[name]):
                    trimmed = compute.utf8_trim_whitespace(column)
                    is_empty = compute.is_in(trimmed, value_set=pa.array(["", *self.marks_of_numbers], pa.string()))
                    filled = compute.replace_substring(trimmed.filter(compute.invert(is_empty)), ",", ".")
                    try:
                        compute.cast(filled, guess[name])
                    except pa.ArrowInvalid:
                        others.add(name)
        return others

    def _count(self, mark: str) -> int:
        """Counts the cells of the whole file that are a mark and nothing else."""
        edge = re.escape(self.form.delimiter)
        cell = re.compile(rf'(?:(?<=[{edge}\r\n])|^)"?{re.escape(mark)}"?(?=[{edge}\r\n]|$)')
        return sum(len(cell.findall(block)) for block in self.form.blocks())


def _guess(kind: Any) -> Any:
    """Returns the type with which to read a column whose first cells look like ``kind``."""
    if types.is_integer(kind) or types.is_null(kind) or types.is_floating(kind):
        return pa.float64()  # 40762351.0 is no float32; the collector narrows what is
    return kind if types.is_boolean(kind) else pa.string()  # a date stays as it is written


def _said(error: Exception) -> str:
    text = str(error)
    hint = " A cell that holds the delimiter must stand in quotes." if "Expected" in text and "columns" in text else ""
    return f"{text}{hint}"
