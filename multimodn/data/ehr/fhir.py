"""FHIR R4 as Bulk Data exports write it: a file, or several, of NDJSON for each type of resource.

References:
    https://hl7.org/fhir/R4, https://hl7.org/fhir/uv/bulkdata
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import duckdb

from multimodn.data.ehr.events import Records, finished, literal
from multimodn.data.ehr.person import ETHNICITIES, RACES, category, finished_persons, sex
from multimodn.errors import DataError, did_you_mean, shown

SYSTEMS = {  # names of vocabularies, as OMOP has them, and their addresses in FHIR
    "ATC": "http://www.whocc.no/atc",
    "CPT4": "http://www.ama-assn.org/go/cpt",
    "ICD10": "http://hl7.org/fhir/sid/icd-10",
    "ICD10CM": "http://hl7.org/fhir/sid/icd-10-cm",
    "ICD9CM": "http://hl7.org/fhir/sid/icd-9-cm",
    "LOINC": "http://loinc.org",
    "NDC": "http://hl7.org/fhir/sid/ndc",
    "RxNorm": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "SNOMED": "http://snomed.info/sct",
}
FILE = re.compile(r"([A-Z][A-Za-z]+)([^A-Za-z].*)?\.ndjson(\.gz)?$")
CODED = "STRUCT(coding STRUCT(system VARCHAR, code VARCHAR)[], text VARCHAR)"
STATUS = CODED
QUANTITY = 'STRUCT("value" DOUBLE, unit VARCHAR, code VARCHAR, comparator VARCHAR)'
REFERENCE = "STRUCT(reference VARCHAR)"
PERIOD = 'STRUCT("start" VARCHAR)'
EXTENSION = (
    "STRUCT(url VARCHAR, extension STRUCT(url VARCHAR, valueCoding STRUCT(code VARCHAR, display VARCHAR), "
    "valueString VARCHAR)[])[]"
)
OMB = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"

FIELDS = {
    "Patient": {
        "birthDate": "VARCHAR", "gender": "VARCHAR", "deceasedDateTime": "VARCHAR", "deceasedBoolean": "BOOLEAN",
        "extension": EXTENSION,
    },
    "Observation": {
        "subject": REFERENCE, "status": "VARCHAR", "code": CODED, "effectiveDateTime": "VARCHAR",
        "effectiveInstant": "VARCHAR", "effectivePeriod": PERIOD, "valueQuantity": QUANTITY, "valueInteger": "DOUBLE",
        "component": f"STRUCT(code {CODED}, valueQuantity {QUANTITY}, valueInteger DOUBLE)[]",
    },
    "Condition": {
        "subject": REFERENCE, "verificationStatus": STATUS, "code": CODED, "recordedDate": "VARCHAR",
        "onsetDateTime": "VARCHAR", "onsetPeriod": PERIOD,
    },
    "MedicationRequest": {
        "subject": REFERENCE, "status": "VARCHAR", "authoredOn": "VARCHAR", "medicationCodeableConcept": CODED,
        "medicationReference": REFERENCE,
    },
    "Medication": {"code": CODED},
    "Procedure": {
        "subject": REFERENCE, "status": "VARCHAR", "code": CODED, "performedDateTime": "VARCHAR",
        "performedPeriod": PERIOD,
    },
    "DocumentReference": {
        "subject": REFERENCE, "status": "VARCHAR", "date": "VARCHAR",
        "content": "STRUCT(attachment STRUCT(contentType VARCHAR, data VARCHAR, url VARCHAR))[]",
    },
}  # fmt: skip
UNTRUE = ("entered-in-error", "cancelled", "not-done", "refuted", "draft", "preparation")  # what did not happen


def part_query(records: Records, path: Path) -> str:
    """Makes the tables of a part; returns the query of its rows, the first column ``patient``.

    A condition counts from when it was recorded, not from when it began: before that nobody knew it.

    Raises:
        DataError: If there is no file of a resource, or a line cannot be read.
    """
    part = records.spec.part
    if part == "person":
        return _persons(records, path)
    if part == "death":
        _open(records, path, "Patient")
        time = "nullif(trim(deceasedDateTime), '')"
        died = f"CASE WHEN {time} IS NOT NULL OR deceasedBoolean THEN 1 ELSE 0 END"
        records.create("rows", f"SELECT id AS patient, {died} AS died, {time} AS time FROM Patient")
        _tidy_times(records, "rows")
        return "SELECT * FROM rows ORDER BY ALL"
    if part == "note":
        return _notes(records, path)
    code, time, status = "code", "", "status"
    if part == "measurement":
        resource, time = "Observation", "coalesce(effectiveDateTime, effectiveInstant, effectivePeriod.start)"
    elif part == "condition":
        resource, time = "Condition", "coalesce(recordedDate, onsetDateTime, onsetPeriod.start)"
        status = "verificationStatus.coding[1].code"
    elif part == "drug":
        resource, time, code = "MedicationRequest", "authoredOn", "medicationCodeableConcept"
    else:
        resource, time = "Procedure", "coalesce(performedDateTime, performedPeriod.start)"
    _open(records, path, resource)
    _events(records, path, resource, code, time, status)
    spec = records.spec
    names = {address: name for name, address in SYSTEMS.items()}
    if spec.vocabulary is not None and spec.vocabulary in names:
        records.spec = spec.model_copy(update={"vocabulary": names[spec.vocabulary]})
    return finished(records)


def _events(records: Records, path: Path, resource: str, code: str, time: str, status: str) -> None:
    nothing = f"CAST(NULL AS {QUANTITY})"
    items = f"[{{code: {code}, valueQuantity: {nothing}, valueInteger: CAST(NULL AS DOUBLE)}}]"
    kept, source = "true", resource
    if resource == "Observation":
        own = "{code: code, valueQuantity: valueQuantity, valueInteger: valueInteger}"
        items = f"list_concat([{own}], coalesce(component, []))"
        kept = "item.valueQuantity.value IS NOT NULL OR item.valueInteger IS NOT NULL OR n_items = 1"
    if resource == "MedicationRequest" and _files(path).get("Medication"):
        _open(records, path, "Medication")
        source = f"""(SELECT r.* REPLACE (coalesce(r.{code}, m.code) AS {code}) FROM {resource} r LEFT JOIN Medication m
                     ON m.id = regexp_extract(r.medicationReference.reference, 'Medication/([^/]+)', 1))"""
    records.create(
        "rows",
        f"""SELECT {_patient()} AS patient, nullif(trim({time}), '') AS time, lower({status}) AS status,
            {items} AS items FROM {source}""",
    )
    _leave_untrue_out(records)
    _tidy_times(records, "rows")
    names = " ".join(f"WHEN {literal(address)} THEN {literal(name)}" for name, address in SYSTEMS.items())
    quantity = "item.valueQuantity"
    records.create(
        "events",
        f"""WITH items AS (SELECT patient, time, len(items) AS n_items, unnest(items) AS item FROM rows),
            numbered AS (SELECT row_number() OVER () AS event, * FROM items WHERE {kept}),
            codings AS (SELECT *, CASE WHEN len(item.code.coding) > 0 THEN item.code.coding
                        ELSE [CAST(NULL AS STRUCT(system VARCHAR, code VARCHAR))] END AS codings FROM numbered),
            each AS (SELECT * EXCLUDE (codings), unnest(codings) AS coding,
                     generate_subscripts(codings, 1) AS place FROM codings)
            SELECT event, place, patient, time, nullif(trim(coding.code), '') AS code,
            CASE coding.system {names} ELSE coding.system END AS vocabulary,
            coalesce({quantity}.value, item.valueInteger) AS value,
            coalesce({quantity}.code, {quantity}.unit) AS unit, {quantity}.comparator AS comparator FROM each""",
    )


def _notes(records: Records, path: Path) -> str:
    _open(records, path, "DocumentReference")
    records.create(
        "rows",
        f"""SELECT {_patient()} AS patient, nullif(trim(date), '') AS time, lower(status) AS status,
            unnest(content).attachment AS attachment FROM DocumentReference""",
    )
    _leave_untrue_out(records)
    records.left_out("rows", "patient IS NULL", "are of no patient")
    records.left_out("rows", "attachment.data IS NULL", "are documents whose text is not in the file (`data`)")
    is_text = "lower(coalesce(attachment.contentType, 'text/plain')) LIKE 'text/plain%'"
    records.left_out("rows", f"NOT {is_text}", "are documents that are not plain text")
    _tidy_times(records, "rows")
    text = "TRY(decode(from_base64(attachment.data)))"
    wrong = records.rows(f"SELECT patient, time, count(*) OVER () FROM rows WHERE {text} IS NULL LIMIT 1")
    if wrong:
        patient, time, n = wrong[0]
        which = f"patient '{patient}', {time or 'without a date'}"
        raise DataError(f"{records.place}: `data` of {n} documents is no text in UTF-8 as base64, first of {which}.")
    return f"SELECT patient, time, {text} AS text FROM rows ORDER BY ALL"


def _persons(records: Records, path: Path) -> str:
    _open(records, path, "Patient")

    def told(what: str, names: tuple[tuple[str, str, str], ...]) -> str:
        of_it = f"list_filter(extension, lambda e: e.url = '{OMB}{what}')[1].extension"
        codes = f"list_filter({of_it}, lambda e: e.url = 'ombCategory')"
        written = f"list_filter({of_it}, lambda e: e.url = 'text')[1].valueString"
        each = category("e.valueCoding.code", names, "coalesce(e.valueCoding.display, e.valueCoding.code)")
        joined = f"array_to_string(list_sort(list_transform({codes}, lambda e: {each})), '; ')"
        return f"coalesce(nullif({joined}, ''), {category(written, names, written)})"

    records.create(
        "persons",
        f"""SELECT id AS patient, nullif(trim(birthDate), '') AS birth, {sex("gender")} AS sex,
            {told("race", RACES)} AS race, {told("ethnicity", ETHNICITIES)} AS ethnicity FROM Patient""",
    )
    return finished_persons(records)


def _patient() -> str:
    """Returns SQL for the patient that a resource is about; NULL if it is about a group or a device."""
    reference = "subject.reference"
    found = f"regexp_extract({reference}, '(?:^|/)Patient/([^/]+)|^urn:uuid:(.+)$', ['a', 'b'])"
    return f"nullif(coalesce(nullif({found}.a, ''), {found}.b), '')"


def _leave_untrue_out(records: Records) -> None:
    listed = ", ".join(literal(status) for status in UNTRUE)
    records.left_out("rows", f"status IN ({listed})", "are entered in error, refuted, cancelled or not done")


def _tidy_times(records: Records, table: str) -> None:
    """Writes times in one way: as dates if none has a clock, else with a clock, in UTC where the zone is known.

    A year or a month counts as its last day, on which it is known for sure.
    """
    day = """CASE WHEN regexp_full_match(time, '[0-9]{4}') THEN time || '-12-31'
             WHEN regexp_full_match(time, '[0-9]{4}-[0-9]{2}')
             THEN CAST(last_day(TRY_CAST(time || '-01' AS DATE)) AS VARCHAR) ELSE time END"""
    wrong = records.rows(
        f"""SELECT patient, time, count(*) OVER () FROM {table}
            WHERE time IS NOT NULL AND TRY_CAST({day} AS TIMESTAMP) IS NULL LIMIT 3"""
    )
    if wrong:
        named = ", ".join(f"'{time}' (patient '{patient}')" for patient, time, _ in wrong)
        raise DataError(f"{records.place}: {wrong[0][2]} times are no dates of FHIR: {named}. Correct them.")
    n = records.count(table, "length(time) < 8")
    if n:
        records.notes.append(f"{n} times are a year or a month alone, and count as its last day")
    has_clock, has_zone = "contains(time, ':')", r"regexp_matches(time, ':.*(Z|z|[+-][0-9]{2}:?[0-9]{2})$')"
    clocks, zones = records.count(table, has_clock), records.count(table, has_zone)
    if 0 < zones < clocks:
        without = records.rows(f"SELECT patient, time FROM {table} WHERE {has_clock} AND NOT {has_zone} LIMIT 1")[0]
        raise DataError(
            f"{records.place}: {clocks - zones} of {clocks} times have no time zone, such as '{without[1]}' (patient "
            f"'{without[0]}'). Write all of them with one."
        )
    written, moment = day, f"CAST({day} AS TIMESTAMP)"
    if zones:
        moment = f"CASE WHEN {has_zone} THEN make_timestamp(epoch_us(CAST({day} AS TIMESTAMPTZ))) ELSE {moment} END"
    if clocks:
        written = f"CAST({moment} AS VARCHAR)" + (" || 'Z'" if zones else "")
    records.connection.execute(f"UPDATE {table} SET time = {written} WHERE time IS NOT NULL")


def _files(path: Path) -> dict[str, list[Path]]:
    """Returns the files of each type of resource, by their names."""
    found: dict[str, list[Path]] = {}
    for file in sorted(path.rglob("*.ndjson*")) if path.is_dir() else [path]:
        match = FILE.search(file.name)
        if match:
            found.setdefault(match.group(1), []).append(file)
    return found


def _open(records: Records, path: Path, resource: str) -> None:
    """Makes the table of a type of resource; a DataError names the file and the line that cannot be read."""
    found = _files(path)
    if resource not in found:
        raise DataError(
            f"{path} has no file of resource {resource}, such as {resource}.ndjson.{did_you_mean(resource, found)}"
        )
    columns = {"resourceType": "VARCHAR", "id": "VARCHAR"} | FIELDS[resource]
    kinds = ", ".join(f"{name}: {literal(kind)}" for name, kind in columns.items())
    listed = ", ".join(literal(str(file)) for file in found[resource])
    query = f"SELECT * FROM read_ndjson([{listed}], columns = {{{kinds}}}, maximum_object_size = 1073741824)"
    try:
        records.create(resource, query)
    except duckdb.Error as error:
        raise DataError(_broken_line(found[resource]) or f"{path}: {str(error).splitlines()[0]}") from None
    if records.count(resource, f"resourceType IS DISTINCT FROM '{resource}'"):
        raise DataError(_broken_line(found[resource], resource) or f"{path}: not all resources are {resource}.")


def _broken_line(files: Sequence[Path], resource: str | None = None) -> str | None:
    """Describes the first line that is no JSON object, or, if one is given, no such resource."""
    for file in files:
        try:
            with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
                found = (_wrong_line(f"{file}, line {number}", line, resource) for number, line in enumerate(lines, 1))
                problem = next((text for text in found if text is not None), None)
        except (OSError, EOFError, zlib.error) as error:
            return f"{file} is damaged or cut off ({error}); copy or export it again."
        if problem is not None:
            return problem
    return None


def _wrong_line(where: str, line: bytes, resource: str | None) -> str | None:
    if not line.strip():
        return None
    try:
        found = json.loads(line)
    except ValueError as error:
        text = f"is no JSON ({error}): {line[:60].decode(errors='replace').strip()!r}"
        return f"{where} {text}. Export the file again, or remove the line."
    kind = found.get("resourceType") if isinstance(found, dict) else None
    if kind is not None and resource in (None, kind):
        return None
    what = f"a resource {shown([kind])}" if kind else "no resource (it has no `resourceType`)"
    return f"{where} holds {what}, expected {resource or 'one'}. Move it to a file of its own type."
