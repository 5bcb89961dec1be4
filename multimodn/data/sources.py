"""Reads one source of any format to a table indexed by patient.

Input columns of numbers become float32 batch by batch, unless that would lose digits of whole numbers, so that a table
is never in memory as text or float64; columns that a task or a split reads keep their own type.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from multimodn.data.arrow_table import ColumnCollector, text_keys
from multimodn.data.ehr.read import read_health_records
from multimodn.data.files import read_file_names
from multimodn.data.list_cells import holds_lists, lists_as_text
from multimodn.data.reading.arrays import read_arrays
from multimodn.data.reading.cells import with_options
from multimodn.data.reading.delimited import read_delimited, read_patients
from multimodn.data.reading.header import Wanted, checked_header
from multimodn.data.reading.programs import STATISTICS_FILES, read_program_file
from multimodn.errors import DataError, StudyError, did_you_mean_file
from multimodn.study.sources import TEXT_FILES, WORKBOOKS
from multimodn.study.study import SourceSpec

__all__ = ["from_frame", "read_patients", "read_source", "replaced_sources"]

BATCH_ROWS = 8192
COLUMNS_AT_ONCE = 16


def read_source(
    spec: SourceSpec, folder: Path, patient: str, exact: Collection[str] = (), verbatim: Collection[str] = (),
    literal: Collection[str] = (), notes: list[str] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Reads a source, indexed by the key column ``patient`` as text; empty cells are missing.

    Args:
        spec: The source; relative paths start at ``folder``.
        folder: The folder of the study.
        patient: The key column.
        exact: Columns (labels, groups, split, times) that keep their own type; other numbers are float32, or float64
            where that would lose digits.
        verbatim: Columns (codes) that are text as it is written, with all digits and zeros.
        literal: Columns in which `NA` and the like are no empty cells.
        notes: What was decided about cells in doubt is added.

    Raises:
        DataError: If it cannot be read, or not as the options say; the message names file, column and repair.
    """
    notes = [] if notes is None else notes
    if spec.files is not None:
        return read_file_names(spec, folder)
    wanted = Wanted(patient, frozenset(exact), frozenset(verbatim), frozenset(literal))
    return with_options(_read(spec, folder, wanted, notes), spec, literal, notes)


def _read(spec: SourceSpec, folder: Path, wanted: Wanted, notes: list[str]) -> pd.DataFrame:
    if spec.query is not None:
        return _read_query(spec, folder, wanted)
    if spec.record_format is not None:
        return read_health_records(spec, folder, wanted.patient, wanted.exact, wanted.verbatim, notes)
    path = folder / str(spec.path)
    if not path.is_file():
        raise DataError(f"the file {path} does not exist.{did_you_mean_file(path)}")
    name = path.name.lower()
    if name.endswith((".npz", ".npy")):
        return read_arrays(spec, folder, path, wanted.patient)
    if name.endswith(".parquet"):
        return _read_parquet(path, wanted)
    if name.removesuffix(".gz").endswith(TEXT_FILES):
        return read_delimited(path, spec, wanted, notes)
    if name.endswith((*WORKBOOKS, *STATISTICS_FILES)):
        return read_program_file(path, spec, wanted, notes)
    kinds = ", ".join([*TEXT_FILES, ".parquet", ".npz", ".npy", *WORKBOOKS, *STATISTICS_FILES])
    raise DataError(f"{path}: unknown kind of file; use {kinds}, or a query.")


def from_frame(frame: pd.DataFrame, patient: str) -> pd.DataFrame:
    """Indexes a DataFrame by patient as text; the key is its column ``patient`` or its index. Lists become JSON."""
    if frame.columns.is_unique and (with_lists := frame.columns[holds_lists(frame)]).size:
        frame = frame.assign(**{name: lists_as_text(frame[name]) for name in with_lists})
    if patient in frame.columns:
        return frame.drop(columns=patient).set_axis(text_keys(frame[patient]), axis=0)
    return frame.set_axis(text_keys(frame.index), axis=0)


def _read_parquet(path: Path, wanted: Wanted) -> pd.DataFrame:
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            names = file.schema_arrow.names
            kept = checked_header(names, wanted, str(path))
            columns = ColumnCollector(file.schema_arrow, wanted.patient, kept, file.metadata.num_rows, wanted.verbatim)
            start = 0
            for group in range(file.num_row_groups):  # a few columns at a time: one group often holds all rows
                for first in range(0, len(names), COLUMNS_AT_ONCE):
                    wanted = names[first : first + COLUMNS_AT_ONCE]
                    columns.add(file.read_row_group(group, columns=wanted), start)
                start += file.metadata.row_group(group).num_rows
            return columns.table(start)
    except (pa.ArrowException, OSError, UnicodeError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as Parquet, or is damaged: {error}") from None


def _read_query(spec: SourceSpec, folder: Path, wanted: Wanted) -> pd.DataFrame:
    query = str(spec.query)
    database = ":memory:" if spec.database is None else str(folder / spec.database)
    if spec.database is not None and not Path(database).is_file():
        raise DataError(f"the database {database} does not exist.")
    try:
        with duckdb.connect(database, read_only=spec.database is not None) as connection:
            connection.execute("SET file_search_path = ?", [str(folder.absolute())])
            relation = connection.sql(query)
            if relation is None:
                raise DataError(f"the query {query!r} returns no table; write a SELECT.")
            reader = relation.to_arrow_reader(BATCH_ROWS)
            kept = checked_header(reader.schema.names, wanted, f"the query {query!r}")
            return ColumnCollector(reader.schema, wanted.patient, kept, verbatim=wanted.verbatim).read(reader)
    except (duckdb.Error, pa.ArrowException) as error:
        raise DataError(f"the query {query!r} failed: {error}") from None


def replaced_sources(given: Sequence[str] | None) -> dict[str, Path] | None:
    """Reads NAME=PATH pairs of a command line."""
    replaced = {}
    for pair in given or []:
        name, _, path = pair.partition("=")
        if not path:
            raise StudyError(f"--source {pair}: expected NAME=PATH.")
        replaced[name] = Path(path)
    return replaced or None


Tables = dict[str, pd.DataFrame]
Given = SourceSpec | str | Path | pd.DataFrame | None  # what may replace a source; None: no patient has it
