import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from multimodn import Cohort, Study
from multimodn.data.splits import make_split
from multimodn.errors import DataError, StudyError
from multimodn.tune import history, search
from multimodn.tune.history import FILE, Clock
from multimodn.tune.objective import (
    PatientLosses,
    TaskScore,
    metrics,
    patient_gains,
    score_fold,
    score_patients,
    skill,
    skills,
    summed,
)
from multimodn.tune.outcome import CHECK_LEVEL, Checked, check_p
from multimodn.tune.relocate import relocated
from multimodn.tune.search import default_space, tune
from multimodn.tune.space import build_space, read_space
from tests._cohorts import make_cohort, make_frames, make_study, write_files

SPACE = {"training.penalty": {"low": 0.01, "high": 10.0, "log": True}, "modalities.*.dropout": [0.0, 0.3]}
WIDTHS = {"labs": 3, "image": 4}
SPLIT = {"validation": 0.2, "test": 0.25}
COMPARED = ["trial", "state", "skill", "training.penalty", "modalities.*.dropout"]


@pytest.fixture(autouse=True)
def _in_memory(request, monkeypatch):
    """Trials are kept in memory, one storage a folder, except where a test asks for the `database`: that is slow."""
    if "database" in request.fixturenames:
        return
    storages: dict = {}

    def opened(file):
        file.touch()
        return storages.setdefault(file, optuna.storages.InMemoryStorage())

    monkeypatch.setattr(history, "_open", opened)


@pytest.fixture
def database():
    """Trials are kept in the file."""


def fake(monkeypatch, gain, log=None):
    """Scores a study by its settings alone: `gain(study, fold)` is the share of the prior's loss that is taken away."""

    def score(study, training, held_out):
        if log is not None:
            log.append((study, training, held_out))
        loss = 1 - gain(study, held_out)
        return {"death": TaskScore(10 * loss, 10.0, 10, 0.5), "size": TaskScore(8 * loss, 8.0, 10, np.nan)}

    def score_each(study, training, checked):
        if log is not None:
            log.append((study, training, checked))
        loss, n = 1 - gain(study, checked), len(checked)
        return {"death": PatientLosses([loss] * n, [1.0] * n), "size": PatientLosses([loss] * n, [1.0] * n)}

    monkeypatch.setattr(search, "score_fold", score)
    monkeypatch.setattr(search, "score_patients", score_each)


def by_penalty(study, held_out):
    return -abs(np.log10(study.training.penalty))  # best at 1


def small(folder, **changes):
    given = {"time_s": None, "n_trials": 3, "space": SPACE} | changes
    return tune(make_study(split=SPLIT), make_cohort(), folder, **given)


# --- the objective


def test_the_skill_of_the_prior_is_zero_and_of_certainty_one():
    prior = {"a": TaskScore(5.0, 5.0, 7, 0.5), "b": TaskScore(0.0, 3.0, 7, 1.0)}
    assert skills([prior, prior]) == {"a": 0.0, "b": 1.0}
    assert skill([prior]) == 0.5


losses = st.lists(
    st.tuples(st.floats(0.1, 50), st.floats(0.1, 50), st.floats(0.1, 50), st.floats(0.1, 50)), min_size=1, max_size=4
)


@given(losses, st.floats(0.01, 100))
def test_the_unit_of_a_loss_does_not_matter(rows, unit):
    folds = [{"a": TaskScore(a, b, 5, 0.5), "b": TaskScore(c, d, 5, 0.5)} for a, b, c, d in rows]
    scaled = [
        {**fold, "a": replace(fold["a"], loss=unit * fold["a"].loss, prior=unit * fold["a"].prior)} for fold in folds
    ]
    assert skill(scaled) == pytest.approx(skill(folds), rel=1e-9, abs=1e-9)


