"""OMOP as hospitals have it: what is read, what is noted, and what is refused with the repair."""

import contextlib
import gzip
import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodn.data.sources import read_source
from multimodn.errors import DataError
from multimodn.study.sources import SourceSpec

CONCEPT = 'concept_id\tconcept_code\tvocabulary_id\tconcept_name\n3000\t2160-0\tLOINC\tCreatinine 5" high\n'
CONCEPT += "3001\tI10\tICD10CM\tHypertension\n3002\tI10\tICD10\tHypertension\n3003\t38341003\tSNOMED\tHypertension\n"
CONCEPT += "8001\tmg/dL\tUCUM\tmg/dL\n8002\tumol/L\tUCUM\tumol/L\n"
LAB = "person_id,measurement_concept_id,measurement_date,value_as_number,unit_concept_id,operator_concept_id\n"
CONDITION = "person_id,condition_concept_id,condition_start_date,condition_source_concept_id,condition_source_value\n"
PERSON = "person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth\n"


@pytest.fixture
def cdm(tmp_path):
    def write(**tables):
        for name, text in {"CONCEPT": CONCEPT, **tables}.items():
            if text is not None:
                (tmp_path / f"{name}.csv").write_text(text)
        return tmp_path

    return write


NOTES: list[str] = []


def read(folder, part, **options):
    NOTES.clear()
    spec = SourceSpec(omop=folder.name, part=part, **options)
    return read_source(spec, folder.parent, "id", ["time"], ["code"], notes=NOTES)


@contextlib.contextmanager
def noted(match):
    yield
    assert re.search(match, "; ".join(NOTES)), NOTES


def test_numbers_of_persons_and_concepts_may_have_a_point(cdm):
    folder = cdm(measurement=LAB + "12.0,3000.0,2024-01-02,1.5,8001.0,\n12,3000,2024-01-03,2,8001,4172703\n")
    table = read(folder, "measurement")
    assert list(table.index) == ["12", "12"]
    assert list(table["variable"]) == ["2160-0"] * 2
    assert list(table["time"]) == ["2024-01-02 00:00:00", "2024-01-03 00:00:00"]
    assert list(table["unit"]) == ["mg/dL"] * 2


def test_upper_case_columns_gzip_and_folders_of_parts(tmp_path):
    (tmp_path / "concept.csv").write_text(CONCEPT)
    (tmp_path / "measurement").mkdir()
    for k in range(2):
        with gzip.open(tmp_path / "measurement" / f"part{k}.csv.gz", "wt") as file:
            file.write(LAB.upper() + f"{k},3000,2024-01-02,1.5,8001,\n")
    assert list(read(tmp_path, "measurement").index) == ["0", "1"]


def test_a_clock_goes_before_a_date_and_a_date_fills_an_empty_clock(cdm):
    header = LAB.replace("\n", ",measurement_datetime\n")
    rows = "1,3000,2024-01-02,1,8001,,2024-01-02 07:30:00\n1,3000,2024-01-03,1,8001,,\n"
    assert list(read(cdm(measurement=header + rows), "measurement")["time"]) == [
        "2024-01-02 07:30:00",
        "2024-01-03 00:00:00",
    ]


def test_rows_without_number_or_code_are_counted(cdm):
    folder = cdm(measurement=LAB + "1,3000,2024-01-02,,8001,\n1,0,2024-01-02,3,8001,\n1,3000,2024-01-02,3,8001,\n")
    with noted(r"1 of 3 rows have no code \(concept 0; `codes: source`.*1 of 2 rows have no"):
        assert len(read(folder, "measurement")) == 1


def test_bounds_are_named(cdm):
    folder = cdm(measurement=LAB + "1,3000,2024-01-02,0.5,8001,4171756\n1,3000,2024-01-02,3,8001,\n")
    with noted(r"1 values are bounds, such as 2160-0 < 0\.5, and count as the bound"):
        assert len(read(folder, "measurement")) == 2


def test_several_units_of_a_variable_are_refused_split_or_ignored(cdm):
    folder = cdm(measurement=LAB + "1,3000,2024-01-02,1,8001,\n2,3000,2024-01-02,88,8002,\n3,3000,2024-01-02,1,,\n")
    with pytest.raises(
        DataError, match=r"'2160-0' \(mg/dL, no unit, umol/L\).*`several_units: split`.*`several_units: ignore`"
    ):
        read(folder, "measurement")
    split = read(folder, "measurement", several_units="split")
    assert list(split["variable"]) == ["2160-0 [mg/dL]", "2160-0 [umol/L]", "2160-0 [no unit]"]
    assert set(read(folder, "measurement", several_units="ignore")["variable"]) == {"2160-0"}


@pytest.mark.parametrize(
    ("codes", "expected"), [("standard", "38341003"), ("source", "I10"), ("id", "3003"), (None, "38341003")]
)
def test_codes_of_standard_concepts_of_the_source_or_their_numbers(cdm, codes, expected):
    folder = cdm(condition_occurrence=CONDITION + "1,3003,2024-01-02,3001,I10.0\n")
    assert list(read(folder, "condition", codes=codes)["code"]) == [expected]


def test_without_source_concept_the_source_value_counts(cdm):
    folder = cdm(CONCEPT=None, condition_occurrence=CONDITION + "1,3003,2024-01-02,0,I10.0\n")
    assert list(read(folder, "condition", codes="source")["code"]) == ["I10.0"]
    assert list(read(folder, "condition", codes="id")["code"]) == ["3003"]


