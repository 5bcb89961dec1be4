"""The Medical Event Data Standard (MEDS) 0.3 and 0.4: events in Parquet, and labels by its label schema.

References:
    https://medical-event-data-standard.github.io
"""

from __future__ import annotations

import json
from pathlib import Path

from multimodn.data.ehr.events import Records, finished, literal
from multimodn.data.ehr.person import ETHNICITIES, RACES, category, finished_persons, sex
from multimodn.errors import DataError, did_you_mean

VERSIONS = ("0.3", "0.4")
BIRTH, DEATH = "MEDS_BIRTH", "MEDS_DEATH"
VALUES = ("boolean_value", "integer_value", "float_value", "categorical_value")


def part_query(records: Records, path: Path) -> str:
    """Makes the tables of a part; returns the query of its rows, the first column ``patient``.

    Raises:
        DataError: If there are no files, a column is missing, or the version is another.
    """
    if records.spec.part == "label":
        return _labels(records, path)
    _check_version(path)
    data = path / "data" if (path / "data").is_dir() else path
    _open(records, data, ["subject_id", "time", "code"])
    if records.spec.part == "person":
        return _persons(records)
    if records.spec.part == "death":
        return f"""SELECT CAST(subject_id AS VARCHAR) AS patient,
                   max(CASE WHEN code = '{DEATH}' THEN 1 ELSE 0 END) AS died,
                   CAST(min(time) FILTER (code = '{DEATH}') AS VARCHAR) AS time
                   FROM found GROUP BY 1 ORDER BY ALL"""
    if records.spec.part == "note":
        _needs(records, data, "text_value")
        return """SELECT CAST(subject_id AS VARCHAR) AS patient, CAST(time AS VARCHAR) AS time, text_value AS text
                  FROM found WHERE trim(text_value) <> '' ORDER BY ALL"""
    return _events(records, data)


def _check_version(path: Path) -> None:
    file = path / "metadata" / "dataset.json"
    if not file.is_file():
        return
    try:
        version = str(json.loads(file.read_text(encoding="utf-8")).get("meds_version", VERSIONS[-1]))
    except (ValueError, AttributeError) as error:
        raise DataError(f"{file} is no JSON object ({error}); make the data set again, or remove it.") from None
    if not version.startswith(VERSIONS):
        raise DataError(f"{file}: `meds_version` is {version}; MEDS {' and '.join(VERSIONS)} are read.")


def _open(records: Records, place: Path, needed: list[str]) -> None:
    """Makes the view ``found`` of all Parquet files of a place; refuses missing columns."""
    files = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
    if not files:
        raise DataError(f"{place} holds no .parquet file; name the folder in which `data` is.")
    listed = ", ".join(literal(str(file)) for file in files)
    query = f"SELECT * FROM read_parquet([{listed}], union_by_name = true)"
    records.connection.execute(f"CREATE TEMP VIEW found AS {query}")
    for name in needed:
        _needs(records, place, name)


def _needs(records: Records, place: Path, column: str) -> None:
    names = [str(row[0]) for row in records.rows("DESCRIBE found")]
    if column in names:
        return
    older = " It looks like MEDS before 0.3; convert it." if column == "subject_id" and "patient_id" in names else ""
    raise DataError(f"{place} has no column '{column}'.{did_you_mean(column, names)}{older}")


def _events(records: Records, data: Path) -> str:
    _needs(records, data, "numeric_value")
    name, part = records.spec.vocabulary, records.spec.part
    kept = "time IS NOT NULL"
    if part == "measurement":
        kept += " AND numeric_value IS NOT NULL"
    elif part == "code":
        text = "" if "text_value" not in _names(records) else " AND text_value IS NULL"
        kept += f" AND numeric_value IS NULL{text} AND code NOT IN ('{BIRTH}', '{DEATH}')"
    code, vocabulary = "code", "CAST(NULL AS VARCHAR)"
    if name is not None:
        start = name.rstrip("/") + "/"
        code = f"ltrim(substr(code, {len(start)} + 1), '/')"
        is_of_it = f"starts_with(code, {literal(start)})"
        code = f"CASE WHEN {is_of_it} THEN {code} ELSE code END"
        vocabulary = f"CASE WHEN {is_of_it} THEN {literal(name)} ELSE split_part(code, '/', 1) END"
    records.create(
        "events",
        f"""SELECT row_number() OVER () AS event, 1 AS place, CAST(subject_id AS VARCHAR) AS patient,
            CAST(time AS VARCHAR) AS time, {code} AS code, {vocabulary} AS vocabulary,
            CAST(numeric_value AS DOUBLE) AS value, CAST(NULL AS VARCHAR) AS unit, CAST(NULL AS VARCHAR) AS comparator
            FROM found WHERE {kept}""",
    )
    return finished(records)


def _names(records: Records) -> list[str]:
    return [str(row[0]) for row in records.rows("DESCRIBE found")]


def _persons(records: Records) -> str:
    """Reads birth and static codes such as ``GENDER//F``, ``RACE//White`` and ``ETHNICITY//Not Hispanic or Latino``."""
    rest = "regexp_extract(code, '^[^/]+/+(.*)$', 1)"
    head = "upper(split_part(code, '/', 1))"
    texts = f"(code = '{BIRTH}' OR {head} IN ('GENDER', 'SEX', 'RACE', 'ETHNICITY'))"

    def told(*names: str) -> str:
        listed = ", ".join(f"'{name}'" for name in names)
        return f"CASE WHEN {head} IN ({listed}) THEN {rest} END"

    named = {
        "birth": f"CASE WHEN code = '{BIRTH}' THEN CAST(CAST(time AS DATE) AS VARCHAR) END",
        "sex": sex(told("GENDER", "SEX")),
        "race": category(told("RACE"), RACES, told("RACE")),
        "ethnicity": category(told("ETHNICITY"), ETHNICITIES, told("ETHNICITY")),
    }
    columns = ", ".join(f"CASE WHEN {texts} THEN {told_by} END AS {name}" for name, told_by in named.items())
    records.create("told", f"SELECT CAST(subject_id AS VARCHAR) AS patient, {columns} FROM found")
    for name in named:
        twice = records.rows(
            f"""SELECT patient, list_sort(list(DISTINCT {name})) FROM told WHERE {name} IS NOT NULL
                GROUP BY 1 HAVING count(DISTINCT {name}) > 1 ORDER BY 1 LIMIT 3"""
        )
        if twice:
            patients = ", ".join(f"patient '{patient}' ({' and '.join(values)})" for patient, values in twice)
            raise DataError(f"{records.place}: several values of {name}: {patients}. Leave one of each.")
    taken = ", ".join(f"any_value({name}) AS {name}" for name in named)
    records.create("persons", f"SELECT patient, {taken} FROM told GROUP BY 1")
    return finished_persons(records)


def _labels(records: Records, path: Path) -> str:
    _open(records, path, ["subject_id", "prediction_time"])
    names = _names(records)
    filled = [name for name in VALUES if name in names and records.count("found", f"{name} IS NOT NULL")]
    if not filled:
        raise DataError(f"{path} has no label: none of the columns {', '.join(VALUES)} is filled.")
    columns = ", ".join(filled)
    return f"""SELECT CAST(subject_id AS VARCHAR) AS patient, CAST(prediction_time AS VARCHAR) AS prediction_time,
               {columns} FROM found ORDER BY ALL"""
