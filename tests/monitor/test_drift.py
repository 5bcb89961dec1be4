"""Drift: chance is not called drift, and what changed is found and named where it changed."""

import numpy as np
import pandas as pd
import pytest

from multimodn import Cohort, MultiModN
from multimodn.errors import DataError
from multimodn.monitor.drift import drift, has_drifted, trust
from multimodn.monitor.reference import make_reference
from tests.monitor._patients import make_frames, make_patients, study

pytestmark = pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")


@pytest.fixture(scope="module")
def fitted():
    cohort = make_patients(400, np.random.default_rng(0), prefix="t")
    model = MultiModN(study()).fit(cohort)
    return model, make_reference(model, cohort), cohort


def batch(n=120, seed=5, change=lambda tables: tables):
    return make_patients(n, np.random.default_rng(seed), prefix="new", change=change)


def changed(frame):
    return frame[frame["verdict"] == "drifted"]


def with_labs(**columns):
    return lambda tables: {**tables, "labs": tables["labs"].assign(**columns)}


def test_the_training_patients_do_not_drift(fitted):
    model, reference, cohort = fitted
    frame = drift(model, reference, cohort.subset([*model.split.train, *model.split.validation]))
    assert not has_drifted(frame)
    assert trust(frame).startswith("Nothing drifted")


def test_patients_of_the_same_distribution_rarely_drift(fitted):
    model, reference, _ = fitted
    rng = np.random.default_rng(30)
    drifted = [has_drifted(drift(model, reference, make_patients(30, rng))) for _ in range(8)]
    assert sum(drifted) <= 2  # of 8 at .05 more than 2 would come once in 170 times


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 100, 500])
def test_one_batch_in_twenty_drifts_by_chance_at_most(fitted, n):
    model, reference, _ = fitted
    rng = np.random.default_rng(1000 + n)
    drifted = [has_drifted(drift(model, reference, make_patients(n, rng))) for _ in range(200)]
    assert np.mean(drifted) <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5


@pytest.mark.parametrize("n", [40, 120])
def test_a_shifted_column_is_found_and_no_other(fitted, n):
    model, reference, _ = fitted
    frame = drift(model, reference, batch(n, change=with_labs(sodium=lambda f: f["sodium"] + 2)))
    found = changed(frame[frame["kind"] == "input"])
    assert found["column"].tolist() == ["sodium"]
    assert "labs.sodium" in trust(frame)


def test_another_unit_is_told_as_far_outside(fitted):
    model, reference, _ = fitted
    frame = drift(model, reference, batch(change=with_labs(crp=lambda f: 1000 * f["crp"])))
    (row,) = frame[frame["column"] == "crp"].to_dict("records")
    assert row["verdict"] == "drifted"
    assert "far outside" in row["note"]


def test_a_lost_modality_is_presence_and_no_input(fitted):
    model, reference, _ = fitted
    frame = drift(model, reference, batch(change=lambda tables: {"labs": tables["labs"]}))
    assert set(changed(frame)["kind"]) >= {"presence", "pattern"}
    assert not (changed(frame)["kind"] == "input").any()
    assert "image" not in set(frame.loc[frame["kind"] == "input", "modality"])
    (row,) = frame[(frame["kind"] == "presence") & (frame["modality"] == "image")].to_dict("records")
    assert (row["batch"], row["value"]) == (0, -row["reference"])
    assert "presence of modalities changed: image 7" in trust(frame).lower()


def test_rows_and_identifiers_change_nothing(fitted):
    model, reference, _ = fitted
    cohort = batch()
    order = np.random.default_rng(1).permutation(len(cohort))
    names = dict(zip(cohort.patients, [f"x{i}" for i in order], strict=True))
    tables = {name: frame.rename(index=names).sort_index() for name, frame in cohort.modalities.items()}
    targets = {name: frame.rename(index=names).sort_index() for name, frame in cohort.targets.items()}
    other = drift(model, reference, Cohort.from_frames(tables, targets))
    pd.testing.assert_frame_equal(drift(model, reference, cohort), other, rtol=1e-5, atol=1e-6)


def test_an_unknown_category_is_named(fitted):
    model, reference, _ = fitted
    new = np.where(np.arange(120) < 40, "z", "a")
    frame = drift(model, reference, batch(change=with_labs(site=new)))
    (row,) = frame[frame["column"] == "site"].to_dict("records")
    assert row["verdict"] == "drifted"
    assert "rare or unknown in training: z (40)" in row["note"]


