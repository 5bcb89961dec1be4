"""Simple baselines: Cox regression and its penalty, boosted trees, TabM, what of a study they can read."""

import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodn.errors import MissingExtraError, StudyError
from multimodn.evaluate.baselines import boosting, cox, tabm
from multimodn.evaluate.baselines.boosting import fit_lightgbm, fit_xgboost
from multimodn.evaluate.baselines.cox import choose_penalty, cox_coefficients, fit_cox, partial_likelihood
from multimodn.evaluate.baselines.design_matrix import designs, inputs, tabular_study
from multimodn.evaluate.baselines.ridge import fit_early_concat, fit_late_ridge, fit_single, late_ridge
from multimodn.evaluate.baselines.tabm import TabMOptions, fit_tabm
from multimodn.evaluate.baselines.tuned import TUNED, fit_p_fusion_with
from multimodn.evaluate.stress.stress import ARMS as STRESS
from tests._survival_scores import concordance
from tests.evaluate._toy import halves, make_cohort, make_study, without

SMALL = TabMOptions(n_networks=4, hidden_size=16, epochs=30, learning_rate=0.01)


def times(n, seed, n_columns=3, signal=1.0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, n_columns))
    time = generator.exponential(np.exp(-signal * x[:, 0])).round(1)  # ties
    return x, np.stack([time, generator.random(n) < 0.6], axis=1).astype(float)


