"""What holds for every encoder kind and flavour."""

import copy
import json
import pickle

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from multimodn.base.batches import PatientTensors
from multimodn.encoders import TableEncoder
from multimodn.encoders.series import SeriesEncoder
from multimodn.errors import DataError
from tests.encoders._frames import ALL, COLUMNS, fitted, tensors

pytestmark = pytest.mark.parametrize("name", ALL)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIMODN_CACHE", str(tmp_path / "cache"))


def assert_same_values(one, other, **tolerance):
    for a, b in zip(tensors(one), tensors(other), strict=True):
        assert_close(a, b, equal_nan=True, **(tolerance or {"rtol": 0, "atol": 0}))


def test_a_row_for_each_patient_in_the_order_of_the_frame(name):
    encoder, frame = fitted(name)
    patients = frame.index.unique()
    values = encoder.prepare(frame)
    assert len(values) == len(patients)
    embedding = encoder(values)
    assert embedding.shape == (len(patients), encoder.embedding_size)
    assert embedding.isfinite().all()
    assert embedding.std(0).min() > 0
    for k in (0, len(patients) - 1):
        own = encoder(encoder.prepare(frame.loc[[patients[k]]]))
        assert_close(own[0], embedding[k], rtol=1e-4, atol=1e-4)


def test_empty_cells_have_a_row_for_each_patient_and_cells_that_the_kind_has(name):
    encoder, frame = fitted(name)
    empty = type(encoder).empty_cells(frame, encoder.options)
    assert list(empty.index) == list(frame.index.unique())
    assert set(map(str, empty.dtypes)) <= {"bool"}
    assert (len(empty.columns) > 0) == isinstance(encoder, (TableEncoder, SeriesEncoder))  # others have no cells


def test_configuration_and_state_restore_it_exactly(name):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame)
    restored = type(encoder).from_config(json.loads(json.dumps(encoder.config(), allow_nan=False))).eval()
    restored.load_state_dict(encoder.state_dict(), strict=True)
    assert restored.config() == encoder.config()
    assert restored.columns == encoder.columns
    assert (restored.embedding_size, restored.token_size, restored.on_error) == (
        encoder.embedding_size,
        encoder.token_size,
        encoder.on_error,
    )
    assert_same_values(restored.prepare(frame), values)
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
    assert_close(double.float(), single, rtol=1e-4, atol=1e-4)


def test_no_rows(name):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame.iloc[:0])
    assert len(values) == 0
    assert encoder(values).shape == (0, encoder.embedding_size)


def test_a_row_does_not_depend_on_its_batch(name):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame)
    together = encoder(values)
    alone = torch.cat([encoder(values[torch.tensor([k])]) for k in range(len(values))])
    assert_close(alone, together, rtol=1e-4, atol=1e-4)
    order = torch.randperm(len(values))
    assert_close(encoder(values[order]), together[order], rtol=1e-4, atol=1e-4)


def test_a_patient_may_be_taken_twice_and_moved(name):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame)[torch.tensor([1, 0, 1])].to(torch.device("cpu"))
    embedding = encoder(values)
    assert len(values) == 3
    assert_close(embedding[0], embedding[2], rtol=1e-5, atol=1e-5)
    assert not torch.equal(embedding[0], embedding[1])


def test_rows_of_a_patient_who_lacks_it_are_never_touched(name):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame)
    position = torch.tensor([[0], [-1], [2], [-1]])
    batch = PatientTensors(pd.Index(list("abcd")), {"m": values}, position).batch(torch.tensor([3, 2, 1]))
    assert_same_values(batch.values["m"], values[torch.tensor([2])])


def test_gradients_are_finite_and_reach_every_parameter(name):
    encoder, frame = fitted(name)
    encoder.train()
    values = encoder.prepare(frame)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.01)
    for _ in range(2):  # weights that start at zero hide those before them
        encoder(values).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    encoder(values).square().mean().backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_tokens_come_with_the_same_embedding(name):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame)
    if not encoder.token_size:
        with pytest.raises(NotImplementedError, match="has no tokens"):
            encoder.with_tokens(values)
        return
    embedding, tokens = encoder.with_tokens(values)
    assert_close(embedding, encoder(values), rtol=1e-5, atol=1e-5)
    assert len(tokens) == len(values)
    assert tokens.items.shape[1] == encoder.token_size
    assert tokens.lengths.min() > 0


def test_encoding_leaves_the_values_alone(name):
    encoder, frame = fitted(name)
    values = encoder.prepare(frame)
    before = [tensor.clone() for tensor in tensors(values)]
    encoder.train()(values).sum().backward()
    for tensor, kept in zip(tensors(values), before, strict=True):
        assert_close(tensor, kept, rtol=0, atol=0, equal_nan=True)


def test_frame_is_not_mutated(name):
    kind, options, make = ALL[name]
    frame = make()
    before = frame.copy(deep=True)
    kind.fit(frame, options).prepare(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_column_order_and_further_columns_do_not_matter(name):
    encoder, frame = fitted(name)
    shuffled = frame[frame.columns[::-1]].assign(unknown="text")
    assert_same_values(encoder.prepare(shuffled), encoder.prepare(frame))


def test_files_are_named_by_columns_that_it_reads(name):
    kind, options, _ = ALL[name]
    encoder, _ = fitted(name)
    assert set(kind.file_columns(options)) <= set(encoder.columns)
    assert encoder.on_error == getattr(options, "on_error", "raise")


def test_a_missing_column_is_named(name):
    encoder, frame = fitted(name)
    with pytest.raises(DataError, match=f"column '{encoder.columns[0]}' is missing"):
        encoder.prepare(frame.rename(columns={encoder.columns[0]: "nonsense"}))


def test_several_rows_of_a_patient_are_taken_as_declared(name):
    kind, _, _ = ALL[name]
    assert kind.several_rows == (name not in COLUMNS)
