"""`exclude_for`: a modality that tells a task's target is hidden from that task, in the study file and all the way."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from multimodn import Cohort, MultiModN, Study
from multimodn.errors import DataError, StudyError
from multimodn.evaluate.baselines.fusion_networks import fit_p_fusion
from multimodn.evaluate.baselines.ridge import fit_early_concat, fit_late_ridge, fit_xgboost
from multimodn.evaluate.crossval.arms import as_arm
from tests._cohorts import make_cohort, make_study, study_dict


def modalities(**excluded):
    return [m | {"exclude_for": excluded.get(m["name"], [])} for m in study_dict()["modalities"]]


@pytest.fixture(scope="module")
def cohort():
    return make_cohort()


@pytest.fixture(scope="module")
def model(cohort):
    study = make_study(modalities=modalities(labs=["death"], image=["size"]), training={"members": 2})
    return MultiModN(study).fit(cohort)


def test_a_hidden_modality_changes_no_prediction_of_the_task(model, cohort):
    other = dataclasses.replace(cohort, modalities=cohort.modalities | {"labs": cohort.modalities["labs"] * -2 + 1})
    before, after = (
        model.predict(each).set_index(["task", "output"], append=True)["value"] for each in (cohort, other)
    )
    changed = (before != after).groupby("task").any()
    assert changed.to_dict() == {"death": False, "size": True, "survival": True}


def test_tables_do_not_show_steps_that_a_task_does_not_take(model, cohort):
    assert set(model.contributions(cohort).query("task == 'death'")["modality"]) == {"image"}
    assert set(model.trajectory(cohort).query("task == 'death'")["modality"]) == {"", "image"}
    used = model.predict(cohort).groupby("task")["n_modalities"].max()
    assert used.to_dict() == {"death": 1, "size": 1, "survival": 2}


def test_contributions_still_add_up(model, cohort):
    shares = model.contributions(cohort)
    keys = ["task", "output"]
    summed = shares.groupby([shares.index, *keys])["contribution"].sum()
    ends = shares.groupby([shares.index, *keys])[["prior", "prediction"]].first()
    np.testing.assert_allclose(summed, ends["prediction"] - ends["prior"], atol=1e-6)


def test_it_survives_saving_and_loading(model, cohort, tmp_path):
    loaded = MultiModN.load(model.save(tmp_path / "bundle"))
    pd.testing.assert_frame_equal(loaded.predict(cohort), model.predict(cohort))
    assert loaded.study.modalities[0].exclude_for == ["death"]


def test_a_target_may_be_an_input_of_other_tasks(tmp_path):
    (tmp_path / "all.csv").write_text(
        "id,grade,age,died\n" + "".join(f"{i},{i % 3},{40 + i},{i % 2}\n" for i in range(30))
    )
    data = {
        "name": "both",
        "cohort": {"patient": "id", "sources": {"all": "all.csv"}},
        "modalities": [
            {"name": "age", "kind": "table", "source": "all", "columns": ["age"]},
            {"name": "grading", "kind": "table", "source": "all", "columns": ["grade"], "exclude_for": ["grade"]},
        ],
        "tasks": [
            {"name": "grade", "kind": "multiclass", "source": "all", "target": "grade"},
            {"name": "death", "kind": "binary", "source": "all", "target": "died"},
        ],
    }
    assert list(Cohort.load(Study.from_dict(data, tmp_path)).modalities) == ["age", "grading"]
    data["modalities"][1].pop("exclude_for")
    with pytest.raises(DataError, match=r"'grade' \(a target of task 'grade'\).*exclude_for"):
        Cohort.load(Study.from_dict(data, tmp_path))


def test_an_unknown_task_is_named():
    with pytest.raises(StudyError, match=r"excludes itself for an unknown task 'deaht'. Did you mean 'death'"):
        make_study(modalities=modalities(labs=["deaht"]))


def test_a_task_needs_some_modality():
    with pytest.raises(StudyError, match="every modality is excluded for 'death'"):
        make_study(modalities=modalities(labs=["death"], image=["death"]))


@pytest.mark.parametrize("fit", [fit_late_ridge, fit_early_concat, fit_xgboost])
def test_baselines_do_not_see_it_either(cohort, fit):
    study = make_study(modalities=modalities(labs=["death"]))
    other = dataclasses.replace(cohort, modalities=cohort.modalities | {"labs": cohort.modalities["labs"] * -2 + 1})
    one, two = (as_arm(fit, without=("late_ridge_mean",))(study, each, each, 0) for each in (cohort, other))
    for arm in set(one) - {"single:labs"}:
        np.testing.assert_array_equal(one[arm]["death"], two[arm]["death"])
    assert "death" not in one.get("single:labs", {})


def test_an_arm_that_cannot_hide_it_says_so(cohort):
    with pytest.raises(StudyError, match="Arm 'p_fusion' shows every task every modality, but labs must be hidden"):
        fit_p_fusion(make_study(modalities=modalities(labs=["death"])), cohort, 0)


def test_repeated_readings_share_one_encoder_and_show_each_step(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(f"p{i:02d}", day, rng.normal()) for i in range(40) for day in range(1 + i % 3)]
    visits = pd.DataFrame(rows, columns=["id", "day", "crp"])
    visits.to_csv(tmp_path / "visits.csv", index=False)
    targets = pd.DataFrame({"id": [f"p{i:02d}" for i in range(40)], "status": rng.integers(0, 2, 40)})
    targets.to_csv(tmp_path / "outcome.csv", index=False)
    labs = {"name": "labs", "kind": "table", "source": "visits", "repeats": {"by": "day", "most": 3}}
    data = study_dict(
        modalities=[labs],
        tasks=[{"name": "death", "kind": "binary", "source": "outcome", "target": "status"}],
        cohort={"patient": "id", "sources": {"visits": "visits.csv", "outcome": "outcome.csv"}},
    )
    model = MultiModN(Study.from_dict(data, tmp_path)).fit()
    encoders = list(model.trained.ensemble.first.encoders.values())
    assert encoders[0] is encoders[1] is encoders[2]
    steps = model.trajectory().query("output == 'probability'")
    assert steps.loc["p02", "modality"].tolist() == ["", "labs@1", "labs@2", "labs@3"]
    assert steps.loc[["p00"], "modality"].tolist() == ["", "labs@1"]
    backwards = model.predict(order=["labs@3", "labs@2", "labs@1"])
    assert backwards["n_modalities"].max() == 3
    pd.testing.assert_frame_equal(model.predict(order=["labs"]), model.predict())
    loaded = MultiModN.load(model.save(tmp_path / "bundle"))
    pd.testing.assert_frame_equal(loaded.predict(), model.predict())
    assert len(list(loaded.trained.ensemble.first.update.projections)) == 1
