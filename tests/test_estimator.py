import numpy as np
import pandas as pd
import pytest
import torch

from multimodn import Cohort, DataWarning, MultiModN
from multimodn.errors import DataError, NotFittedError, StudyError
from multimodn.model import explanations, trained
from tests._cohorts import make_cohort, make_frames, make_study


@pytest.fixture(scope="module")
def cohort():
    return make_cohort()


@pytest.fixture(scope="module")
def model(cohort):
    return MultiModN(make_study()).fit(cohort)


def new_patients(**changes):
    tables = make_frames()[0] | changes
    return Cohort.from_frames(tables, patients=make_cohort().patients)


def values(frame):
    return frame["value"].to_numpy()


def test_predict_is_tidy(model, cohort):
    frame = model.predict(cohort)
    assert list(frame.columns) == ["task", "output", "value", "n_modalities"]
    assert frame.index.name == "patient"
    assert list(frame.index.unique()) == list(cohort.patients)
    assert list(dict.fromkeys(frame["task"])) == ["death", "size", "survival"]
    assert {"probability", "mean", "sd", "risk"} <= set(frame["output"])
    assert frame["value"].notna().all()
    used = frame.groupby(level=0)["n_modalities"].first()
    assert used["p00"] == 2
    assert used["p39"] == 1
    chance = frame.loc[frame["output"] == "probability", "value"]
    assert chance.between(0, 1).all()


def test_trajectory_starts_at_the_prior_and_ends_at_the_prediction(model, cohort):
    steps = model.trajectory(cohort)
    assert list(steps.columns) == ["task", "output", "step", "modality", "value"]
    death = steps[steps["output"] == "probability"]
    assert death.loc["p00", "modality"].tolist() == ["", "labs", "image"]
    assert death.loc["p39", "modality"].tolist() == ["", "labs"]
    assert death.loc[death["step"] == 0, "value"].nunique() == 1
    last = death.groupby(level=0)["value"].last()
    predicted = model.predict(cohort).query("output == 'probability'")["value"]
    np.testing.assert_allclose(last[cohort.patients], predicted[cohort.patients], atol=1e-6)


def test_contributions_add_up(model, cohort):
    shares = model.contributions(cohort)
    assert list(shares.columns) == [
        "task",
        "output",
        "modality",
        "contribution",
        "standard_error",
        "prior",
        "prediction",
    ]
    assert shares.loc["p39", "modality"].unique().tolist() == ["labs"]
    grouped = shares.groupby(["patient", "task", "output"])
    ends = grouped[["prior", "prediction"]].first()
    difference = grouped["contribution"].sum() - (ends["prediction"] - ends["prior"])
    assert difference.abs().max() < 1e-6
    assert shares["contribution"].abs().max() > 1e-3
    assert (shares["standard_error"] == 0).all()


def test_evaluate_counts_labelled_patients(model, cohort):
    scores = model.evaluate(cohort)
    assert list(scores.columns) == ["task", "metric", "value", "n"]
    assert scores.set_index("task")["n"].groupby(level=0).first().to_dict() == {"death": 30, "size": 40, "survival": 40}
    assert {"auroc", "rmse", "cindex"} <= set(scores["metric"])


def test_without_any_modality_the_answer_is_the_prior_and_said_so(model, cohort):
    image = make_frames()[0]["image"]
    nobody = Cohort.from_frames({"image": image.iloc[:3]}, patients=["p00", "x1", "x2"])
    with pytest.warns(DataWarning, match=r"2 patient\(s\) have none of the modalities.*x1, x2"):
        frame = model.predict(nobody)
    start = model.trajectory(cohort).query("step == 0").loc["p00"].reset_index()
    prior = frame.loc["x1"].reset_index()
    assert prior["output"].tolist() == start["output"].tolist()
    np.testing.assert_array_equal(prior["value"], start["value"])
    assert (prior["n_modalities"] == 0).all()
    assert (frame.loc["p00", "n_modalities"] == 1).all()


def test_the_same_seed_gives_the_same_numbers(model, cohort):
    torch.manual_seed(99)  # whatever drew numbers before
    again = MultiModN(make_study()).fit(cohort)
    np.testing.assert_array_equal(values(again.predict(cohort)), values(model.predict(cohort)))
    other = MultiModN(make_study(training={"epochs": 2, "seed": 1})).fit(cohort)
    assert not np.allclose(values(other.predict(cohort)), values(model.predict(cohort)))


@pytest.mark.parametrize("batch_size", [1, 7])
def test_predictions_do_not_depend_on_the_batch_size(model, cohort, monkeypatch, batch_size):
    whole, shares = model.predict(cohort), model.contributions(cohort)
    monkeypatch.setattr(trained, "PREDICT_BATCH", batch_size)
    monkeypatch.setattr(explanations, "LATTICE_BATCH", batch_size)
    np.testing.assert_allclose(values(model.predict(cohort)), values(whole), rtol=1e-5, atol=1e-6)
    found = model.contributions(cohort)["contribution"]
    np.testing.assert_allclose(found, shares["contribution"], atol=1e-5)


