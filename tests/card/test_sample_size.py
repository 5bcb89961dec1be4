import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import CensoredData, ecdf
from sklearn.metrics import log_loss

from multimodn.card.sample_size import cox_snell, largest_r2, median_follow_up, needed


def test_criteria_are_those_of_riley_and_colleagues():
    """The example of the authors' own program, pmsampsize: 24 parameters, prevalence .174, R2 .288."""
    found = needed(24, 0.174, 0.288)
    assert (found.shrinkage, found.optimism, found.risk, found.most) == (623, 662, 221, 662)


def test_the_largest_r2_is_that_of_perfect_predictions():
    outcome = np.arange(50) < 12
    assert cox_snell(np.where(outcome, 99.0, -99.0), outcome) == pytest.approx(largest_r2(12 / 50))


@given(st.integers(0, 999))
def test_cox_snell_follows_from_log_losses(seed):
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=60)
    outcome = rng.random(60) < 0.4
    outcome[:2] = True, False
    null = log_loss(outcome, np.full(60, outcome.mean()))
    expected = 1 - np.exp(-2 * (null - log_loss(outcome, 1 / (1 + np.exp(-logit)))))
    assert cox_snell(logit, outcome) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 999))
def test_median_follow_up_is_the_median_of_the_reverse_curve(seed):
    rng = np.random.default_rng(seed)
    time = rng.integers(1, 15, 40).astype(float)
    event = rng.random(40) < 0.4
    curve = ecdf(CensoredData.right_censored(time, event)).sf
    reached = curve.quantiles[curve.probabilities <= 0.5 + 1e-12]
    found = median_follow_up(time, event)
    assert np.isnan(found) if not len(reached) else found == reached[0]


def test_without_patients_there_is_no_follow_up():
    assert np.isnan(median_follow_up(np.array([]), np.array([], dtype=bool)))
