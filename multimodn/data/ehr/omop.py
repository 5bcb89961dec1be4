"""The OMOP Common Data Model 5.3 and 5.4: a DuckDB file, or a folder of CSV or Parquet, a file or folder a table."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from pathlib import Path

from multimodn.data.ehr.events import Records, finished, literal
from multimodn.data.ehr.person import ETHNICITIES, RACES, category, finished_persons, sex
from multimodn.errors import DataError, did_you_mean, shown

SUFFIX = re.compile(r"\.(csv|csv\.gz|tsv|tsv\.gz|parquet)$", re.IGNORECASE)
EQUAL = "4172703"  # the concept of the operator =
OPERATORS = {"4171756": "<", "4171754": "<=", "4172704": ">", "4171755": ">="}
SEPARATORS = (",", "\t", ";")
VERSIONS = ("5.3", "5.4")
_PARTS = (("year", 4), ("month", 2), ("day", 2))  # of a birth date, and their digits


@dataclass(frozen=True)
class EventTable:
    """The columns of a table of events."""

    table: str
    concept: str  # beginning of the names of its concepts
    time: str  # and of its times

    @property
    def needed(self) -> list[str]:
        """The columns that it must have."""
        return ["person_id", f"{self.concept}_concept_id", f"{self.time}_date"]


EVENTS = {
    "measurement": EventTable("measurement", "measurement", "measurement"),
    "condition": EventTable("condition_occurrence", "condition", "condition_start"),
    "drug": EventTable("drug_exposure", "drug", "drug_exposure_start"),
    "procedure": EventTable("procedure_occurrence", "procedure", "procedure"),
}


def part_query(records: Records, path: Path) -> str:
    """Makes the tables of a part; returns the query of its rows, the first column ``patient``.

    Raises:
        DataError: If a table, a column or a concept is missing, a cell cannot be read, or the version is another.
    """
    model = _Model(records, path)
    model.check_version()
    part = str(records.spec.part)
    if part in EVENTS:
        _events(model, EVENTS[part])
        return finished(records)
    if part == "note":
        model.open("note", ["person_id", "note_date", "note_text"])
        text = "CAST(note_text AS VARCHAR)"
        time = model.moment("note", "note")
        query = f"SELECT {_number('person_id')} AS patient, {time} AS time, {text} AS text FROM note"
        records.create("notes", query)
        records.left_out("notes", "text IS NULL OR trim(text) = ''", "have no text")
        return "SELECT * FROM notes ORDER BY ALL"
    return _persons(model) if part == "person" else _deaths(model)


@dataclass
class _Model:
    """Where the tables of a data model are."""

    records: Records
    path: Path

    def __post_init__(self) -> None:
        self.columns: dict[str, list[str]] = {}
        self.where: dict[str, str] = {}
        if self.path.is_dir():
            self.origins = self._files()
            return
        connection = self.records.connection
        connection.execute(f"ATTACH {literal(str(self.path))} AS cdm (READ_ONLY)")
        query = """SELECT lower(table_name), '"' || table_schema || '"."' || table_name || '"'
                   FROM information_schema.tables WHERE table_catalog = 'cdm'"""
        self.origins = {name: f"cdm.{quoted}" for name, quoted in self.records.rows(query)}

    def _files(self) -> dict[str, str]:
        origins: dict[str, str] = {}
        for file in sorted(self.path.iterdir()):
            name = SUFFIX.sub("", file.name).lower()
            inside = sorted(each for each in file.rglob("*") if SUFFIX.search(each.name)) if file.is_dir() else [file]
            if not inside or not SUFFIX.search(inside[0].name):
                continue
            if name in origins:
                raise DataError(f"{self.path} holds the table '{name}' twice, once as {file.name}; remove one.")
            origins[name] = _reader(inside)
            self.where[name] = str(file)
        return origins

    def open(self, table: str, needed: list[str]) -> None:
        """Makes a view of a table; raises a DataError if it or one of its columns is missing."""
        if table not in self.origins:
            raise DataError(
                f"{self.path} has no table '{table}'.{did_you_mean(table, self.origins)} A table is a file such as "
                f"{table}.csv or {table}.parquet, or a table of the database."
            )
        self.records.connection.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS SELECT * FROM {self.origins[table]}")
        self.columns[table] = [str(row[0]).lower() for row in self.records.rows(f"DESCRIBE {table}")]
        missing = [name for name in needed if name not in self.columns[table]]
        if missing:
            raise DataError(
                f"{self.where.get(table, self.path)}: table '{table}' has no column '{missing[0]}'."
                f"{did_you_mean(missing[0], self.columns[table])} OMOP {' and '.join(VERSIONS)} are read."
            )

    def has(self, table: str) -> bool:
        """Says whether there is such a table."""
        return table in self.origins

    def text(self, table: str, column: str) -> str:
        """Returns SQL for the text of a column; NULL where it is empty, or there is no such column."""
        return f"nullif(trim(CAST({column} AS VARCHAR)), '')" if column in self.columns[table] else "NULL"

    def moment(self, table: str, name: str) -> str:
        """Returns SQL for a time as text: the column of clocks, or else that of dates; refuses what is none."""
        cells = [self.text(table, f"{name}_{what}") for what in ("datetime", "date")]
        for column, cell in zip((f"{name}_datetime", f"{name}_date"), cells, strict=True):
            self.check(table, column, cell, "TIMESTAMP", "a date such as 2024-01-31")
        both = (f"TRY_CAST({cell} AS TIMESTAMP)" for cell in cells)
        return f"CAST(coalesce({', '.join(both)}) AS VARCHAR)"

    def number(self, table: str, column: str) -> str:
        """Returns SQL for a column of numbers; refuses what is none."""
        cell = self.text(table, column)
        self.check(table, column, cell, "DOUBLE", "a number")
        return f"TRY_CAST({cell} AS DOUBLE)"

    def check(self, table: str, column: str, cell: str, kind: str, expected: str) -> None:
        """Raises a DataError that names cells of a column that are not of a type."""
        if cell == "NULL":
            return
        wrong = f"{cell} IS NOT NULL AND TRY_CAST({cell} AS {kind}) IS NULL"
        found = self.records.rows(
            f"SELECT {_number('person_id')}, {cell}, count(*) OVER () FROM {table} WHERE {wrong} LIMIT 3"
        )
        if found:
            named = ", ".join(f"'{value}' (patient '{patient}')" for patient, value, _ in found)
            raise DataError(
                f"{self.where.get(table, self.path)}: {found[0][2]} cells of column '{column}' are not {expected}: "
                f"{named}. Correct them, or leave them empty."
            )

    def check_version(self) -> None:
        """Refuses another version of the model than those that are read, where it says its version."""
        if not self.has("cdm_source"):
            return
        self.open("cdm_source", [])
        if "cdm_version" not in self.columns["cdm_source"]:
            return
        for (version,) in self.records.rows(f"SELECT {self.text('cdm_source', 'cdm_version')} FROM cdm_source"):
            if version is not None and not version.lower().lstrip("v ").startswith(VERSIONS):
                raise DataError(
                    f"{self.where.get('cdm_source', self.path)}: `cdm_version` is {version}; OMOP "
                    f"{' and '.join(VERSIONS)} are read. Convert the tables, or read them by a `query`."
                )

    def concepts(self) -> None:
        """Makes the table ``concepts`` (id, code, vocabulary, name), with a row for each concept."""
        self.open("concept", ["concept_id", "concept_code", "vocabulary_id", "concept_name"])
        code, vocabulary, name = (self.text("concept", c) for c in ("concept_code", "vocabulary_id", "concept_name"))
        self.records.create(
            "concepts",
            f"""SELECT {_number("concept_id")} AS id, any_value({code}) AS code,
                any_value({vocabulary}) AS vocabulary, any_value({name}) AS name FROM concept GROUP BY 1""",
        )


def _reader(files: list[Path]) -> str:
    """Returns SQL that reads the files of a table; cells of CSV are text, separated by commas, tabs or semicolons."""
    listed = "[" + ", ".join(literal(str(file)) for file in files) + "]"
    if files[0].suffix.lower() == ".parquet":
        return f"read_parquet({listed}, union_by_name = true)"
    headers = {file: _header(file) for file in files}
    for file, header in headers.items():
        if header != headers[files[0]]:
            raise DataError(f"{file} has other columns than {files[0]}, though both are of one table.")
    separator = max(SEPARATORS, key=headers[files[0]].count)
    names = [name.strip(' "') for name in headers[files[0]].split(separator)]
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    # vocabularies are handed out with tabs and quotes that quote nothing
    is_vocabulary = separator == "\t" and SUFFIX.sub("", files[0].name).lower() in ("concept", "vocabulary")
    quote = "" if is_vocabulary else '"'
    return (
        f"read_csv({listed}, auto_detect = false, header = true, columns = {{{columns}}}, "
        f"delim = {literal(separator)}, quote = {literal(quote)}, escape = {literal(quote)}, allow_quoted_nulls = true)"
    )


def _header(file: Path) -> str:
    try:
        with gzip.open(file, "rb") if file.suffix.lower() == ".gz" else file.open("rb") as opened:
            return opened.readline().decode("utf-8-sig").rstrip("\r\n")
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise DataError(f"{file} cannot be read as text in UTF-8: {error}") from None


def _number(column: str) -> str:
    """Returns SQL for a whole number as its digits, however it is written (``12``, ``12.0``)."""
    return f"regexp_replace(nullif(trim(CAST({column} AS VARCHAR)), ''), '^([0-9]+)\\.0*$', '\\1')"


def _events(model: _Model, table: EventTable) -> None:
    records, name, codes = model.records, table.table, model.records.spec.codes or "standard"
    model.open(name, [*table.needed, *(["value_as_number"] if name == "measurement" else [])])
    is_measurement, columns = name == "measurement", model.columns[name]
    column = f"{table.concept}_{'source_' if codes == 'source' else ''}concept_id"
    concept = f"nullif({_number(column)}, '0')" if column in columns else "NULL"
    value = model.number(name, "value_as_number") if is_measurement else "CAST(NULL AS DOUBLE)"
    unit = f"nullif({_number('unit_concept_id')}, '0')" if is_measurement and "unit_concept_id" in columns else "NULL"
    operator = _number("operator_concept_id") if is_measurement and "operator_concept_id" in columns else "NULL"
    comparators = " ".join(f"WHEN '{concept_id}' THEN '{sign}'" for concept_id, sign in OPERATORS.items())
    records.create(
        "found",
        f"""SELECT row_number() OVER () AS event, {_number("person_id")} AS patient,
            {model.moment(name, table.time)} AS time, {concept} AS concept,
            {model.text(name, table.concept + "_source_value")} AS written, {value} AS value, {unit} AS unit_concept,
            {model.text(name, "unit_source_value") if is_measurement else "NULL"} AS unit_written,
            CASE {operator} {comparators} ELSE NULL END AS comparator FROM {name}""",
    )
    if codes == "id" or (codes == "source" and not model.has("concept")):
        code, vocabulary, joined = "concept" if codes == "id" else "written", "NULL", ""
        unit = "coalesce(unit_written, unit_concept)"
    else:
        _check_concepts(model, column)
        code = "coalesce(c.code, written)" if codes == "source" else "c.code"
        vocabulary, unit = "c.vocabulary", "coalesce(u.code, unit_written, unit_concept)"
        joined = "LEFT JOIN concepts c ON c.id = concept LEFT JOIN concepts u ON u.id = unit_concept"
    records.create(
        "events",
        f"""SELECT event, 1 AS place, patient, time, {code} AS code, CAST({vocabulary} AS VARCHAR) AS vocabulary, value,
            CAST({unit} AS VARCHAR) AS unit, comparator FROM found {joined}""",
    )


def _check_concepts(model: _Model, column: str) -> None:
    """Makes ``concepts``; refuses concepts of the events that are not among them."""
    if not model.has("concept"):
        raise DataError(
            f"{model.path} has no table 'concept', which says what code a concept is. Add that of your vocabularies, "
            f"or write `codes: id` for the concepts' numbers, or `codes: source` for codes as the source wrote them."
        )
    model.concepts()
    unknown = model.records.rows(
        """SELECT concept, count(*) FROM found WHERE concept IS NOT NULL AND concept NOT IN (SELECT id FROM concepts)
           GROUP BY 1 ORDER BY 2 DESC, 1"""
    )
    if unknown:
        named = shown([f"{concept} ({n} rows)" for concept, n in unknown])
        where = model.where.get("concept", f"table 'concept' of {model.path}")
        raise DataError(
            f"{model.records.place}: {len(unknown)} concepts of column '{column}' are not in {where}: {named}. Add "
            f"their vocabularies, or write `codes: id` for the concepts' numbers."
        )


def _persons(model: _Model) -> str:
    model.open("person", ["person_id", "gender_concept_id", "year_of_birth"])
    if model.has("concept"):
        model.concepts()
    else:
        model.records.create("concepts", "SELECT '' AS id, '' AS code, '' AS vocabulary, '' AS name")
    columns = model.columns["person"]

    def digits(name: str) -> str:
        return f"nullif({_number(name)}, '0')" if name in columns else "CAST(NULL AS VARCHAR)"

    def named(what: str, alias: str) -> str:
        return f"coalesce({alias}.name, {model.text('person', what + '_source_value')}, {digits(what + '_concept_id')})"

    for name in ("year_of_birth", "month_of_birth", "day_of_birth"):
        if name in columns:
            model.check("person", name, _number(name), "INTEGER", "a whole number")
    model.check("person", "birth_datetime", model.text("person", "birth_datetime"), "DATE", "a date such as 1970-01-31")
    year, month, day = (f"lpad({digits(f'{each}_of_birth')}, {n}, '0')" for each, n in _PARTS)
    written = f"concat_ws('-', {year}, {month}, CASE WHEN {month} IS NOT NULL THEN {day} END)"
    at_once = f"CAST(TRY_CAST({model.text('person', 'birth_datetime')} AS DATE) AS VARCHAR)"
    gender = digits("gender_concept_id")
    model.records.create(
        "persons",
        f"""SELECT {_number("person_id")} AS patient, coalesce({at_once}, nullif({written}, '')) AS birth,
            {sex(f"CASE WHEN {gender} IN ('8507', '8532') THEN {gender} ELSE {named('gender', 'g')} END")} AS sex,
            {category(digits("race_concept_id"), RACES, named("race", "r"))} AS race,
            {category(digits("ethnicity_concept_id"), ETHNICITIES, named("ethnicity", "e"))} AS ethnicity
            FROM person LEFT JOIN concepts g ON g.id = {gender}
            LEFT JOIN concepts r ON r.id = {digits("race_concept_id")}
            LEFT JOIN concepts e ON e.id = {digits("ethnicity_concept_id")}""",
    )
    return finished_persons(model.records)


def _deaths(model: _Model) -> str:
    model.open("person", ["person_id"])
    model.open("death", ["person_id", "death_date"])
    time = model.moment("death", "death")
    model.records.create(
        "deaths", f"SELECT {_number('person_id')} AS patient, min({time}) AS time, 1 AS died FROM death GROUP BY 1"
    )
    return f"""SELECT coalesce(p.patient, d.patient) AS patient, coalesce(d.died, 0) AS died, d.time
               FROM (SELECT {_number("person_id")} AS patient FROM person) p
               FULL JOIN deaths d ON p.patient = d.patient ORDER BY ALL"""
