"""What holds for every kind that reads columns of numbers and levels."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from multimodn.errors import DataError
from tests.encoders._frames import COLUMNS, fitted

pytestmark = pytest.mark.parametrize("name", COLUMNS)


def test_only_training_rows_are_fitted(name):
    kind, options, make = COLUMNS[name]
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
    kind, options, make = COLUMNS[name]
    with pytest.warns(UserWarning, match=r"columns left out: 'a' \(constant\), 'b' \(constant\)") as caught:
        encoder = kind.fit(make().assign(a=1.0, b=2), options)
    assert len(caught) == 1
    assert not {"a", "b"} & set(encoder.columns)
    encoder.prepare(make())  # a dropped column is not asked for


def test_nothing_of_use(name):
    kind, options, make = COLUMNS[name]
    frame = make()[[]].assign(a=1.0)
    with pytest.raises(DataError, match=r"no column is of use in \d+ training rows: 'a' \(constant\)"):
        kind.fit(frame, options.model_copy(update={"units": {}}) if name != "embedding" else options)