def test_a_code_of_two_vocabularies_needs_the_vocabulary(cdm):
    folder = cdm(condition_occurrence=CONDITION + "1,3001,2024-01-02,,\n2,3002,2024-01-02,,\n")
    with pytest.raises(DataError, match=r"'I10' of ICD10 and ICD10CM. Name `vocabulary`"):
        read(folder, "condition")
    assert list(read(folder, "condition", vocabulary="ICD10CM").index) == ["1"]
    with pytest.raises(DataError, match=r"no code is of the `vocabulary` 'ICD10M'.*Did you mean 'ICD10"):
        read(folder, "condition", vocabulary="ICD10M")


@pytest.mark.parametrize(
    ("tables", "part", "match"),
    [
        ({}, "measurement", "has no table 'measurement'.*measurement.csv or measurement.parquet"),
        ({"mesurement": LAB}, "measurement", "has no table 'measurement'. Did you mean 'mesurement'"),
        (
            {"measurement": LAB.replace("value_as_number", "value_number") + "1,3000,2024-01-02,1,,\n"},
            "measurement", r"measurement.csv: table 'measurement' has no column 'value_as_number'. Did you mean",
        ),
        (
            {"measurement": LAB + "1,3000,2024-01-02,1,,\n1,99,2024-01-02,1,,\n2,99,2024-01-02,1,,\n"}, "measurement",
            r"1 concepts of column 'measurement_concept_id' are not in .*CONCEPT.csv: 99 \(2 rows\).*`codes: id`",
        ),
        ({"CONCEPT": None, "measurement": LAB + "1,3000,2024-01-02,1,,\n"}, "measurement",
         "no table 'concept'.*`codes: s"),
        (
            {"measurement": LAB + "1,3000,31.01.2024,1,,\n7,3000,2024-01-02,1,,\n"}, "measurement",
            r"measurement.csv: 1 cells of column 'measurement_date' are not a date .*'31.01.2024' \(patient '1'\)",
        ),
        (
            {"measurement": LAB + '1,3000,2024-01-02,1,,\n7,3000,2024-01-02,"1,5",,\n'}, "measurement",
            r"column 'value_as_number' are not a number: '1,5' \(patient '7'\). Correct them",
        ),
        ({"measurement": LAB + "1,3000,2024-01-02\n"}, "measurement",
         r"measurement.csv: .* Line: 2; .*Number of Columns: 6 Found: 3"),
        ({"measurement": LAB}, "measurement", "there are no rows"),
        (
            {"cdm_source": "cdm_version\nv6.0\n", "measurement": LAB}, "measurement",
            r"cdm_source.csv: `cdm_version` is v6.0; OMOP 5.3 and 5.4 are read",
        ),
        ({"person": PERSON + "1,8507,1950,13,1\n"}, "person", r"1 births are no dates: '1950-13-01' \(patient '1'\)"),
        ({"person": PERSON + "1,8507,fifty,,\n"}, "person", r"column 'year_of_birth' are not a whole number: 'fifty'"),
        ({"person": PERSON + "1,8507,1950,,\n"}, "death", "has no table 'death'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_names_table_column_and_repair(cdm, tables, part, match):
    with pytest.raises(DataError, match=match):
        read(cdm(**tables), part)


def test_a_table_that_is_there_twice_is_refused(cdm):
    folder = cdm(measurement=LAB, MEASUREMENT=LAB)
    with pytest.raises(DataError, match="holds the table 'measurement' twice"):
        read(folder, "measurement")


def test_a_birth_without_a_day_is_noted(cdm):
    folder = cdm(person=PERSON + "1,8507,1950,,\n2,8532,1960,3,\n3,8551,1970,4,5\n")
    with noted("2 of 3 births have no day: the middle of their month or year counts"):
        table = read(folder, "person")
    assert list(table["birth_date"]) == ["1950-07-01", "1960-03-15", "1970-04-05"]
    assert list(table["sex"]) == ["male", "female", "8551"]


def test_the_key_must_not_be_called_like_a_column(cdm):
    folder = cdm(measurement=LAB + "1,3000,2024-01-02,1,8001,\n")
    spec = SourceSpec(omop=folder.name, part="measurement")
    with pytest.raises(DataError, match="key column 'time' is called like a column of part 'measurement'"):
        read_source(spec, folder.parent, "time")


def test_a_damaged_database_is_named(tmp_path):
    (tmp_path / "cdm.duckdb").write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match=r"cdm.duckdb, part 'death', cannot be read"):
        read_source(SourceSpec(omop="cdm.duckdb", part="death"), tmp_path, "id")
    with pytest.raises(DataError, match=r"cdm.duck does not exist. Did you mean 'cdm.duckdb'"):
        read_source(SourceSpec(omop="cdm.duck", part="death"), tmp_path, "id")


@settings(max_examples=2)
@given(
    rows=st.lists(
        st.tuples(st.integers(1, 10**9), st.floats(-1e6, 1e6, width=32), st.datetimes()), min_size=1, max_size=8
    )
)
def test_csv_and_parquet_are_the_same_table(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("cdm")
    rows = [(person, value, time.replace(year=1900 + time.year % 200)) for person, value, time in rows]
    table = pd.DataFrame(rows, columns=["person_id", "value_as_number", "measurement_datetime"])
    table = table.assign(measurement_concept_id=3000, measurement_date=table["measurement_datetime"].dt.date)
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "concept.csv").write_text(CONCEPT)
    table.to_csv(folder / "a" / "measurement.csv", index=False)
    table.to_parquet(folder / "b" / "measurement.parquet", index=False)
    ours, theirs = (read(folder / name, "measurement") for name in ("a", "b"))
    pd.testing.assert_frame_equal(ours, theirs)
    assert sorted(ours.index) == sorted(str(person) for person, _, _ in rows)
