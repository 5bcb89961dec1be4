"""The same patients as CSV, MEDS, OMOP and FHIR are the same tables and the same tensors, bit by bit."""

import warnings
from dataclasses import replace

import pandas as pd
import pytest
import torch

from multimodn import Cohort
from multimodn.base.ragged import Ragged
from multimodn.data.sources import read_source
from multimodn.errors import DataWarning
from multimodn.study.sources import SourceSpec
from multimodn.study.study import Study
from multimodn.training.build import build_model, prepare
from tests.data.ehr._hospital import CODES, PARTS, VOCABULARIES, hospital, write_csv, write_fhir, write_meds, write_omop

HOSPITAL = hospital()
FORMATS = {
    "meds": {"meds": "meds"},
    "omop": {"omop": "omop"},
    "omop of Parquet": {"omop": "parquet"},
    "omop of a database": {"omop": "cdm.duckdb"},
    "fhir": {"fhir": "fhir"},
}
EXACT = ["time", "variable", "died"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("hospital")
    write_csv(HOSPITAL, place / "csv")
    write_meds(HOSPITAL, place / "meds")
    write_omop(HOSPITAL, place / "omop")
    write_omop(HOSPITAL, place / "parquet", ".parquet")
    write_omop(HOSPITAL, place / "cdm.duckdb", ".duckdb")
    write_fhir(HOSPITAL, place / "fhir")
    return place


def source(name, part):
    if name == "csv":
        return {"path": f"csv/{part}.csv"}
    if name == "meds" and part == "label":
        return {"meds": "meds/labels", "part": "label"}
    if part == "label":
        return {"path": "zoned.csv" if name == "fhir" else "csv/label.csv"}
    vocabulary = {"vocabulary": VOCABULARIES[part]} if name == "meds" and part in VOCABULARIES else {}
    return {**FORMATS[name], "part": part, **vocabulary}


def study(folder, name):
    label = HOSPITAL["label"]
    label.assign(prediction_time=label["prediction_time"] + "Z").to_csv(folder / "zoned.csv", index=False)
    parts = [part for part in PARTS if part != "death"]
    kinds = {"person": "table", "measurement": "series", "note": "text"} | dict.fromkeys(CODES, "codes")
    options = {
        "measurement": {"columns": ["time", "variable", "value"]},
        "note": {"column": "text", "columns": ["text"], "window": {"time": "time"}},
    } | {part: {"time": "time", "weight": "recency", "index": 0, "levels": [3, "full"]} for part in CODES}
    return Study.from_dict(
        {
            "name": "same",
            "cohort": {"patient": "patient", "sources": {part: source(name, part) for part in [*parts, "label"]}},
            "modalities": [
                {"name": part, "kind": kinds[part], "source": part, **options.get(part, {})} for part in parts
            ],
            "tasks": [
                {"name": "ill", "kind": "binary", "source": "label", "target": "boolean_value", "positive": "True"}
            ],
            "index": "prediction_time",
        },
        folder,
    )


def load(study):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # what is cut by the index
        return Cohort.load(study)


@pytest.fixture(scope="module")
def expected(folder):
    return tensors(folder, "csv")


def tensors(folder, name):
    """Returns the cohort's hash and the prepared values of all modalities but texts, whose network takes seconds."""
    given = study(folder, name)
    cohort = load(given)
    found = {"hash": replace(cohort, targets={}).hash()}  # a CSV holds True as text
    del cohort.modalities["note"]
    data = given.to_dict()
    del data["order"]
    data["modalities"] = [each for each in data["modalities"] if each["name"] != "note"]
    without = Study.from_dict(data, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return found | vars(prepare(build_model(without, cohort, 0), cohort, labelled=True))


@pytest.mark.parametrize("name", ["meds", "omop", "fhir"])
def test_tensors_are_the_same_bits(folder, expected, name):
    found = tensors(folder, name)
    assert found["patients"].equals(expected["patients"])
    assert found["hash"] == expected["hash"]
    assert torch.equal(found["position"], expected["position"])
    assert set(found["values"]) == {"person", "measurement", "condition", "drug", "procedure"}
    for modality, values in expected["values"].items():
        ours, theirs = found["values"][modality], values
        if isinstance(theirs, Ragged):
            assert torch.equal(ours.lengths, theirs.lengths)
            ours, theirs = ours.items, theirs.items
        assert len(theirs)
        assert ours.numpy().tobytes() == theirs.numpy().tobytes()  # empty cells too
    assert torch.equal(found["targets"]["ill"], expected["targets"]["ill"])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("part", PARTS)
def test_tables_are_the_same(folder, expected, name, part):
    notes: list[str] = []
    ours = read_source(SourceSpec(**source(name, part)), folder, "patient", EXACT, ["code"], notes=notes)
    assert not notes
    theirs = read_source(SourceSpec(**source("csv", part)), folder, "patient", EXACT, ["code"])
    assert set(ours) == set(theirs)
    if part == "measurement" and name == "meds":
        assert ours["unit"].isna().all()  # MEDS has no column for it
        theirs = theirs.drop(columns="unit")
    if "time" in theirs:  # FHIR is in UTC, the others say no zone
        zone = "Z" if name == "fhir" else ""
        theirs["time"] = theirs["time"].map(lambda time: time + zone, na_action="ignore")
    assert ours.index.equals(theirs.index)
    for column in theirs:
        pd.testing.assert_series_equal(ours[column], theirs[column], check_dtype=False)
