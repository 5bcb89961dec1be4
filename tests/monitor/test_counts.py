"""Counts, and tests of them: against scipy's own, and against chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, false_discovery_control

from multimodn.monitor.counts import FEWEST, as_floats, compare, count, exact, fit_edges, simes, stability_index

NONE = np.zeros((1, 0))


def row(*numbers):
    return np.array([numbers], dtype=float)


def test_the_chi_square_test_is_scipys():
    reference, batch = row(40, 30, 20, 10), row(25, 30, 35, 60)
    expected = chi2_contingency(np.vstack([reference, batch])).pvalue
    assert compare(reference, batch, NONE, NONE).p_value[0] == pytest.approx(expected)


def test_the_exact_test_is_twice_the_smaller_tail():
    from scipy.stats import fisher_exact

    table = [[3, 17], [30, 50]]
    tails = [fisher_exact(table, side).pvalue for side in ("less", "greater")]
    assert exact(row(30)[0], row(80)[0], row(3)[0], row(20)[0])[0] == pytest.approx(2 * min(tails))


def test_simes_is_the_smallest_adjusted_p_value():
    p_values = np.random.default_rng(0).random(20)
    assert simes(p_values) == pytest.approx(false_discovery_control(p_values).min())


def test_the_index_is_that_of_the_textbook_less_chance():
    reference, batch = row(500, 300, 200), row(200, 300, 500)
    p, q = (reference + 0.5) / 1001.5, (batch + 0.5) / 1001.5
    assert stability_index(reference, batch)[0] == pytest.approx(((q - p) * np.log(q / p)).sum() - 2 * 2 / 1000)


@pytest.mark.parametrize("n", [30, 100, 1000])
def test_chance_alone_does_not_raise_the_index(n):
    rng = np.random.default_rng(n)
    reference, batch = rng.multinomial(500, [0.1] * 10, 400), rng.multinomial(n, [0.1] * 10, 400)
    plain = stability_index(reference.astype(float), batch.astype(float))
    assert np.median(plain) < 0.02
    assert np.mean(plain >= 0.25) < 0.06


def test_bins_in_which_few_are_expected_are_merged():
    reference = row(*[10] * 10)
    few = compare(reference, row(*[1] * 9, 0), NONE, NONE)
    assert few.p_value[0] == 1
    assert compare(reference, row(0, 0, 0, 0, 0, 0, 0, 0, 0, 30), NONE, NONE).p_value[0] < 1e-6


def test_empty_cells_that_training_hardly_had_are_found():
    assert compare(row(50, 50), row(10, 10), row(1), row(10)).p_value[0] < 1e-4


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60), st.integers(2, 10))
def test_every_number_is_in_one_bin_and_every_bin_holds_five(values, n_bins):
    column = np.array(values, dtype=float)[:, None]
    edges = fit_edges(column, n_bins)
    counts = count(column, edges)
    assert counts.sum() == len(values)
    used = counts[:, : np.isfinite(edges).sum() + 1]
    assert used.shape[1] == 1 or used.min() >= FEWEST
    assert (np.diff(edges[np.isfinite(edges)]) > 0).all()


def test_columns_of_a_small_spread_far_from_zero_are_told_apart():
    values = 1e5 + np.random.default_rng(0).normal(size=(200, 1))
    assert np.isfinite(fit_edges(values, 10)).sum() == 9


def test_a_number_is_the_same_from_float32_and_float64():
    assert as_floats(np.float32([0.1, np.nan]))[0] == as_floats([0.1])[0]
