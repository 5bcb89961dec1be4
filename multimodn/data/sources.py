"""Reads one source of any format to a table indexed by patient.

Input columns of numbers become float32 batch by batch, unless that would lose digits of whole numbers, so that a table
is never in memory as text or float64; columns that a task or a split reads keep their own type.
"""

from __future__ import annotations

import gzip
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Any, cast

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv, parquet, types

from multimodn.data.arrow_table import ColumnCollector, text_keys
from multimodn.data.files import read_file_names
from multimodn.data.list_cells import holds_lists, lists_as_text
from multimodn.errors import DataError, StudyError, did_you_mean, did_you_mean_file, shown
from multimodn.study.study import SourceSpec

BLOCK_BYTES = 1 << 22
BATCH_ROWS = 8192
COLUMNS_AT_ONCE = 16


def read_source(
    spec: SourceSpec, folder: Path, patient: str, exact: Collection[str] = (), verbatim: Collection[str] = ()
) -> pd.DataFrame:
    """Reads a source, indexed by the key column ``patient`` as text; empty cells are missing.

    Numbers are float32, or float64 where whole numbers are too large for it; the columns ``exact`` (labels, groups,
    split) keep their own type, and the columns ``verbatim`` (codes) are text as it is written. Relative paths start at
    ``folder``.
    """
    if spec.query is not None:
        return _read_query(spec, folder, patient, exact, verbatim)
    if spec.files is not None:
        return read_file_names(spec, folder)
    path = folder / str(spec.path)
    if not path.is_file():
        raise DataError(f"the file {path} does not exist.{did_you_mean_file(path)}")
    name = path.name.lower()
    if name.endswith((".npz", ".npy")):
        return _read_arrays(spec, folder, path, patient)
    if name.endswith(".parquet"):
        return _read_parquet(path, patient, exact, verbatim)
    if name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz")):
        return _read_csv(path, patient, exact, verbatim)
    raise DataError(f"{path}: unknown kind of file; use .csv, .csv.gz, .tsv, .parquet, .npz or .npy, or a query.")


def from_frame(frame: pd.DataFrame, patient: str) -> pd.DataFrame:
    """Indexes a DataFrame by patient as text; the key is its column ``patient`` or its index. Lists become JSON."""
    if frame.columns.is_unique and (with_lists := frame.columns[holds_lists(frame)]).size:
        frame = frame.assign(**{name: lists_as_text(frame[name]) for name in with_lists})
    if patient in frame.columns:
        return frame.drop(columns=patient).set_axis(text_keys(frame[patient]), axis=0)
    return frame.set_axis(text_keys(frame.index), axis=0)


def read_patients(path: Path, patient: str) -> pd.Index:
    """Reads the patients that a CSV lists, in its key column or in its only one."""
    if not path.is_file():
        raise DataError(f"the file {path} does not exist.")
    try:
        header = csv.open_csv(path).schema.names
        column = patient if patient in header else header[0]
        if column != patient and len(header) > 1:
            raise DataError(f"{path} has no key column '{patient}'.{did_you_mean(patient, header)}")
        options = csv.ConvertOptions(include_columns=[column], column_types={column: pa.string()})
        return text_keys(csv.read_csv(path, convert_options=options)[column].to_pandas())
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from None


def _read_csv(path: Path, patient: str, exact: Collection[str], verbatim: Collection[str]) -> pd.DataFrame:
    """Reads a CSV in blocks, with the types of the first one, or as a whole if they do not fit later cells."""
    with _open(path) as file:
        header_bytes = len(file.readline(1 << 26))
    read = csv.ReadOptions(block_size=max(BLOCK_BYTES, 64 * header_bytes))
    parse = csv.ParseOptions(delimiter="\t" if ".tsv" in path.name.lower() else ",", newlines_in_values=True)

    def convert(column_types: dict[str, Any]) -> Any:
        # a quoted empty cell, NA and NaN are empty too
        return csv.ConvertOptions(column_types=column_types, strings_can_be_null=True)

    try:
        schema = csv.open_csv(path, read, parse, convert({})).schema
        kept = _checked_header(schema.names, patient, exact, str(path))
        exact_types = {name: pa.string() for name in [*kept, *verbatim] if name in schema.names}
        guess = {field.name: _guess(field.type) for field in schema if field.name not in exact_types}
        try:
            stream = csv.open_csv(path, read, parse, convert(guess | exact_types))
            with _open(path) as file:
                blocks = iter(lambda: file.read(1 << 20), b"")
                n_lines = 1 + sum(block.count(b"\n") + block.count(b"\r") for block in blocks)
            return ColumnCollector(stream.schema, patient, kept, n_lines, verbatim).read(stream)
        except pa.ArrowInvalid:  # a later cell is not of the guessed type
            table = csv.read_csv(path, read, parse, convert(exact_types))
            return ColumnCollector(table.schema, patient, kept, table.num_rows, verbatim).read(table.to_batches())
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from None


