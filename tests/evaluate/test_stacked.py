"""Stacked late ridge fusion, and what models know of what is empty."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from multimodn import Cohort, DataWarning
from multimodn.evaluate.baselines import stacked
from multimodn.evaluate.baselines.boosting import fit_lightgbm_imputed, fit_lightgbm_tuned
from multimodn.evaluate.baselines.design_matrix import inputs
from multimodn.evaluate.baselines.filling import Filling, fit_emptiness
from multimodn.evaluate.baselines.ridge import fit_late_ridge
from multimodn.evaluate.baselines.stacked import fit_stacked_ridge
from tests.evaluate._toy import WIDTHS, halves, make_cohort, make_study, without

ONE = [{"num_leaves": 7, "min_data_in_leaf": 5}]
IMPUTED = partial(fit_lightgbm_imputed, grid=ONE)
BLIND = [fit_stacked_ridge, partial(fit_lightgbm_tuned, sees_empty=False, grid=ONE)]
SEEING = [partial(fit_stacked_ridge, sees_empty=True), partial(fit_lightgbm_tuned, sees_empty=True, grid=ONE)]


def fitted(fit, study, training, seed=0):
    (predict,) = fit(study, training, seed).values()
    return predict


def with_holes(cohort, column, rows):
    """The cohort with empty cells of a column of modality ``a``."""
    frame = cohort.modalities["a"].copy()
    frame.loc[cohort.patients[rows], column] = np.nan
    return replace(cohort, modalities=cohort.modalities | {"a": frame})


def empty_for_the_dead(cohort):
    return with_holes(cohort, "a1", (cohort.targets["death"]["died"] == 1).to_numpy())


def test_every_kind_of_task_is_predicted():
    train, test = halves(make_cohort())
    links = fitted(fit_stacked_ridge, make_study(), train)(test)
    assert {task: link.shape for task, link in links.items()} == {task: (45, k) for task, k in WIDTHS.items()}
    assert all(np.isfinite(link).all() for link in links.values())


def test_evidence_of_modalities_adds_up_and_that_of_an_absent_one_is_0():
    train, test = halves(make_cohort(n=200, tasks=("death", "size", "survival")))
    predict = fitted(fit_stacked_ridge, make_study(("death", "size", "survival")), train)
    every, no_b, only_b, none = (predict(without(test, *names)) for names in ("", "b", "ac", "abc"))
    for task in every:
        np.testing.assert_allclose(every[task] - no_b[task], only_b[task] - none[task], atol=1e-8)
        assert np.ptp(none[task]) == 0
    has_b = test.patients.isin(test.modalities["b"].index)
    assert np.ptp((every["death"] - no_b["death"])[~has_b]) == 0
    assert (every["death"] != no_b["death"])[has_b].all()


def test_the_ridge_model_of_a_modality_is_that_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(stacked, "PENALTIES", (3.0,))
    train, test = halves(make_cohort(n=200, tasks=("death",)))
    study = make_study(("death",))
    study = study.model_copy(update={"modalities": study.modalities[:1]})
    link = fitted(fit_stacked_ridge, study, train)(test)["death"][:, 0]
    y = train.targets["death"]["died"]
    scaler = StandardScaler().fit(train.modalities["a"])
    x, new = (np.clip(scaler.transform(each.modalities["a"]), -3, 3) for each in (train, test))
    known = y.notna().to_numpy()
    expected = LogisticRegression(C=1 / 3, tol=1e-10).fit(x[known], y[known]).decision_function(new)
    assert np.corrcoef(link, expected)[0, 1] > 1 - 1e-6


def noisy_cohort(n, seed):
    """Modality ``a`` tells the outcome; ``b`` and ``c`` are twenty columns of noise each."""
    generator = np.random.default_rng(seed)
    ids = [f"p{i:03d}" for i in range(n)]
    tables = {m: pd.DataFrame(generator.normal(size=(n, 20)), ids).add_prefix(m) for m in "bc"}
    tables["a"] = pd.DataFrame(generator.normal(size=(n, 2)), ids, ["a1", "a2"])
    died = generator.random(n) < 1 / (1 + np.exp(-2 * tables["a"]["a1"]))
    return Cohort.from_frames(tables, {"death": pd.DataFrame({"died": died.astype(float)}, ids)})


def test_a_modality_of_noise_has_less_weight_than_in_the_mean():
    train, test = halves(noisy_cohort(400, 0))
    study, died = make_study(("death",)), test.targets["death"]["died"]
    stack = roc_auc_score(died, fitted(fit_stacked_ridge, study, train)(test)["death"][:, 0])
    late = roc_auc_score(died, fit_late_ridge(study, train, 0)["late_ridge"](test)["death"][:, 0])
    alone = roc_auc_score(died, test.modalities["a"]["a1"])
    assert stack > late
    assert stack > alone - 0.01


def test_patients_of_a_group_are_in_one_fold():
    generator = np.random.default_rng(0)
    ids = [f"p{i:03d}" for i in range(150)]
    x = np.repeat(generator.normal(size=(50, 30)), 3, axis=0)  # a person is three rows
    died = np.repeat(np.arange(50) % 2, 3).astype(float)
    tables = {"a": pd.DataFrame(x, ids).add_prefix("a")}
    tables |= {m: pd.DataFrame(generator.normal(size=(150, 1)), ids, [m]) for m in "bc"}
    alone = Cohort.from_frames(tables, {"death": pd.DataFrame({"died": died}, ids)})
    grouped = replace(alone, groups=pd.Series(np.repeat(np.arange(50), 3).astype(str), ids))
    leaked, kept = (fitted(fit_stacked_ridge, make_study(("death",)), each)(each)["death"] for each in (alone, grouped))
    assert kept.std() < leaked.std() / 3


@pytest.mark.parametrize("fit", [fit_stacked_ridge, partial(fit_stacked_ridge, sees_empty=True)])
def test_a_column_with_too_few_of_an_outcome_has_the_prior(fit):
    train, test = halves(make_cohort(tasks=("death", "survival")))
    died = train.targets["death"].assign(died=[1.0] * 3 + [0.0] * 42)
    censored = train.targets["survival"].assign(event=[1] * 2 + [0] * 43)
    rare = replace(train, targets={"death": died, "survival": censored})
    links = fitted(fit, make_study(("death", "survival")), rare)(test)
    np.testing.assert_allclose(links["death"], np.log(3 / 42))
    np.testing.assert_array_equal(links["survival"], 0)


@pytest.mark.parametrize("fit", BLIND)
def test_models_that_may_not_see_emptiness_read_the_training_median(fit):
    train, test = halves(make_cohort(n=200, tasks=("death",)))
    train = empty_for_the_dead(train)
    predict = fitted(fit, make_study(("death",)), train)
    frame = test.modalities["a"].assign(a1=train.modalities["a"]["a1"].median())
    filled = replace(test, modalities=test.modalities | {"a": frame})
    np.testing.assert_array_equal(predict(with_holes(test, "a1", slice(None)))["death"], predict(filled)["death"])


@pytest.mark.parametrize("fit", SEEING)
def test_models_that_may_see_emptiness_learn_from_it(fit):
    train, test = (empty_for_the_dead(each) for each in halves(make_cohort(n=400, tasks=("death",))))
    known = test.targets["death"]["died"].notna().to_numpy()
    link = fitted(fit, make_study(("death",)), train)(test)["death"][known, 0]
    assert roc_auc_score(test.targets["death"]["died"][known], link) > 0.99


def test_medians_tell_trees_what_was_empty_and_imputed_cells_do_not():
    train, test = (empty_for_the_dead(each) for each in halves(make_cohort(n=400, tasks=("death",))))
    known = test.targets["death"]["died"].notna().to_numpy()
    of_medians, imputed = (
        fitted(fit, make_study(("death",)), train)(test)["death"][known, 0] for fit in (BLIND[1], IMPUTED)
    )
    died = test.targets["death"]["died"][known]
    assert roc_auc_score(died, of_medians) > 0.95
    assert roc_auc_score(died, imputed) < 0.9


@pytest.mark.parametrize("fit", SEEING)
def test_whether_a_hidden_modality_is_there_does_not_reach_a_task(fit):
    train, test = halves(make_cohort(tasks=("death", "size")))
    study = make_study(("death", "size"))
    specs = [spec.model_copy(update={"exclude_for": ["size"] * (spec.name == "b")}) for spec in study.modalities]
    predict = fitted(fit, study.model_copy(update={"modalities": specs}), train)
    every, no_b = predict(test), predict(without(test, "b"))
    np.testing.assert_array_equal(every["size"], no_b["size"])
    assert (every["death"] != no_b["death"]).any()


def test_the_setting_with_the_lowest_held_out_loss_is_taken():
    train, test = halves(make_cohort(n=200, tasks=("size",)))
    grid = [{"num_leaves": 2, "learning_rate": 1e-9}, *ONE]
    study = make_study(("death", "size"))
    study = study.model_copy(update={"tasks": study.tasks[1:]})
    both, good = (fitted(partial(fit_lightgbm_tuned, sees_empty=True, grid=g), study, train) for g in (grid, ONE))
    np.testing.assert_array_equal(both(test)["size"], good(test)["size"])


def small_cohort(frame, targets):
    """Modality ``a`` as given, and its first column for the first patients as ``b``; columns may be constant."""
    with pytest.warns(DataWarning, match="constant"):
        return Cohort.from_frames({"a": frame, "b": frame.iloc[: len(frame) - 1, :1]}, {"death": targets})


def test_a_filling_is_the_median_or_the_commonest_level_and_nothing_else_changes():
    frame = pd.DataFrame({"n": [1.0, np.nan, 5.0], "t": ["x", "x", None], "none": [np.nan] * 3}, ["p1", "p2", "p3"])
    cohort = small_cohort(frame, pd.DataFrame({"died": [0.0, 1, 1]}, frame.index))
    filling = Filling.fit(inputs(make_study(("death",)))[:2], cohort)
    cells, everything = filling.cells(cohort), filling.everything(cohort)
    assert cells.modalities["a"]["n"].tolist() == [1, 3, 5]
    assert cells.modalities["a"]["t"].tolist() == ["x", "x", "x"]
    assert cells.modalities["a"]["none"].isna().all()
    assert cells.modalities["b"].index.tolist() == ["p1"]
    assert everything.modalities["b"]["n"].tolist() == [1, 1, 1]
    assert filling.everything(without(cohort, "b")).modalities["b"]["n"].tolist() == [1, 1, 1]


def test_emptiness_counts_columns_that_are_empty_together_once():
    ids = ["p1", "p2", "p3", "p4"]
    frame = pd.DataFrame({"full": 1.0, "low": [1, np.nan, 2, 2], "high": [2, np.nan, 3, 3]}, ids)
    cohort = small_cohort(frame, pd.DataFrame({"died": [0.0, 1, 1, 0]}, ids))
    rows = fit_emptiness(inputs(make_study(("death",)))[:2], cohort)
    assert rows(cohort).shape == (4, 2)  # low and high; b and its column
    np.testing.assert_allclose(rows(cohort).mean(0), 0, atol=1e-12)
    assert (rows(without(cohort, "b")) > 0).sum(1).tolist() == [1, 2, 1, 1]
