"""The value of a modality: corrected for who has it, equal to what resampling by hand gives, and never invented."""

import numpy as np
import pandas as pd
import pytest

from multimodn import Cohort, MultiModN
from multimodn.errors import StudyError
from multimodn.explain.modality_value import _resampled
from tests.explain._planted import fit, labels, make_study, table


def selective(n, seed, given_all=False):
    """``test`` tells the outcome only if ``h1`` is high, and mostly those patients have it."""
    rng = np.random.default_rng(seed)
    history, test = rng.normal(size=(n, 2)), rng.normal(size=(n, 2))
    score = history[:, 0] + 3.0 * np.where(history[:, 1] > 0, test[:, 0], 0.0)
    tables = {"history": table(history, "h"), "test": table(test, "t")}
    ordered = rng.random(n) < np.where(history[:, 1] > 0, 0.9, 0.15)
    if not given_all:
        tables["test"] = tables["test"][ordered]
    return tables, labels(score, rng)


@pytest.fixture(scope="module")
def ordered():
    model, cohort = fit(*selective(3000, 0), update="product", epochs=25)
    model.trained.study = model.study.model_copy(update={"presence_covariates": ["history.h1"]})
    return model, cohort


def test_who_gets_tested_does_not_pass_for_value(ordered):
    model, _ = ordered
    tables, outcome = selective(3000, 1)
    value = lambda tables: (  # noqa: E731
        model.explain.value_of("test", Cohort.from_frames(tables, {"y": outcome.to_frame("y")})).iloc[0]
    )
    truth, found = value(selective(3000, 1, given_all=True)[0]), value(tables)
    assert found["unweighted"] > truth["value"] + 0.03
    assert found["low"] < truth["value"] < found["high"]
    assert abs(found["value"] - truth["value"]) < 0.5 * abs(found["unweighted"] - truth["value"])
    assert found["n_effective"] < found["n"]


def test_where_everybody_has_it_nothing_is_weighted(ordered):
    model, cohort = ordered
    found = model.explain.value_of("history", cohort).iloc[0]
    assert found["value"] == found["unweighted"]
    assert found["n_effective"] == found["n"] == len(cohort)


def test_resampling_at_once_is_resampling_one_by_one(ordered, monkeypatch):
    model, cohort = ordered
    patients = model.prepare(cohort, labelled=True)
    task, links = model.trained.ensemble.tasks["y"], model.link(patients)["y"]
    target = task.link_target(patients.targets["y"])
    copies = np.random.default_rng(0).integers(1, 9, len(patients))
    fast = _resampled(task, (links, links * 0), target, copies, 5, 0, ["auroc"])["auroc"]
    monkeypatch.setattr("multimodn.explain.modality_value.main_metric", lambda task: "")
    slow = _resampled(task, (links, links * 0), target, copies, 5, 0, ["auroc"])["auroc"]
    np.testing.assert_allclose(fast, slow, atol=1e-6)


def test_an_unknown_modality_is_named(ordered):
    model, cohort = ordered
    with pytest.raises(StudyError, match="Did you mean 'test'"):
        model.explain.value_of("tets", cohort)


def test_a_modality_that_few_have_gets_no_row():
    rng = np.random.default_rng(0)
    tables = {"a": table(rng.normal(size=(60, 2)), "a"), "b": table(rng.normal(size=(60, 2)), "b").iloc[:25]}
    outcome = pd.Series(np.arange(60) % 2, tables["a"].index)
    cohort = Cohort.from_frames(tables, {"y": outcome.to_frame("y")})
    model = MultiModN(make_study(tables, epochs=1)).fit(cohort)
    few = cohort.subset([*cohort.patients[:5], *cohort.patients[30:]])
    assert set(model.explain.value_of(cohort=few)["modality"]) == {"a"}
