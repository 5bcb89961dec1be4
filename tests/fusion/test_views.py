"""A modality that a task must not see does not exist for that task, in any state, prediction, loss or contribution."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from multimodn.base.batches import Batch
from multimodn.errors import StudyError
from multimodn.explain.contributions import contributions, shapley
from multimodn.fusion import Ensemble, SequentialFusion, lattice, random_paths, trajectory
from multimodn.missingness.label_shift import LabelShift
from tests._inputs import TinyEncoder, make_batch, make_tasks, make_values

presences = arrays(bool, st.tuples(st.integers(1, 9), st.just(3))).map(torch.from_numpy)
HIDDEN = {"stage": ["m1"], "size": ["m0", "m2"]}
SEEN = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])


def make_model(excluded=HIDDEN, informative=False, update="residual"):
    torch.manual_seed(0)
    encoders = {f"m{i}": TinyEncoder(i + 2) for i in range(3)}
    model = SequentialFusion(encoders, make_tasks(), 6, update, informative=informative, excluded=excluded)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model.eval()


def alone(model, task, presence):
    """The batch as the task may see it."""
    return make_batch(presence & model.seen[list(model.tasks).index(task)])


@pytest.mark.parametrize("informative", [False, True])
@given(presence=presences)
def test_predictions_are_those_of_patients_without_it(informative, presence):
    model = make_model(informative=informative)
    outputs, steps, subsets = (run(model, make_batch(presence)) for run in (type(model).__call__, trajectory, lattice))
    for task in model.tasks:
        without = model(alone(model, task, presence))[task]
        complete = (presence.long() << torch.arange(3)).sum(1)
        for found in (outputs[task], steps[task][-1], subsets[task][complete, torch.arange(len(presence))]):
            torch.testing.assert_close(found, without, rtol=1e-5, atol=1e-5)


@given(presence=presences)
def test_values_of_a_hidden_modality_change_nothing(presence):
    model, values = make_model(), make_values(len(presence))
    other = values | {"m1": values["m1"] * -3 + 1}
    one, two = (model(Batch.pack(each, presence)) for each in (values, other))
    assert torch.equal(one["stage"], two["stage"])
    if presence[:, 1].any():
        assert not torch.equal(one["death"], two["death"])


@given(presence=presences)
def test_losses_are_those_of_patients_without_it(presence):
    model = make_model()
    paths = random_paths(presence, torch.Generator().manual_seed(1))
    losses = model.losses(make_batch(presence), paths)
    for task in model.tasks:
        seen = model.seen[list(model.tasks).index(task)]
        kept = torch.where((paths >= 0) & seen[paths.clamp(min=0)], paths, -1)
        expected = model.losses(alone(model, task, presence), kept)[task]
        torch.testing.assert_close(losses[task], expected, rtol=1e-5, atol=1e-5)


def test_no_gradient_reaches_a_hidden_modality():
    model, presence = make_model(), torch.ones(5, 3, dtype=torch.bool)
    model.losses(make_batch(presence), random_paths(presence))["size"].backward()
    gradients = {name: [p.grad for p in encoder.parameters()] for name, encoder in model.encoders.items()}
    assert all(g is None or not g.any() for g in gradients["m0"] + gradients["m2"])
    assert any(g.any() for g in gradients["m1"])


@given(presence=presences)
def test_its_contribution_is_zero_and_the_others_add_up(presence):
    model = Ensemble([make_model()])
    found = contributions(model, make_batch(presence))
    for task, shares in found.items():
        seen = model.first.seen[list(model.tasks).index(task)]
        assert not shares.values[:, ~seen].any()
        total = shares.values.sum(1) + shares.prior
        torch.testing.assert_close(total, shares.prediction.double(), rtol=0, atol=1e-6)
        own = shapley(model.tasks[task].link(model.lattice(alone(model.first, task, presence))[task]), presence & seen)
        torch.testing.assert_close(shares.values, own, rtol=1e-4, atol=1e-5)


def test_the_label_shift_of_a_task_counts_what_it_sees():
    generator = torch.Generator().manual_seed(0)
    presence = torch.rand(400, 3, generator=generator) < 0.6
    strata = torch.randint(0, 2, (400, 3), generator=generator)
    tasks = [task for task in make_tasks() if task.name == "death"] * 3
    subsets = torch.tensor([[True, False, True], [True, True, True], [False, True, False]])
    together = LabelShift(presence, strata, tasks, SEEN)
    for t, seen in enumerate(SEEN):
        by_itself = LabelShift(presence & seen, strata[:, [t]], tasks[:1])
        for name in ("tilts", "weights", "shift_weights"):
            found = getattr(together, name)(subsets)[:, t]
            expected = getattr(by_itself, name)(subsets & seen)[:, 0]
            torch.testing.assert_close(found, expected)


def test_a_task_without_any_modality_is_an_error():
    with pytest.raises(StudyError, match="Every modality is excluded for task 'stage'"):
        make_model({"stage": ["m0", "m1", "m2"]})
