"""Interactions, orders and deltas: definitions by brute force, sums, and what an absent modality says."""

from itertools import combinations
from math import factorial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from multimodn import MultiModN
from multimodn.errors import DataError, StudyError
from multimodn.explain.contributions import contributions, sampled_shapley, shapley
from multimodn.explain.interactions import interactions, shapley_interactions
from multimodn.explain.order_sensitivity import draw_orders, order_sensitivity
from multimodn.explain.summary import summarise
from multimodn.fusion import Ensemble
from tests._cohorts import make_cohort, make_study
from tests._inputs import make_batch, make_model

presences = arrays(bool, st.tuples(st.integers(1, 5), st.just(4))).map(torch.from_numpy)


def game(presence, seed=0, n_modalities=4):
    """A random v for each patient, NaN outside what it has."""
    n = 2**n_modalities
    values = torch.randn(n, len(presence), 1, generator=torch.Generator().manual_seed(seed)).double()
    for code in range(n):
        outside = torch.tensor([bool(code >> m & 1) for m in range(n_modalities)]) & ~presence
        values[code, outside.any(1)] = torch.nan
    return values


def brute_force(value, players, i, j):
    """The definition of the interaction of a pair, subset by subset."""
    others, n = [p for p in players if p not in (i, j)], len(players)
    total = 0.0
    for size in range(n - 1):
        weight = factorial(size) * factorial(n - size - 2) / factorial(n - 1)
        for chosen in combinations(others, size):
            s = set(chosen)
            total += weight * (value(s | {i, j}) - value(s | {i}) - value(s | {j}) + value(s))
    return total


@given(presence=presences, seed=st.integers(0, 99))
def test_interactions_are_their_definition(presence, seed):
    values = game(presence, seed)
    found = shapley_interactions(values, presence)
    for row, has in enumerate(presence):
        table, players = values[:, row, 0].tolist(), has.nonzero().flatten().tolist()
        for i, j in combinations(range(4), 2):
            both = i in players and j in players
            expected = brute_force(lambda s, t=table: t[sum(1 << m for m in s)], players, i, j) if both else 0.0
            assert found[row, i, j, 0].item() == pytest.approx(expected / 2, abs=1e-12)


@given(presence=presences, seed=st.integers(0, 99))
def test_a_row_of_interactions_is_the_contribution(presence, seed):
    values = game(presence, seed)
    torch.testing.assert_close(shapley_interactions(values, presence).sum(2), shapley(values, presence))


def test_an_independent_library_finds_the_same_for_six_modalities():
    shapiq = pytest.importorskip("shapiq")
    presence = torch.ones(2, 6, dtype=torch.bool)
    values = game(presence, n_modalities=6)
    own, pairs = shapley(values, presence), shapley_interactions(values, presence)
    bits = 2 ** np.arange(6)
    for row in range(2):
        table = values[:, row, 0].numpy()
        exact = shapiq.ExactComputer(lambda chosen, t=table: t[np.asarray(chosen, dtype=int) @ bits], 6)
        np.testing.assert_allclose(exact("SV", 1).get_n_order_values(1), own[row, :, 0], atol=1e-9)
        theirs = exact("SII", 2).get_n_order_values(2)
        for i, j in combinations(range(6), 2):
            assert theirs[i, j] == pytest.approx(2 * pairs[row, i, j, 0].item(), abs=1e-9)


def test_a_model_of_six_modalities_agrees_with_brute_force():
    model, presence = Ensemble([make_model(6)]), torch.rand(3, 6) < 0.8
    batch = make_batch(presence)
    with torch.inference_mode():
        evidence, found = model.encode(batch), contributions(model, batch)["death"]
        for row, has in enumerate(presence):
            players = has.nonzero().flatten().tolist()

            def value(s, row=row):
                chosen = torch.zeros_like(presence)
                chosen[row, list(s)] = True
                return model.tasks["death"].link(model.subset(evidence, chosen)["death"])[row, 0].double().item()

            for m in players:
                others, n, share = [p for p in players if p != m], len(players), 0.0
                for size in range(n):
                    weight = factorial(size) * factorial(n - size - 1) / factorial(n)
                    share += sum(weight * (value({*s, m}) - value(set(s))) for s in combinations(others, size))
                assert found.values[row, m, 0].item() == pytest.approx(share, abs=1e-6)


def test_sampling_ten_modalities_stays_within_three_standard_errors():
    model, presence = Ensemble([make_model(10)]), torch.rand(20, 10) < 0.8
    batch = make_batch(presence)
    with torch.inference_mode():
        evidence, exact = model.encode(batch), contributions(model, batch)["death"]
        assert not exact.errors.any()
        value = lambda subset: model.tasks["death"].link(model.subset(evidence, subset)["death"])  # noqa: E731
        found, errors = sampled_shapley(value, presence, n_pairs=100)
    distance = ((found - exact.values).abs() / errors.clamp(min=1e-6))[presence]
    assert (distance <= 3).double().mean() > 0.98  # of a normal error 99.7 % are
    assert distance.max() < 5


