"""The bootstrap of many resamples at once, against the same by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from multimodn.metrics.classification import auroc
from multimodn.statistics import bootstrap as resampling
from multimodn.statistics.bootstrap import bootstrap_means, draws


@given(st.integers(2, 30), st.integers(0, 9))
def test_bootstrap_means_lie_within_the_values(n, seed):
    values = np.random.default_rng(seed).normal(size=(n, 2))
    drawn = bootstrap_means(values, 50, seed)
    assert (drawn >= values.min(0) - 1e-12).all()
    assert (drawn <= values.max(0) + 1e-12).all()


def test_a_patient_without_a_value_does_not_count():
    values = np.array([[1.0, np.nan], [1.0, 5.0], [1.0, 5.0]])
    found = bootstrap_means(values, 200, 0)
    assert (found[:, 0] == 1).all()
    assert set(found[~np.isnan(found[:, 1]), 1]) == {5.0}


def test_blocks_are_one_bootstrap(monkeypatch):
    whole = np.concatenate(list(draws(7, 20, 3)))
    monkeypatch.setattr(resampling, "CELLS", 21)
    assert (np.concatenate(list(draws(7, 20, 3))) == whole).all()
    assert (whole.sum(1) == 7).all()


@given(st.integers(4, 40), st.integers(0, 30), st.integers(1, 5))
def test_weighted_areas_are_those_of_repeated_patients(n, seed, n_levels):
    rng = np.random.default_rng(seed)
    score, positive = rng.integers(0, n_levels, n).astype(float), np.arange(n) % 3 == 0
    weights = rng.integers(0, 4, (3, n)).astype(float)
    for found, weight in zip(auroc(score, positive)(weights), weights, strict=True):
        if not (weight * positive).any() or not (weight * ~positive).any():
            assert np.isnan(found)
        else:
            np.testing.assert_allclose(found, roc_auc_score(positive, score, sample_weight=weight), atol=1e-12)
