"""Vectors made by another model."""

import numpy as np
import pytest
import torch

from multimodn.encoders import EmbeddingEncoder, EmbeddingOptions
from multimodn.errors import DataError
from tests.encoders._frames import fitted, vectors, wide_table


def test_standardised_by_training_mean_and_deviation():
    encoder, frame = fitted("embedding")
    expected = (frame - frame.mean()) / frame.std(ddof=0)
    values = encoder.prepare(frame)
    inside = torch.tensor(expected.to_numpy() < 4)
    assert torch.allclose(values[inside], torch.tensor(expected.to_numpy(np.float32))[inside], atol=0.1)
    assert values.mean(0).abs().max() < 1e-6


@pytest.mark.parametrize("during", ["fit", "prepare"])
def test_an_empty_cell_is_an_error_that_names_the_patients(during):
    encoder, frame = fitted("embedding")
    frame.loc["P3", ["g0", "g1"]] = np.nan
    frame.loc["P9", "g1"] = np.nan
    read = encoder.prepare if during == "prepare" else lambda rows: EmbeddingEncoder.fit(rows, EmbeddingOptions())
    with pytest.raises(DataError, match=r"2 patients have empty cells: 'P3' \(2 cells\), 'P9' \(1 cells\)"):
        read(frame)


def test_an_infinite_cell_is_an_error_while_fitting():
    frame = vectors()
    frame.loc["P3", "g0"] = np.inf
    with pytest.raises(DataError, match=r"'g0' has 1 infinite cells: .*\(patient 'P3'\)"):
        EmbeddingEncoder.fit(frame, EmbeddingOptions())


@pytest.mark.parametrize(("n_components", "n_inputs"), [("auto", 13), (4, 4), (None, 200), (1000, 39)])
def test_number_of_components(n_components, n_inputs):
    frame = wide_table()
    encoder = EmbeddingEncoder.fit(frame, EmbeddingOptions(n_components=n_components))
    assert encoder.prepare(frame).shape == (40, n_inputs)


def test_narrow_vectors_are_not_projected():
    encoder, _ = fitted("embedding")
    assert encoder.projection is None


def test_summary_keeps_ranges():
    encoder, frame = fitted("embedding")
    assert encoder.summary()["maximum"].tolist() == frame.max().tolist()
