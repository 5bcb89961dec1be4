from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from multimodn.audit.independence import independence, matters, presence_auroc
from multimodn.statistics.multiple_testing import holm


@pytest.fixture(autouse=True)
def _as_for_users(monkeypatch):
    """The other tests resample less."""
    monkeypatch.setattr("multimodn.audit.independence.N_BOOTSTRAP", 500)
    monkeypatch.setattr("multimodn.audit.independence.N_REPEATS", 3)


def test_chi_squared_where_counts_allow_it_else_an_exact_test():
    large = np.array([[30, 20], [10, 40], [25, 25]])
    found = independence(large)
    assert (found.test, found.p) == ("chi-squared", pytest.approx(stats.chi2_contingency(large).pvalue))
    assert found.cramers_v == pytest.approx(stats.contingency.association(large))
    small = np.array([[1, 7], [6, 2]])
    assert independence(small).test == "fisher"
    assert independence(small).p == pytest.approx(stats.fisher_exact(small).pvalue)
    assert independence(np.array([[5, 0], [7, 0]])).test == "none"


def test_random_tables_give_the_exact_p():
    table = np.array([[5, 0], [0, 5], [2, 2]])
    row = np.repeat([0, 1, 2], table.sum(axis=1))
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / 14
    beyond = []
    for chosen in combinations(range(14), 7):  # who is in the first column
        first = np.bincount(row[list(chosen)], minlength=3)
        drawn = np.stack([first, table.sum(axis=1) - first], axis=1)
        beyond.append(((drawn - expected) ** 2 / expected).sum() >= ((table - expected) ** 2 / expected).sum() - 1e-9)
    found = independence(table, n_tests=40)
    assert found.test == "permutation"
    assert found.p == pytest.approx(np.mean(beyond), rel=0.15)


def test_holm_corrects_like_the_book():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([])).tolist() == []
    assert holm(np.array([0.6, 0.9])).tolist() == [1.0, 1.0]


def test_auroc_of_presence_is_the_area_on_patients_left_out():
    rng = np.random.default_rng(0)
    high = rng.random(2000) < 0.3
    has = rng.random(2000) < np.where(high, 0.2, 0.8)
    found = presence_auroc((~has).astype(np.int64), np.array([[True], [False]]), high)
    assert found.value == pytest.approx(roc_auc_score(high, ~has), abs=0.002)
    assert found.low < found.value < found.high
    standard_error = (found.high - found.low) / 3.92
    assert standard_error == pytest.approx(np.sqrt(0.16 / high.sum() + 0.16 / (~high).sum()) / 2, rel=0.15)
    assert presence_auroc((~has).astype(np.int64), np.array([[True], [False]]), high) == found
    one = np.zeros(2000, dtype=bool)
    one[0] = True
    assert presence_auroc(has.astype(np.int64), np.array([[False], [True]]), one).value is None


def test_auroc_of_presence_is_unbiased_where_it_says_nothing():
    values = []
    patterns = (np.arange(8)[:, None] >> np.arange(3) & 1).astype(bool)
    for seed in range(16):
        rng = np.random.default_rng(seed)
        values.append(presence_auroc(rng.integers(0, 8, 200), patterns, rng.random(200) < 0.5, seed).value)
    assert abs(np.mean(values) - 0.5) < 0.03


def test_what_matters_is_strong_or_a_large_difference():
    assert matters(0.1)
    assert matters(0.05, -0.2)  # a rare outcome
    assert not matters(0.05, 0.05)
