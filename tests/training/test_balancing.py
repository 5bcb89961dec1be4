import builtins
import math

import numpy as np
import pandas as pd
import pytest
import torch

from multimodn import MultiModN
from multimodn.base.batches import BatchLoader
from multimodn.errors import StudyError
from multimodn.evaluate.performance.task_conflicts import conflicts
from multimodn.fusion import random_paths
from multimodn.training.balancing import Aggregated, Uncertainty, check_installed
from multimodn.training.build import build_model, prepare
from multimodn.training.fit import fit_members, member_rows
from tests._cohorts import make_cohort, make_study
from tests._inputs import make_batch, make_model, make_tasks
from tests.training.test_fit import assert_same_weights, interrupt, make_split

AGGREGATORS = ["upgrad", "pcgrad"]


def gradients(model):
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def backward(method, labelled=None, tasks=None, seed=0, scales=(1.0, 1.0, 1.0)):
    """The gradients of every parameter by a method, the plain mean where it is None, and the losses."""
    model = make_model(seed=seed).train()
    batch = make_batch(torch.rand(24, 3, generator=torch.Generator().manual_seed(1)) > 0.3)
    if labelled is not None:
        known = {name: torch.full((24,), name in labelled) for name in batch.targets}
        batch = type(batch)(batch.values, batch.presence, batch.targets, known)
    paths = random_paths(batch.presence, torch.Generator().manual_seed(2))
    how = Aggregated(model, method or "upgrad")
    with how.watching():
        losses = model.losses(batch, paths)
    losses = {name: scale * loss for (name, loss), scale in zip(losses.items(), scales, strict=True)}
    losses = losses if tasks is None else {name: losses[name] for name in tasks}
    if method is None:
        torch.stack(list(losses.values())).mean().backward()
    else:
        torch.manual_seed(0)
        how.backward(losses, batch.labelled)
    return model, batch, losses, gradients(model)


def test_the_sum_is_the_plain_formula():
    """Two epochs by hand, without Lightning, end at the very weights of a fit."""
    study = make_study(training={"epochs": 2, "experts": []}, missingness="off")
    cohort, split = make_cohort(), make_split()
    fitted = MultiModN(study).fit(cohort, split=split)
    spec = study.training
    model = build_model(study, cohort.subset(split.train), spec.seed).train()
    seen = cohort.subset([*split.train, *split.validation])
    patients = prepare(model, seen, labelled=True)
    rows = member_rows(study, seen, split)[0][0]
    strength = spec.penalty / (len(rows) * 3)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": strength},
        {"params": [p for p in model.parameters() if p.dim() <= 1]},
    ]
    optimizer = torch.optim.Adam(groups, lr=spec.learning_rate, foreach=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, spec.epochs)
    loader = BatchLoader(patients, rows, spec.batch_size, shuffle=True, seed=spec.seed)
    weights = []
    with torch.random.fork_rng():
        for epoch in range(2):
            torch.manual_seed((spec.seed * 100_003 + epoch) * 1_009)
            loader.epoch = epoch
            for batch in loader:
                optimizer.zero_grad()
                losses = model.losses(batch, random_paths(batch.presence))
                torch.stack(list(losses.values())).mean().backward()
                optimizer.step()
            schedule.step()
            weights.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    found = fitted.trained.ensemble.first.state_dict()
    assert any(all(torch.equal(found[name], each[name]) for name in found) for each in weights)


@pytest.mark.parametrize("method", AGGREGATORS)
def test_a_decoder_gets_the_gradient_of_its_own_task_as_in_the_mean(method):
    *_, expected = backward(None)
    *_, found = backward(method)
    for name in (name for name in expected if name.startswith("decoders")):
        torch.testing.assert_close(found[name], expected[name])