def _guess(kind: Any) -> Any:
    """Returns the type with which to read a column whose first cells look like ``kind``."""
    if types.is_integer(kind) or types.is_null(kind) or types.is_floating(kind):
        return pa.float64()  # 40762351.0 is no float32; the collector narrows what is
    return kind if types.is_boolean(kind) else pa.string()  # a date stays as it is written


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def _checked_header(names: list[str], patient: str, exact: Collection[str], where: str) -> list[str]:
    """Returns the columns that keep their type, the key first."""
    if patient not in names:
        raise DataError(f"{where} has no key column '{patient}'.{did_you_mean(patient, names)}")
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"{where} has several columns named {shown(twice)}; rename or remove them.")
    return [patient, *(name for name in names if name in exact and name != patient)]


def _read_parquet(path: Path, patient: str, exact: Collection[str], verbatim: Collection[str]) -> pd.DataFrame:
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            names = file.schema_arrow.names
            kept = _checked_header(names, patient, exact, str(path))
            columns = ColumnCollector(file.schema_arrow, patient, kept, file.metadata.num_rows, verbatim)
            start = 0
            for group in range(file.num_row_groups):  # a few columns at a time: one group often holds all rows
                for first in range(0, len(names), COLUMNS_AT_ONCE):
                    wanted = names[first : first + COLUMNS_AT_ONCE]
                    columns.add(file.read_row_group(group, columns=wanted), start)
                start += file.metadata.row_group(group).num_rows
            return columns.table(start)
    except pa.ArrowException as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from None


def _read_query(
    spec: SourceSpec, folder: Path, patient: str, exact: Collection[str], verbatim: Collection[str]
) -> pd.DataFrame:
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
            kept = _checked_header(reader.schema.names, patient, exact, f"the query {query!r}")
            return ColumnCollector(reader.schema, patient, kept, verbatim=verbatim).read(reader)
    except duckdb.Error as error:
        raise DataError(f"the query {query!r} failed: {error}") from None


def _members(path: Path, arrays: dict[str, Any]) -> tuple[Any, pd.Index]:
    """Returns features and patients, from two arrays or from one vector per patient, named by patient."""
    missing = [name for name in ("patient", "features") if name not in arrays]
    if not missing:
        return arrays["features"], text_keys(arrays["patient"])
    forms = {(array.shape, array.dtype.kind) for array in arrays.values()}
    if len(missing) == 2 and len(forms) == 1 and all(len(shape) == 1 and kind in "fiu" for shape, kind in forms):
        return np.stack(list(arrays.values())), text_keys(list(arrays))
    raise DataError(f"{path} has no array '{missing[0]}'.{did_you_mean(missing[0], arrays)}")


def _read_arrays(spec: SourceSpec, folder: Path, path: Path, patient: str) -> pd.DataFrame:
    """Reads ``features`` (n, d) and the patient of each row; the columns are e0 to e{d-1}."""
    try:
        if path.suffix.lower() == ".npy":
            features = np.load(path, allow_pickle=False)
            keys = read_patients(folder / str(spec.patients), patient)
        else:
            with np.load(path, allow_pickle=False) as arrays:
                features, keys = _members(path, dict(arrays))
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read: {error}") from None
    if features.ndim != 2 or len(features) != len(keys) or features.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: `features` is {features.dtype} of shape {features.shape}, expected numbers of shape "
            f"({len(keys)}, d), one row for each of the {len(keys)} patients."
        )
    names = [f"e{i}" for i in range(features.shape[1])]
    return pd.DataFrame(features.astype(np.float32, copy=False), index=keys, columns=names)


def replaced_sources(given: Sequence[str] | None) -> dict[str, Path] | None:
    """Reads NAME=PATH pairs of a command line."""
    replaced = {}
    for pair in given or []:
        name, _, path = pair.partition("=")
        if not path:
            raise StudyError(f"{pair}: expected NAME=PATH.")
        replaced[name] = Path(path)
    return replaced or None


Tables = dict[str, pd.DataFrame]
Given = SourceSpec | str | Path | pd.DataFrame | None  # what may replace a source; None: no patient has it
