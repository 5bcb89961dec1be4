"""The study of heart disease: hospitals, and what they lack."""

import numpy as np
import pandas as pd
import pytest

from multimodn import Cohort, DataWarning, Study
from multimodn.evaluate.crossval.crossval import cross_predict
from tests.experiments._modules import EXPERIMENTS, scripts

COLUMNS = "patient,age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal,num"
ROWS = {
    "cleveland": [
        "cl1,63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0",
        "cl2,67,1,4,0,286,0,2,108,1,1.5,2,3,3,2",
    ],
    "hungarian": ["hu1,28,1,2,130,132,0,2,185,0,0,,,,0"],
    "switzerland": ["sw1,32,1,1,95,0,,0,127,0,.7,1,,7,1"],
    "va": ["va1,63,1,4,,0,,,,,,,,,4"],
}


@pytest.fixture(scope="module")
def heart():
    with scripts("heart", "icu") as modules:
        yield modules


@pytest.fixture
def data(tmp_path):
    for hospital, rows in ROWS.items():
        (tmp_path / f"{hospital}.csv").write_text("\n".join([COLUMNS, *rows]))
    return tmp_path


def test_who_has_no_column_of_a_modality_lacks_it(heart, data):
    tables = heart["hospitals"].load_tables(data)
    assert {name: list(table.index) for name, table in tables.items()} == {
        "history": ["cl1", "cl2", "hu1", "sw1", "va1"],
        "resting": ["cl1", "cl2", "hu1", "sw1"],
        "exercise": ["cl1", "cl2", "hu1", "sw1"],
        "imaging": ["cl1", "cl2", "sw1"],
        "outcomes": ["cl1", "cl2", "hu1", "sw1", "va1"],
    }
    assert tables["outcomes"]["disease"].tolist() == [0, 1, 0, 1, 1]
    assert heart["hospitals"].hospital_of(data).to_dict()["sw1"] == "switzerland"


def test_a_cholesterol_or_blood_pressure_of_0_is_unknown_and_other_zeros_are_not(heart, data):
    tables = heart["hospitals"].load_tables(data)
    assert tables["resting"].loc["sw1"].isna().tolist() == [False, True, True, False]
    assert np.isnan(tables["resting"].loc["cl2", "trestbps"])
    assert tables["exercise"].loc["hu1", "oldpeak"] == tables["imaging"].loc["cl1", "ca"] == 0


def test_no_input_tells_hospital_or_outcome(heart, data):
    with pytest.warns(DataWarning, match="constant"):
        cohort = Cohort.load(
            Study.load(EXPERIMENTS / "heart" / "study.yaml"), sources=heart["hospitals"].load_tables(data)
        )
    columns = {column for frame in cohort.modalities.values() for column in frame}
    assert columns == set(COLUMNS.split(",")) - {"patient", "num"}


def test_each_hospital_is_scored_on_its_own(heart):
    ids = pd.Index([f"{hospital}{i}" for hospital in ("a", "b", "c") for i in range(6)])
    hospitals = pd.Series([name[0] for name in ids], ids)
    right = pd.Series(np.tile([0.0, 1.0], 9), ids)
    shown = right.where(hospitals != "b", 1 - right)  # what is seen tells the wrong outcome in one hospital
    table = pd.DataFrame({"oldpeak": shown})
    cohort = Cohort.from_frames({"exercise": table}, {"disease": pd.DataFrame({"disease": right})})
    whole = Study.load(EXPERIMENTS / "heart" / "study.yaml")
    study = whole.model_copy(update={"modalities": [m for m in whole.modalities if m.name == "exercise"]})

    def arm(study, training, test, seed):
        return {"plain": {"disease": test.modalities["exercise"].to_numpy()}}

    found = cross_predict(study, cohort, [arm], 3, 1, by="site", column=hospitals)
    table = heart["run"].by_hospital(found, heart["scores"].fold_scores(found), hospitals)
    assert table.to_dict("records") == [{"arm": "plain", "a": 1.0, "b": 0.0, "c": 1.0}]
