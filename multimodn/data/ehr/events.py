"""What the events of all formats have in common: which are kept, what is noted, and what is in doubt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import duckdb

from multimodn.errors import DataError, did_you_mean, shown
from multimodn.study.health_records import HealthRecordSpec

N_SHOWN = 5


@dataclass
class Records:
    """A part of health records that is being read.

    Attributes:
        connection: Where its tables are made.
        spec: The part.
        place: The file or folder, for messages.
        notes: What was decided about the records, and left out of them.
    """

    connection: duckdb.DuckDBPyConnection
    spec: HealthRecordSpec
    place: str
    notes: list[str] = field(default_factory=list)

    def rows(self, query: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Returns the rows of a query."""
        return self.connection.execute(query, parameters).fetchall()

    def count(self, table: str, condition: str = "true") -> int:
        """Returns how many rows of a table fulfil a condition."""
        return int(self.rows(f"SELECT count(*) FROM {table} WHERE {condition}")[0][0])

    def create(self, table: str, query: str, parameters: Any = None) -> None:
        """Makes a temporary table."""
        self.connection.execute(f"CREATE TEMP TABLE {table} AS {query}", parameters)

    def left_out(self, table: str, condition: str, why: str) -> None:
        """Removes the rows that fulfil a condition, and notes how many."""
        total = self.count(table)
        self.connection.execute(f"DELETE FROM {table} WHERE {condition}")
        n = total - self.count(table)
        if n:
            self.notes.append(f"{n} of {total} rows {why}, and are not used")


def literal(text: str) -> str:
    """Returns a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def finished(records: Records) -> str:
    """Turns the table ``events`` into the query of a part: ``patient``, ``time``, ``code`` or variable, value and unit.

    Columns of ``events``: ``event`` (its number), ``place`` (that of a code among the codes of the event, from 1),
    ``patient``, ``time``, ``code``, ``vocabulary``, ``value``, ``unit`` and ``comparator`` (NULL: the value itself).

    Raises:
        DataError: If no code is of the vocabulary, or codes of several vocabularies, or numbers of several units, are
            written alike.
    """
    spec = records.spec
    records.left_out("events", "patient IS NULL", "are of no patient")
    _choose_codes(records)
    records.left_out("events", "code IS NULL", f"have no code{_other_codes(spec)}")
    if spec.part != "measurement":
        _check_vocabularies(records)
        return "SELECT patient, time, code FROM events ORDER BY ALL"
    records.left_out("events", "value IS NULL OR isnan(value)", "have no number")
    _check_vocabularies(records)
    bounds = records.count("events", "comparator IS NOT NULL")
    if bounds:
        first = records.rows("SELECT code, comparator, value FROM events WHERE comparator IS NOT NULL LIMIT 1")[0]
        example = f"{first[0]} {first[1]} {first[2]:g}"
        records.notes.append(f"{bounds} values are bounds, such as {example}, and count as the bound")
    variable = _variable(records)
    return f"SELECT patient, time, {variable} AS variable, value, unit FROM events ORDER BY ALL"


def _other_codes(spec: HealthRecordSpec) -> str:
    if spec.record_format == "omop" and spec.codes in (None, "standard"):
        return " (concept 0; `codes: source` reads what the source wrote)"
    return ""


def _choose_codes(records: Records) -> None:
    """Keeps of each event the first code, or the first one of the vocabulary."""
    name = records.spec.vocabulary
    if name is not None:
        if not records.count("events", f"vocabulary = {literal(name)}"):
            query = "SELECT vocabulary FROM events WHERE vocabulary IS NOT NULL GROUP BY ALL ORDER BY count(*) DESC, 1"
            found = [str(row[0]) for row in records.rows(query)]
            said = f"{did_you_mean(name, found)}" if found else " No code names its vocabulary."
            raise DataError(f"{records.place}: no code is of the `vocabulary` '{name}'.{said}")
        records.connection.execute(f"DELETE FROM events WHERE vocabulary IS DISTINCT FROM {literal(name)}")
    several = records.count("(SELECT event FROM events GROUP BY event HAVING count(*) > 1)")
    if several:
        records.create("chosen", "SELECT * FROM events QUALIFY place = min(place) OVER (PARTITION BY event)")
        records.connection.execute("DROP TABLE events; ALTER TABLE chosen RENAME TO events")
        settle = "" if name is not None else "; `vocabulary` names the one that counts"
        records.notes.append(f"{several} rows have several codes, of which the first counts{settle}")


def _check_vocabularies(records: Records) -> None:
    """Refuses the same code of two vocabularies, which would be one code."""
    query = """SELECT code, list_sort(list(DISTINCT coalesce(vocabulary, '(none)'))) FROM events GROUP BY code
               HAVING count(DISTINCT coalesce(vocabulary, '(none)')) > 1 ORDER BY 1"""
    twice = records.rows(query)
    if twice:
        named = shown([f"'{code}' of {' and '.join(names)}" for code, names in twice], N_SHOWN)
        raise DataError(
            f"{records.place}: codes of several vocabularies are written alike: {named}. Name `vocabulary`."
        )


def _variable(records: Records) -> str:
    """Returns the variable of a measurement in SQL; raises a DataError if one has several units."""
    units = "list_sort(list(DISTINCT coalesce(unit, 'no unit')))"
    query = f"""SELECT code, {units} AS found FROM events GROUP BY code
                HAVING count(DISTINCT coalesce(unit, 'no unit')) > 1 ORDER BY 1"""
    if records.spec.several_units == "ignore":
        return "code"
    several = records.rows(query)
    if records.spec.several_units is None and several:
        named = shown([f"'{code}' ({', '.join(found)})" for code, found in several], N_SHOWN)
        raise DataError(
            f"{records.place}: {len(several)} variables have values in several units: {named}. Convert them, or write "
            f"`several_units: split` to make each unit a variable, or `several_units: ignore` where they mean the same."
        )
    if not several:
        return "code"
    codes = f"SELECT code FROM ({query})"
    return f"CASE WHEN code IN ({codes}) THEN code || ' [' || coalesce(unit, 'no unit') || ']' ELSE code END"
