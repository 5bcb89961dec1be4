"""FHIR exports: what is read, what is noted, and what is refused with the repair."""

import base64
import contextlib
import gzip
import json
import re

import pytest

from multimodn.data.sources import read_source
from multimodn.errors import DataError, StudyError
from multimodn.study.sources import SourceSpec
from multimodn.study.study import Study

LOINC, SNOMED, ICD = "http://loinc.org", "http://snomed.info/sct", "http://hl7.org/fhir/sid/icd-10-cm"


def coded(*codes, system=LOINC):
    return {"coding": [{"system": system, "code": code} for code in codes]}


def resource(kind, patient="Patient/p1", **given):
    return {"resourceType": kind, "subject": {"reference": patient}, **given}


def lab(value=1.5, time="2024-01-02T10:00:00Z", **given):
    return resource(
        "Observation", **{"code": coded("2160-0"), "effectiveDateTime": time, "valueQuantity": {"value": value}} | given
    )


def write(folder, **resources):
    for name, lines in resources.items():
        text = lines if isinstance(lines, str) else "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.ndjson").write_text(text)
    return folder


NOTES: list[str] = []


def read(folder, part, **options):
    NOTES.clear()
    spec = SourceSpec(fhir=folder.name, part=part, **options)
    return read_source(spec, folder.parent, "id", ["time"], ["code"], notes=NOTES)


@contextlib.contextmanager
def noted(match):
    yield
    assert re.search(match, "; ".join(NOTES)), NOTES


def test_references_of_all_forms(tmp_path):
    forms = ["Patient/p1", "https://fhir.example/r4/Patient/p1", "urn:uuid:p1", "Patient/p1/_history/2"]
    write(tmp_path, Observation=[lab() | {"subject": {"reference": form}} for form in forms])
    assert list(read(tmp_path, "measurement").index) == ["p1"] * 4


def test_groups_and_what_did_not_happen_are_counted(tmp_path):
    group = lab() | {"subject": {"reference": "Group/g1"}}
    write(tmp_path, Observation=[lab(), lab(status="entered-in-error"), group])
    with noted("1 of 3 rows are entered in error.*; .*1 of 2 rows are of no patient"):
        assert len(read(tmp_path, "measurement")) == 1


def test_times_of_all_zones_are_in_utc(tmp_path):
    times = ["2024-01-02T10:00:00+02:00", "2024-01-02T09:00:00.250Z", "2024-01-03"]
    write(tmp_path, Observation=[lab(time=time) for time in times])
    assert list(read(tmp_path, "measurement")["time"]) == [
        "2024-01-02 08:00:00Z",
        "2024-01-02 09:00:00.25Z",
        "2024-01-03 00:00:00Z",
    ]


def test_months_and_years_count_as_their_last_day(tmp_path):
    conditions = [
        resource("Condition", code=coded("I10", system=ICD), onsetDateTime=time) for time in ("2023", "2024-02")
    ]
    write(tmp_path, Condition=conditions)
    with noted("2 times are a year or a month alone, and count as its last day"):
        assert list(read(tmp_path, "condition")["time"]) == ["2023-12-31", "2024-02-29"]


def test_a_condition_counts_from_when_it_was_recorded(tmp_path):
    given = {"code": coded("I10", system=ICD), "onsetDateTime": "2010-01-01", "recordedDate": "2024-01-01"}
    write(tmp_path, Condition=[resource("Condition", **given)])
    assert list(read(tmp_path, "condition")["time"]) == ["2024-01-01"]


def test_the_vocabulary_chooses_among_several_codes(tmp_path):
    code = {"coding": [*coded("38341003", system=SNOMED)["coding"], *coded("I10", system=ICD)["coding"]]}
    write(tmp_path, Condition=[resource("Condition", code=code, recordedDate="2024-01-01")])
    with noted("1 rows have several codes, of which the first counts; `vocabulary` names"):
        assert list(read(tmp_path, "condition")["code"]) == ["38341003"]
    assert list(read(tmp_path, "condition", vocabulary="ICD10CM")["code"]) == ["I10"]
    assert list(read(tmp_path, "condition", vocabulary=ICD)["code"]) == ["I10"]
    with pytest.raises(DataError, match=r"no code is of the `vocabulary` 'ICD9CM'.*Valid: ICD10CM, SNOMED"):
        read(tmp_path, "condition", vocabulary="ICD9CM")


