"""How formats write what a person is, in one way."""

from __future__ import annotations

from multimodn.data.ehr.events import Records
from multimodn.errors import DataError, shown

SEXES = {"female": ("female", "f", "8532"), "male": ("male", "m", "8507")}
# OMOP's concept, the category of the US Office of Management and Budget in FHIR, and the name of both
RACES = (
    ("8657", "1002-5", "American Indian or Alaska Native"),
    ("8515", "2028-9", "Asian"),
    ("8516", "2054-5", "Black or African American"),
    ("8557", "2076-8", "Native Hawaiian or Other Pacific Islander"),
    ("8527", "2106-3", "White"),
)
ETHNICITIES = (("38003563", "2135-2", "Hispanic or Latino"), ("38003564", "2186-5", "Not Hispanic or Latino"))


def sex(expression: str) -> str:
    """Returns SQL for a sex as ``female``, ``male``, or else as it is written, in lower case."""
    text = f"lower({expression})"
    cases = " ".join(f"WHEN {text} IN {names} THEN '{name}'" for name, names in SEXES.items())
    return f"CASE {cases} ELSE {text} END"


def category(expression: str, names: tuple[tuple[str, str, str], ...], otherwise: str) -> str:
    """Returns SQL for the name of a race or an ethnicity, by OMOP's concept, FHIR's code or the name in any case."""
    text = f"lower({expression})"
    cases = " ".join(
        f"WHEN {text} IN ('{concept}', '{code}', '{name.lower()}') THEN '{name}'" for concept, code, name in names
    )
    return f"CASE {cases} ELSE {otherwise} END"


def finished_persons(records: Records) -> str:
    """Turns the table ``persons`` into the query of a row for each person.

    Its columns are text: ``patient``, ``birth`` (a date, a month such as 1970-01, or a year), ``sex``, ``race`` and
    ``ethnicity``.

    Raises:
        DataError: If a birth is no date.
    """
    birth = """CASE WHEN regexp_full_match(birth, '[0-9]{4}') THEN birth || '-07-01'
               WHEN regexp_full_match(birth, '[0-9]{4}-[0-9]{2}') THEN birth || '-15' ELSE birth END"""
    wrong = records.rows(
        f"SELECT patient, birth FROM persons WHERE birth IS NOT NULL AND TRY_CAST({birth} AS DATE) IS NULL ORDER BY ALL"
    )
    if wrong:
        named = shown([f"'{text}' (patient '{patient}')" for patient, text in wrong], 3)
        raise DataError(f"{records.place}: {len(wrong)} births are no dates: {named}. Correct or empty them.")
    n = records.count("persons", "length(birth) < 8")
    if n:
        total = records.count("persons")
        records.notes.append(f"{n} of {total} births have no day: the middle of their month or year counts")
    columns = "sex, race, ethnicity"
    return (
        f"SELECT patient, CAST(TRY_CAST({birth} AS DATE) AS VARCHAR) AS birth_date, {columns} FROM persons ORDER BY ALL"
    )
