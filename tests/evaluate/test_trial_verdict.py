"""Few patients, few outcomes and perfect ranks beside simple models and under performance."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodn import Cohort, MultiModN, Study
from multimodn.evaluate.baselines.compare import OURS, _rows, _TestPredictions, compare_with_baselines, sentences
from multimodn.evaluate.performance.patient_groups import PatientGroup
from multimodn.evaluate.performance.performance import _scored, performance
from multimodn.findings.numbers import interval, number
from multimodn.metrics.predictions import is_perfect
from tests._cohorts import make_frames, study_dict
from tests._inputs import make_task

pytestmark = pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")
ENDS = ["low", "high", "difference_low", "difference_high", "p_value", "p_adjusted"]
DRAWS = {"n_resamples": 200, "seed": 3}


@pytest.fixture(scope="module")
def compared():
    """Size and survival of 40 test patients, and a death of whom two are known to be dead there."""
    frames, targets = make_frames(100)
    tasks = study_dict()["tasks"]
    split = {"test": 0.4, "validation": 0.2}
    study = Study.from_dict(study_dict(tasks=tasks, split=split, training={"epochs": 2}))
    cohort = Cohort.from_frames(frames, targets)
    model = MultiModN(study).fit(cohort)
    test = pd.Index(model.split.test)
    status = cohort.targets["death"].loc[test, "status"]
    rare = cohort.targets["death"].copy()
    dead = status.index[status == "dead"]
    rare.loc[dead[2:], "status"] = "alive"
    cohort.targets["death"] = rare
    patients = model.prepare(cohort.subset(list(test)), labelled=True)
    found = compare_with_baselines(model, cohort, patients=patients, arms=["late_ridge"], **DRAWS)
    return model, patients, found, performance(model, patients, **DRAWS)


def overall(frame, task):
    return frame[(frame["task"] == task) & (frame["by"] == "overall")]


def test_a_task_with_two_outcomes_has_no_interval_and_no_p_value(compared):
    rows = overall(compared[2], "death")
    assert len(rows) == 2
    assert rows["value"].notna().all()
    assert rows[ENDS].isna().all().all()


def test_such_a_task_does_not_count_in_holms_adjustment(compared):
    rows = compared[2][(compared[2]["by"] == "overall") & compared[2]["p_value"].notna()]
    assert set(rows["task"]) == {"size", "survival"}
    smallest = rows.loc[rows["p_value"].idxmin()]
    assert smallest["p_adjusted"] == pytest.approx(min(1.0, 2 * smallest["p_value"]))


def test_the_sentence_says_that_there_are_too_few(compared):
    [text] = [one for one in sentences(compared[2]) if one.startswith("death")]
    assert "too few of them, or of their outcomes" in text


@pytest.mark.parametrize("task", ["death", "size", "survival"])
def test_an_interval_beside_simple_models_is_the_one_under_performance(compared, task):
    ours = overall(compared[2], task).query("arm == @OURS").iloc[0]
    known = overall(compared[3], task).query("metric == @ours.metric").iloc[0]
    np.testing.assert_allclose(
        ours[["value", "low", "high"]].astype(float), known[["value", "low", "high"]].astype(float)
    )


def test_a_resample_that_lacks_a_class_counts_no_more_here_than_under_performance():
    frame = pd.DataFrame({"c": ["i", "ii", "iii"] * 3})
    task = make_task("ordinal", "stage", frame, target="c", classes=["i", "ii", "iii"])
    generator = torch.Generator().manual_seed(0)
    target = torch.tensor([0] * 20 + [1] * 14 + [2] * 2)
    outputs = torch.randn(36, task.output_size, generator=generator)
    part = PatientGroup("overall", "all", -1, outputs, np.arange(36))
    known = {one["metric"]: one for one in _scored(task, [part], target, 300, 10, 0)}["auroc"]
    answer = _TestPredictions(task.link(outputs).double().numpy(), task.link_target(target).double().numpy())
    [ours] = _rows("log-odds", {OURS: answer}, [part], 300, 0)
    assert [ours[end] for end in ("value", "low", "high")] == pytest.approx(
        [known[end] for end in ("value", "low", "high")], nan_ok=True
    )


def test_perfect_ranks_have_no_interval():
    truth = np.repeat([0.0, 1.0], 6)[:, None]
    both = {OURS: _TestPredictions(truth * 2, truth), "late_ridge": _TestPredictions(truth * 3, truth)}
    part = PatientGroup("overall", "all", -1, torch.zeros(12, 1), np.arange(12))
    ours, other = _rows("log-odds", both, [part], 200, 0)
    assert ours["value"] == other["value"] == 1
    assert np.isnan([ours["low"], ours["high"]]).all()
    assert other["difference"] == 0
    assert "difference_low" not in other


def test_perfect_ranks_have_no_interval_under_performance_and_a_brier_score_keeps_its_own():
    task = make_task("binary", "death", pd.DataFrame({"y": [0, 1] * 3}), target="y")
    target = torch.tensor([0.0, 1.0]).repeat_interleave(6)
    outputs = (target * 2 - 1)[:, None] * torch.linspace(1, 2, 12)[:, None]
    part = PatientGroup("overall", "all", -1, outputs, np.arange(12))
    found = {one["metric"]: one for one in _scored(task, [part], target, 200, 10, 0)}
    assert found["auroc"]["value"] == 1
    assert np.isnan(found["auroc"]["low"])
    assert found["brier"]["low"] < found["brier"]["high"]


@given(st.lists(st.sampled_from([0.0, 1.0, np.nan]), max_size=8))
def test_only_resamples_that_all_agree_are_perfect(drawn):
    known = [value for value in drawn if not np.isnan(value)]
    assert is_perfect(np.array(drawn)) == (len(set(known)) == 1)


def test_the_luck_of_a_coin_is_not_perfect():
    assert not is_perfect(np.full(10, 0.5))


@pytest.mark.parametrize("value", [0.765, 0.765 - 1e-12, 0.765 + 1e-12])
def test_a_number_is_written_alike_on_card_page_and_in_sentences(value):
    assert interval(value, np.nan, np.nan) == f"{number(value)} (no interval)"
