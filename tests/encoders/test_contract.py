"""What holds for every encoder kind and flavour."""

import copy
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from multimodn.errors import DataError
from tests.encoders._frames import ENCODERS, fitted

pytestmark = pytest.mark.parametrize("name", ENCODERS)


def test_shape_and_dtype(name):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame)
    assert values.dtype == torch.float32
    assert len(values) == len(frame)
    embedding = encoder(values)
    assert embedding.shape == (len(frame), encoder.embedding_size)
    assert embedding.isfinite().all()
    assert embedding.std(0).min() > 0


def test_configuration_and_state_restore_it_exactly(name):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame)
    restored = type(encoder).from_config(json.loads(json.dumps(encoder.config(), allow_nan=False))).eval()
    restored.load_state_dict(encoder.state_dict(), strict=True)
    assert restored.config() == encoder.config()
    assert restored.columns == encoder.columns
    assert_close(restored.prepare(frame), values, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(restored(values), encoder(values))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda encoder: pickle.loads(pickle.dumps(encoder))])
def test_copies_encode_alike(name, copied):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame)
    assert torch.equal(copied(encoder)(values), encoder(values))


def test_float64(name):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame)
    single = encoder(values)
    double = encoder.double()(values)
    assert double.dtype == torch.float64
    assert_close(double.float(), single, rtol=1e-4, atol=1e-5)


def test_no_rows(name):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame.iloc[:0])
    assert values.shape == (0, encoder.prepare(frame).shape[1])
    assert encoder(values).shape == (0, encoder.embedding_size)


def test_a_row_does_not_depend_on_its_batch(name):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame)
    together = encoder(values)
    alone = torch.cat([encoder(row) for row in values.split(1)])
    assert_close(alone, together, rtol=1e-5, atol=1e-5)
    order = torch.randperm(len(values))
    assert_close(encoder(values[order]), together[order], rtol=1e-5, atol=1e-5)
    prepared_alone = torch.cat([encoder.prepare(frame.iloc[[i]]) for i in range(5)])
    assert_close(prepared_alone, values[:5], rtol=1e-5, atol=1e-5, equal_nan=True)


def test_gradients_are_finite_and_reach_every_parameter(name):
    encoder, frame = fitted(name)
    encoder.train()
    values = encoder.prepare(frame)
    encoder(values).square().mean().backward()
    torch.optim.SGD(encoder.parameters(), lr=0.01).step()  # weights that start at zero hide those before them
    encoder.zero_grad()
    encoder(values).square().mean().backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_gradients_reach_the_values_and_leave_them_alone(name):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame).requires_grad_()
    before = values.detach().clone()
    encoder(values).sum().backward()
    assert values.grad.isfinite().all()
    assert values.grad.abs().sum() > 0
    assert_close(values.detach(), before, rtol=0, atol=0, equal_nan=True)


def test_frame_is_not_mutated(name):
    kind, options, make = ENCODERS[name]
    frame = make()
    before = frame.copy(deep=True)
    kind.fit(frame, options).prepare(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_column_order_and_further_columns_do_not_matter(name):
    encoder, frame = fitted(name)
    shuffled = frame[frame.columns[::-1]].assign(unknown="text")
    assert_close(encoder.prepare(shuffled), encoder.prepare(frame), rtol=0, atol=0, equal_nan=True)


def test_only_training_rows_are_fitted(name):
    kind, options, make = ENCODERS[name]
    frame = make()
    torch.manual_seed(1)
    first = kind.fit(frame.iloc[:30], options)
    config, state = copy.deepcopy(first.config()), copy.deepcopy(first.state_dict())
    later = frame.iloc[30:].copy()
    numbers = later.select_dtypes("number").columns.difference(["smoker"])
    later[numbers] = later[numbers] * 1000.0
    first.prepare(later)
    assert first.config() == config
    for key, tensor in first.state_dict().items():
        assert torch.equal(tensor, state[key])


def test_missing_columns_are_named_together(name):
    encoder, frame = fitted(name)
    first, second = encoder.columns[:2]
    with pytest.raises(DataError, match="2 problems") as caught:
        encoder.prepare(frame.drop(columns=second).rename(columns={first: first + "x"}))
    assert f"column '{first}' is missing. Did you mean '{first}x'?" in str(caught.value)
    assert f"column '{second}' is missing" in str(caught.value)


def test_repeated_column(name):
    encoder, frame = fitted(name)
    column = encoder.columns[0]
    with pytest.raises(DataError, match=f"column '{column}' appears 2 times"):
        encoder.prepare(pd.concat([frame, frame[[column]]], axis=1))


def test_infinite_cell(name):
    encoder, frame = fitted(name)
    column = encoder.columns[0]
    frame.loc["P3", column] = -np.inf
    with pytest.raises(DataError, match=rf"column '{column}' has 1 infinite cells: -?.*inf.* \(patient 'P3'\)"):
        encoder.prepare(frame)


def test_text_among_numbers(name):
    encoder, frame = fitted(name)
    columns = encoder.columns[:2]
    for column in columns:
        frame[column] = frame[column].astype(object)
        frame.loc[["P1", "P2", "P5", "P7"], column] = "<5"
    with pytest.raises(DataError, match="2 problems") as caught:
        encoder.prepare(frame)
    for column in columns:
        assert f"column '{column}' is numeric, but 4 of {len(frame)} cells are not numbers" in str(caught.value)
    assert "'<5' (patient 'P1'), '<5' (patient 'P2'), '<5' (patient 'P5'), ... (1 more)" in str(caught.value)


def test_constant_columns_are_left_out_with_one_warning(name):
    kind, options, make = ENCODERS[name]
    with pytest.warns(UserWarning, match=r"columns left out: 'a' \(constant\), 'b' \(constant\)") as caught:
        encoder = kind.fit(make().assign(a=1.0, b=2), options)
    assert len(caught) == 1
    assert not {"a", "b"} & set(encoder.columns)
    encoder.prepare(make())  # a dropped column is not asked for


def test_nothing_of_use(name):
    kind, options, make = ENCODERS[name]
    frame = make()[[]].assign(a=1.0)
    with pytest.raises(DataError, match=r"no column is of use in \d+ training rows: 'a' \(constant\)"):
        kind.fit(frame, options.model_copy(update={"units": {}}) if name != "embedding" else options)