def test_empty_cells_are_found(fitted):
    model, reference, _ = fitted
    frame = drift(model, reference, batch(change=with_labs(hb=lambda f: f["hb"].where(np.arange(len(f)) % 2 > 0))))
    (row,) = frame[frame["column"] == "hb"].to_dict("records")
    assert row["verdict"] == "drifted"
    assert "empty: 1" in row["note"]


def test_a_column_among_many_is_found_and_named(fitted):
    model, reference, _ = fitted

    def change(tables):
        return {**tables, "image": tables["image"].assign(f7=lambda f: f["f7"] + 3 * f["f7"].std())}

    frame = drift(model, reference, batch(change=change))
    (row,) = changed(frame[frame["kind"] == "input"]).to_dict("records")
    assert "80 columns: f7" in row["column"]
    assert row["note"] == "1 of 80 differ: f7"


def test_another_scale_of_all_columns_shows_in_the_distance(fitted):
    model, reference, _ = fitted
    frame = drift(model, reference, batch(change=lambda tables: {**tables, "image": 2 * tables["image"]}))
    assert "(distance from the mean patient)" in set(changed(frame)["column"])


def test_other_outcomes_are_found(fitted):
    model, reference, _ = fitted
    tables, targets = make_frames(120, np.random.default_rng(5))
    targets["death"]["status"] = np.where(np.arange(120) < 110, "dead", "alive")
    frame = drift(model, reference, Cohort.from_frames(tables, targets))
    assert list(changed(frame)["kind"]) == ["label"]
    assert "Outcomes of death changed (alive: " in trust(frame)


def test_shifted_predictions_are_told_with_their_means(fitted):
    model, reference, _ = fitted
    sick = with_labs(crp=lambda f: f["crp"] * 20, hb=lambda f: f["hb"] + 3, sodium=lambda f: f["sodium"] + 3)
    frame = drift(model, reference, batch(300, change=sick))
    found = changed(frame[frame["kind"] == "prediction"])
    assert len(found)
    assert "predictions of" in trust(frame)
    assert found["note"].str.contains("mean .* to ").all()


def test_without_targets_there_are_no_labels(fitted):
    model, reference, _ = fitted
    tables, _ = make_frames(60, np.random.default_rng(5))
    assert "label" not in set(drift(model, reference, Cohort.from_frames(tables))["kind"])


def test_a_handful_of_patients_is_not_judged_by_their_size(fitted):
    model, reference, _ = fitted
    frame = drift(model, reference, batch(4))
    assert not has_drifted(frame)
    assert "with 4 patients only large differences" in trust(frame)


def test_missing_columns_are_named(fitted):
    model, reference, _ = fitted
    with pytest.raises(DataError, match=r"crp[\s\S]*f3"):
        drift(
            model,
            reference,
            batch(change=lambda t: {"labs": t["labs"].drop(columns="crp"), "image": t["image"].drop(columns="f3")}),
        )


def test_the_reference_of_another_model_is_refused(fitted):
    _, reference, cohort = fitted
    other = MultiModN(study(training={"epochs": 1}, split={"seed": 9})).fit(cohort)
    with pytest.raises(DataError, match="another model"):
        drift(other, reference, cohort)


def test_several_rows_of_a_patient_count_once():
    rng = np.random.default_rng(4)

    def rows(n, shift=0.0, prefix="p"):
        ids = [f"{prefix}{i}" for i in range(n)]
        index = np.repeat(ids, 4)
        long = pd.DataFrame({"time": np.tile([0.0, 1, 2, 3], n), "variable": "crp"}, index)
        long["value"] = rng.normal(size=4 * n) + shift
        return long, pd.DataFrame({"status": rng.choice(["dead", "alive"], n)}, ids)

    modality = {"name": "labs", "kind": "series", "source": "labs", "hidden_size": 4, "n_heads": 1, "n_layers": 1}
    task = {"name": "death", "kind": "binary", "source": "outcome", "target": "status", "positive": "dead"}
    long, died = rows(150)
    cohort = Cohort.from_frames({"labs": long}, {"death": died}, several_rows=["labs"])
    model = MultiModN(study(modalities=[modality], tasks=[task])).fit(cohort)
    reference = make_reference(model, cohort)
    frames = [
        drift(model, reference, Cohort.from_frames({"labs": rows(80, shift, "n")[0]}, several_rows=["labs"]))
        for shift in (0.0, 2.0)
    ]
    assert not has_drifted(frames[0])
    found = changed(frames[1])
    assert "value" in set(found["column"])
    assert found["column"].str.startswith("(embedding: ").any()
    assert set(frames[1].loc[frames[1]["kind"] == "input", "n"]) == {80}
