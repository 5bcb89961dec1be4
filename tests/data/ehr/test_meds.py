"""MEDS: parts, labels, and what is refused with the repair."""

import contextlib
import json
import re

import pandas as pd
import pytest

from multimodn.data.sources import read_source
from multimodn.errors import DataError
from multimodn.study.sources import SourceSpec

EVENTS = [
    (1, "1950-01-02", "MEDS_BIRTH", None, None),
    (1, None, "Gender/F", None, None),
    (1, None, "RACE//WHITE", None, None),
    (1, "2024-01-02 10:00", "LOINC//2160-0", 1.5, None),
    (1, "2024-01-02 10:00", "LAB//51265//K/uL", 250.0, None),
    (1, "2024-01-03 10:00", "DIAGNOSIS//ICD10CM//I10", None, None),
    (2, "2024-01-03 10:00", "DRUG//RxNorm//860975", 500.0, None),
    (2, "2024-01-03 10:00", "NOTE", None, "short of breath"),
    (2, "2024-02-03 10:00", "MEDS_DEATH", None, None),
]
COLUMNS = ["subject_id", "time", "code", "numeric_value", "text_value"]


def write(folder, events=EVENTS, columns=COLUMNS, version=None):
    table = pd.DataFrame(events, columns=COLUMNS)
    table["time"] = pd.to_datetime(table["time"], format="mixed")
    (folder / "data").mkdir(exist_ok=True)
    (folder / "metadata").mkdir(exist_ok=True)
    table.set_axis(columns, axis=1).to_parquet(folder / "data" / "0.parquet", index=False)
    if version is not None:
        (folder / "metadata" / "dataset.json").write_text(version)
    return folder


NOTES: list[str] = []


def read(folder, part, **options):
    NOTES.clear()
    spec = SourceSpec(meds=folder.name, part=part, **options)
    return read_source(spec, folder.parent, "id", ["time"], ["code"], notes=NOTES)


@contextlib.contextmanager
def noted(match):
    yield
    assert re.search(match, "; ".join(NOTES)), NOTES


def test_parts(tmp_path):
    folder = write(tmp_path, version=json.dumps({"meds_version": "0.3.3"}))
    person = read(folder, "person")
    assert person.loc["1"].tolist()[:3] == ["1950-01-02", "female", "White"]
    assert person.loc["2"].isna().all()
    assert read(folder, "measurement")["variable"].tolist() == [
        "LAB//51265//K/uL",
        "LOINC//2160-0",
        "DRUG//RxNorm//860975",
    ]
    assert read(folder, "code")["code"].tolist() == ["DIAGNOSIS//ICD10CM//I10"]
    assert read(folder, "note")["text"].tolist() == ["short of breath"]
    assert read(folder, "death")["died"].tolist() == [0, 1]
    assert read(folder, "death")["time"].tolist()[1] == "2024-02-03 10:00:00"


@pytest.mark.parametrize(
    ("part", "vocabulary", "expected"),
    [
        ("condition", "DIAGNOSIS//ICD10CM", ["I10"]),
        ("condition", "DIAGNOSIS", ["ICD10CM//I10"]),
        ("drug", "DRUG//RxNorm//", ["860975"]),  # a dose is a number, and the drug a code
    ],
)
def test_the_beginning_of_codes_is_cut_off(tmp_path, part, vocabulary, expected):
    assert read(write(tmp_path), part, vocabulary=vocabulary)["code"].tolist() == expected


def test_labels_are_read_with_their_moments(tmp_path):
    (tmp_path / "labels").mkdir()
    for k in range(2):
        pd.DataFrame({
            "subject_id": [k, k], "prediction_time": pd.to_datetime(["2024-01-01 10:00", "2024-01-02 00:00"]),
            "boolean_value": [True, False], "integer_value": [None, None],
        }).to_parquet(tmp_path / "labels" / f"{k}.parquet")  # fmt: skip
    spec = SourceSpec(meds="labels", part="label")
    table = read_source(spec, tmp_path, "id", ["prediction_time", "boolean_value"])
    assert list(table) == ["prediction_time", "boolean_value"]
    assert list(table.index) == ["0", "0", "1", "1"]
    assert table["prediction_time"].tolist()[:2] == ["2024-01-01 10:00:00", "2024-01-02 00:00:00"]
    assert table["boolean_value"].tolist() == [True, False, True, False]


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"holds no .parquet file; name the folder in which `data` is"):
        read(tmp_path, "measurement")
    write(tmp_path, version='{"meds_version": "0.1.2"}')
    with pytest.raises(DataError, match=r"dataset.json: `meds_version` is 0.1.2; MEDS 0.3 and 0.4 are read"):
        read(tmp_path, "measurement")
    write(tmp_path, version="{")
    with pytest.raises(DataError, match=r"dataset.json is no JSON object"):
        read(tmp_path, "measurement")
    write(tmp_path, version="{}", columns=["patient_id", *COLUMNS[1:]])
    with pytest.raises(DataError, match=r"no column 'subject_id'.*It looks like MEDS before 0.3; convert it"):
        read(tmp_path, "person")
    write(tmp_path, columns=[*COLUMNS[:3], "numericvalue", "text_value"])
    with pytest.raises(DataError, match=r"no column 'numeric_value'. Did you mean 'numericvalue'"):
        read(tmp_path, "measurement")
    write(tmp_path)
    with pytest.raises(DataError, match=r"no code is of the `vocabulary` 'LOIN'. Did you mean 'LOINC'"):
        read(tmp_path, "measurement", vocabulary="LOIN")
    write(tmp_path, events=[*EVENTS, (1, None, "GENDER//M", None, None)])
    with pytest.raises(DataError, match=r"several values of sex: patient '1' \(female and male\)"):
        read(tmp_path, "person")
    (tmp_path / "data" / "0.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(DataError, match=r"part 'person', cannot be read: .*0.parquet"):
        read(tmp_path, "person")


def test_labels_without_values_are_refused(tmp_path):
    pd.DataFrame(
        {"subject_id": [1], "prediction_time": [pd.Timestamp("2024-01-01")], "boolean_value": [None]}
    ).to_parquet(tmp_path / "labels.parquet")
    with pytest.raises(DataError, match=r"has no label: none of the columns boolean_value, .* is filled"):
        read_source(SourceSpec(meds="labels.parquet", part="label"), tmp_path, "id")


def test_a_number_that_is_none_is_counted(tmp_path):
    folder = write(tmp_path, events=[*EVENTS, (1, "2024-01-02", "LOINC//2160-0", float("inf"), None)])
    table = read(folder, "measurement", vocabulary="LOINC")
    assert len(table) == 2  # the check of infinite numbers names it later
    with noted("are of no patient"):
        read(write(tmp_path, events=[*EVENTS, (None, "2024-01-02", "LOINC//1-1", 1.0, None)]), "measurement")
