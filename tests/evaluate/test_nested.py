import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from multimodn.data.splits import folds
from multimodn.errors import DataError, StudyError
from multimodn.evaluate.crossval.arms import as_arm
from multimodn.evaluate.crossval.crossval import cross_predict
from multimodn.evaluate.crossval.nested import Chosen, _first_highest, choose, nested
from multimodn.study.split import RandomSplit
from multimodn.training.build import fit_tasks
from tests.evaluate._toy import make_cohort, make_study

TASKS = ("death", "size", "survival")
STUDY, COHORT = make_study(tasks=TASKS), make_cohort(tasks=TASKS)


def reading(quality, seen=None, name="arm"):
    def trainer(study, training, seed):
        if seen is not None:
            seen.append(("train", frozenset(training.patients), seed))
            for frame in (*training.modalities.values(), *training.targets.values()):
                assert set(frame.index) <= set(training.patients)

        def predict(cohort):
            if seen is not None:
                seen.append(("predict", frozenset(cohort.patients), seed))
                assert cohort.targets == {}
            x = cohort.modalities["a"]["a1"].reindex(cohort.patients).fillna(0).to_numpy()
            return {task: quality.get(task, 1.0) * x[:, None] for task in TASKS}

        return {name: predict}

    return trainer


GOOD, BAD = reading({}), reading(dict.fromkeys(TASKS, -1.0))


def test_the_better_candidate_is_chosen_whatever_the_order():
    for candidates in ({"good": GOOD, "bad": BAD}, {"bad": BAD, "good": GOOD}):
        choice = choose(candidates, STUDY, COHORT, 0)
        assert choice.best == "good"
        assert choice.by_task == dict.fromkeys(TASKS, "good")
        assert list(choice.scores.columns) == ["candidate", "task", "metric", "value"]
        assert len(choice.scores) == 6


def test_the_criterion_is_the_main_metric_averaged_over_inner_folds():
    scores = choose({"good": GOOD}, STUDY, COHORT, 0).scores.set_index("task")
    held_out = [COHORT.subset(test) for _, test in folds(COHORT, 3, seed=0, stratify="death")]
    for task in fit_tasks(STUDY, COHORT):
        values = []
        for tested in held_out:
            link = GOOD(STUDY, COHORT, 0)["arm"](replace(tested, targets={}))[task.name]
            target, known = task.prepare(tested.targets[task.name])
            values.append(task.link_metrics(torch.from_numpy(link)[known], task.link_target(target[known])))
        metric = scores.loc[task.name, "metric"]
        assert scores.loc[task.name, "value"] == pytest.approx(np.mean([value[metric] for value in values]))


def test_folds_whose_models_have_another_intercept_cost_a_candidate_nothing():
    """Ranked against each other, predictions of different folds would be near chance, and ``weak`` would be chosen."""
    numbers = itertools.count()

    def shifted(study, training, seed):
        predict, shift = GOOD(study, training, seed)["arm"], 100.0 * next(numbers)
        return {"shifted": lambda cohort: {task: link + shift for task, link in predict(cohort).items()}}

    def weak(study, training, seed):
        predict = GOOD(study, training, seed)["arm"]
        return {"weak": lambda cohort: {task: np.round(link - 0.5) for task, link in predict(cohort).items()}}

    study, cohort = make_study(tasks=("death", "survival")), make_cohort(tasks=("death", "survival"))
    choice = choose({"weak": weak, "shifted": shifted}, study, cohort, 0)
    assert choice.by_task == {"death": "shifted", "survival": "shifted"}
    own = choose({"good": GOOD}, study, cohort, 0).scores["value"]
    np.testing.assert_array_equal(choice.scores.query("candidate == 'shifted'")["value"], own)


def test_a_fold_in_which_a_metric_is_undefined_does_not_count():
    targets = COHORT.targets["death"].copy()
    held_out = [list(test) for _, test in folds(COHORT, 3, seed=0)]  # not stratified, so that labels do not matter
    targets.loc[held_out[0]] = 0.0
    cohort = replace(COHORT, targets=COHORT.targets | {"death": targets})
    study = STUDY.model_copy(update={"split": RandomSplit()})
    scores = choose({"good": GOOD}, study, cohort, 0).scores.set_index("task")["value"]
    assert 0.5 < scores["death"] < 1


def test_equals_are_won_by_the_first():
    assert choose({"b": GOOD, "a": GOOD}, STUDY, COHORT, 0).best == "b"


