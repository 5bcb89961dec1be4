"""What every kind of task promises."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from multimodn.base.kinds import load_kind
from multimodn.errors import DataError, ShapeError
from tests.tasks._cases import KINDS, OPTIONS, fit, make_targets, make_task

pytestmark = pytest.mark.parametrize("kind", KINDS)
EXTREMES = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4])


def rebuilt(task):
    config = json.loads(json.dumps(task.config()))
    other = type(task).from_config(config)
    other.load_state_dict(task.state_dict())
    return other


def labelled_batch(task, n_rows=30):
    target, known = task.prepare(make_targets(n_rows, seed=1))
    return torch.randn(n_rows, task.output_size), target, known


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda task: pickle.loads(pickle.dumps(task)), rebuilt])
def test_a_copy_is_bit_identical(kind, copied):
    task = make_task(kind)
    other = copied(task)
    outputs, target, known = labelled_batch(task)
    assert torch.equal(other(outputs, target), task(outputs, target))
    assert torch.equal(other.link(outputs), task.link(outputs))
    assert torch.equal(other.prior(), task.prior())
    assert all(
        torch.equal(a, b) for a, b in zip(other.prepare(make_targets()), task.prepare(make_targets()), strict=True)
    )
    assert list(other.predict(outputs)) == list(task.predict(outputs))
    assert other.config() == task.config()
    assert (other.name, other.output_size, other.link_names) == (task.name, task.output_size, task.link_names)
    assert other.metrics(outputs[known], target[known]) == task.metrics(outputs[known], target[known])


def test_prepare_marks_empty_cells_as_unlabelled_and_finite(kind):
    task, frame = make_task(kind), make_targets(40, seed=2)
    target, known = task.prepare(frame)
    columns = type(task).target_columns(type(task).Options(**OPTIONS[kind]))
    cells = frame[columns].notna()
    expected = cells.any(axis=1) if kind == "multilabel" else cells.all(axis=1)
    assert known.dtype == torch.bool
    assert known.tolist() == expected.tolist()
    assert not known.all()
    assert target.isfinite().all()


def test_prepare_reads_a_row_without_its_neighbours(kind):
    task, frame = make_task(kind), make_targets(20, seed=3)
    target, known = task.prepare(frame)
    rows = np.random.default_rng(0).permutation(20)[:7]
    part, part_known = task.prepare(frame.iloc[rows])
    assert torch.equal(part, target[rows])
    assert torch.equal(part_known, known[rows])


def test_fit_uses_no_unlabelled_row_and_changes_no_input(kind):
    frame = make_targets()
    before = frame.copy(deep=True)
    task = fit(kind, frame, **OPTIONS[kind])
    assert frame.equals(before)
    assert fit(kind, frame[task.prepare(frame)[1].numpy()], **OPTIONS[kind]).config() == task.config()


def test_decoder_starts_at_the_prior_for_the_state_zero(kind):
    task = make_task(kind)
    assert torch.equal(task.decoder(7)(torch.zeros(3, 7)), task.prior().expand(3, -1))


def test_the_prior_minimises_the_training_loss_among_constants(kind):
    """The loss is a proper score: its gradient vanishes at the training frequencies, up to the smoothing."""
    task = make_task(kind)
    target, known = task.prepare(make_targets())
    prior = task.prior().clone().requires_grad_()
    loss = task(prior.expand(int(known.sum()), -1), target[known]).mean()
    (gradient,) = torch.autograd.grad(loss, prior)
    assert gradient.abs().max() < 0.012  # each smoothed count is off by a half in about a hundred
    for direction in torch.eye(task.output_size) * 0.5:
        for moved in (prior + direction, prior - direction):
            assert task(moved.expand(int(known.sum()), -1), target[known]).mean() > loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_broadcasts_over_steps(kind, dtype):
    task = make_task(kind)
    _, target, _ = labelled_batch(task)
    outputs = torch.randn(4, 30, task.output_size, dtype=dtype)
    loss = task(outputs, target)
    assert loss.shape == (4, 30)
    assert loss.dtype == dtype
    torch.testing.assert_close(loss, torch.stack([task(step, target) for step in outputs]))
    assert task.link(outputs).shape == (4, 30, len(task.link_names))
    assert task.link(outputs).dtype == dtype


def test_double_precision_agrees_with_single(kind):
    task = make_task(kind)
    outputs, target, _ = labelled_batch(task)
    double = copy.deepcopy(task).double()
    torch.testing.assert_close(double(outputs.double(), target).float(), task(outputs, target))
    torch.testing.assert_close(double.link(outputs.double()).float(), task.link(outputs))


def test_the_gradient_is_that_of_the_loss(kind):
    task = copy.deepcopy(make_task(kind)).double()
    outputs, target, _ = labelled_batch(task)
    assert torch.autograd.gradcheck(lambda x: task(x, target), (outputs.double().requires_grad_(),))
    assert torch.autograd.gradcheck(task.link, (outputs.double().requires_grad_(),))


def test_an_empty_batch_is_empty(kind):
    task = make_task(kind)
    target, known = task.prepare(make_targets(0))
    outputs = torch.zeros(0, task.output_size)
    assert known.shape == (0,)
    assert task(outputs, target).shape == (0,)
    assert task.link(outputs).shape == (0, len(task.link_names))
    assert all(values.shape == (0,) for values in task.predict(outputs).values())
    assert all(np.isnan(score) for score in task.metrics(outputs, target).values())


def test_extreme_outputs_have_finite_losses_and_gradients(kind):
    task = make_task(kind)
    target, _ = task.prepare(make_targets(12, seed=4))  # unlabelled rows are among them
    corners = torch.cartesian_prod(*[EXTREMES] * min(task.output_size, 3)).reshape(-1, min(task.output_size, 3))
    outputs = torch.nn.functional.pad(corners, (0, task.output_size - corners.shape[1]), value=50.0)
    for dtype in (torch.float32, torch.float64):
        raw = outputs.to(dtype)[:, None, :].repeat(1, 12, 1).requires_grad_()
        loss, link = task(raw, target), task.link(raw)
        assert loss.isfinite().all()
        assert link.isfinite().all()
        (gradient,) = torch.autograd.grad(loss.sum() + link.sum(), raw)
        assert gradient.isfinite().all()


def test_a_masked_row_has_no_gradient(kind):
    task = make_task(kind)
    outputs, target, known = labelled_batch(task)
    outputs.requires_grad_()
    (gradient,) = torch.autograd.grad((task(outputs, target) * known).sum(), outputs)
    assert (gradient[~known] == 0).all()
    assert (gradient[known] != 0).any()  # who is censored at once tells nothing


@given(data=st.data())
def test_predictions_are_valid_for_any_outputs(kind, data):
    task = make_task(kind)
    shape = (3, task.output_size)
    outputs = torch.from_numpy(data.draw(arrays(np.float32, shape, elements=st.floats(-60, 60, width=32))))
    predicted = task.predict(outputs)
    assert all(values.shape == (3,) and values.isfinite().all() for values in predicted.values())
    chances = [name for name in predicted if name not in {"expected", "mean", "sd", "risk"}]
    assert all(((predicted[name] >= 0) & (predicted[name] <= 1)).all() for name in chances)
    if kind in {"multiclass", "ordinal"}:
        torch.testing.assert_close(sum(predicted[name] for name in chances), torch.ones(3))
    if kind == "survival":
        curve = torch.stack([predicted[name] for name in chances])
        assert (curve.diff(dim=0) <= 0).all()
    if kind == "regression":
        assert (predicted["sd"] > 0).all()


def test_metrics_are_numbers_or_nan_for_any_rows(kind):
    task = make_task(kind)
    outputs, target, known = labelled_batch(task, 60)
    outputs.requires_grad_()
    names = set(task.metrics(outputs[known], target[known]))
    for n_rows in (1, 2, 3, 10, int(known.sum())):
        scores = task.metrics(outputs[known][:n_rows], target[known][:n_rows])
        assert set(scores) == names
        assert all(isinstance(score, float) and not np.isinf(score) for score in scores.values())
    assert all(np.isfinite(score) for score in scores.values())


def test_outputs_of_a_wrong_width_are_refused(kind):
    task = make_task(kind)
    outputs, target = torch.zeros(2, task.output_size + 1), task.prepare(make_targets(2))[0]
    for call in (lambda: task(outputs, target), lambda: task.link(outputs), lambda: task.predict(outputs)):
        with pytest.raises(ShapeError, match=rf"Task 'outcome'.*\(2, .*expected \(\.\.\., {task.output_size}\)"):
            call()


def test_a_missing_column_names_the_nearest(kind):
    column = type(make_task(kind)).target_columns(type(make_task(kind)).Options(**OPTIONS[kind]))[0]
    frame = make_targets().rename(columns={column: column + "s"})
    with pytest.raises(DataError, match=f"no column '{column}'.*Did you mean '{column}s'"):
        fit(kind, frame, **OPTIONS[kind])
    with pytest.raises(DataError, match=f"no column '{column}'"):
        make_task(kind).prepare(frame)


def test_no_labels_at_all_is_an_error(kind):
    frame = make_targets()
    frame[frame.columns] = np.nan
    with pytest.raises(
        DataError, match=r"Task 'outcome': column '\w+'.*no labels in the training rows|2 problems|3 problems"
    ):
        fit(kind, frame, **OPTIONS[kind])


def test_an_unknown_option_is_an_error(kind):
    with pytest.raises(ValueError, match="traget"):
        load_kind("tasks", kind).Options(**OPTIONS[kind], traget="x")


def test_strata_cover_every_target_and_their_likelihood_is_one(kind):
    task = make_task(kind)
    outputs, target, known = labelled_batch(task)
    strata = task.strata(target)
    assert strata.dtype == torch.long
    assert ((strata >= -1) & (strata < task.n_strata)).all()
    assert (strata[known] >= 0).all()
    if not task.has_strata_likelihood:
        with pytest.raises(NotImplementedError, match="no likelihood of strata"):
            task.log_strata(torch.zeros(3, task.output_size))
        return
    log_strata = task.log_strata(outputs)
    assert log_strata.shape == (len(target), task.n_strata)
    torch.testing.assert_close(log_strata.exp().sum(-1), torch.ones(len(target)), atol=1e-4, rtol=0)
    if kind in ("binary", "multiclass", "ordinal"):  # the stratum is the class: both are the same likelihood
        chosen = log_strata.gather(-1, strata.unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(-chosen[known], task(outputs, target)[known])