@given(st.integers(2, 40), st.integers(0, 999))
def test_the_partial_likelihood_and_its_slopes_are_those_of_automatic_differentiation(n, seed):
    x, y = times(n, seed)
    risk = torch.tensor(3 * x[:, 1], requires_grad=True)
    time, event = torch.tensor(y[:, 0]), torch.tensor(y[:, 1] > 0)

    def likelihood(risk):
        at_risk = torch.where(time >= time[:, None], risk, -torch.inf).logsumexp(1)
        return (risk - at_risk)[event].sum()

    value, slope, curvature = partial_likelihood(y[:, 0], y[:, 1] > 0)(3 * x[:, 1])
    expected = likelihood(risk)
    np.testing.assert_allclose(value, expected.item(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(slope, torch.autograd.grad(expected, risk)[0], atol=1e-9)
    hessian = torch.autograd.functional.hessian(likelihood, risk)
    np.testing.assert_allclose(curvature, -hessian.diagonal(), atol=1e-9)


@settings(max_examples=5)
@given(st.integers(20, 60), st.integers(0, 99))
def test_events_at_a_time_are_compared_with_all_who_were_at_risk_then(n, seed):
    linear_model = pytest.importorskip("sksurv.linear_model")
    x, y = times(n, seed)
    y[:3, 1] = 1
    labels = np.array([(bool(e), t) for t, e in y], dtype=[("event", bool), ("time", float)])
    model = linear_model.CoxPHSurvivalAnalysis(alpha=0.05 * y[:, 1].sum(), ties="breslow", tol=1e-12)
    expected = x @ model.fit(x, labels).coef_
    risk = x @ cox_coefficients(x, y, 0.05)
    np.testing.assert_allclose(risk / risk.std(), expected / expected.std(), atol=2e-3)


@pytest.mark.parametrize(("signal", "is_strong"), [(0.0, True), (2.0, False)])
def test_a_penalty_is_strong_where_there_is_nothing_to_learn(signal, is_strong):
    assert (choose_penalty(*times(150, 3, 5, signal), seed=0) >= 1.0) is is_strong


def test_a_penalty_is_not_chosen_by_a_handful_of_events():
    x, y = times(60, 0)
    y[:, 1] = np.arange(60) < 5
    assert choose_penalty(x, y, 0) == max(cox.PENALTIES)


def test_a_penalty_may_be_chosen_where_everybody_has_the_event():
    x, y = times(60, 0)
    y[:, 1] = 1
    assert choose_penalty(x, y, 0) in cox.PENALTIES


def test_wide_rows_are_fitted_in_fewer_columns_without_a_difference(monkeypatch):
    x, y = times(40, 1, n_columns=90)
    monkeypatch.setattr(cox, "choose_penalty", lambda *_: 1.0)
    expected = x @ cox_coefficients(x, y, 1.0)
    np.testing.assert_allclose(fit_cox(x, y)(x), expected, atol=1e-3 * expected.std())


def test_a_modality_without_any_signal_has_little_weight_where_its_penalty_is_chosen():
    x, y = times(200, 3, 5, 2.0)
    informed, noise = (fit_cox(rows, y)(rows).std() for rows in (x, times(200, 8, 5)[0]))
    assert noise < informed / 5


def test_a_chosen_penalty_ranks_unseen_patients_better_among_noise():
    x, y = times(300, 5, n_columns=150, signal=1.5)
    risks = x[120:] @ cox_coefficients(x[:120], y[:120], 0.05), fit_cox(x[:120], y[:120])(x[120:])
    fixed, chosen = (concordance(risk, y[120:, 0], y[120:, 1] > 0) for risk in risks)
    assert chosen > fixed + 0.02


@pytest.mark.parametrize("fit", [fit_late_ridge, fit_early_concat, late_ridge, STRESS["late_ridge"]])
def test_every_ridge_arm_chooses_the_penalty_of_survival(fit, monkeypatch):
    monkeypatch.setattr("multimodn.evaluate.baselines.ridge.PENALTIES", (1e-2,))
    asked = []
    monkeypatch.setattr(cox, "choose_penalty", lambda *_: asked.append(1) or 10.0)
    train, test = halves(make_cohort(tasks=("death", "survival")))
    fit(make_study(("death", "survival")), train, *([test] if fit is late_ridge else []), 0)
    assert asked


def test_a_modality_alone_is_the_part_of_late_ridge_fusion():
    train, test = halves(make_cohort(tasks=("death", "size")))
    study = make_study(("death", "size"))
    (alone,) = fit_single(study, train, 0, modality="b").values()
    part = fit_late_ridge(study, train, 0)["single:b"]
    for task, link in part(test).items():
        np.testing.assert_array_equal(alone(test)[task], link)


def hidden_study():
    study = make_study(("death", "size"))
    specs = [spec.model_copy(update={"exclude_for": ["size"] * (spec.name == "b")}) for spec in study.modalities]
    return study.model_copy(update={"modalities": specs})


def test_a_task_that_may_not_see_the_modality_is_predicted_at_its_prior():
    train, test = halves(make_cohort(tasks=("death", "size")))
    (predict,) = fit_single(hidden_study(), train, 0, modality="b").values()
    assert np.ptp(predict(test)["size"]) == 0
    assert np.ptp(predict(test)["death"]) > 0


@pytest.mark.parametrize("fit", [fit_xgboost, fit_lightgbm, partial(fit_tabm, options=SMALL)])
def test_what_a_task_may_not_see_does_not_reach_it(fit):
    train, test = halves(make_cohort(tasks=("death", "size")))
    (predict,) = fit(hidden_study(), train, 0).values()
    changed = replace(test, modalities=test.modalities | {"b": test.modalities["b"] * -3})
    np.testing.assert_array_equal(predict(test)["size"], predict(changed)["size"])
    assert (predict(test)["death"] != predict(changed)["death"]).any()


@pytest.mark.parametrize("fit", [fit_xgboost, fit_lightgbm, partial(fit_tabm, options=SMALL)])
def test_boosting_and_tabm_learn_every_kind_of_scale(fit):
    cohort = make_cohort(n=400, tasks=("death", "size", "survival"))
    train, test = halves(cohort)
    (predict,) = fit(make_study(("death", "size", "survival")), train, 0).values()
    links = {task: link[:, 0] for task, link in predict(test).items()}
    died = test.targets["death"]["died"].to_numpy()
    assert (links["death"][died == 1][:, None] > links["death"][died == 0]).mean() > 0.8
    assert np.corrcoef(links["size"], test.targets["size"]["cm"])[0, 1] > 0.8
    days, event = (test.targets["survival"][name].to_numpy() for name in ("days", "event"))
    assert concordance(links["survival"], days.astype(float), event == 1) > 0.6


@pytest.mark.parametrize("fit", [fit_xgboost, fit_lightgbm, partial(fit_tabm, options=SMALL)])
def test_the_same_seed_gives_the_same_model(fit):
    train, test = halves(make_cohort(tasks=("death",)))
    before = torch.get_rng_state()
    one, again, other = (next(iter(fit(make_study(("death",)), train, s).values()))(test)["death"] for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("fit", [fit_xgboost, fit_lightgbm])
def test_options_reach_the_trees(fit):
    train, test = halves(make_cohort(tasks=("death",)))
    one, other = (
        next(iter(fit(make_study(("death",)), train, 0, options={"learning_rate": rate}).values()))(test)["death"]
        for rate in (0.05, 0.5)
    )
    assert np.ptp(other) > np.ptp(one)


@pytest.mark.parametrize("fit", [fit_xgboost, fit_lightgbm])
def test_a_label_that_everybody_has_is_no_evidence(fit, monkeypatch):
    train, test = halves(make_cohort(tasks=("death",)))
    ((task, target, known),) = boosting.targets_of(make_study(("death",)), train)
    monkeypatch.setattr(boosting, "targets_of", lambda *_: [(task, np.ones_like(target), known)])
    (predict,) = fit(make_study(("death",)), train, 0).values()
    assert not predict(test)["death"].any()


@pytest.mark.parametrize(("fit", "library"), [(fit_xgboost, "xgboost"), (fit_lightgbm, "lightgbm"), (fit_tabm, "tabm")])
def test_a_missing_library_names_the_extra(fit, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    train, _ = halves(make_cohort(tasks=("death",)))
    with pytest.raises(MissingExtraError, match=rf"'{library}' needs the extra 'experiments': pip install"):
        fit(make_study(("death",)), train, 0)


def test_wide_modalities_count_with_their_principal_components(monkeypatch):
    monkeypatch.setattr(tabm, "WIDE", 1)
    monkeypatch.setattr(tabm, "COMPONENTS", 1)
    cohort, study = make_cohort(tasks=("death",)), make_study(("death",))
    design = designs(inputs(study), ["death"], cohort)["death"]
    rows = tabm._Reduced(design, cohort).rows(cohort).numpy()
    assert rows.shape == (len(cohort), 3)
    has = cohort.presence["b"].to_numpy()
    np.testing.assert_allclose(rows[has, 1].std(ddof=1), 1, rtol=1e-5)
    assert not rows[~has, 1].any()


def test_training_stops_by_patients_who_were_held_out(monkeypatch):
    seen = []
    original = tabm._train
    monkeypatch.setattr(tabm, "_train", lambda n, x, t, y, rows, o: (seen.extend(rows), original(n, x, t, y, rows, o)))
    train, _ = halves(make_cohort(tasks=("death",)))
    fit_tabm(make_study(("death",)), train, 0, options=SMALL)
    assert sorted(torch.cat(seen).tolist()) == list(range(len(train)))
    assert abs(len(seen[1]) - len(train) / 5) < 1


def test_absent_cells_stand_at_the_training_mean_of_tabm():
    train, test = halves(make_cohort(tasks=("death",)))
    (predict,) = fit_tabm(make_study(("death",)), train, 0, options=SMALL).values()
    mean = train.modalities["b"].mean()
    at_mean = pd.DataFrame([mean] * len(test), index=test.patients)
    filled = replace(test, modalities=test.modalities | {"b": at_mean})
    np.testing.assert_allclose(predict(without(test, "b"))["death"], predict(filled)["death"], atol=1e-5)


def with_text(tasks=("death", "size")):
    study = make_study(tasks)
    notes = {"name": "notes", "kind": "text", "source": "a", "columns": ["a1"]}
    data = study.to_dict()
    data["modalities"] = [*data["modalities"], notes]
    data["order"] = ["a", "notes", "b", "c"]
    data["subgroups"] = ["a.a1", "notes.a1"]
    return type(study).from_dict(data)


def test_what_cannot_be_read_is_left_out_and_named():
    cohort = make_cohort(tasks=("death", "size"))
    cohort = replace(cohort, modalities=cohort.modalities | {"notes": cohort.modalities["a"][["a1"]]})
    found = tabular_study(with_text(), cohort)
    assert (found.left_out, found.tasks_left_out) == (["notes"], [])
    assert (found.study.order, found.study.subgroups) == (["a", "b", "c"], ["a.a1"])
    assert list(found.cohort.modalities) == ["a", "b", "c"]
    assert with_text().order == ["a", "notes", "b", "c"]
    assert "late_ridge" in fit_late_ridge(found.study, found.cohort, 0)


def test_a_task_that_sees_nothing_else_is_left_out_and_named():
    study = with_text()
    specs = [s.model_copy(update={"exclude_for": ["size"] * (s.name != "notes")}) for s in study.modalities]
    found = tabular_study(study.model_copy(update={"modalities": specs}), make_cohort(tasks=("death", "size")))
    assert found.tasks_left_out == ["size"]
    assert [task.name for task in found.study.tasks] == ["death"]


def test_a_study_of_texts_alone_has_no_simple_baseline():
    study = with_text()
    only = study.model_copy(update={"modalities": study.modalities[-1:]})
    with pytest.raises(StudyError, match="this study has none, only notes"):
        tabular_study(only, make_cohort())


def test_a_baseline_refuses_what_it_cannot_read():
    with pytest.raises(StudyError, match="leave out notes, as tabular_study does"):
        fit_late_ridge(with_text(), make_cohort(tasks=("death", "size")), 0)


@pytest.mark.slow
@pytest.mark.parametrize("arm", TUNED)
def test_a_tuned_arm_has_its_name_and_answers_every_task(arm):
    train, test = halves(make_cohort(tasks=("death", "size")))
    fitted = TUNED[arm](make_study(("death", "size")), train, 0)
    assert arm in fitted
    assert {task: link.shape for task, link in fitted[arm](test).items()} == {"death": (45, 1), "size": (45, 1)}


def test_a_penalty_reaches_parallel_fusion():
    train, test = halves(make_cohort(tasks=("death",)))
    weak, strong = (
        fit_p_fusion_with(make_study(("death",), epochs=12), train, 0, penalty=penalty)["p_fusion"](test)["death"]
        for penalty in (0.0, 300.0)
    )
    assert np.ptp(strong) < np.ptp(weak)
