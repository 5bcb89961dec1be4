"""What must hold of the fusion whatever the patients have."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from multimodn.base.batches import Batch
from multimodn.errors import ShapeError, StudyError
from multimodn.fusion import SequentialFusion, lattice, ordered_paths, random_paths, trajectory
from tests._inputs import TinyEncoder, make_batch, make_model, make_tasks, make_values

UPDATES = ["residual", "product", "gated", "linear", "attention"]
presences = arrays(bool, st.tuples(st.integers(1, 9), st.just(3))).map(torch.from_numpy)
orders = st.permutations(["m0", "m1", "m2"])


def assert_same_outputs(a, b, **tolerance):
    for name in a:
        torch.testing.assert_close(a[name], b[name], **(tolerance or {"rtol": 0, "atol": 0}))


@pytest.mark.parametrize("update", UPDATES)
@given(presence=presences, order=orders)
def test_absent_modality_leaves_the_state_bit_identical(update, presence, order):
    model = make_model(update=update)
    evidence = model.encode(make_batch(presence))
    states = model.states(evidence, model.paths(evidence, order))
    for k, name in enumerate(order):
        absent = ~presence[:, model.modalities.index(name)]
        assert torch.equal(states[k + 1][absent], states[k][absent])
        assert not (states[k + 1][~absent] == states[k][~absent]).all(-1).any()


@given(presence=presences)
def test_encoder_runs_once_and_only_on_rows_that_have_its_modality(presence):
    model = make_model()
    lattice(model, make_batch(presence))
    for m, encoder in enumerate(model.encoders.values()):
        assert encoder.n_rows == presence[:, m].sum()
        assert encoder.n_calls == int(presence[:, m].any())


@given(presence=presences, junk=st.floats(width=32), order=orders)
def test_prediction_ignores_what_stands_in_an_absent_modality(presence, junk, order):
    model, values = make_model(), make_values(len(presence))
    filled = {n: torch.where(presence[:, m, None], v, junk) for m, (n, v) in enumerate(values.items())}
    with torch.inference_mode():
        clean = model(Batch.pack(values, presence), order)
        assert_same_outputs(model(Batch.pack(filled, presence), order), clean)


@given(presence=presences, order=orders, data=st.data())
def test_prediction_depends_neither_on_batch_mates_nor_on_row_order(presence, order, data):
    model, values = make_model(), make_values(len(presence))
    rows = torch.tensor(data.draw(st.lists(st.integers(0, len(presence) - 1), min_size=1, max_size=4)))
    with torch.inference_mode():
        whole = model(Batch.pack(values, presence), order)
        part = model(Batch.pack({n: v[rows] for n, v in values.items()}, presence[rows]), order)
    # sums of other batch sizes are rounded differently
    assert_same_outputs(part, {n: o[rows] for n, o in whole.items()}, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("update", UPDATES)
@given(presence=presences)
def test_no_gradient_to_the_encoder_of_an_absent_modality(update, presence):
    model = make_model(update=update)
    presence = presence.clone()
    presence[:, 1] = False
    losses = model.losses(make_batch(presence), random_paths(presence))
    torch.stack(list(losses.values())).sum().backward()
    for parameter in model.encoders["m1"].parameters():
        assert parameter.grad is None
    weight = model.update.recurrent.weight.grad
    assert weight is None or not weight[1].any()


@given(presence=presences, labels=st.data())
def test_missing_label_gives_no_gradient(presence, labels):
    known = torch.tensor(labels.draw(st.lists(st.booleans(), min_size=len(presence), max_size=len(presence))))
    gradients = []
    for shift in (0.0, 5.0):
        model, batch = make_model(), make_batch(presence, labelled=known)
        batch.targets["size"][~known] += shift
        batch.targets["death"][~known] = 1 - batch.targets["death"][~known]
        paths = random_paths(presence, torch.Generator().manual_seed(1))
        torch.stack(list(model.losses(batch, paths).values())).sum().backward()
        gradients.append([torch.zeros(()) if p.grad is None else p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)
    if not known.any():
        assert not any(g.any() for g in gradients[0])


@given(presence=presences)
def test_random_paths_are_orders_of_each_rows_own_modalities(presence):
    for row, path in zip(presence, random_paths(presence), strict=True):
        n_present = int(row.sum())
        assert sorted(path[:n_present].tolist()) == row.nonzero().flatten().tolist()
        assert (path[n_present:] == -1).all()


def test_random_paths_are_uniform_over_orders():
    paths = random_paths(torch.ones(30_000, 3, dtype=torch.bool))
    _, counts = paths.unique(dim=0, return_counts=True)
    assert len(counts) == 6
    assert ((counts - 5_000).abs() < 5 * (5_000 * 5 / 6) ** 0.5).all()


@given(presence=presences, order=orders)
def test_mixed_paths_agree_with_each_row_alone(presence, order):
    model = make_model()
    paths = random_paths(presence)
    with torch.inference_mode():
        together = model.states(model.encode(make_batch(presence)), paths)
        for i, path in enumerate(paths):
            names = [model.modalities[m] for m in path.tolist() if m >= 0]
            values = {n: v[i : i + 1] for n, v in make_values(len(presence)).items()}
            evidence = model.encode(Batch.pack(values, presence[i : i + 1]))
            alone = model.states(evidence, model.paths(evidence, names))
            torch.testing.assert_close(together[-1, i], alone[-1, 0], rtol=1e-4, atol=1e-5)


@given(presence=presences)
def test_lattice_holds_every_subset_and_nothing_else(presence):
    model = make_model()
    batch = make_batch(presence)
    with torch.inference_mode():
        found = lattice(model, batch)
        evidence = model.encode(batch)
        for code in range(8):
            subset = torch.tensor([bool(code >> m & 1) for m in range(3)]).expand_as(presence)
            inside = (~subset | presence).all(1)
            direct = model.decode(model.states(evidence, ordered_paths(subset & presence, model.order))[-1])
            for name, outputs in found.items():
                torch.testing.assert_close(outputs[code][inside], direct[name][inside], rtol=1e-4, atol=1e-5)
                assert outputs[code][~inside].isnan().all()


@given(presence=presences, order=orders)
def test_trajectory_starts_at_the_prior_and_ends_at_the_prediction(presence, order):
    model, batch = make_model(), make_batch(presence)
    with torch.inference_mode():
        steps, final = trajectory(model, batch, order), model(batch, order)
    for name, outputs in steps.items():
        assert outputs.shape[:2] == (4, len(presence))
        torch.testing.assert_close(outputs[-1], final[name])
        nobody = ~presence.any(1)
        assert torch.equal(outputs[-1][nobody], outputs[0][nobody])


def test_subset_of_an_order_runs_and_order_matters():
    model, batch = make_model(), make_batch(torch.ones(4, 3, dtype=torch.bool))
    with torch.inference_mode():
        one, other, part = (model(batch, ["m0", "m1", "m2"]), model(batch, ["m2", "m1", "m0"]), model(batch, ["m1"]))
    assert not torch.allclose(one["death"], other["death"])
    assert not torch.allclose(one["death"], part["death"])


def test_loss_counts_each_visited_state_once():
    model = make_model()
    presence = torch.tensor([[True, False, True], [False, False, False]])
    batch, paths = make_batch(presence), torch.tensor([[2, 0, -1], [-1, -1, -1]])
    outputs = model.decode(model.states(model.encode(batch), paths))["size"]
    loss = model.tasks["size"](outputs, batch.targets["size"])
    expected = (loss[0].sum() + loss[1, 0] + loss[2, 0]) / 4
    torch.testing.assert_close(model.losses(batch, paths)["size"], expected)
    doubled = model.losses(batch, paths, weights=dict.fromkeys(model.tasks, torch.full((4, 2), 2.0)))["size"]
    torch.testing.assert_close(doubled, 2 * expected)


@pytest.mark.parametrize(
    ("values", "presence", "message"),
    [
        ({"a": torch.ones(2, 1)}, torch.ones(2, 1), "expected bool"),
        ({"a": torch.ones(2, 1)}, torch.ones(2, 2, dtype=torch.bool), "2 columns, but there are 1 modalities: a"),
        ({"a": torch.ones(1, 1)}, torch.ones(2, 1, dtype=torch.bool), "'a' has values for 1 rows, .* True in 2"),
    ],
)
def test_batch_refuses_what_does_not_fit(values, presence, message):
    with pytest.raises(ShapeError, match=message):
        Batch(values, presence)


def test_pack_names_the_modality_of_another_length():
    with pytest.raises(ShapeError, match=r"Expected 3 rows .* \{'b': 2\}"):
        Batch.pack({"a": torch.ones(3, 1), "b": torch.ones(2, 1)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoders": {}}, "at least one modality"),
        ({"tasks": []}, "at least one modality and one task"),
        ({"tasks": make_tasks()[:1] * 2}, "same name"),
        ({"update": "gatd"}, "Did you mean 'gated'"),
        ({"order": ["m0", "m0"]}, "'m0' stands twice"),
        ({"order": ["m0"]}, "leaves out"),
        ({"order": ["m0", "m7"]}, "Unknown modality 'm7'"),
        ({"encoders": {"m0": torch.nn.Linear(2, 2)}}, "no integer attribute `embedding_size`"),
    ],
)
def test_model_refuses_what_does_not_fit(arguments, message):
    defaults = {"encoders": {"m0": TinyEncoder(2), "m1": TinyEncoder(3)}, "tasks": make_tasks()}
    with pytest.raises(StudyError, match=message):
        SequentialFusion(**(defaults | arguments))


def test_batch_with_other_modalities_is_refused():
    with pytest.raises(ShapeError, match=r"has modalities \['x'\], expected \['m0', 'm1', 'm2'\]"):
        make_model()(Batch.pack({"x": torch.ones(2, 2)}))