@pytest.mark.parametrize("method", AGGREGATORS)
def test_one_task_that_has_labels_is_trained_as_by_the_mean(method):
    *_, expected = backward(None, labelled={"stage"})
    *_, found = backward(method, labelled={"stage"})
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def shared_vector(model, found):
    return torch.cat([found[name].flatten() for name, _ in model.named_parameters() if not name.startswith("decoders")])


def jacobian(seed):
    """The gradient of each task's share of the mean with respect to what tasks share."""
    rows = []
    for name in ("death", "stage", "size"):
        model, *_ = backward(None, tasks=[name], seed=seed)
        rows.append(shared_vector(model, gradients(model)) / 3)
    return torch.stack(rows)


@pytest.mark.parametrize("seed", range(4))
def test_upgrad_works_against_no_task(seed):
    rows = jacobian(seed)
    norms = rows.norm(dim=1, keepdim=True)  # alike, as the quadratic programme is regularised by the largest
    model, *_, found = backward("upgrad", seed=seed, scales=(1 / norms).flatten().tolist())
    joined = shared_vector(model, found)
    assert (rows / norms @ joined >= -1e-2 * joined.norm()).all()


def test_pcgrad_is_the_published_projection():
    rows = jacobian(0)
    model, *_, found = backward("pcgrad")
    torch.manual_seed(0)
    expected = torch.zeros(rows.shape[1])
    for i in range(3):
        own = rows[i].clone()
        for j in torch.randperm(3).tolist():
            if j != i and own @ rows[j] < 0:
                own -= (own @ rows[j]) / (rows[j] @ rows[j]) * rows[j]
        expected += own
    torch.testing.assert_close(shared_vector(model, found), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", AGGREGATORS)
def test_tasks_that_do_not_conflict_are_trained_as_by_the_mean(method):
    n_checked = 0
    for seed in range(12):
        rows = jacobian(seed)
        if (rows @ rows.T >= 0).all():
            model, *_, found = backward(method, seed=seed)
            torch.testing.assert_close(shared_vector(model, found), rows.sum(0), rtol=1e-2, atol=1e-3)
            n_checked += 1
    assert n_checked


def test_no_hook_is_left_on_a_decoder():
    model = backward("upgrad")[0]
    assert not any(decoder._forward_pre_hooks for decoder in model.decoders.values())


def test_learned_weights_follow_the_formulas_of_classes_and_of_numbers():
    tasks = make_tasks()
    how = Uncertainty(tasks)
    with torch.no_grad():
        how.log_variance.copy_(torch.tensor([0.5, -0.3, 0.2]))
    losses = {"death": torch.tensor(0.6), "stage": torch.tensor(1.1), "size": torch.tensor(1.4)}
    known = {name: torch.tensor([True, False]) for name in losses}
    expected = [0.6 * math.exp(-0.5) + 0.25, 1.1 * math.exp(0.3) - 0.15, 0.5 * 1.4 * math.exp(-0.2) + 0.1]
    assert how(losses, known).item() == pytest.approx(np.mean(expected))


def test_a_task_without_a_label_in_the_batch_keeps_its_learned_weight():
    how = Uncertainty(make_tasks())
    losses = {name: torch.tensor(0.7, requires_grad=True) for name in ("death", "stage", "size")}
    known = {"death": torch.tensor([True]), "stage": torch.tensor([False]), "size": torch.tensor([True])}
    how(losses, known).backward()
    assert how.log_variance.grad[1] == 0
    assert losses["stage"].grad == 0
    assert (how.log_variance.grad[[0, 2]] != 0).all()


def test_a_likelihood_without_bound_does_not_let_a_weight_grow_for_ever():
    how = Uncertainty(make_tasks())
    with torch.no_grad():
        how.log_variance.fill_(-50.0)
    losses = {name: torch.tensor(-3.0) for name in ("death", "stage", "size")}
    assert how(losses, {name: torch.tensor([True]) for name in losses}).item() > -3 * math.exp(2) - 2


@pytest.mark.parametrize("balance", ["uncertainty", *AGGREGATORS])
def test_an_interrupted_fit_repeats_exactly(tmp_path, monkeypatch, balance):
    study = make_study(training={"epochs": 3, "balance": balance})
    cohort, split = make_cohort(), make_split()
    whole = MultiModN(study).fit(cohort, split=split)
    with monkeypatch.context() as patch:
        interrupt(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            MultiModN(study).fit(cohort, split=split, folder=tmp_path)
    resumed = MultiModN(study).fit(cohort, split=split, folder=tmp_path)
    assert_same_weights(resumed, whole)
    assert set(whole.trained.ensemble.first.state_dict()) == set(
        MultiModN(make_study()).fit(cohort, split=split).trained.ensemble.first.state_dict()
    )


def test_what_stops_the_training_is_the_plain_mean_of_the_losses(tmp_path):
    study = make_study(training={"epochs": 2, "balance": "uncertainty"})
    MultiModN(study).fit(make_cohort(), split=make_split(), folder=tmp_path)
    log = pd.read_csv(next((tmp_path / "member0" / "log").rglob("metrics.csv")))
    losses = log["validation_loss"].dropna()
    each = log[[f"validation_loss_{name}" for name in ("death", "size", "survival")]].dropna().mean(axis=1)
    np.testing.assert_allclose(losses, each, rtol=1e-5)


def test_what_is_not_installed_is_told_before_training(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("quadprog"):
            raise ImportError("No module named 'quadprog'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr("importlib.import_module", lambda name: missing(name))
    study = make_study(training={"balance": "upgrad"})
    with pytest.raises(StudyError, match=r"'upgrad' needs the extra 'multitask'.*pip install"):
        fit_members(study, [], None, [])
    check_installed(make_study(training={"balance": "uncertainty"}).training)


@pytest.fixture(scope="module")
def fitted():
    study = make_study(training={"epochs": 1, "members": 2})
    return MultiModN(study).fit(make_cohort(), split=make_split())


def test_conflicts_of_a_trained_model_are_bounded_shares(fitted):
    found = conflicts(fitted, make_cohort(), n_batches=5)
    assert list(zip(found["task"], found["other"], strict=True)) == [
        ("death", "size"),
        ("death", "survival"),
        ("size", "survival"),
    ]
    assert (found["n"] == 5).all()
    assert found["cosine"].between(-1, 1).all()
    assert found["conflict"].between(0, 1).all()
    assert conflicts(fitted, make_cohort(), n_batches=5).equals(found)
    assert all(p.grad is None for p in fitted.trained.ensemble.parameters())


def test_a_task_that_wants_the_opposite_always_conflicts(fitted):
    """The same decoder with opposite labels: a step for the one is a step against the other."""
    from multimodn.evaluate.performance.task_conflicts import _cosine, _gradients

    network = fitted.trained.ensemble.first
    batch = fitted.prepare(make_cohort(), labelled=True).batch(torch.arange(12))
    flipped = {**batch.targets, "death": 1 - batch.targets["death"]}
    other = type(batch)(batch.values, batch.presence, flipped, batch.labelled, batch.strata)
    one, against = (_gradients(network, b, torch.Generator().manual_seed(0), None)["death"] for b in (batch, other))
    assert _cosine(one, one) == pytest.approx(1)
    assert _cosine(one, against) < 0


def test_tasks_that_no_patient_has_together_do_not_meet(fitted):
    cohort = make_cohort()
    targets = dict(cohort.targets)
    half = pd.Series(np.arange(len(cohort)) % 2 == 0, cohort.patients)
    targets["death"] = targets["death"].where(half, axis=0)
    targets["size"] = targets["size"].where(~half, axis=0)
    found = conflicts(fitted, type(cohort)(cohort.patients, cohort.modalities, targets), n_batches=3)
    row = found[(found["task"] == "death") & (found["other"] == "size")].iloc[0]
    assert row["n"] == 0
    assert np.isnan(row["conflict"])
