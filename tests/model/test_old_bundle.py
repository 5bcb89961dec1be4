"""A bundle written by version 0.1.0, before the packages were ordered, still loads and predicts the same."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from multimodn import Cohort, DataWarning, MultiModN

FOLDER = Path(__file__).parent / "old_bundle"
PATIENTS = pd.read_csv(FOLDER / "predictions.csv")["patient"].unique().tolist()


@pytest.fixture(scope="module")
def loaded():
    model = MultiModN.load(FOLDER / "bundle")
    with pytest.warns(DataWarning, match="nearly tells"):
        return model, model.prepare(Cohort.load(model.study))


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("predictions", lambda model, patients: model.predict(patients)),
        ("trajectory", lambda model, patients: model.trajectory(patients)),
        ("contributions", lambda model, patients: model.contributions(patients)),
        ("interactions", lambda model, patients: model.explain.interactions(patients)),
        ("next", lambda model, patients: model.explain.next(patients)),
        ("conformal", lambda model, patients: model.conformal.predict(patients)),
    ],
)
def test_answers_are_those_of_the_version_that_wrote_it(loaded, name, ask):
    answer = pd.DataFrame(ask(*loaded))
    answer = answer[answer.index.isin(PATIENTS)]
    expected = pd.read_csv(FOLDER / f"{name}.csv", index_col="patient", keep_default_na=name != "trajectory")
    written = json.loads((FOLDER / "processor.json").read_text())
    same = written == {"capability": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__}
    for column, values in expected.items():
        given = answer[column]
        if pd.api.types.is_numeric_dtype(values.dtype) and values.dtype != bool:
            exact = {"rtol": 0.0, "atol": 0.0} if same else {"rtol": 1e-4, "atol": 1e-5}
            pd.testing.assert_series_equal(
                given.astype("float64"), values.astype("float64"), check_names=False, check_index_type=False, **exact
            )
        else:
            assert given.astype(str).tolist() == values.astype(str).tolist(), column