def test_a_task_that_a_fold_has_no_label_of_counts_where_it_has():
    folds = [
        {"a": TaskScore(1.0, 2.0, 5, np.nan)},
        {"a": TaskScore(1.0, 2.0, 5, 0.8), "b": TaskScore(3.0, 4.0, 5, 0.6)},
    ]
    assert skills(folds) == {"a": 0.5, "b": 0.25}
    assert metrics(folds) == {"a": 0.8, "b": 0.6}


def test_losses_are_those_of_scikit_learn():
    from sklearn.metrics import log_loss

    from multimodn import MultiModN
    from multimodn.evaluate.crossval.contracts import development_split
    from multimodn.training.fit import TrainerFlags

    study, cohort = make_study(), make_cohort(n=60)
    training, held_out = cohort.subset(cohort.patients[:40]), cohort.subset(cohort.patients[40:])
    found = score_fold(study, training, held_out)["death"]
    model = MultiModN(study).fit(training, split=development_split(study, training), flags=TrainerFlags(progress=False))
    chance = model.predict(held_out).query("task == 'death' and output == 'probability'")["value"]
    truth = held_out.targets["death"]["status"].dropna().eq("dead")
    assert found.n == len(truth)
    assert found.loss / found.n == pytest.approx(log_loss(truth, chance[truth.index]), rel=1e-4)
    split = development_split(study, training)
    base = training.targets["death"]["status"].loc[list(split.train)].dropna().eq("dead").mean()
    assert found.prior / found.n == pytest.approx(log_loss(truth, np.full(len(truth), base), labels=[0, 1]), rel=0.05)


# --- the space


def test_the_default_space_holds_the_study_and_every_end_of_it_is_a_study():
    study = make_study()
    space = default_space(study, WIDTHS)
    assert space.apply(study, space.default).to_dict() == study.to_dict()
    for one in space.dimensions:
        for value in one.choices or (one.low, one.high):
            space.apply(study, {one.name: value})


def test_components_are_searched_in_wide_modalities_only():
    space = default_space(make_study(), {"labs": 3, "image": 200})
    assert {one.name: one.places for one in space.dimensions}["modalities.*.n_components"] == ("image",)
    assert "modalities.*.n_components" not in default_space(make_study(), WIDTHS).default


@settings(max_examples=10)
@given(st.floats(0.001, 1000))
def test_a_range_is_widened_to_the_study_s_own_value(penalty):
    study = make_study(training={"penalty": penalty})
    (one,) = build_space(study, {"training.penalty": {"low": 0.1, "high": 2, "log": True}}, WIDTHS).dimensions
    assert one.low == min(0.1, penalty)
    assert one.high == max(2, penalty)


def test_modalities_that_differ_may_stay_as_they_are():
    data = make_study().to_dict()
    data["modalities"][0]["n_layers"] = 0
    study = Study.from_dict(data)
    space = build_space(study, {"modalities.*.n_layers": [1, 2]}, WIDTHS)
    assert space.default == {"modalities.*.n_layers": "study"}
    assert space.apply(study, space.default).to_dict() == study.to_dict()
    changed = space.apply(study, {"modalities.*.n_layers": 2})
    assert [each.options.n_layers for each in changed.modalities] == [2, 2]


@pytest.mark.parametrize(
    ("name", "range_", "said"),
    [
        ("training.penlty", [1.0], "Did you mean 'penalty'"),
        ("trainig.penalty", [1.0], "Did you mean 'training'"),
        ("modalities.lab.dropout", [0.1], "Did you mean 'labs'"),
        ("modalities.labs.dropuot", [0.1], "Did you mean 'dropout'"),
        ("modalities.labs.dropout", [1.5], "less than 1"),
        ("modalities.*.dropout", [1.5], "no modality has this option and accepts all these values"),
        ("training.seed", [1, 2], "a lucky seed is not a better setting"),
        ("training.members", [1, 2], "the argument `members`"),
        ("training.update", "gated", "expected a list"),
        ("training.penalty", {"low": 1, "hihg": 2}, "Did you mean 'high'"),
        ("training.penalty", {"low": 3, "high": 2}, "larger number"),
        ("training.penalty", {"low": 0, "high": 2, "log": True}, "above 0"),
        ("training.epochs", {"low": 1.5, "high": 3}, "whole numbers"),
        ("training.update", {"low": 1, "high": 3}, "write a list"),
        ("modalities.labs.categorical", [1], "is a list"),
    ],
)
def test_what_is_wrong_in_a_space_is_named(name, range_, said):
    with pytest.raises(StudyError, match=said) as error:
        build_space(make_study(), {name: range_}, WIDTHS)
    assert name in str(error.value)


