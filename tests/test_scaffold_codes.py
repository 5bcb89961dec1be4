"""`multimodn init` proposes the kind `codes` for tables of codes, and for no others."""

import pandas as pd
import pytest
import yaml

from multimodn import Cohort
from multimodn.scaffold.code_tables import code_column
from multimodn.scaffold.write_study import write_study
from multimodn.study.study import Study
from tests.encoders._code_cases import diagnoses, lists

ATC = ["C09AA05", "C07AB02", "A10BA02", "N02BE01"]


def table(cells, name="x", patients=None):
    return pd.DataFrame({name: cells}, index=patients or [f"P{i % 3}" for i in range(len(cells))])


@pytest.mark.parametrize(
    ("cells", "name", "system"),
    [
        (["I10", "E11.9", "N18", "I50.0-"], "x", "ICD-10"),
        (["i10", "e11.9", "n18", "g63.2*"], "x", "ICD-10"),
        (ATC, "drug", "ATC"),
        (["250.00", "401.9", "V45.81", "410.01"], "x", "ICD-9"),
        (["5-123.1", "8-980.20", "1-620.00", "5-511.11"], "x", "OPS"),
        ([73211009, 38341003, 44054006, 22298006], "snomed_code", "codes of digits"),
    ],
)
def test_rows_of_codes_are_recognised(cells, name, system):
    found = code_column(table(cells, name))
    assert (found.name, found.system, found.are_lists) == (name, system, False)


@pytest.mark.parametrize(
    ("cells", "name"),
    [
        (["larynx", "oral", "pharynx", "oral"], "site"),
        (["T1", "T2", "T4a", "N0"], "stage"),
        (["T1a", "T2b", "T4a", "T1b"], "stage"),
        (["P01", "P02", "P03", "P04"], "well"),
        ([1.5, 2.5, 3.5, 4.5], "code"),
        ([73211009, 38341003, 44054006, 22298006], "price"),
        (["I10", "I10", "E11", "E11"], "code"),
    ],
)
def test_other_columns_are_none(cells, name):
    assert code_column(table(cells, name)) is None


def test_a_single_code_of_each_patient_is_a_category():
    assert code_column(table(["I10", "E11.9", "N18", "I50.0"], patients=list("abcd"))) is None


@pytest.mark.parametrize(("make", "column"), [(diagnoses, "code"), (lists, "codes")])
def test_the_study_that_is_written_loads(tmp_path, make, column):
    frame = make()
    patients = frame.index.unique()
    column = f"{column}: # of ICD"  # which YAML would read as something else
    frame = frame.rename(columns={frame.columns[0]: column})
    frame.rename_axis("id").reset_index().to_csv(tmp_path / "dx.csv", index=False)
    outcome = pd.DataFrame({"id": patients, "age": range(len(patients)), "dead": [0, 1] * (len(patients) // 2)})
    outcome.to_csv(tmp_path / "case.csv", index=False)
    write_study([tmp_path / "case.csv", tmp_path / "dx.csv"], "id", ["dead"], tmp_path / "study.yaml")
    written = yaml.safe_load((tmp_path / "study.yaml").read_text())
    modality = next(m for m in written["modalities"] if m["name"] == "dx")
    assert (modality["kind"], modality["code"], modality["levels"]) == ("codes", column, [1, 3, "full"])
    cohort = Cohort.load(Study.load(tmp_path / "study.yaml"))
    assert cohort.presence["dx"].all()
