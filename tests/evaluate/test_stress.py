"""The stress test: the same folds and blanking for every arm, resumable, and scores that mean what they say."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from multimodn.errors import DataWarning, StudyError
from multimodn.evaluate.stress.report import means, page, stress_chart
from multimodn.evaluate.stress.run import stress_run
from multimodn.evaluate.stress.stress import ARMS, Plan, expected_calibration_error, stress
from multimodn.metrics.classification import calibration_error
from tests.training.test_neutral import make_study, simulate

PLAN = Plan("y", ("m1", "m2"), mcar=(1.0,), n_folds=2)
pytestmark = pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")


def constant(arm, log=None):
    """An arm that answers its number of training rows with m1: what it was given to train on."""

    def trainer(study, training, seed):
        if log is not None:
            log.append((arm, tuple(training.patients), int(training.presence["m1"].sum())))
        return {arm: lambda cohort: {"y": cohort.presence[["m1"]].to_numpy(dtype=np.float64, copy=True)}}

    return trainer


def test_arms_see_the_same_blanked_patients_and_the_oracle_complete_ones():
    log = []
    stress(make_study("neutral"), simulate(0, 120), PLAN, arms={a: constant(a, log) for a in ("a", "b", "oracle")})
    by_arm = {arm: [entry[1:] for entry in log if entry[0] == arm] for arm in ("a", "b", "oracle")}
    assert by_arm["a"] == by_arm["b"]
    assert [who for who, _ in by_arm["a"]] == [who for who, _ in by_arm["oracle"]]
    assert all(n == len(who) for who, n in by_arm["oracle"])
    assert all(n < 0.75 * len(who) for who, n in by_arm["a"])


def test_presence_alone_scores_what_the_mechanism_makes_it_worth():
    scores = stress(make_study("neutral"), simulate(0, 400), PLAN, arms={"presence": constant("presence")})
    auroc = means(scores, "y", "auroc").loc["presence"]
    assert auroc["same:0.8"] == pytest.approx(0.1, abs=0.06)  # present means a low outcome
    assert auroc["flipped:0.8"] == pytest.approx(0.9, abs=0.06)
    assert auroc["complete"] == 0.5
    assert auroc["mcar:1"] == 0.5


@pytest.mark.parametrize("mechanism", ["mar", "mcar", "self"])
def test_other_reasons_than_the_outcome_can_decide_what_training_lacks(mechanism):
    log, plan = [], replace(PLAN, mechanism=mechanism, strength=0.5)
    scores = stress(make_study("neutral"), simulate(0, 400), plan, arms={"presence": constant("presence", log)})
    auroc = means(scores, "y", "auroc").loc["presence"]
    affected = 1.0 if mechanism == "mcar" else 0.5
    assert all(n == pytest.approx((1 - 0.5 * affected) * len(who), rel=0.15) for _, who, n in log)
    assert auroc["same:0.5"] == pytest.approx(0.4 if mechanism == "self" else 0.5, abs=0.08)


def test_an_unknown_reason_is_refused(tmp_path):
    with pytest.raises(StudyError, match=r"Unknown mechanism 'manr'.*mnar"):
        stress_run(make_study("neutral"), tmp_path, mechanism="manr")


def test_an_interrupted_test_goes_on_and_ends_the_same(tmp_path):
    study, cohort, log = make_study("neutral"), simulate(0, 120), []
    whole = stress(study, cohort, PLAN, arms={"a": constant("a")})

    def interrupt(arm, repeat, fold):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stress(study, cohort, PLAN, tmp_path, {"a": constant("a", log)}, interrupt)
    again = stress(study, cohort, PLAN, tmp_path, {"a": constant("a", log)})
    assert len(log) == 2  # the finished cell was read back
    pd.testing.assert_frame_equal(again, whole)


def test_neutral_beats_skipping_under_the_flip_and_is_drawn(tmp_path):
    arms = {name: ARMS[name] for name in ("neutral", "skip", "oracle", "late_ridge")}
    study = make_study("neutral")
    quick = study.training.model_copy(update={"epochs": 6, "learning_rate": 0.02})
    scores = stress(study.model_copy(update={"training": quick}), simulate(0, 300), PLAN, arms=arms)
    auroc = means(scores, "y", "auroc")
    assert auroc.loc["neutral", "flipped:0.8"] > auroc.loc["skip", "flipped:0.8"] + 0.2
    assert set(auroc.index) == {"neutral", "skip", "oracle", "late_ridge", "late_ridge_mean"}
    assert "worst subset" in auroc
    text = page(scores, "y")
    assert "| flipped:0.8 | skip | -0." in text
    assert "| arm | Brier score, complete | Brier score, same:0.8 | Brier score, flipped:0.8 | calibration" in text
    for file in stress_chart(scores, ["y"], "planted").save_png(tmp_path, is_titled=True):
        assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan("yy", ("m1",)), "unknown task 'yy'"),
        (Plan("y", ("m9",)), "unknown modality 'm9'"),
        (Plan("y", ()), "at least one modality"),
        (Plan("y", ("m1",), strength=1.5), r"outside \[0, 1\]"),
    ],
)
def test_a_wrong_plan_is_refused(plan, message):
    with pytest.raises(StudyError, match=message):
        stress(make_study("neutral"), simulate(0, 60), plan, arms={"a": constant("a")})


def test_calibration_error_is_zero_where_chances_are_met_and_their_distance_elsewhere():
    happened, once = np.tile([False, True], 500), np.ones((1, 1000))
    assert calibration_error(np.full(1000, 0.0), happened)(once)[0] == pytest.approx(0.0)
    assert calibration_error(np.full(1000, np.log(9)), happened)(once)[0] == pytest.approx(0.4)
    assert expected_calibration_error(np.full(1000, 0.5), happened) == pytest.approx(0.0)
    assert expected_calibration_error(np.full(1000, 0.9), happened) == pytest.approx(0.4)


def test_calibration_error_of_different_chances_is_that_of_the_metrics():
    link = np.random.default_rng(0).normal(size=203)
    happened = np.random.default_rng(1).random(203) < 0.4
    expected = calibration_error(link, happened)(np.ones((1, 203)))[0]
    assert expected_calibration_error(1 / (1 + np.exp(-link)), happened) == pytest.approx(expected)


def test_blanking_everything_keeps_one_modality_and_says_so():
    plan = Plan("y", ("m0", "m1", "m2"), mcar=(1.0,), n_folds=2, each_subset=False)
    with pytest.warns(DataWarning, match="without any modality"):
        stress(make_study("neutral"), simulate(0, 60), plan, arms={"a": constant("a")})
