"""Cross-validation that is interrupted, spread over processes, or asked for what cannot be."""

import functools
import json
import random

import numpy as np
import pandas as pd
import pytest
import torch

from multimodn.errors import StudyError
from multimodn.evaluate.crossval.arms import arm_key
from multimodn.evaluate.crossval.crossval import cross_predict, cross_validate
from multimodn.evaluate.crossval.out_of_fold import OutOfFold
from tests.evaluate._toy import make_cohort, make_study

TASKS = ("death", "grade", "survival")
COHORT, STUDY = make_cohort(n=60, tasks=TASKS), make_study(tasks=TASKS)
FRAMES = ("scores", "predictions", "targets")
CALLS = []  # a list in an arm's closure would be part of the arm


def linear(name, weight=1.0, on_call=None):
    def arm(study, training, test, seed):
        if on_call is not None:
            on_call(training, test, seed)
        x = test.modalities["a"]["a1"].reindex(test.patients).fillna(0).to_numpy()
        x = x * weight + 0.01 * training.targets["death"]["died"].mean()
        return {name: {task: np.outer(x, [1.0, 0.5][: 1 + (task == "grade")]) for task in TASKS}}

    return arm


def at_random(study, training, test, seed):
    draws = torch.randn(len(test)).double().numpy() + np.random.normal(size=len(test)) + random.random()
    return {"at_random": {task: np.outer(draws, [1.0, 0.5][: 1 + (task == "grade")]) for task in TASKS}}


def assert_same(one, other):
    for name in FRAMES:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), check_exact=True)


def test_two_processes_give_what_one_gives_to_the_last_bit(tmp_path):
    arms = [linear("x"), at_random, linear("y", 2.0)]
    one = cross_predict(STUDY, COHORT, arms, 3, 2)
    seen = []
    two = cross_predict(
        STUDY, COHORT, arms, 3, 2, on_cell=lambda *cell: seen.append(cell), folder=tmp_path / "cv", n_jobs=2
    )
    assert_same(one, two)
    assert sorted(seen) == sorted((arm, r, k) for arm in ("x", "at_random", "y") for r in range(2) for k in range(3))
    assert_same(one, cross_predict(STUDY, COHORT, arms, 3, 2, folder=tmp_path / "cv"))
    assert_same(one, OutOfFold.load(tmp_path / "cv"))


def test_an_error_in_another_process_arrives_as_it_was():
    def arm(study, training, test, seed):
        raise StudyError("no such thing")

    with pytest.raises(StudyError, match="no such thing"):
        cross_predict(STUDY, COHORT, [arm], 2, 1, n_jobs=2)


def test_an_arm_that_cannot_be_sent_says_so():
    with pytest.raises(StudyError, match=r"cannot be sent to another process: .* Use n_jobs=1"):
        cross_predict(STUDY, COHORT, [linear("x", on_call=(i for i in ()).send)], 2, 1, n_jobs=2)


def test_a_second_call_goes_on_where_the_first_was_killed(tmp_path):
    CALLS.clear()

    def dies_late(training, test, seed):
        CALLS.append(seed)
        if len(CALLS) == 3:
            raise KeyboardInterrupt

    arms = [linear("x"), linear("y", on_call=dies_late)]
    with pytest.raises(KeyboardInterrupt):
        cross_predict(STUDY, COHORT, arms, 3, 2, folder=tmp_path / "cv")
    assert len(list((tmp_path / "cv").glob("*.parquet"))) == 5
    assert not list((tmp_path / "cv").glob(".*"))
    found = cross_predict(STUDY, COHORT, arms, 3, 2, folder=tmp_path / "cv")
    assert len(CALLS) == 3 + 4
    assert_same(found, cross_predict(STUDY, COHORT, [linear("x"), linear("y")], 3, 2))


def test_more_arms_and_more_repeats_train_only_what_is_new(tmp_path):
    CALLS.clear()
    first = linear("x", on_call=lambda training, test, seed: CALLS.append(seed))
    cross_predict(STUDY, COHORT, [first], 3, 1, folder=tmp_path / "cv")
    found = cross_predict(STUDY, COHORT, [linear("y"), first], 3, 2, folder=tmp_path / "cv")
    assert CALLS == [0, 0, 0, 1, 1, 1]
    assert found.arms == ["y", "x"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed and folds changed"),
        ({"n_folds": 4}, "n_folds and folds changed"),
        ({"cohort": make_cohort(seed=1, n=60, tasks=TASKS)}, "data and folds changed"),
        ({"study": make_study(tasks=TASKS, epochs=9)}, "study changed"),
        ({"by": "time", "column": np.arange(60)}, "by and folds changed"),
        ({"cohort": COHORT.subset(COHORT.patients[::-1])}, "folds changed"),
    ],
)
def test_a_folder_of_another_cross_validation_is_refused(tmp_path, change, message):
    given = {"study": STUDY, "cohort": COHORT, "arms": [linear("x")], "n_folds": 3, "repeats": 1}
    cross_predict(**given, folder=tmp_path)
    with pytest.raises(StudyError, match=f"{message} since it started. Choose another folder"):
        cross_predict(**given | change, folder=tmp_path)


