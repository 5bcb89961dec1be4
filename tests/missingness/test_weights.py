"""What label shift does to a subset, and that tilting or weighting undoes it exactly."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodn.missingness.label_shift import MAX_TABLE, LabelShift
from multimodn.tasks.binary import BinaryTask
from multimodn.tasks.multiclass import MulticlassTask


def binary(name: str = "death") -> BinaryTask:
    return BinaryTask(name, "status", ["alive", "dead"], [0.0])


def subsets(n: int) -> torch.Tensor:
    return (torch.arange(2**n).unsqueeze(1) >> torch.arange(n) & 1) > 0


@st.composite
def cohorts(draw):
    n, m = draw(st.integers(5, 40)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    presence = torch.rand(n, m, generator=generator) < draw(st.floats(0.2, 1.0))
    strata = torch.randint(-1, 2, (n, 1), generator=generator)
    strata[:2, 0] = torch.tensor([0, 1])
    return presence, strata


@given(cohorts())
def test_weights_average_to_one_over_the_visits_of_every_subset(cohort):
    shift = LabelShift(*cohort, [binary()])
    visits, _ = shift._visits(subsets(cohort[0].shape[1]), torch.ones_like(shift.prior))
    weights = shift.shift_weights(subsets(cohort[0].shape[1]))
    seen = visits.sum(-1) > 0
    mean = (weights * visits).sum(-1) / visits.sum(-1)
    torch.testing.assert_close(mean[seen], torch.ones_like(mean[seen]))


@given(st.integers(1, 4), st.integers(0, 1000))
def test_without_label_shift_nothing_is_corrected(n_modalities, seed):
    generator = torch.Generator().manual_seed(seed)
    half = torch.rand(20, n_modalities, generator=generator) < 0.6
    half[0] = True
    presence = torch.cat([half, half])  # both outcomes have the same patterns
    strata = torch.cat([torch.zeros(20, 1), torch.ones(20, 1)]).long()
    shift = LabelShift(presence, strata, [binary()])
    every = subsets(n_modalities)
    torch.testing.assert_close(shift.tilts(every), torch.zeros(len(every), 1, 2, dtype=torch.float64))
    seen = shift.effective_rows(every) > 0
    weights = shift.shift_weights(every)[seen]
    torch.testing.assert_close(weights, torch.ones_like(weights))


def test_a_tilt_gives_back_the_odds_of_everybody():
    # counts by (x, y); the modality is there for all with y = 0 and for a fifth of those with y = 1
    everybody = torch.tensor([[40.0, 10.0], [20.0, 30.0]])
    having = torch.tensor([[40.0, 2.0], [20.0, 6.0]])
    strata = torch.cat([torch.zeros(60), torch.ones(40)]).long().unsqueeze(1)
    presence = torch.cat([torch.ones(60), torch.ones(8), torch.zeros(32)]).bool().unsqueeze(1)
    shift = LabelShift(presence, strata, [binary()], pseudo_rows=0.0)
    low, high = shift.tilts(torch.tensor([[True]]))[0, 0].tolist()
    fitted = torch.log(having[:, 1] / having[:, 0])  # what maximum likelihood makes of logit + high - low
    torch.testing.assert_close(fitted - (high - low), torch.log(everybody[:, 1] / everybody[:, 0]))


def test_a_weight_gives_back_the_shares_of_everybody():
    strata = torch.cat([torch.zeros(60), torch.ones(40)]).long().unsqueeze(1)
    presence = torch.cat([torch.ones(60), torch.ones(8), torch.zeros(32)]).bool().unsqueeze(1)
    weights = LabelShift(presence, strata, [binary()]).shift_weights(torch.tensor([[True]]))[0, 0]
    assert (weights[1] * 8 / (weights[0] * 60 + weights[1] * 8)).item() == pytest.approx(0.4)


def test_a_subset_without_an_outcome_carries_no_weight_and_pulls_nowhere():
    strata = torch.tensor([[0], [0], [0], [1], [1]])
    presence = torch.tensor([[True], [True], [True], [False], [False]])
    shift = LabelShift(presence, strata, [binary()])
    alone = torch.tensor([[True]])
    assert shift.effective_rows(alone).item() == 0
    assert not shift.weights(alone).any()
    low, high = shift.tilts(alone)[0, 0]
    assert high < low
    assert torch.isfinite(high)


def test_random_orders_visit_as_often_as_the_formula_says():
    from multimodn.fusion.paths import random_paths, steps_taken

    presence = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    shift = LabelShift(presence, torch.tensor([[0], [1], [1]]), [binary()])
    many = presence.repeat(20_000, 1)
    paths = random_paths(many, torch.Generator().manual_seed(0))
    fresh = torch.cat([torch.ones(1, len(many), dtype=torch.bool), (paths >= 0).T])
    passed = (steps_taken(paths, 3) == torch.tensor([True, True, False])).all(-1) & fresh
    share = passed.any(0).view(-1, 3).double().mean(0)
    chance, _ = shift._visits(torch.tensor([[True, True, False]]), torch.ones_like(shift.prior))
    torch.testing.assert_close(torch.stack([share[0], share[1] + share[2]]), chance[0, 0], atol=0.02, rtol=0)


def test_many_modalities_are_looked_up_as_they_come():
    generator = torch.Generator().manual_seed(0)
    n, m = 60, MAX_TABLE + 2
    presence = torch.rand(n, m, generator=generator) < 0.7
    strata = torch.randint(0, 2, (n, 2), generator=generator)
    tasks = [binary(), MulticlassTask("site", "site", ["a", "b", "c"], [0.0, 0.0, 0.0])]
    shift = LabelShift(presence, strata, tasks)
    taken = torch.stack([presence, torch.zeros_like(presence)])
    found = shift.corrections(taken, strata)
    assert found.tilts["death"].shape == (2, n, 2)
    assert found.tilts["site"].shape == (2, n, 3)
    torch.testing.assert_close(found.tilts["death"][0, 5], shift.tilts(presence[5:6])[0, 0, :2].float())