def test_components_and_whole_numbers_are_measurements(tmp_path):
    parts = [
        {"code": coded(code), "valueQuantity": {"value": value}} for code, value in (("8480-6", 120), ("8462-4", 80))
    ]
    panel = resource("Observation", code=coded("85354-9"), component=parts, effectiveDateTime="2024-01-02")
    score = resource("Observation", code=coded("9269-2"), valueInteger=15, effectiveDateTime="2024-01-02")
    write(tmp_path, Observation=[panel, score])
    table = read(tmp_path, "measurement")
    assert dict(zip(table["variable"], table["value"], strict=True)) == {"8462-4": 80, "8480-6": 120, "9269-2": 15}


def test_observations_without_a_number_and_bounds_are_counted(tmp_path):
    text = resource("Observation", code=coded("5778-6"), valueString="yellow", effectiveDateTime="2024-01-02")
    write(tmp_path, Observation=[lab(), text, lab(valueQuantity={"value": 0.5, "comparator": "<"})])
    with noted(r"1 of 3 rows have no number.*1 values are bounds, such as 2160-0 < 0\.5"):
        assert len(read(tmp_path, "measurement")) == 2


def test_drugs_by_reference(tmp_path):
    medication = {"resourceType": "Medication", "id": "m1", "code": coded("860975", system="http://snomed.info/sct")}
    order = resource("MedicationRequest", authoredOn="2024-01-02", medicationReference={"reference": "Medication/m1"})
    write(tmp_path, Medication=[medication], MedicationRequest=[order])
    assert list(read(tmp_path, "drug")["code"]) == ["860975"]


def test_notes_are_plain_text(tmp_path):
    def note(kind, **attachment):
        content = [{"attachment": {"contentType": kind, **attachment}}]
        return resource("DocumentReference", date="2024-01-02", content=content)

    data = base64.b64encode("Grüße".encode()).decode()
    write(
        tmp_path,
        DocumentReference=[
            note("text/plain", data=data), note("application/pdf", data=data), note("text/plain", url="Binary/1"),
        ],
    )  # fmt: skip
    match = r"1 of 3 rows are documents whose text is not in the file \(`data`\).*1 of 2 rows are .* not plain text"
    with noted(match):
        assert list(read(tmp_path, "note")["text"]) == ["Grüße"]


@pytest.mark.parametrize("data", ["@@@", base64.b64encode("Grüße".encode("cp1252")).decode()])
def test_a_note_that_is_no_text_is_named(tmp_path, data):
    content = [{"attachment": {"contentType": "text/plain", "data": data}}]
    write(tmp_path, DocumentReference=[resource("DocumentReference", date="2024-01-02", content=content)])
    with pytest.raises(
        DataError, match="of 1 documents is no text in UTF-8 as base64, first of patient 'p1', 2024-01-02"
    ):
        read(tmp_path, "note")


def test_a_file_that_is_cut_off_is_named(tmp_path):
    (tmp_path / "Observation.ndjson.gz").write_bytes(gzip.compress(json.dumps(lab()).encode())[:40])
    with pytest.raises(DataError, match=r"Observation.ndjson.gz is damaged or cut off .*; copy or export it again"):
        read(tmp_path, "measurement")


def test_compressed_files_and_files_of_other_resources(tmp_path):
    with gzip.open(tmp_path / "Observation.000.ndjson.gz", "wt") as file:
        file.write(json.dumps(lab()) + "\n\n")
    (tmp_path / "ObservationDefinition.ndjson").write_text("{")
    assert len(read(tmp_path, "measurement")) == 1