def test_predictions_do_not_depend_on_row_order_or_company(model, cohort):
    whole = model.predict(cohort)
    order = np.random.default_rng(0).permutation(len(cohort))[:17]
    some = cohort.patients[order]
    frame = model.predict(cohort.subset(some))
    assert list(frame.index.unique()) == list(some)
    for patient in some:
        np.testing.assert_allclose(frame.loc[patient, "value"], whole.loc[patient, "value"], rtol=1e-5, atol=1e-6)
    tables = {name: table.iloc[::-1] for name, table in make_frames()[0].items()}
    turned = model.predict(Cohort.from_frames(tables, patients=cohort.patients))
    np.testing.assert_allclose(values(turned), values(whole), rtol=1e-5, atol=1e-6)


def test_an_order_may_name_some_modalities(model, cohort):
    only = model.predict(cohort.subset(["p00"]), order=["image"])
    assert (only["n_modalities"] == 1).all()
    image = Cohort.from_frames({"image": make_frames()[0]["image"].loc[["p00"]]})
    np.testing.assert_allclose(values(only), values(model.predict(image)), rtol=1e-5, atol=1e-6)
    steps = model.trajectory(cohort.subset(["p00"]), order=["image", "labs"])
    assert steps.query("output == 'mean'")["modality"].tolist() == ["", "image", "labs"]


def test_wrong_orders_are_named(model, cohort):
    with pytest.raises(StudyError, match=r"Unknown modality 'lab' in order\. Did you mean 'labs'"):
        model.predict(cohort, order=["lab"])
    with pytest.raises(StudyError, match="stands twice"):
        model.trajectory(cohort, order=["labs", "labs"])


def test_a_modality_that_training_did_not_see_is_refused(model):
    with pytest.raises(DataError, match=r"modality 'lab' is unknown to the model\. Did you mean 'labs'"):
        model.predict(Cohort.from_frames({"lab": make_frames()[0]["labs"]}))


def test_a_model_must_be_trained_first(cohort):
    untrained = MultiModN(make_study())
    for use in (untrained.predict, untrained.trajectory, untrained.contributions, untrained.evaluate):
        with pytest.raises(NotFittedError, match=r"not trained: call fit\(\), or MultiModN.load"):
            use(cohort)
    with pytest.raises(NotFittedError, match="not trained"):
        untrained.save("nowhere")
    assert "not trained" in repr(untrained)


def test_extra_columns_are_ignored_and_their_order_too(model, cohort):
    labs = make_frames()[0]["labs"]
    changed = labs.assign(noise=1.0)[["noise", *reversed(labs.columns)]]
    np.testing.assert_array_equal(values(model.predict(new_patients(labs=changed))), values(model.predict(cohort)))


def test_a_missing_column_is_named(model):
    labs = make_frames()[0]["labs"].rename(columns={"crp": "crq"})
    with pytest.raises(DataError, match=r"(?s)modality 'labs'.*column 'crp' is missing\. Did you mean 'crq'"):
        model.predict(new_patients(labs=labs))


def test_text_among_numbers_is_named_with_patient_and_column(model):
    labs = make_frames()[0]["labs"].astype({"crp": object})
    labs.loc["p07", "crp"] = "high"
    with pytest.raises(DataError, match=r"(?s)modality 'labs'.*'crp'.*'high' \(patient 'p07'\)"):
        model.predict(new_patients(labs=labs))


def test_inputs_are_not_changed(model):
    tables, targets = make_frames()
    copies = {name: table.copy() for name, table in (tables | targets).items()}
    MultiModN(make_study(training={"epochs": 1})).fit(Cohort.from_frames(tables, targets))
    model.contributions(Cohort.from_frames(tables, targets))
    for name, table in (tables | targets).items():
        pd.testing.assert_frame_equal(table, copies[name])


def test_members_are_averaged_on_raw_outputs(cohort):
    model = MultiModN(make_study(training={"epochs": 1, "members": 3})).fit(cohort)
    assert len(model.trained.ensemble.members) == 3
    batch = model.prepare(cohort).batch(torch.arange(len(cohort)))
    with torch.inference_mode():
        every = torch.stack([member(batch)["death"] for member in model.trained.ensemble.members])
        calibration = model.trained.ensemble.calibration
        whole = calibration(
            model.trained.ensemble(batch) | {"death": every.mean(0)}, model.trained.ensemble.prior(), batch.presence
        )["death"]
    assert every.std(0).min() > 0
    assert not calibration.is_identity
    expected = whole[:, 0].sigmoid()
    found = model.predict(cohort).query("output == 'probability'")["value"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(model.provenance["members"]) == 3


def test_some_of_the_prepared_patients_are_those_who_would_have_been_prepared_alone(model, cohort):
    rows = torch.tensor([31, 2, 17, 39])
    some, alone = model.prepare(cohort, labelled=True).subset(rows), cohort.subset(cohort.patients[rows.numpy()])
    pd.testing.assert_frame_equal(model.predict(some), model.predict(alone))
    pd.testing.assert_frame_equal(model.evaluate(some), model.evaluate(alone))


def test_patients_without_targets_are_not_scored(model, cohort):
    with pytest.raises(DataError, match=r"no targets: prepare them with prepare\(cohort, labelled=True\)"):
        model.prepare(cohort).check_labelled()
