"""Reads a part of health records to a table indexed by patient."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection
from pathlib import Path

import duckdb
import pandas as pd

from multimodn.data.arrow_table import ColumnCollector
from multimodn.data.ehr import fhir, meds, omop
from multimodn.data.ehr.events import Records
from multimodn.errors import DataError, did_you_mean_file
from multimodn.study.health_records import HealthRecordSpec

BATCH_ROWS = 8192
READERS = {"meds": meds.part_query, "omop": omop.part_query, "fhir": fhir.part_query}


def read_health_records(
    spec: HealthRecordSpec, folder: Path, patient: str, exact: Collection[str], verbatim: Collection[str],
    notes: list[str],
) -> pd.DataFrame:  # fmt: skip
    """Reads a part of health records, indexed by patient as text; see `HealthRecordSpec` for its columns.

    Rows come in the order of patients, times and what they hold, so that the same records in two formats are the same
    table. Times are text: dates with a clock, in UTC where the format knows the zone (FHIR).

    Args:
        spec: The part.
        folder: Where relative paths start.
        patient: What the key column is called.
        exact: Columns that keep their own type.
        verbatim: Columns that are text as it is written.
        notes: What was left out of the records, or decided about them, is added, with counts.

    Raises:
        DataError: If files, tables, columns or codes are missing or cannot be read; it names them, and the repair.
    """
    path = folder / spec.record_place
    if not path.exists():
        raise DataError(f"the file or folder {path} does not exist.{did_you_mean_file(path)}")
    try:
        with duckdb.connect() as connection:
            connection.execute("SET temp_directory = ?", [tempfile.gettempdir()])
            records = Records(connection, spec, f"{path}, part '{spec.part}'")
            query = READERS[str(spec.record_format)](records, path)
            reader = connection.sql(query).to_arrow_reader(BATCH_ROWS)
            names = [patient, *reader.schema.names[1:]]
            if patient in names[1:]:
                raise DataError(
                    f"{path}: the key column '{patient}' is called like a column of part '{spec.part}'; call the key "
                    f"otherwise (`patient:` of `cohort`)."
                )
            schema = reader.schema.set(0, reader.schema.field(0).with_name(patient))
            kept = [patient, *(name for name in names[1:] if name in exact)]
            batches = (batch.rename_columns(names) for batch in reader)
            try:
                table = ColumnCollector(schema, patient, kept, verbatim=verbatim).read(batches)
            except DataError as error:
                left = "; ".join(["", *records.notes])
                raise DataError(f"{records.place}: {error}{left}") from None
    except duckdb.Error as error:
        raise DataError(f"{path}, part '{spec.part}', cannot be read: {_in_short(str(error))}") from None
    notes += [f"part '{spec.part}': {note}." for note in records.notes]
    return table


def _in_short(message: str) -> str:
    """Returns what DuckDB says was wrong, and where, without its advice on options that are not the user's."""
    file = re.search(r"^\s*file = (.+)$", message, re.MULTILINE)
    lines = re.split(r"\n\s*\n|\nPossible |\nColumn ", message.strip())[0].splitlines()
    return (f"{file.group(1)}: " if file else "") + "; ".join(line.strip() for line in lines)