def test_patients_without_extensions_and_the_dead(tmp_path):
    people = [
        {"resourceType": "Patient", "id": "p1", "birthDate": "1950", "gender": "male", "deceasedBoolean": True},
        {"resourceType": "Patient", "id": "p2", "gender": "other", "deceasedDateTime": "2024-01-02"},
        {"resourceType": "Patient", "id": "p3", "deceasedBoolean": False},
    ]
    write(tmp_path, Patient=people)
    with noted("1 of 3 births have no day"):
        person = read(tmp_path, "person")
    assert person["birth_date"].tolist()[0] == "1950-07-01"
    assert person["sex"].tolist()[:2] == ["male", "other"]
    assert person["race"].isna().all()
    assert read(tmp_path, "death")["died"].tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("resources", "part", "match"),
    [
        ({"Patient": []}, "measurement", "no file of resource Observation, such as Observation.ndjson. Valid: Patient"),
        ({"Observations": [lab()]}, "measurement", "Did you mean 'Observations'"),
        (
            {"Observation": json.dumps(lab()) + '\n{"resourceType": "Observation", "code"\n'}, "measurement",
            r"Observation.ndjson, line 2 is no JSON .*Export the file again, or remove the line",
        ),
        (
            {"Observation": [lab(), resource("Condition")]}, "measurement",
            r"Observation.ndjson, line 2 holds a resource Condition, expected Observation. Move it",
        ),
        ({"Observation": [lab(), {"a": 1}]}, "measurement", r"line 2 holds no resource \(it has no `resourceType`\)"),
        ({"Observation": [lab(), [1]]}, "measurement", r"Observation.ndjson, line 2 holds no resource"),
        ({"Observation": [lab(value="high")]}, "measurement", r'Observation.ndjson", in line 1: .*"high"'),
        (
            {"Observation": [lab(), lab(time="02.01.2024")]}, "measurement",
            r"1 times are no dates of FHIR: '02.01.2024' \(patient 'p1'\). Correct them",
        ),
        (
            {"Observation": [lab(), lab(time="2024-01-02T10:00:00")]}, "measurement",
            r"1 of 2 times have no time zone, such as '2024-01-02T10:00:00' \(patient 'p1'\)",
        ),
        ({"Observation": []}, "measurement", "there are no rows"),
        ({"Patient": [{"resourceType": "Patient", "id": "p1", "birthDate": "May"}]}, "person",
         "births are no dates: 'May'"),
        (
            {"Observation": [lab(valueQuantity={"value": 1, "unit": unit}) for unit in ("mg/dL", "mg")]}, "measurement",
            r"1 variables have values in several units: '2160-0' \(mg, mg/dL\)",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_read_names_file_line_and_repair(tmp_path, resources, part, match):
    with pytest.raises(DataError, match=match):
        read(write(tmp_path, **resources), part)


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"fhir": "f"}, "`fhir` names no `part`; write `part:` and one of person, death, measurement"),
        ({"omop": "f", "part": "label"}, "`omop` has no part 'label'"),
        ({"meds": "f", "part": "drug"}, "MEDS does not say which codes are part 'drug'; write with what they begin"),
        ({"path": "a.csv", "part": "note"}, "`part` needs `meds`, `omop` or `fhir`"),
        ({"omop": "f", "part": "note", "vocabulary": "LOINC"}, "part 'note' has no codes"),
        ({"fhir": "f", "part": "drug", "codes": "id"}, "`codes` says which codes of a part of `omop`"),
        (
            {"meds": "f", "part": "measurement", "several_units": "split"},
            "`several_units` is used for `part: measurement`",
        ),
        ({"meds": "f", "fhir": "f", "part": "note"}, "give one of `path`, `query` and `files`"),
    ],
)
def test_keys_that_do_not_fit_are_refused(keys, match):
    data = {
        "name": "a",
        "cohort": {"patient": "id", "sources": {"a": keys}},
        "modalities": [{"name": "a", "kind": "table", "source": "a"}],
        "tasks": [{"name": "t", "kind": "binary", "source": "a", "target": "t", "positive": "1"}],
    }
    with pytest.raises(StudyError, match=match):
        Study.from_dict(data)


def test_the_same_part_of_other_records_and_a_table_of_them():
    spec = SourceSpec(omop="cdm", part="condition", vocabulary="ICD10CM", codes="source")
    other = spec.elsewhere("new/cdm.duckdb")
    assert other.model_dump() == {
        "omop": "new/cdm.duckdb",
        "part": "condition",
        "vocabulary": "ICD10CM",
        "codes": "source",
    }
    assert spec.elsewhere("new.csv").model_dump() == "new.csv"