@given(presence=presences, seed=st.integers(0, 20))
def test_interactions_of_a_model_add_up_to_prediction_minus_prior(presence, seed):
    model, batch = Ensemble([make_model(4, seed=seed)]), make_batch(presence, seed)
    with torch.inference_mode():
        whole = contributions(model, batch)
        for name, found in interactions(model, batch).items():
            difference = whole[name].prediction - whole[name].prior
            torch.testing.assert_close(found.values.sum((1, 2)), difference, rtol=0, atol=1e-6)
            absent = ~(presence.unsqueeze(1) & presence.unsqueeze(2))
            assert not found.values[absent].any()


def test_too_many_modalities_are_refused():
    model, presence = Ensemble([make_model(15)]), torch.rand(2, 15) < 0.5
    with pytest.raises(StudyError, match="at most 14 modalities, this model has 15"):
        interactions(model, make_batch(presence))


def test_few_orders_are_all_listed_and_many_are_drawn():
    assert sorted(draw_orders(3, 24, 0)) == sorted([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    assert len(draw_orders(6, 24, 0)) == 24
    assert draw_orders(6, 24, 0) == draw_orders(6, 24, 0) != draw_orders(6, 24, 1)


@given(presence=presences)
def test_orders_bound_the_prediction_and_one_modality_has_no_order(presence):
    model, batch = Ensemble([make_model(4)]), make_batch(presence)
    with torch.inference_mode():
        for found in order_sensitivity(model, batch, draw_orders(4, 24, 0)).values():
            assert (found.low <= found.prediction + 1e-6).all()
            assert (found.prediction <= found.high + 1e-6).all()
            alone = presence.sum(1) <= 1
            torch.testing.assert_close(found.spread[alone], torch.zeros_like(found.spread[alone]), rtol=0, atol=1e-6)


def test_a_summary_averages_those_who_have_the_modality():
    frame = pd.DataFrame(
        {"task": "y", "output": "y", "modality": ["a", "b", "a"], "contribution": [1.0, 3.0, -2.0]},
        index=pd.Index(["p", "p", "q"], name="patient"),
    )
    found = summarise(frame).set_index("modality")
    assert found.loc["a", ["n", "mean_abs", "mean"]].tolist() == [2, 1.5, -0.5]
    assert found.loc["b", ["n", "mean_abs", "mean"]].tolist() == [1, 3.0, 3.0]
    by_site = summarise(frame, pd.Series({"p": "north", "q": "south"}))
    assert by_site.query("group == 'south'")["modality"].tolist() == ["a"]


def test_a_summary_by_class_keeps_the_classes_apart(fitted):
    model, cohort = fitted
    found = model.explain.summary(cohort, by="class", n_resamples=20)
    assert found.query("task == 'death'")["group"].unique().tolist() == ["alive", "dead"]
    labelled = cohort.targets["death"]["status"].value_counts()
    counts = found.query("task == 'death' and modality == 'labs'").set_index("group")["n"]
    assert counts.to_dict() == {"alive": labelled["alive"], "dead": labelled["dead"]}


def test_a_patient_without_a_group_is_named(fitted):
    model, cohort = fitted
    with pytest.raises(DataError, match=r"39 patient\(s\) have no group: p01"):
        model.explain.summary(cohort, by=pd.Series({"p00": "north"}))


@pytest.fixture(scope="module")
def fitted():
    cohort = make_cohort()
    return MultiModN(make_study()).fit(cohort), cohort


def test_deltas_add_up_to_prediction_minus_prior_in_any_order(fitted):
    model, cohort = fitted
    whole = model.contributions(cohort).groupby(["patient", "task", "output"])[["prediction", "prior"]].first()
    for order in (None, ["image", "labs"]):
        steps = model.explain.deltas(cohort, order=order).groupby(["patient", "task", "output"])["delta"].sum()
        np.testing.assert_allclose(
            steps, (whole["prediction"] - whole["prior"])[steps.index], atol=2e-2 if order else 1e-5
        )


def test_the_order_frame_holds_the_prediction(fitted):
    model, cohort = fitted
    found = model.explain.order_sensitivity(cohort)
    assert found["n_orders"].eq(2).all()
    death = found.query("task == 'death'")["prediction"]
    np.testing.assert_allclose(death, model.link(cohort)["death"][:, 0], atol=1e-5)