def test_every_problem_of_a_space_is_listed():
    with pytest.raises(StudyError, match="2 problems"):
        build_space(make_study(), {"training.a": [1], "training.b": [1]}, WIDTHS)


def test_a_space_may_come_from_a_file(tmp_path):
    (tmp_path / "space.yaml").write_text("training.penalty: {low: 1e-1, high: 10, log: true}\n")
    assert read_space(tmp_path / "space.yaml") == {"training.penalty": {"low": 0.1, "high": 10, "log": True}}
    (tmp_path / "space.yaml").write_text("- 1\n")
    with pytest.raises(StudyError, match="expected a mapping"):
        read_space(tmp_path / "space.yaml")


# --- the search


def test_a_search_trains_and_writes_a_study_that_can_be_fitted(tmp_path, database):
    write_files(tmp_path / "in", split=SPLIT)
    study = Study.load(tmp_path / "in/study.yaml")
    found = tune(study, folder=tmp_path / "out", time_s=None, n_trials=3, space=SPACE, n_folds=2)
    best = Study.load(tmp_path / "out/best.yaml")
    assert Cohort.load(best).hash() == Cohort.load(study).hash()
    assert best.to_dict()["training"] == found.study.to_dict()["training"]
    assert best.modalities == found.study.modalities
    record = json.loads((tmp_path / "out/search.json").read_text())
    assert record["data_hash"] == Cohort.load(study).hash()
    assert record["n_complete"] + record["n_pruned"] == 3
    trials = pd.read_csv(tmp_path / "out/trials.csv")
    assert {"skill: death", "metric: death", "metric: survival"} <= set(trials.columns)
    assert (tmp_path / "out/best.yaml").read_text().startswith("# Written by `multimodn tune`")


def test_the_study_itself_is_the_first_trial(tmp_path, monkeypatch):
    fake(monkeypatch, by_penalty)
    first = small(tmp_path / "out").trials.iloc[0]
    assert (first["training.penalty"], first["modalities.*.dropout"]) == (0.3, 0.1)


def test_nothing_of_the_test_patients_is_seen(tmp_path, monkeypatch):
    seen: list = []
    fake(monkeypatch, by_penalty, seen)
    study, cohort = make_study(split=SPLIT), make_cohort()
    tune(study, cohort, tmp_path / "out", time_s=None, n_trials=3, space=SPACE)
    test = set(make_split(study, cohort).test)
    assert len(test) == 10
    for _, training, held_out in seen:
        assert not test & (set(training.patients) | set(held_out.patients))
        assert not set(training.patients) & set(held_out.patients)


@pytest.mark.filterwarnings("ignore:Notes on the data")  # equal cells beside equal labels
def test_what_the_test_patients_have_changes_no_trial(tmp_path):
    study, (tables, targets) = make_study(split=SPLIT), make_frames()
    test = make_split(study, make_cohort()).test
    changed = {name: frame.copy() for name, frame in tables.items()}
    for frame in changed.values():
        frame.loc[frame.index.isin(test)] = 1e3
    labels = {name: frame.copy() for name, frame in targets.items()}
    labels["size"].loc[labels["size"].index.isin(test)] = -1e3
    both = [
        tune(study, cohort, tmp_path / name, time_s=None, n_trials=2, n_folds=2, space=SPACE)
        for name, cohort in (("a", make_cohort()), ("b", Cohort.from_frames(changed, labels)))
    ]
    pd.testing.assert_frame_equal(*(found.trials.drop(columns="seconds") for found in both))


