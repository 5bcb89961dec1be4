"""Metrics of the field against scikit-learn, scikit-survival and brute force."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve as binned
from sklearn.linear_model import LinearRegression, LogisticRegression

from multimodn.errors import DataError, StudyError
from multimodn.evaluate.performance.decision_curve import decision_curve, decision_curve_of
from multimodn.evaluate.performance.performance import calibration_of, calibration_summary
from multimodn.metrics.classification import calibration_error, calibration_intercept, calibration_slope, logistic
from multimodn.metrics.predictions import predicted
from multimodn.metrics.survival import aurocs_at, cox_slope, kaplan_meier
from multimodn.metrics.tasks import field_metrics
from tests.evaluate.test_performance import KINDS, N, case, fixed

ONCE = np.ones((1, N))


def link_of(kind):
    task, outputs, target = case(kind)
    return task.link(outputs.double()).numpy(), task.link_target(target).double().numpy()


@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
def test_scores_of_several_classes_are_means_over_their_columns(kind):
    task, outputs, target = case(kind)
    found, (link, truth) = field_metrics(task, outputs, target), link_of(kind)
    each = [sk.average_precision_score(truth[:, k], link[:, k].round(5)) for k in range(link.shape[1])]
    assert found["auprc"] == pytest.approx(np.mean(each))
    errors = [sk.brier_score_loss(truth[:, k], 1 / (1 + np.exp(-link[:, k]))) for k in range(link.shape[1])]
    assert found["brier"] == pytest.approx(np.mean(errors) if kind == "ordinal" else np.sum(errors))


def test_the_calibration_error_is_that_of_bins_of_equally_many():
    rng = np.random.default_rng(0)
    link, positive = rng.normal(size=200), rng.random(200) < 0.4
    observed, expected = binned(positive, 1 / (1 + np.exp(-link)), n_bins=10, strategy="quantile")
    assert calibration_error(link, positive)(np.ones((1, 200)))[0] == pytest.approx(np.abs(observed - expected).mean())


@pytest.mark.parametrize("kind", ["binary", "multiclass", "ordinal", "multilabel"])
def test_the_error_of_a_task_is_the_mean_of_the_summary(kind):
    task, outputs, target = case(kind)
    found, summary = field_metrics(task, outputs, target), calibration_summary(*fixed(task, outputs, target))
    for metric, column in (("ece", "ece"), ("calibration_slope", "slope"), ("calibration_intercept", "intercept")):
        assert found[metric] == pytest.approx(summary[column].mean(), abs=1e-9), metric


@given(st.integers(0, 1000))
def test_slope_and_intercept_of_weighted_patients_are_those_of_a_weighted_regression(seed):
    rng = np.random.default_rng(seed)
    link, positive, weights = rng.normal(size=60), rng.random(60) < 0.5, rng.integers(0, 4, (3, 60)).astype(float)
    slopes = calibration_slope(link, positive)(weights)
    shifts = calibration_intercept(link, positive)(weights)
    for k in range(3):
        fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(link[:, None], positive, weights[k])
        assert slopes[k] == pytest.approx(fitted.coef_[0, 0], abs=1e-4)
        told = 1 / (1 + np.exp(-(link + shifts[k])))
        assert weights[k] @ told == pytest.approx(weights[k] @ positive)


def test_a_likelihood_without_a_maximum_has_no_fit():
    link = np.linspace(-2, 2, 40)
    beta, covariance = logistic(np.stack([np.ones(40), link], 1), np.zeros(40), link > 0, np.ones((2, 40)))
    assert np.isnan(beta).all()
    assert np.isnan(covariance).all()
    assert np.isnan(cox_slope(-link, link, np.ones(40, dtype=bool), np.ones((1, 40)))[0]).all()


def test_numbers_have_the_slope_of_a_straight_line():
    task, outputs, target = case("regression")
    found, (link, truth) = field_metrics(task, outputs, target), link_of("regression")
    assert found["calibration_slope"] == pytest.approx(LinearRegression().fit(link, truth).coef_[0, 0])
    assert found["calibration_intercept"] == pytest.approx((truth - link).mean())


def untied(n=200, seed=0):
    """A survival task, predictions, and times without ties, a third of them censored."""
    rng = np.random.default_rng(seed)
    task = case("survival")[0]
    outputs = task.prior() + 0.7 * torch.randn(n, task.output_size, generator=torch.Generator().manual_seed(seed))
    time = rng.permutation(n) * 0.15 + 0.1 + 1e-3 * rng.random(n)
    return task, outputs, torch.from_numpy(np.stack([time, rng.random(n) < 0.65], axis=1))


def structured(target):
    time, event = target.numpy().T
    return np.array(list(zip(event > 0, time, strict=True)), dtype=[("event", bool), ("time", float)])


def test_survival_metrics_agree_with_scikit_survival():
    sksurv = pytest.importorskip("sksurv.metrics")
    task, outputs, target = untied()
    found, given_, y = field_metrics(task, outputs, target), predicted(task, outputs, target), structured(target)
    inside = given_.times[(given_.times > y["time"].min()) & (given_.times < y["time"].max())]
    survival = given_.survival[:, : len(inside)]
    assert len(inside) > 5
    uno = sksurv.concordance_index_ipcw(y, y, given_.link[:, 0], tau=given_.times[-1])[0]
    each, mean = sksurv.cumulative_dynamic_auc(y, y, 1 - survival, inside)
    assert found["uno_cindex"] == pytest.approx(uno)
    assert found["auroc_over_time"] == pytest.approx(mean)
    assert found["integrated_brier"] == pytest.approx(sksurv.integrated_brier_score(y, y, survival, inside))
    assert aurocs_at(given_, inside, np.ones((1, 200)))[0] == pytest.approx(each)


def test_the_slope_of_a_log_risk_is_that_of_a_cox_model():
    linear_model = pytest.importorskip("sksurv.linear_model")
    for seed, rounding in ((0, 5), (1, 0)):
        task, outputs, target = untied(seed=seed)
        target[:, 0] = (target[:, 0] + 0.5).round(decimals=rounding)  # with ties, too
        link = task.link(outputs.double())
        fitted = linear_model.CoxPHSurvivalAnalysis(ties="breslow", tol=1e-12).fit(link.numpy(), structured(target))
        assert calibration_of(task, link, target)["slope"][0] == pytest.approx(fitted.coef_[0], abs=1e-6)


def test_survival_at_a_time_has_the_slope_of_a_logistic_regression_with_weights_of_censoring():
    nonparametric = pytest.importorskip("sksurv.nonparametric")
    task, outputs, target = untied()
    y, at = structured(target), float(task.edges[(len(task.edges) - 1) // 2])
    censoring = nonparametric.CensoringDistributionEstimator().fit(y)
    weights = censoring.predict_ipcw(y) * (y["time"] <= at) + (y["time"] > at) / censoring.predict_proba([at])
    chance = task.survival(outputs.double())[:, (len(task.edges) - 1) // 2].numpy()
    link, happened = np.log((1 - chance) / chance), y["event"] & (y["time"] <= at)
    fitted = LogisticRegression(C=np.inf, tol=1e-10).fit(link[:, None], happened, weights)
    found, row = field_metrics(task, outputs, target), calibration_summary(*fixed(task, outputs, target)).iloc[0]
    assert found["calibration_slope"] == pytest.approx(row["slope"]) == pytest.approx(fitted.coef_[0, 0], abs=1e-4)
    assert found["calibration_intercept"] == pytest.approx(row["intercept"])
    told = 1 / (1 + np.exp(-(link + row["intercept"])))
    assert weights @ told == pytest.approx(weights @ happened)


def test_the_interval_of_a_survival_slope_covers_as_often_as_it_says():
    rng, covered = np.random.default_rng(5), 0
    for _ in range(200):
        risk = rng.normal(size=150)
        time, censored = rng.exponential(np.exp(-risk)), rng.exponential(1.5, 150)
        slope, error = cox_slope(risk, np.minimum(time, censored), time <= censored, np.ones((1, 150)))
        covered += abs(slope[0] - 1) < 1.96 * error[0]
    assert 182 <= covered <= 198


def drawn_from(task, n, factor, rng):
    """Predictions, and censored times that follow them if the factor is 1."""
    outputs = task.prior().repeat(n, 1)
    outputs[:, 0] += torch.from_numpy(rng.normal(size=n))
    ends = np.concatenate([[0.0], task.edges.numpy()])
    hazards = np.pad(-np.log(task.survival(outputs.double()).numpy()), ((0, 0), (1, 0)))
    due = rng.exponential(1 / factor, n)  # cumulative hazard at the event
    time = np.array([np.interp(one, row, ends, right=ends[-1] + 1) for one, row in zip(due, hazards, strict=True)])
    censored = rng.exponential(20, n)
    return outputs, torch.from_numpy(np.stack([np.minimum(time, censored), time <= censored], 1))


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_survival_is_calibrated_if_events_come_as_predicted(factor):
    task, rng = case("survival")[0], np.random.default_rng(7)
    row = calibration_summary(*fixed(task, *drawn_from(task, 4000, factor, rng))).iloc[0]
    assert (row["intercept_low"] < 0 < row["intercept_high"]) == (factor == 1)
    if factor == 1:
        assert row["slope_low"] < 1 < row["slope_high"]
        assert row["slope"] == pytest.approx(1, abs=0.1)
    else:
        assert row["intercept"] == pytest.approx(math.log(2), abs=0.3)  # twice the hazard, about twice the odds


@pytest.mark.slow
def test_intervals_of_calibration_at_a_time_cover_as_often_as_they_say():
    task, rng, covered = case("survival")[0], np.random.default_rng(8), np.zeros(2)
    for _ in range(200):
        row = calibration_summary(*fixed(task, *drawn_from(task, 200, 1.0, rng))).iloc[0]
        covered += [row["slope_low"] < 1 < row["slope_high"], row["intercept_low"] < 0 < row["intercept_high"]]
    assert ((covered >= 182) & (covered <= 199)).all()


@given(st.integers(0, 1000))
def test_kaplan_and_meier_of_repeated_patients(seed):
    from scipy.stats import CensoredData, ecdf

    rng = np.random.default_rng(seed)
    time, event = rng.integers(1, 8, 20).astype(float), rng.random(20) < 0.6
    event[0] = True
    weights = rng.integers(0, 3, 20)
    weights[0] = 1
    t, e = np.repeat(time, weights), np.repeat(event, weights)
    at = np.arange(0.0, t.max() + 1)
    found = kaplan_meier(time, event, weights[None].astype(float), at, "right", of_censoring=False)[0]
    expected = ecdf(CensoredData(uncensored=t[e], right=t[~e])).sf.evaluate(at)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(st.integers(0, 12), st.integers(0, 99), st.sampled_from(["random", "equal", "extreme"]), st.booleans())
def test_a_metric_is_a_number_or_undefined_and_never_a_warning(kind, n, seed, predictions, has_one_outcome):
    task, outputs, target = case(kind, seed)
    outputs = {"random": outputs, "equal": task.prior().expand(N, -1), "extreme": 60 * outputs}[predictions]
    target = target[:1].expand(N, *target.shape[1:]) if has_one_outcome else target
    found = field_metrics(task, outputs[:n], target[:n])
    assert set(found) == set(field_metrics(task, outputs, target))
    assert all(isinstance(value, float) and not math.isinf(value) for value in found.values())


def test_net_benefit_counts_patients():
    task, outputs, target = case("binary")
    curve = decision_curve(*fixed(task, outputs, target), thresholds=[0.2, 0.5, 0.7], n_resamples=50)
    chance, positive = outputs[:, 0].double().sigmoid().numpy(), target.numpy() > 0
    for _, row in curve.iterrows():
        (_, wrong), (_, right) = sk.confusion_matrix(positive, chance >= row["threshold"])
        odds = row["threshold"] / (1 - row["threshold"])
        assert row["model"] == pytest.approx(right / N - wrong / N * odds)
        assert row["treat_all"] == pytest.approx(positive.mean() - (1 - positive.mean()) * odds)
        assert row["low"] < row["model"] < row["high"]
        assert row["gain"] == pytest.approx(row["model"] - max(row["treat_all"], 0))
    assert (curve["treat_none"] == 0).all()


@given(st.floats(0.005, 0.995).filter(lambda p: abs(p * 100 - round(p * 100)) > 1e-6), st.integers(0, 99))
def test_a_model_that_says_the_same_of_everybody_is_treating_all_or_none(chance, seed):
    task, _, _ = case("binary")
    truth = (np.random.default_rng(seed).random((40, 1)) < 0.4).astype(float)
    curve = decision_curve_of(task, np.full((40, 1), np.log(chance / (1 - chance))), truth, n_resamples=20)
    is_treated = curve["threshold"] <= chance
    expected = curve["treat_all"].where(is_treated, 0.0)
    np.testing.assert_allclose(curve["model"], expected, atol=1e-12)
    assert (curve["gain"] <= 1e-12).all()


def test_who_knows_the_outcome_has_the_prevalence_as_net_benefit():
    task, _, target = case("binary")
    truth = task.link_target(target)
    curve = decision_curve_of(task, 40 * truth - 20, truth, n_resamples=20)
    assert curve["model"].tolist() == pytest.approx([truth.mean().item()] * 99)
    assert (curve["gain_low"] > 0).all()


def test_each_class_is_told_from_the_rest_and_unknown_labels_do_not_count():
    task, outputs, target = case("multilabel")
    curve = decision_curve(*fixed(task, outputs, target), n_resamples=5)
    assert curve.groupby("output", sort=False)["n"].first().to_dict() == {
        "y": N, "z": int((target[:, 1] >= 0).sum()),
    }  # fmt: skip
    assert len(curve) == 2 * 99


def test_few_outcomes_have_a_net_benefit_without_an_interval():
    task = case("binary")[0]
    curve = decision_curve_of(task, np.linspace(-1, 1, 30)[:, None], (np.arange(30) < 4)[:, None].astype(float))
    assert curve["model"].notna().all()
    assert curve[["low", "high", "gain_low", "gain_high"]].isna().all().all()


def test_what_cannot_be_asked_is_said():
    binary, survival = fixed(*case("binary")), fixed(*case("survival"))
    with pytest.raises(StudyError, match="Task 'survival' predicts no classes"):
        decision_curve(*survival, task="survival")
    with pytest.raises(StudyError, match="Did you mean 'binary'"):
        decision_curve(*binary, task="binry")
    with pytest.raises(StudyError, match=r"lie between 0 and 1, found: \[0\.5, 1\.0\]"):
        decision_curve(*binary, thresholds=[0.5, 1.0])
    patients = binary[1]
    patients.targets.clear()
    patients.labelled.clear()
    with pytest.raises(DataError, match="labelled=True"):
        decision_curve(binary[0], patients)
    assert isinstance(decision_curve(*survival), pd.DataFrame)
    assert decision_curve(*survival).empty
