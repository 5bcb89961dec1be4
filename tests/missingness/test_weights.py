"""What label shift does to a subset, and that tilting or weighting undoes it exactly."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodn.missingness.label_shift import MAX_TABLE, LabelShift
from multimodn.tasks.binary import BinaryTask
from multimodn.tasks.multiclass import MulticlassTask
from multimodn.tasks.survival import SurvivalTask


def binary(name: str = "death") -> BinaryTask:
    return BinaryTask(name, "status", ["alive", "dead"], [0.0])


def survival() -> SurvivalTask:
    return SurvivalTask("survival", "t", "e", ["0", "1"], [1.0, 2.0], [0.0, 0.0, 0.0])


def subsets(n: int) -> torch.Tensor:
    return (torch.arange(2**n).unsqueeze(1) >> torch.arange(n) & 1) > 0


@st.composite
def cohorts(draw, task=None, weighted=False):
    task = task or binary()
    n, m = draw(st.integers(5, 40)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    presence = torch.rand(n, m, generator=generator) < draw(st.floats(0.2, 1.0))
    strata = torch.randint(-1, task.n_strata, (n, 1), generator=generator)
    strata[:2, 0] = torch.tensor([0, 1])
    weights = torch.rand(n, 1, generator=generator) + 0.5 if weighted else None
    return presence, strata, task, weights


@given(cohorts())
def test_weights_average_to_one_over_the_visits_of_every_subset(cohort):
    presence, strata, task, _ = cohort
    shift = LabelShift(presence, strata, [task])
    visits, _ = shift._visits(subsets(presence.shape[1]), torch.ones_like(shift.prior))
    weights = shift.shift_weights(subsets(presence.shape[1]))
    seen = visits.sum(-1) > 0
    mean = (weights * visits).sum(-1) / visits.sum(-1)
    torch.testing.assert_close(mean[seen], torch.ones_like(mean[seen]))


@given(cohorts(survival(), weighted=True))
def test_strata_that_occur_get_their_shares_of_one_another(cohort):
    presence, strata, task, weights = cohort
    shift = LabelShift(presence, strata, [task], weights=weights)
    every = subsets(presence.shape[1])
    visits, _ = shift._visits(every, torch.ones_like(shift.prior))
    found = shift.shift_weights(every) * visits
    wanted = torch.where(visits > 0, shift.prior, 0.0)
    seen = visits.sum(-1) > 0
    shares = [each[seen] / each[seen].sum(-1, keepdim=True) for each in (found, wanted)]
    torch.testing.assert_close(*shares)


@given(cohorts(survival(), weighted=True))
def test_a_subset_is_left_out_only_where_nothing_can_be_compared(cohort):
    presence, strata, task, weights = cohort
    shift = LabelShift(presence, strata, [task], weights=weights)
    every, all_strata = subsets(presence.shape[1]), strata[strata >= 0].unique()
    for subset, size in zip(every, shift.effective_rows(every)[:, 0], strict=True):
        has = (presence | ~subset).all(1)
        occurs = strata[has][strata[has] >= 0].unique()
        comparable = len(occurs) >= min(2, len(all_strata)) and ((occurs >= 2).any() or not (all_strata >= 2).any())
        assert (size > 0) == (comparable and len(occurs) > 0)


@given(cohorts(survival()), st.integers(1, 4))
def test_rows_that_count_k_times_shift_as_k_times_the_rows(cohort, k):
    presence, strata, task, _ = cohort
    twice = torch.arange(len(strata)) % 2 > 0
    weights = torch.where(twice, float(k), 1.0).unsqueeze(1)
    rows = torch.cat([torch.arange(len(strata)), twice.nonzero()[:, 0].repeat(k - 1)])
    every = subsets(presence.shape[1])
    by_weight, by_row = (
        LabelShift(presence[own], strata[own], [task], weights=given)._visits(every, torch.ones(1, 4))[0]
        for own, given in ((slice(None), weights), (rows, None))
    )
    torch.testing.assert_close(by_weight, by_row)


def test_a_modality_whose_patients_lack_one_kind_of_event_is_still_trained_on():
    presence = torch.zeros(400, 2, dtype=torch.bool)
    presence[:, 0], presence[:150, 1] = True, True
    strata = torch.randint(0, 4, (400, 1), generator=torch.Generator().manual_seed(0))
    strata[:150][strata[:150] == 3] = 2
    shift = LabelShift(presence, strata, [survival()])
    both = torch.tensor([[True, True]])
    weights = shift.weights(both)[0, 0]
    assert (weights[:3] > 0.7).all()
    assert weights[3] == 0
    assert shift.effective_rows(both).item() > 100


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