@pytest.mark.parametrize("grouped", [False, True])
def test_no_trial_sees_the_patients_that_check_the_best(tmp_path, monkeypatch, grouped):
    seen: list = []
    fake(monkeypatch, by_penalty, seen)
    tables, targets = make_frames()
    site = pd.Series([f"site{i // 2}" for i in range(40)], index=tables["labs"].index)
    study, cohort = make_study(split=SPLIT), Cohort.from_frames(tables, targets, groups=site if grouped else None)
    found = tune(study, cohort, tmp_path / "out", time_s=None, n_trials=12, space=SPACE)
    *trials, a, b, c, d, e, f = seen
    checked = set(a[2].patients)
    assert all(set(each[2].patients) == checked for each in (a, b, c, d, e, f))
    assert len(checked) == found.record.n_checked
    searched = set().union(*(held_out.patients for _, _, held_out in trials))
    assert len(searched) == found.record.n_searched
    assert not checked & searched
    assert checked | searched == set(cohort.patients) - set(make_split(study, cohort).test)
    for _, training, _ in seen:
        assert not checked & set(training.patients)
        if grouped:
            assert not set(training.groups) & set(a[2].groups)


def ridge_losses(x, y, columns, train, test):
    """Squared errors of a ridge regression of some columns, and of the mean."""
    design = np.column_stack([x[:, columns], np.ones(len(y))])
    strength = np.diag([20.0] * len(columns) + [0.0])
    weights = np.linalg.solve(design[train].T @ design[train] + strength, design[train].T @ y[train])
    return (y[test] - design[test] @ weights) ** 2, (y[test] - y[train].mean()) ** 2


def search_of_ridges(rng, n=150, n_trials=20, effect=0.0):
    """Chooses the best of some sets of columns, and checks it: the p-value, or 1 where the first set is best.

    All sets are noise, but for column 0 of the second set if there is an effect.
    """
    x = rng.normal(size=(n, 60))
    y = rng.normal(size=n) + effect * x[:, 0]
    sets = [rng.choice(np.arange(1, 60), 5, replace=False) for _ in range(n_trials + 1)]
    sets[1][0] = 0
    kept, fold = rng.permutation(n) % 4 == 0, rng.permutation(n) % 3
    skills_ = []
    for columns in sets:
        parts = [ridge_losses(x, y, columns, ~kept & (fold != k), ~kept & (fold == k)) for k in range(3)]
        skills_.append(1 - sum(loss.sum() for loss, _ in parts) / sum(prior.sum() for _, prior in parts))
    if not (best := int(np.argmax(skills_))):
        return 1.0
    scores = [
        [{"y": PatientLosses(*map(list, ridge_losses(x, y, sets[j], ~kept & (fold != k), kept)))} for k in range(3)]
        for j in (best, 0)
    ]
    return check_p(*scores, Checked(np.arange(kept.sum()), int((~kept).sum())))


def test_a_best_trial_that_is_no_better_passes_the_check_at_its_level():
    """Checked on other folds of the same patients, the best of 20 such trials passed in most searches."""
    rng = np.random.default_rng(0)
    assert np.mean([search_of_ridges(rng) <= CHECK_LEVEL for _ in range(100)]) <= 0.15
    assert np.mean([search_of_ridges(rng, 300, 5, effect=0.8) <= CHECK_LEVEL for _ in range(10)]) >= 0.8


def test_the_gains_of_patients_add_up_to_the_difference_in_skill():
    rng = np.random.default_rng(0)

    def scores():
        each = [PatientLosses(rng.random(6).tolist(), np.full(6, 2.0).tolist()) for _ in range(4)]
        each[1].loss[2] = each[3].loss[2] = np.nan  # a patient without a label of b
        each[1].prior[2] = each[3].prior[2] = np.nan
        return [{"a": each[0], "b": each[1]}, {"a": each[2], "b": each[3]}]

    best, default = scores(), scores()
    of_best, of_default = ([summed(one) for one in each] for each in (best, default))
    gains = patient_gains(best, default)
    assert gains.shape == (6,)
    assert gains.sum() == pytest.approx(skill(of_best) - skill(of_default))


