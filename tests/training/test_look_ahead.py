"""What lies after the moment of prediction reaches neither training nor predictions."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from multimodn import Cohort, MultiModN
from multimodn.errors import DataWarning
from multimodn.study.study import Study

START = pd.Timestamp("2022-03-01 09:00")


def write_tables(folder, n, later):
    """Tables of noise; in rows and dates from after the index the outcome, or, otherwise, anything else."""
    rng = np.random.default_rng(0)
    ids, dead = np.array([f"P{i:04d}" for i in range(n)]), rng.integers(0, 2, n)
    at = START + pd.to_timedelta(rng.integers(0, 500 * 24, n), unit="h")
    told = dead if later == "outcome" else np.random.default_rng(1).integers(0, 5, n)
    birth = at - pd.to_timedelta(rng.integers(20, 90, n) * 365, unit="D")
    last_seen = at + pd.to_timedelta(10 + 100 * told, unit="D")
    case = {"id": ids, "dead": dead, "at": at, "birth": birth, "last_seen": last_seen, "crp": rng.normal(size=n)}
    pd.DataFrame(case).to_csv(folder / "case.csv", index=False)
    who = np.repeat(np.arange(n), 4)
    before = at[who] - pd.to_timedelta(rng.integers(0, 300, len(who)), unit="h")
    labs = pd.DataFrame({"id": ids[who], "t": before, "variable": rng.choice(["hb", "na"], len(who))})
    labs["value"] = rng.normal(size=len(who)).round(3)
    after = {"id": ids, "t": at + pd.Timedelta(minutes=1), "variable": "hb", "value": 100.5 * told}
    if later == "others":
        after["variable"] = "troponin"
    pd.concat([labs, pd.DataFrame(after)]).sample(frac=1, random_state=0).to_csv(folder / "labs.csv", index=False)
    codes = labs[["id", "t"]].assign(code=rng.choice(["I10", "E11.9", "N18.3"], len(who)))
    coded = pd.DataFrame({"id": ids, "t": after["t"], "code": [f"Z{k:02d}" for k in told]})
    pd.concat([codes, coded]).to_csv(folder / "dx.csv", index=False)
    return pd.Series(dead, ids)


def study_of(folder, **training):
    recent = {"weight": "recency", "time": "t", "index": 0}
    return Study.from_dict(
        {
            "name": "ahead",
            "cohort": {"patient": "id", "sources": {name: f"{name}.csv" for name in ("case", "labs", "dx")}},
            "index": "at",
            "modalities": [
                {"name": "case", "kind": "table", "source": "case", "columns": {"all_but": ["dead"]}},
                {"name": "labs", "kind": "series", "source": "labs", "time": "t", "hidden_size": 8, "n_layers": 1},
                {"name": "dx", "kind": "codes", "source": "dx", **recent},
            ],
            "tasks": [{"name": "dead", "kind": "binary", "source": "case", "target": "dead", "positive": "1"}],
            "training": {"members": 1, "seed": 0, **training},
        },
        folder,
    )


def predictions(folder, n, later, **training):
    """Trains and predicts the test patients; returns predictions and outcomes."""
    folder.mkdir()
    dead = write_tables(folder, n, later)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        study = study_of(folder, **training)
        model = MultiModN(study)
        cohort = Cohort.load(study)
        model.fit(cohort)
        found = model.predict(cohort.subset(model.split.test))
    found = found[found["output"] == "probability"].set_index("patient") if "patient" in found else found
    return found["value"], dead


def test_whatever_comes_later_predictions_are_the_same_bit_for_bit(tmp_path):
    told, _ = predictions(tmp_path / "a", 80, "outcome", epochs=1, experts=["ridge"])
    others, _ = predictions(tmp_path / "b", 80, "others", epochs=1, experts=["ridge"])
    assert told.tolist() == others.tolist()
    assert told.nunique() > 5


@pytest.mark.slow
def test_a_planted_outcome_in_the_future_predicts_nothing(tmp_path):
    told, dead = predictions(tmp_path / "a", 6000, "outcome", epochs=10)
    assert abs(roc_auc_score(dead[told.index], told) - 0.5) < 0.04  # 1,200 patients: a standard error of .017
