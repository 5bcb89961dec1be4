"""Shapley values: the axioms, an independent reference, and sampling within its error."""

from itertools import combinations
from math import factorial

import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from multimodn.explain.contributions import MAX_MODALITIES, contributions, sampled_shapley, shapley
from multimodn.explain.interactions import interactions
from multimodn.fusion import Ensemble
from tests._inputs import make_batch, make_model

presences = arrays(bool, st.tuples(st.integers(1, 6), st.just(4))).map(torch.from_numpy)


def brute_force(value, players, n_modalities):
    """The definition, subset by subset."""
    shares, n = [0.0] * n_modalities, len(players)
    for m in players:
        others = [p for p in players if p != m]
        for size in range(n):
            weight = factorial(size) * factorial(n - size - 1) / factorial(n)
            shares[m] += sum(weight * (value({*s, m}) - value(set(s))) for s in combinations(others, size))
    return shares


@given(presence=presences, seed=st.integers(0, 99))
def test_shapley_is_its_definition(presence, seed):
    values = torch.randn(16, len(presence), 1, generator=torch.Generator().manual_seed(seed)).double()
    for code in range(16):
        outside = torch.tensor([bool(code >> m & 1) for m in range(4)]) & ~presence
        values[code, outside.any(1)] = torch.nan
    found = shapley(values, presence)
    for i, row in enumerate(presence):
        table = values[:, i, 0].tolist()
        expected = brute_force(lambda s, t=table: t[sum(1 << m for m in s)], row.nonzero().flatten().tolist(), 4)
        torch.testing.assert_close(found[i, :, 0], torch.tensor(expected, dtype=torch.float64))


@given(presence=presences, seed=st.integers(0, 20))
def test_contributions_add_up_to_prediction_minus_prior(presence, seed):
    model = Ensemble([make_model(4, seed=seed), make_model(4, seed=seed + 1)])
    batch = make_batch(presence, seed)
    with torch.inference_mode():
        outputs = model(batch)
        for name, found in contributions(model, batch).items():
            torch.testing.assert_close(found.values.sum(1), found.prediction - found.prior, rtol=0, atol=1e-6)
            direct = model.tasks[name].link(outputs[name]).double()
            torch.testing.assert_close(found.prediction, direct, rtol=1e-4, atol=1e-5)
            assert not found.values[~presence].any()
            assert not found.errors.any()


def test_sampling_is_within_its_error_of_exact():
    model, presence = Ensemble([make_model(4)]), torch.rand(40, 4) < 0.8
    batch = make_batch(presence)
    with torch.inference_mode():
        evidence = model.encode(batch)
        exact = contributions(model, batch)["death"]
        value = lambda subset: model.tasks["death"].link(model.subset(evidence, subset)["death"])  # noqa: E731
        found, errors = sampled_shapley(value, presence, n_pairs=200)
    torch.testing.assert_close(found.sum(1), exact.prediction - exact.prior, rtol=0, atol=1e-5)
    distance = (found - exact.values).abs()
    assert (distance <= 5 * errors + 1e-5).all()
    assert (distance <= 2 * errors + 1e-5).double().mean() > 0.9


def test_contributions_are_exact_for_as_many_modalities_as_interactions():
    presence = torch.zeros(2, MAX_MODALITIES, dtype=torch.bool)
    presence[0, [0, 5, -1]] = presence[1, [3, 4]] = True  # few are present, so that few subsets are evaluated
    with torch.inference_mode():
        model, batch = Ensemble([make_model(MAX_MODALITIES)]), make_batch(presence)
        pairs = interactions(model, batch)
        for name, found in contributions(model, batch).items():
            assert not found.errors.any()
            torch.testing.assert_close(found.values, pairs[name].values.sum(2), rtol=0, atol=1e-12)


def test_beyond_that_orders_are_sampled():
    model, presence = Ensemble([make_model(MAX_MODALITIES + 1)]), torch.rand(3, MAX_MODALITIES + 1) < 0.7
    with torch.inference_mode():
        for found in contributions(model, make_batch(presence), n_pairs=4).values():
            torch.testing.assert_close(found.values.sum(1), found.prediction - found.prior, rtol=0, atol=1e-6)
            assert found.errors.any()
            assert not found.values[~presence].any()
