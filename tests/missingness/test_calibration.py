"""Calibration: nothing to do on a calibrated model, evidence taken back from one that is too sure."""

from dataclasses import replace

import pytest
import torch

from multimodn.fusion.calibration import Calibration
from multimodn.missingness.label_shift import LabelShift
from multimodn.tasks.binary import BinaryTask
from multimodn.tasks.multiclass import MulticlassTask
from multimodn.tasks.survival import SurvivalTask
from multimodn.training.fit_calibration import fit_calibration
from multimodn.training.held_out import HeldOut

START = {"death": torch.tensor([-0.5])}


def task() -> BinaryTask:
    return BinaryTask("death", "status", ["alive", "dead"], [-0.5])


def held_out(n: int, stretch: float = 1.0, seed: int = 0) -> HeldOut:
    """Rows with two modalities each, whose true log-odds are -0.5 plus both; all present."""
    generator = torch.Generator().manual_seed(seed)
    logits = -0.5 + torch.randn(n, 1, generator=generator) * 1.5
    target = (torch.rand(n, generator=generator) < logits[:, 0].sigmoid()).float()
    said = -0.5 + stretch * (logits + 0.5)
    taken = torch.tensor([[True, True]]).expand(1, n, 2)
    strata = target.long().unsqueeze(1)
    return HeldOut({"death": said.unsqueeze(0)}, {"death": taken}, {"death": target}, {"death": target >= 0}, strata)


def fitted(part: HeldOut) -> tuple[Calibration, dict[str, str]]:
    calibration = Calibration([task()], 2)
    return calibration, fit_calibration(calibration, [task()], START, [part], None)


def test_a_calibrated_model_stays_as_it_is():
    calibration, said = fitted(held_out(8000))
    assert said == {"death": "a slope and a shift a modality"}
    assert calibration.slopes.abs().max() < 0.05


def test_evidence_that_is_too_sure_is_taken_back():
    calibration, _ = fitted(held_out(8000, stretch=2.0))
    assert 1 + calibration.slopes.sum().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("n", "expected"), [(10, "identity"), (60, "one slope and shift"), (400, "a slope and a shift a modality")]
)
def test_few_rows_fit_fewer_numbers_and_it_is_said(n, expected):
    calibration, said = fitted(held_out(n, stretch=3.0))
    assert said["death"].startswith(expected)
    assert calibration.is_identity == (expected == "identity")


def fit_slope(task, strata, said, target):
    """Fits one slope to rows that have the only modality; returns it and what was said."""
    taken = torch.ones(1, len(strata), 1, dtype=torch.bool)
    part = HeldOut({"y": said[None]}, {"y": taken}, {"y": target}, {"y": torch.ones(len(strata)) > 0}, strata[:, None])
    calibration = Calibration([task], 1)
    told = fit_calibration(calibration, [task], {"y": task.prior()}, [part], None)["y"]
    return 1 + calibration.slopes[0, 0].item(), told


def test_a_rare_class_beside_two_frequent_ones_does_not_prevent_calibration():
    task, generator = MulticlassTask("y", "y", ["a", "b", "c"], [0.0, 0.0, -5.0]), torch.Generator().manual_seed(0)
    evidence = torch.randn(400, 3, generator=generator)
    classes = (task.prior() + evidence).softmax(-1).multinomial(1, generator=generator)[:, 0]
    assert 0 < (classes == 2).sum() < 5
    slope, told = fit_slope(task, classes, task.prior() + 2 * evidence, classes)
    assert told == "a slope and a shift a modality"
    assert slope == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(
    ("n_rare", "expected"), [(4, "identity: 200 held-out rows with a label, 4 outside"), (5, "a slope")]
)
def test_rows_outside_the_most_frequent_class_are_counted(n_rare, expected):
    task = MulticlassTask("y", "y", ["a", "b", "c"], [0.0, 0.0, 0.0])
    classes = torch.full((200,), 1)
    classes[:n_rare] = torch.tensor([0, 2]).repeat(3)[:n_rare]
    assert fit_slope(task, classes, torch.randn(200, 3), classes)[1].startswith(expected)


@pytest.mark.parametrize(
    ("n_events", "expected"), [(0, "identity"), (4, "identity: 200 held-out rows with a label, 4 with the event"),
                               (5, "a slope"), (200, "a slope")]
)  # fmt: skip
def test_survival_needs_events_and_no_censored_patient(n_events, expected):
    task = SurvivalTask("y", "t", "e", ["0", "1"], [1.0, 2.0], [0.0, 0.0, 0.0])
    target = torch.stack([torch.rand(200) * 2, (torch.arange(200) < n_events).float()], dim=1)
    assert fit_slope(task, task.strata(target), torch.randn(200, 3), target)[1].startswith(expected)


def test_the_prior_is_never_touched():
    calibration, _ = fitted(held_out(2000, stretch=2.0))
    nothing = calibration(START, START, torch.zeros(2, dtype=torch.bool))
    assert torch.equal(nothing["death"], START["death"])


def test_shifts_make_the_balanced_mean_prediction_of_every_subset_the_prior():
    part = held_out(20_000, seed=1)
    generator = torch.Generator().manual_seed(2)
    rate = torch.where(part.strata[:, 0] > 0, 0.7, 0.1)
    lost = torch.rand(20_000, generator=generator) < rate  # the second modality, mostly for the dead
    presence = torch.stack([torch.ones_like(lost), ~lost], dim=1)
    shift = LabelShift(presence, part.strata, [task()])
    said = part.outputs["death"] - 0.6 * presence[:, 1:]  # being there as evidence: the shortcut
    biased = replace(part, outputs={"death": said}, taken={"death": presence.unsqueeze(0)})
    calibration = Calibration([task()], 2)
    prior = part.strata.float().mean().logit()
    start = {"death": prior.reshape(1)}
    fit_calibration(calibration, [task()], start, [biased], shift)
    chance = calibration({"death": said[0]}, start, presence)["death"].sigmoid()[:, 0]
    dead, share = part.strata[:, 0] > 0, prior.sigmoid()

    def balanced(chances, rows):
        return share * chances[rows & dead].mean() + (1 - share) * chances[rows & ~dead].mean()

    for rows in (lost, ~lost):
        assert balanced(chance, rows).item() == pytest.approx(share.item(), abs=0.01)
    assert balanced(said[0, :, 0].sigmoid(), ~lost) < share - 0.05


def test_sure_predictions_are_not_shifted_by_which_orders_were_drawn():
    part = held_out(400, stretch=20.0, seed=5)
    sure = torch.where(part.targets["death"] > 0, 9.0, -9.0).reshape(1, -1, 1)
    generator = torch.Generator().manual_seed(6)
    presence = torch.rand(400, 2, generator=generator) < 0.7
    shift = LabelShift(presence, part.strata, [task()])
    calibration = Calibration([task()], 2)
    start = {"death": part.strata.float().mean().logit().reshape(1)}
    fit_calibration(
        calibration, [task()], start, [replace(part, outputs={"death": sure}, taken={"death": presence[None]})], shift
    )
    assert calibration.shifts.abs().max() < 0.5


def test_without_label_shift_there_is_nothing_to_shift():
    part = held_out(20_000, seed=3)
    shift = LabelShift(part.taken["death"][0], part.strata, [task()])
    calibration = Calibration([task()], 2)
    start = {"death": part.strata.float().mean().logit().reshape(1)}
    fit_calibration(calibration, [task()], start, [part], shift)
    assert calibration.shifts.abs().max() < 0.05