def test_each_task_may_have_its_own_candidate():
    one, two = reading({"death": -1.0}), reading({"size": -1.0, "survival": -1.0})
    candidates = {"one": one, "two": two}
    fitted = nested("best", candidates, per_task=True)(STUDY, COHORT, 0)["best"]
    assert isinstance(fitted, Chosen)
    assert fitted.by_task == {"death": "two", "size": "one", "survival": "one"}
    unlabelled = COHORT.__class__(COHORT.patients, COHORT.modalities)
    good = GOOD(STUDY, COHORT, 0)["arm"](unlabelled)
    for task, link in fitted(unlabelled).items():
        np.testing.assert_array_equal(link, good[task])
    whole = nested("best", candidates)(STUDY, COHORT, 0)["best"]
    assert set(whole.by_task.values()) == {whole.choice.best} == set(whole.fitted)


def test_inner_folds_never_see_an_outer_test_patient():
    seen = []
    arm = as_arm(nested("best", {"good": reading({}, seen), "bad": reading(dict.fromkeys(TASKS, -1.0), seen)}))
    found = cross_predict(STUDY, COHORT, [arm], 3, 2)
    tested = found.predictions.groupby(["repeat", "fold"])["patient"].agg(frozenset)
    per_cell = len(seen) // 6
    assert per_cell == 2 * 3 * 2 + 2
    for k, (_, outer) in enumerate(tested.items()):
        *inner, (kind, trained, _), (_, predicted, _) = seen[k * per_cell : (k + 1) * per_cell]
        assert kind == "train"
        assert trained == set(COHORT.patients) - outer
        assert predicted == outer
        for _, patients, _ in inner:
            assert not patients & outer
        held_out = [patients for kind, patients, _ in inner if kind == "predict"][::2]
        assert frozenset().union(*held_out) == trained
        assert sum(map(len, held_out)) == len(trained)


def test_all_candidates_and_arms_have_the_same_inner_folds():
    one, two = [], []
    choose({"a": reading({}, one), "b": reading({}, two)}, STUDY, COHORT, 5)
    third = []
    choose({"c": reading({}, third)}, STUDY, COHORT, 5)
    assert one == two == third
    other = []
    choose({"c": reading({}, other)}, STUDY, COHORT, 6)
    assert other != third


def test_groups_stay_together_in_inner_folds():
    groups = pd.Series([f"g{i // 3}" for i in range(len(COHORT))], COHORT.patients)
    cohort = COHORT.__class__(COHORT.patients, COHORT.modalities, COHORT.targets, groups)
    seen = []
    choose({"a": reading({}, seen)}, STUDY, cohort, 0)
    for (_, trained, _), (_, tested, _) in zip(seen[::2], seen[1::2], strict=True):
        assert not set(groups[list(trained)]) & set(groups[list(tested)])


def test_adding_a_candidate_changes_nothing_for_the_others():
    def noisy(study, training, seed):
        return {"noisy": lambda cohort: {task: torch.randn(len(cohort), 1).double().numpy() for task in TASKS}}

    alone = choose({"noisy": noisy}, STUDY, COHORT, 0).scores
    after = choose({"greedy": noisy, "noisy": noisy}, STUDY, COHORT, 0).scores.query("candidate == 'noisy'")
    np.testing.assert_array_equal(alone["value"], after["value"])


def test_where_everything_is_undefined_the_first_wins():
    assert _first_highest(pd.Series([np.nan, np.nan], ["x", "y"])) == "x"
    assert _first_highest(pd.Series([np.nan, -3.0], ["x", "y"])) == "y"


def test_candidates_that_do_not_fit_are_refused():
    def two(study, training, seed):
        return {"x": None, "y": None}

    def nothing(study, training, seed):
        return {"x": lambda cohort: {}}

    def narrow(study, training, seed):
        return {"x": lambda cohort: {task: np.zeros((len(cohort), 0)) for task in TASKS}}

    def nan(study, training, seed):
        return {"x": lambda cohort: {task: np.full((len(cohort), 1), np.nan) for task in TASKS}}

    for candidates, kind, message in (
        ({}, StudyError, "no candidate to choose from"),
        ({"two": two}, StudyError, "'two' must train exactly one arm, found x, y"),
        ({"nothing": nothing}, StudyError, "'nothing': no answer for task 'death'"),
        ({"narrow": narrow}, DataError, r"shape \(30, 0\) in an inner fold, expected \(30, 1\)"),
        ({"nan": nan}, StudyError, "predictions that are not finite"),
    ):
        with pytest.raises(kind, match=message):
            choose(candidates, STUDY, COHORT, 0)