def test_a_folder_that_holds_something_else_or_a_foreign_cell_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StudyError, match="is not empty and holds no cross-validation"):
        cross_predict(STUDY, COHORT, [linear("x")], 2, 1, folder=tmp_path)
    folder = tmp_path / "cv"
    cross_predict(STUDY, COHORT, [linear("x")], 2, 1, folder=folder)
    assert json.loads((folder / "crossval.json").read_text())["by"] == "random"
    one, two = sorted(folder.glob("arm-*.parquet"))
    one.write_bytes(two.read_bytes())
    with pytest.raises(StudyError, match=r"does not hold the test patients of its fold\. Remove it"):
        cross_predict(STUDY, COHORT, [linear("x")], 2, 1, folder=folder)
    one.write_bytes(b"half of a file")
    with pytest.raises(StudyError, match=r"cannot be read: .* Remove it"):
        cross_predict(STUDY, COHORT, [linear("x")], 2, 1, folder=folder)


def test_an_arm_is_named_by_its_code_and_its_closure():
    assert arm_key(linear("x")) == arm_key(linear("x"))
    others = [
        linear("x"),
        linear("y"),
        linear("x", 2.0),
        linear("x", on_call=print),
        at_random,
        functools.partial(at_random, seed=1),
        lambda study, training, test, seed: {"x": 1},
        lambda study, training, test, seed: {"x": 2},
    ]
    assert len({arm_key(arm) for arm in others}) == len(others)


def test_an_arm_sees_no_target_of_a_test_patient():
    seen = []
    cross_predict(
        STUDY, COHORT, [linear("x", on_call=lambda training, test, seed: seen.append((training, test)))], 3, 1
    )
    for training, test in seen:
        assert test.targets == {}
        assert not set(training.patients) & set(test.patients)
        assert all(set(table.index) == set(training.patients) for table in training.targets.values())
        assert all(set(frame.index) <= set(training.patients) for frame in training.modalities.values())


def test_an_arm_leaves_the_global_generators_and_threads_alone():
    torch.manual_seed(7)
    np.random.seed(7)
    cross_predict(STUDY, COHORT, [at_random], 2, 1)
    drawn = torch.rand(1), np.random.random()
    torch.manual_seed(7)
    np.random.seed(7)
    assert drawn == (torch.rand(1), np.random.random())


def test_every_patient_is_predicted_once_a_repeat_and_every_label_is_kept():
    found = cross_predict(STUDY, COHORT, [linear("x")], 3, 2)
    for (_, task), part in found.predictions.groupby(["repeat", "task"]):
        assert sorted(part["patient"].unique()) == sorted(COHORT.patients)
        assert len(part) == len(COHORT) * (1 + (task == "grade"))
    died = found.targets.query("task == 'death'").set_index("patient")["value"]
    pd.testing.assert_series_equal(
        died.sort_index(), COHORT.targets["death"]["died"].dropna().sort_index(), check_names=False, check_index=False
    )
    assert found.tasks == list(TASKS)


def test_by_site_and_by_time_go_all_the_way_through():
    sites = pd.Series([f"s{i % 4}" for i in range(len(COHORT))], COHORT.patients)
    by_site = cross_predict(STUDY, COHORT, [linear("x")], 4, 1, by="site", column=sites)
    tested = by_site.predictions.drop_duplicates(["fold", "patient"])
    assert (sites.loc[tested["patient"]].groupby(tested["fold"].to_numpy()).nunique() == 1).all()
    by_time = cross_validate(STUDY, COHORT, [linear("x")], 2, 1, by="time", column=np.arange(len(COHORT)))
    assert set(by_time["fold"]) == {0, 1}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({}, "Arm 'x', repeat 0, fold 0: no answer for task 'death', found none"),
        ({"death": np.zeros((3, 1))}, r"task 'death' has shape \(3, 1\), expected \(30, 1\)"),
        ({"death": np.full((30, 1), np.nan)}, "task 'death' has no finite prediction for p"),
    ],
)
def test_an_answer_that_does_not_fit_names_the_arm(answer, message):
    with pytest.raises(StudyError, match=message):
        cross_predict(STUDY, COHORT, [lambda *_: {"x": answer}], 2, 1)


def test_two_arms_of_one_name_and_impossible_processes_are_refused():
    with pytest.raises(StudyError, match="Two arms are called 'x'"):
        cross_predict(STUDY, COHORT, [linear("x"), linear("x", 2.0)], 2, 1)
    with pytest.raises(StudyError, match="n_jobs is 0"):
        cross_predict(STUDY, COHORT, [linear("x")], 2, 1, n_jobs=0)
