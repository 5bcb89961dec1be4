"""The study of intensive care: what its tables hold, what its scores are, and which arms its page shows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn import Cohort, DataWarning, Study
from multimodn.evaluate.crossval.arms import arm_key
from multimodn.evaluate.crossval.crossval import cross_predict
from tests.experiments._modules import EXPERIMENTS, scripts

FOLDER = EXPERIMENTS / "icu"


@pytest.fixture(scope="module")
def icu():
    with scripts("icu") as modules:
        yield modules


@pytest.fixture
def data(tmp_path):
    """Four stays: one with everything, one of absurd values, one with a single glucose, one without measurements."""
    rows = [
        *(("1", 10, "HR", 80), ("1", 70, "HR", 100), ("1", 70, "HR", 110), ("1", 90, "HR", 60)),
        *(("1", 5, "pH", 7.3), ("1", 9, "MechVent", 1), ("1", 9, "Na", 140)),
        *(("2", 5, "pH", 735), ("2", 5, "PaO2", 90), ("2", 0, "Weight", 0), ("2", 7, "Temp", 0), ("2", 8, "NIMAP", 0)),
        *(("3", 5, "Glucose", 120), ("3", 5, "TroponinT", 0)),
    ]
    table = pd.DataFrame(rows, columns=["record", "minutes", "variable", "value"])
    table.astype({"variable": "category", "value": "float32"}).to_parquet(tmp_path / "measurements.parquet")
    admission = {
        "record": [1, 2, 3, 4],
        "Age": [54, 200, 70, 15],
        "Gender": [0, 1, np.nan, 0],
        "Height": [170, 1.8, np.nan, 180],
    }
    pd.DataFrame(admission).to_csv(tmp_path / "admission.csv", index=False)
    outcomes = {"record": [1, 2, 3, 4], "In-hospital_death": [0, 1, 0, 0], "Length_of_stay": [5, -1, 1, 154]}
    pd.DataFrame(outcomes).to_csv(tmp_path / "outcomes.csv", index=False)
    return tmp_path


def test_a_row_says_what_was_measured(icu, data):
    tables = icu["prepare"].load_tables(data)
    row = tables["vitals"].loc["1"]
    wanted = {"HR_mean": (80 + 105 + 60) / 3, "HR_min": 60, "HR_max": 105, "HR_first": 80, "HR_last": 60}
    assert row.dropna().to_dict() == pytest.approx(wanted)
    assert tables["gases"]["MechVent"].to_dict() == {"1": 1, "2": 0}


def test_what_no_patient_can_have_is_not_measured(icu, data):
    tables = icu["prepare"].load_tables(data)
    assert tables["gases"].loc["2"].filter(like="pH").isna().all()
    assert {name: list(table.index) for name, table in tables.items() if name in icu["prepare"].BLOCKS} == {
        "vitals": ["1"], "gases": ["1", "2"], "chemistry": ["1", "3"], "blood": [], "liver": [], "cardiac": []
    }  # fmt: skip
    assert tables["admission"]["Age"].tolist() == [54, 90, 70, 15]
    assert tables["admission"]["Height"].isna().tolist() == [False, True, True, False]


def test_every_stay_has_outcomes_and_an_unknown_length_has_no_label(icu, data):
    outcomes = icu["prepare"].load_tables(data)["outcomes"]
    assert outcomes["death"].tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(np.exp(outcomes["log_days"]), [5, np.nan, 1, 154])


def test_series_hold_the_same_measurements(icu, data):
    series = icu["prepare"].load_series(data)["vitals"]
    assert series[["hours", "value"]].to_numpy().tolist() == [[10 / 60, 80], [70 / 60, 105], [90 / 60, 60]]


def test_every_variable_has_a_range_and_a_modality(icu):
    prepare = icu["prepare"]
    variables = [name for names in prepare.BLOCKS.values() for name in names]
    assert len(variables) == len(set(variables)) == 37
    assert set(prepare.PLAUSIBLE) == {*variables, "Age", "Gender", "Height"}
    for file in ("study", "series"):
        assert [m.name for m in Study.load(FOLDER / f"{file}.yaml").modalities] == ["admission", *prepare.BLOCKS]


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=12))
def test_no_threshold_is_better_on_the_patients_that_it_was_chosen_on(icu, patients):
    link = np.array([float(score) for score, _ in patients])
    positive = np.array([died for _, died in patients])
    scores = icu["scores"]
    best = scores.event_score(link, positive, scores.best_threshold(link, positive))
    if positive.all() or not positive.any():
        assert np.isnan(best)
    else:
        assert best == max(scores.event_score(link, positive, threshold) for threshold in link)


def test_an_event_score_is_the_smaller_of_sensitivity_and_predictive_value(icu):
    positive = np.array([True, True, True, True, False, False])
    link = np.array([3.0, 2.0, 0.0, 0.0, 1.0, -1.0])
    assert icu["scores"].event_score(link, positive, 1.0) == 0.5  # 2 of 4, though 2 of 3 that are called
    assert icu["scores"].event_score(link, positive, -1.0) == pytest.approx(4 / 6)


def test_a_verdict_knows_which_metrics_are_better_when_low(icu):
    def verdict(metric, low, high):
        return icu["scores"].verdict_of({"metric": metric, "t_low": low, "t_high": high})

    assert verdict("auprc", 0.1, 0.2) == verdict("ece", -0.2, -0.1) == "better"
    assert verdict("auprc", -0.2, -0.1) == verdict("mae", 0.1, 0.2) == "worse"
    assert verdict("challenge", -0.1, 0.2) == verdict("ece", -0.1, 0.2) == "tied"
    assert verdict("auprc", np.nan, np.nan) == "unknown"


@pytest.fixture(scope="module")
def predicted(icu):
    """Out-of-fold predictions of some arms for made-up stays."""
    generator = np.random.default_rng(0)
    ids = pd.Index([f"r{i:03d}" for i in range(60)])
    score = pd.Series(generator.normal(size=60), ids)
    tables = {"vitals": pd.DataFrame({"HR_mean": score})}
    outcomes = pd.DataFrame({"death": (score > 0.5).astype(int), "log_days": score + 1})
    with pytest.warns(DataWarning, match="nearly tells"):
        cohort = Cohort.from_frames(tables, {"death": outcomes[["death"]], "stay": outcomes[["log_days"]]})
    whole = Study.load(FOLDER / "study.yaml")
    study = whole.model_copy(update={"modalities": [m for m in whole.modalities if m.name == "vitals"]})

    def arm(name, noise):
        def run(study, training, test, seed):
            link = test.modalities["vitals"].to_numpy() + noise * generator.normal(size=(len(test), 1))
            return {name: {"death": link - 0.5, "stay": link + 1}}

        return run

    arms = [arm("ours_neutral", 0.1), arm("stacked_ridge", 0.6), arm("lightgbm_tuned", 0.8), arm("series_neutral", 0.1)]
    return cross_predict(study, cohort, arms, 3, 2)


def test_a_fold_has_the_scores_of_the_page_and_its_labels_do_not_move_its_threshold(icu, predicted):
    scores = icu["scores"].fold_scores(predicted)
    counts = scores.groupby(["arm", "metric"]).size().loc["ours_neutral"]
    assert {"auroc", "auprc", "calibration_slope", "ece", "challenge", "r2", "mae"} <= set(counts.index)
    assert (counts == 6).all()
    answers = predicted.answers("stacked_ridge", "death")
    threshold_of = icu["scores"].threshold_of
    flipped = [replace(cell, truth=1 - cell.truth) if k == 0 else cell for k, cell in enumerate(answers.cells)]
    assert threshold_of(answers, 0) == threshold_of(replace(answers, cells=flipped), 0)
    assert threshold_of(answers, 1) != threshold_of(replace(answers, cells=flipped), 1)


def test_differences_have_both_intervals_and_the_direction_of_their_metric(icu, predicted):
    scores = icu["scores"].fold_scores(predicted)
    table = icu["scores"].differences(predicted, scores, [("ours_neutral", "stacked_ridge")])
    metrics = ["auroc", "auprc", "challenge", "ece", "r2", "mae"]
    assert table[["task", "metric"]].to_numpy().tolist() == [
        ["stay" if m in ("r2", "mae") else "death", m] for m in metrics
    ]
    rows = table.set_index("metric")
    fraction, error = rows.loc["r2"], rows.loc["mae"]
    assert error["verdict"] == "better"
    assert error["difference"] < 0
    assert np.isnan(error["low"])  # of main metrics only
    assert fraction["t_low"] < 0 < fraction["low"] < fraction["difference"]
    assert fraction["verdict"] == "tied"


def test_the_page_compares_what_there_is(icu, predicted):
    page = icu["page"]
    scores = icu["scores"].fold_scores(predicted)
    tables, comparisons = list(page.tables(predicted, scores)), list(page.comparisons(predicted, scores))
    assert [text.splitlines()[0] for text in tables] == ["### death, 60 patients", "### stay, 60 patients"]
    assert "| ours_neutral |" in tables[1]
    titles = [text.splitlines()[0] for text in comparisons]
    assert titles == ["### Ours less baselines that may not see what is empty", "### Among the baselines"]
    assert "| series_neutral | lightgbm_tuned |" in comparisons[0]
    assert "| lightgbm_tuned | stacked_ridge |" in comparisons[1]


def test_arms_are_asked_for_by_name_or_group_and_finished_ones_stay(icu, tmp_path):
    arms = icu["arms"]
    every = arms.tabular_arms() | arms.series_arms(tmp_path)
    assert list(arms.chosen_arms(["ours", "late_ridge"], every, tmp_path, 2)) == [
        "ours_neutral", "ours_informative", "late_ridge"
    ]  # fmt: skip
    for fold in range(2):
        (tmp_path / f"{arm_key(every['series_neutral'])}-0-{fold}.parquet").touch()
    (tmp_path / f"{arm_key(every['ours_neutral'])}-0-0.parquet").touch()  # not finished
    assert list(arms.chosen_arms(["late_ridge"], every, tmp_path, 2)) == ["late_ridge", "series_neutral"]
    with pytest.raises(ValueError, match="Unknown arm 'lasso'; choose among ours, series, baselines"):
        arms.chosen_arms(["lasso"], every, tmp_path, 2)


def test_cells_of_an_arm_have_its_name_and_arms_differ(icu, tmp_path):
    arms = icu["arms"]
    every = arms.tabular_arms() | arms.series_arms(tmp_path)
    keys = [arm_key(arm) for arm in every.values()]
    assert [key.rpartition("-")[0] for key in keys] == list(every)
    assert len({key.rpartition("-")[2] for key in keys}) == len(every)