def test_signs_of_a_group_are_flipped_together():
    score = {"a": PatientLosses([0.5] * 20, [1.0] * 20)}, {"a": PatientLosses([1.0] * 20, [1.0] * 20)}
    alone = check_p([score[0]], [score[1]], Checked(np.arange(20), 10**6))
    families = check_p([score[0]], [score[1]], Checked(np.arange(20) // 10, 10**6))
    assert alone < 0.001
    assert families == pytest.approx(0.25, abs=0.03)
    small_training = check_p([score[0]], [score[1]], Checked(np.arange(20), 5))
    assert small_training > alone  # fewer patients trained on: more would change with others


def test_losses_of_patients_add_up_to_those_of_the_fold():
    study, cohort = make_study(), make_cohort(n=60)
    training, held_out = cohort.subset(cohort.patients[:40]), cohort.subset(cohort.patients[40:])
    whole, each = score_fold(study, training, held_out), summed(score_patients(study, training, held_out))
    assert whole.keys() == each.keys()
    for name, score in whole.items():
        assert (each[name].loss, each[name].prior) == pytest.approx((score.loss, score.prior))
        assert each[name].n == score.n


def test_all_trials_see_the_same_folds(tmp_path, monkeypatch):
    seen: list = []
    fake(monkeypatch, lambda study, held_out: 0.1, seen)
    small(tmp_path / "out", n_trials=4)
    deals = [tuple(map(tuple, (training.patients, held_out.patients))) for _, training, held_out in seen]
    assert len(deals) == 12
    assert all(deals[i] == deals[i % 3] for i in range(12))


def test_a_group_is_never_on_both_sides(tmp_path, monkeypatch):
    seen: list = []
    fake(monkeypatch, by_penalty, seen)
    tables, targets = make_frames()
    site = pd.Series([f"site{i // 4}" for i in range(40)], index=tables["labs"].index)
    tune(make_study(), Cohort.from_frames(tables, targets, groups=site), tmp_path / "out", time_s=None, n_trials=3)
    assert seen
    for _, training, held_out in seen:
        assert not set(training.groups) & set(held_out.groups)


def test_the_seed_decides_everything(tmp_path, monkeypatch):
    fake(monkeypatch, by_penalty)
    one, same, other = (
        small(tmp_path / name, n_trials=10, seed=seed).trials[COMPARED] for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    pd.testing.assert_frame_equal(one, same)
    assert not one.equals(other)


@pytest.mark.parametrize("n_before", [0, 4, 23])
def test_an_interrupted_search_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, n_before):
    fake(monkeypatch, by_penalty)
    whole = small(tmp_path / "whole", n_trials=11)
    calls = itertools.count()

    def dies(study, held_out):
        if next(calls) == n_before:
            raise KeyboardInterrupt
        return by_penalty(study, held_out)

    fake(monkeypatch, dies)
    with pytest.raises(KeyboardInterrupt):
        small(tmp_path / "out", n_trials=11)
    fake(monkeypatch, by_penalty)
    resumed = small(tmp_path / "out", n_trials=11)
    ended = resumed.trials[resumed.trials["state"] != "interrupted"].reset_index(drop=True)
    assert len(ended) == len(resumed.trials) - 1
    columns = COMPARED[1:]
    pd.testing.assert_frame_equal(ended[columns], whole.trials[columns])
    assert resumed.record.settings == whole.record.settings


def test_settings_that_are_better_replace_the_study_s(tmp_path, monkeypatch):
    fake(monkeypatch, by_penalty)
    found = small(tmp_path / "out", n_trials=20)
    assert found.record.is_better
    assert abs(np.log10(found.study.training.penalty)) < abs(np.log10(0.3))
    assert "optimistic" in found.record.verdict
    assert len(found.comparison) == 6
    assert (found.comparison["difference"] > 0).all()
    assert f"training.penalty: {found.study.training.penalty}" in (tmp_path / "out/best.yaml").read_text()


def test_where_nothing_is_better_the_study_stays_and_it_is_said(tmp_path, monkeypatch):
    fake(monkeypatch, lambda study, held_out: 0.1 if study.training.penalty == 0.3 else 0.0)
    found = small(tmp_path / "out", n_trials=5)
    assert found.study == make_study(split=SPLIT)
    assert not found.record.is_better
    assert "None of 4 other trials was better than the study" in (tmp_path / "out/best.yaml").read_text()


def test_luck_on_the_first_folds_replaces_nothing(tmp_path, monkeypatch):
    n = itertools.count()

    def lucky(study, held_out):  # 5 trials of 3 folds, then the check of the finalists
        is_own = study.training.penalty == 0.3
        return 0.1 if is_own == (next(n) >= 15) else 0.0

    fake(monkeypatch, lucky)
    found = small(tmp_path / "out", n_trials=5)
    assert found.record.best_skill > found.record.default_skill
    assert found.record.best_checked < found.record.default_checked
    assert not found.record.is_better
    assert found.study == make_study(split=SPLIT)
    assert "No trial was shown to be better than the study" in found.record.verdict
    assert "on the 8 patients whom no trial saw" in found.record.verdict


def test_members_of_trials_are_few_and_those_of_the_best_study_its_own(tmp_path, monkeypatch):
    seen: list = []
    fake(monkeypatch, by_penalty, seen)
    study = make_study(training={"members": 5, "loggers": ["mlflow"]})
    found = tune(study, make_cohort(), tmp_path / "out", time_s=None, n_trials=6, space=SPACE)
    assert {each.training.members for each, _, _ in seen} == {1}
    assert {tuple(each.training.loggers) for each, _, _ in seen} == {("csv",)}
    assert found.record.is_better
    assert (found.study.training.members, found.study.training.loggers) == (5, ["mlflow"])


def test_a_hopeless_trial_is_stopped_before_its_last_fold(tmp_path, monkeypatch):
    fake(monkeypatch, by_penalty)
    trials = small(tmp_path / "out", n_trials=20).trials
    pruned = trials[trials["state"] == "pruned"]
    assert len(pruned)
    assert (pruned["folds"] == 2).all()
    assert pruned["skill"].max() < trials["skill"].max()


def test_settings_that_do_not_fit_together_end_a_trial_and_not_the_search(tmp_path, monkeypatch):
    def picky(study, held_out):
        if study.training.penalty > 0.5:
            raise StudyError("too much of it")
        return by_penalty(study, held_out)

    fake(monkeypatch, picky)
    trials = small(tmp_path / "out", n_trials=8).trials
    assert len(trials) == 8
    refused = trials[trials["state"] == "failed"]
    assert len(refused)
    assert (refused["error"] == "too much of it").all()


def test_what_is_wrong_with_the_study_itself_is_raised(tmp_path, monkeypatch):
    def refuse(study, held_out):
        raise DataError("no such class")

    fake(monkeypatch, refuse)
    with pytest.raises(DataError, match="no such class"):
        small(tmp_path / "out")


def test_a_loss_that_is_not_finite_is_no_score(tmp_path, monkeypatch):
    fake(monkeypatch, lambda study, held_out: np.nan if study.training.penalty > 1 else 0.1)
    trials = small(tmp_path / "out", n_trials=8).trials
    assert (trials["state"] == "failed").any()
    assert np.isfinite(trials.loc[trials["state"] == "complete", "skill"]).all()


# --- time


@pytest.fixture
def slow_folds(monkeypatch):
    """A clock that only a fold moves, by ten seconds."""
    now = [0.0]
    monkeypatch.setattr(search, "Clock", lambda limit: _Clock(limit, started=now[0], now=now))

    def passes(study, held_out):
        now[0] += 10
        return by_penalty(study, held_out)

    fake(monkeypatch, passes)


class _Clock(Clock):
    def __init__(self, limit, started, now):
        super().__init__(limit, started=started)
        self.now = now

    def used(self):
        return self.before + self.now[0] - self.started


@pytest.mark.parametrize("limit", [5, 30, 100, 185, 200, 260])
def test_no_fold_starts_after_the_time_and_some_is_kept_to_check_the_best(tmp_path, slow_folds, limit):
    found = small(tmp_path / "out", time_s=limit, n_trials=None)
    assert found.record.time_s < limit + 10
    if len(found.trials[found.trials["state"] == "complete"]) > 1 and found.record.best_trial != 0:
        assert found.record.best_checked is not None


def test_time_that_was_used_before_counts(tmp_path, slow_folds):
    first = small(tmp_path / "out", time_s=200, n_trials=None)
    assert small(tmp_path / "out", time_s=200, n_trials=None).record.time_s == first.record.time_s
    more = small(tmp_path / "out", time_s=400, n_trials=None)
    assert len(more.trials) > len(first.trials)
    assert more.record.time_s < 410


def test_without_time_for_a_second_trial_it_is_said(tmp_path, slow_folds):
    found = small(tmp_path / "out", time_s=40, n_trials=None)
    assert "no time to try other settings: one trial takes about 30 s" in found.record.verdict
    assert found.study == make_study(split=SPLIT)


def test_without_time_for_the_study_itself_it_is_said(tmp_path, slow_folds):
    found = small(tmp_path / "out", time_s=15, n_trials=None)
    assert "no time to score the study" in found.record.verdict


def test_an_unchecked_best_replaces_nothing(tmp_path, slow_folds):
    small(tmp_path / "out", time_s=1000, n_trials=4)
    storage = history._open(tmp_path / "out" / FILE)
    study = optuna.load_study(study_name="tune", storage=storage)
    for number in range(4):
        study.set_user_attr(f"check {number}", "[]")
    found = small(tmp_path / "out", time_s=1, n_trials=4)
    assert found.record.best_skill > found.record.default_skill
    assert not found.record.is_better
    assert "no time to check it" in found.record.verdict


# --- the folder


def test_trials_are_found_again_in_the_file(tmp_path, monkeypatch, database):
    fake(monkeypatch, by_penalty)
    small(tmp_path / "out", n_trials=2)
    resumed = small(tmp_path / "out", n_trials=3)
    assert list(resumed.trials["trial"]) == [0, 1, 2]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "best.yaml", "search.db", "search.json", "trials.csv",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "--seed changed"),
        ({"n_folds": 4}, "--folds changed"),
        ({"members": 2}, "--members changed"),
        ({"space": {"training.penalty": [0.1]}}, "the space changed"),
    ],
)
def test_another_protocol_is_another_search(tmp_path, monkeypatch, changes, said):
    fake(monkeypatch, by_penalty)
    small(tmp_path / "out")
    with pytest.raises(StudyError, match=said):
        small(tmp_path / "out", **changes)


