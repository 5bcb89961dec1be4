"""No score depends on rounding: predictions that are equal within their numerical error are ties."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from multimodn.evaluate.performance.decision_curve import decision_curve_of
from multimodn.metrics.calibration import OutputPredictions, bins
from multimodn.metrics.predictions import of_links, once
from multimodn.metrics.tasks import balanced_accuracy, field_metrics, main_score, weighted_metrics
from multimodn.metrics.ties import ERROR, likeliest, reaches, tied
from tests.evaluate.test_performance import KINDS, N, case

NOISE = 1e-9


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 8))
def test_values_that_noise_parts_are_tied_and_others_keep_their_order(seed, n, n_levels):
    rng = np.random.default_rng(seed)
    levels = rng.normal(size=n_levels) * 10.0 ** rng.integers(-3, 3)
    which = rng.integers(0, n_levels, n)
    found = tied(levels[which] * (1 + NOISE * rng.uniform(-1, 1, n)))
    exact = tied(levels[which])
    assert (np.sign(found[:, None] - found) == np.sign(exact[:, None] - exact)).all()


def test_a_model_that_predicts_the_same_for_everybody_is_at_chance():
    rng = np.random.default_rng(0)
    truth = (rng.random(40) < 0.5).astype(float)[:, None]
    for link in (np.full((40, 1), 0.3), 0.3 + 1e-8 * rng.normal(size=(40, 1)), 3e5 * (1 + 1e-9 * truth)):
        assert once(main_score("log-odds", link, truth), 40) == 0.5


def test_a_dense_cohort_is_ranked_in_full():
    rng = np.random.default_rng(0)
    link = rng.normal(size=300_000) * 0.1  # neighbours are closer than the numerical error
    positive = rng.random(len(link)) < 1 / (1 + np.exp(-20 * link))
    same = np.arange(len(link)) < 1000
    link[same] = 0.01 + 1e-10 * rng.normal(size=1000)
    score = main_score("log-odds", link[:, None], positive.astype(float)[:, None])
    assert once(score, len(link)) == pytest.approx(roc_auc_score(positive, link.round(8)), abs=1e-6)
    assert len(np.unique(tied(link)[same])) < 10


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30), st.randoms())
def test_ties_do_not_depend_on_the_order_of_patients(values, random):
    link = np.array(values)
    order = np.array(random.sample(range(len(link)), len(link)))
    assert (tied(link)[order] == tied(link[order])).all()
    assert np.abs(tied(link) - link).max() <= 11 * ERROR * 50


def case_of(kind, seed):
    """Predictions of a task, some of which are equal, and its targets."""
    task, outputs, target = case(kind)
    rng = np.random.default_rng(seed)
    rows = torch.from_numpy(rng.choice(N, 80, replace=False))
    outputs = (outputs[rows] + 0.3 * torch.from_numpy(rng.normal(size=outputs[rows].shape)).float()).double()
    outputs[:20] = outputs[:1]
    outputs[20:40] = task.prior().double()
    return task, outputs, target[rows]


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 10_000))
def test_no_metric_depends_on_noise(kind, seed):
    task, outputs, target = case_of(kind, seed)
    noise = torch.from_numpy(np.random.default_rng(seed + 1).uniform(-1, 1, outputs.shape))
    plain, noisy = (field_metrics(task, each, target) for each in (outputs, outputs * (1 + NOISE * noise)))
    assert list(plain) == list(noisy)
    for metric, value in plain.items():
        assert noisy[metric] == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True), metric


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 10_000))
def test_weights_of_ones_are_the_patients_and_whole_weights_repeat_them(kind, seed):
    task, outputs, target = case_of(kind, seed)
    found = field_metrics(task, outputs, target)
    scores = weighted_metrics(task, outputs, target, found)
    assert set(scores) == {metric for metric, value in found.items() if not np.isnan(value)}
    weights = np.random.default_rng(seed).integers(1, 4, len(target))
    rows = np.repeat(np.arange(len(target)), weights)
    again = field_metrics(task, outputs[rows], target[rows])
    for metric, score in scores.items():
        assert score(np.ones((2, len(target)))) == pytest.approx([found[metric]] * 2, abs=1e-12), metric
        assert score(weights[None].astype(float))[0] == pytest.approx(again[metric], abs=1e-8, rel=1e-8), metric


def test_thresholds_allow_for_rounding():
    truth = np.tile([0.0, 1.0], 10)[:, None]
    for sign in (-1, 1):
        given_ = of_links(np.full((20, 1), sign * 1e-9), truth)
        assert once(balanced_accuracy(given_), 20) == 0.5
    assert likeliest(np.array([[1.0, 1.0 + 1e-9, 0.0], [0.0, 1.0, 1.0 - 1e-9]])).tolist() == [0, 1]
    assert reaches(np.array([0.3 - 1e-9, 0.3, 0.29]), 0.3).tolist() == [True, True, False]


def test_who_is_treated_at_a_threshold_does_not_depend_on_rounding():
    task, link = case("binary")[0], np.log(0.2 / 0.8) * np.ones((40, 1))
    truth = np.tile([0.0, 1.0], 20)[:, None]
    curves = [decision_curve_of(task, link * (1 + noise), truth, n_resamples=5) for noise in (-NOISE, 0, NOISE)]
    for curve in curves[1:]:
        np.testing.assert_allclose(curve["model"], curves[0]["model"])
    at = curves[0].set_index(curves[0]["threshold"].round(2))
    assert at.loc[0.2, "model"] == at.loc[0.2, "treat_all"]


@pytest.mark.parametrize("kind", ["log-odds", "units", "log-risk"])
def test_equal_predictions_are_in_one_bin(kind):
    rng = np.random.default_rng(0)
    predicted = np.repeat([0.2, 0.4, 0.7], 30) * (1 + NOISE * rng.normal(size=90))
    column = OutputPredictions("t", "o", kind, predicted, np.log(predicted), rng.random(90), np.arange(90), 1.0)
    assert [len(members) for members in bins(column, 10)] == [30, 30, 30]