def test_another_study_or_other_data_is_another_search(tmp_path, monkeypatch):
    fake(monkeypatch, by_penalty)
    small(tmp_path / "out")
    limits = {"time_s": None, "n_trials": 3, "space": SPACE}
    with pytest.raises(StudyError, match="the study changed"):
        tune(make_study(name="other", split=SPLIT), make_cohort(), tmp_path / "out", **limits)
    with pytest.raises(StudyError, match="the data changed"):
        tune(make_study(split=SPLIT), make_cohort(seed=1), tmp_path / "out", **limits)


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StudyError, match="not empty and holds no search"):
        small(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_trials": None}, "Limit the search"),
        ({"time_s": -1.0}, "positive number"),
        ({"n_trials": 0}, "at least one trial"),
        ({"members": 0}, "1 to 100"),
    ],
)
def test_limits_are_checked(tmp_path, changes, said):
    with pytest.raises(StudyError, match=said):
        small(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_relative_paths_lead_to_the_same_files_from_another_folder(tmp_path):
    write_files(tmp_path / "in")
    data = Study.load(tmp_path / "in/study.yaml").to_dict()
    data["cohort"]["sources"]["labs"] = {"query": "SELECT * FROM 'labs.csv' WHERE id <> 'it''s' AND id <> 'labs'"}
    data["cohort"]["sources"]["image"] = str(tmp_path / "in/image.csv")
    (tmp_path / "in/train.csv").write_text("id\np00\np01\n")
    data["split"] = {"files": {"train": "train.csv"}}
    study = Study.from_dict(data, tmp_path / "in")
    moved = relocated(study, tmp_path / "a/b")
    sources = moved.to_dict()["cohort"]["sources"]
    assert sources["outcome"] == "../../in/outcome.csv"
    assert sources["image"] == str(tmp_path / "in/image.csv")
    assert sources["labs"]["query"] == ("SELECT * FROM '../../in/labs.csv' WHERE id <> 'it''s' AND id <> 'labs'")
    (tmp_path / "a/b").mkdir(parents=True)
    here, there = Cohort.load(study), Cohort.load(moved)
    assert here.hash() == there.hash()
    assert make_split(study, here).hash() == make_split(moved, there).hash()
    folds_of = Study.from_dict(data | {"split": {"files": ["a.csv", "/data/b.csv"], "test": "a"}}, tmp_path / "in")
    assert relocated(folds_of, tmp_path / "a/b").split.files == ["../../in/a.csv", "/data/b.csv"]


def test_the_command_shows_the_trials_and_the_verdict(tmp_path, monkeypatch):
    from multimodn.cli import tune as command

    fake(monkeypatch, by_penalty)
    write_files(tmp_path / "in", split=SPLIT)
    (tmp_path / "space.yaml").write_text("training.penalty: {low: 0.01, high: 10, log: true}\n")
    app = typer.Typer()
    app.command()(command.tune)
    given = [str(tmp_path / "in/study.yaml"), "--out", str(tmp_path / "out"), "--trials", "6", "--time", "600"]
    result = CliRunner().invoke(app, [*given, "--space", str(tmp_path / "space.yaml")])
    assert result.exit_code == 0, result.output
    shown = " ".join(result.output.split())
    assert "none: the study" in shown
    assert "training.penalty" in shown
    assert json.loads((tmp_path / "out/search.json").read_text())["verdict"] in shown
    assert (tmp_path / "out/best.yaml").exists()


@pytest.mark.slow
def test_a_killed_search_goes_on_as_if_nothing_had_been(tmp_path, database):
    write_files(tmp_path / "in", split=SPLIT, training={"epochs": 30})
    code = (
        "import sys; from pathlib import Path; from multimodn import Study; from multimodn.tune.search import tune\n"
        "tune(Study.load(sys.argv[1]), folder=Path(sys.argv[2]), time_s=None, n_trials=6, n_folds=2,"
        "space={'training.penalty': {'low': 0.01, 'high': 10.0, 'log': True}})"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "in/study.yaml")]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    process = subprocess.Popen([*command, str(tmp_path / "killed")])
    while not (tmp_path / "killed" / FILE).exists() or n_started(tmp_path / "killed") < 3:
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed/best.yaml").exists()
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    whole, killed = (pd.read_csv(tmp_path / name / "trials.csv") for name in ("whole", "killed"))
    assert (killed["state"] == "interrupted").sum() == 1
    ended = killed[killed["state"] != "interrupted"].reset_index(drop=True)
    columns = ["state", "skill", "training.penalty"]
    pd.testing.assert_frame_equal(ended[columns], whole[columns])


def n_started(folder: Path) -> int:
    import sqlite3

    connection = sqlite3.connect(folder / FILE)
    try:
        return connection.execute("SELECT count(*) FROM trials").fetchone()[0]
    except sqlite3.OperationalError:  # its tables are being made
        return 0
    finally:
        connection.close()
