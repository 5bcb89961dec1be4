"""Numbers that lie apart from all others decide no scale."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodn.encoders import EmbeddingEncoder, EmbeddingOptions
from multimodn.encoders._outliers import any_far, apart
from multimodn.encoders.series import SeriesEncoder, SeriesOptions
from multimodn.errors import DataWarning, UnreadableError
from tests.encoders._frames import vectors, wide_table
from tests.encoders._series_cases import measurements


@pytest.mark.parametrize("value", [99999.0, -999.0, 1e6, 1e300, -1e9])
@pytest.mark.parametrize("n_wild", [1, 5])
def test_wild_numbers_are_marked_and_no_others(value, n_wild):
    numbers = np.random.default_rng(0).normal(80, 10, 100)
    assert not apart(numbers).any()
    numbers[:n_wild] = value
    assert np.flatnonzero(apart(numbers)).tolist() == list(range(n_wild))
    assert any_far(numbers[None]).tolist() == [True]


@given(st.integers(0, 300), st.sampled_from(["normal", "lognormal", "exponential", "uniform", "poisson", "binary"]))
def test_natural_numbers_are_never_marked(seed, kind):
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 2, 60) * 1.0 if kind == "binary" else getattr(rng, kind)(size=60) * 1.0
    assert not apart(numbers).any()


def test_half_equal_numbers_and_few_numbers_say_nothing():
    assert not apart(np.array([0.0] * 90 + [1.0] * 9 + [5000.0])).any()
    assert not apart(np.array([1.0, 2.0, 3.0, 1e9])).any()


def test_one_wild_value_of_a_series_changes_no_scale_but_its_own():
    frame = measurements(60)
    clean = SeriesEncoder.fit(frame, SeriesOptions())
    place = int(np.flatnonzero(frame["variable"] == "heart rate")[0])
    for column, value, said in (("value", 99999.0, "'heart rate' 99999"), ("time", 1e7, "times 1e.07")):
        wild = frame.copy()
        wild.iloc[place, wild.columns.get_loc(column)] = value
        with pytest.warns(DataWarning, match=rf"far from all others: {said} \(patient '{frame.index[place]}'\), of"):
            encoder = SeriesEncoder.fit(wild, SeriesOptions())
        for one, other in zip(encoder.variables, clean.variables, strict=True):
            assert one.spread == pytest.approx(other.spread, rel=0.1)
            assert one.n_rows == other.n_rows
        assert encoder.time_spread == pytest.approx(clean.time_spread, rel=0.1)
        items = encoder.prepare(wild).items
        assert items[:, 2].abs().max() <= 5
        assert items[items[:, 1] == 1, 2].std() > 0.5


def test_one_wild_cell_of_vectors_changes_no_scale_but_its_own():
    frame = vectors()
    clean = EmbeddingEncoder.fit(frame, EmbeddingOptions())
    wild = frame.astype(float)
    wild.iloc[3, 1] = 12345.0
    with pytest.warns(DataWarning, match=rf"far from all others of their columns: '{frame.columns[1]}' .*12345"):
        encoder = EmbeddingEncoder.fit(wild, EmbeddingOptions())
    spreads = [column.spread for column in encoder.scaler.columns]
    assert spreads == pytest.approx([column.spread for column in clean.scaler.columns], rel=0.2)
    assert encoder.scaler.columns[1].maximum == 12345.0


FAILED = [
    (lambda row: 0.0 * row, "all cells of the vector are 0"),
    (lambda row: 0.0 * row - 1.0, "all cells of the vector are -1"),
    (lambda row: 0.0 * row - 999.0, "all cells of the vector are -999"),
    (lambda row: np.where(np.arange(len(row)) < 2, -999.0, row), "is -999, 'e1' is -999, far from all other vectors"),
    (lambda row: np.where(np.arange(len(row)) == 2, 99999.0, row), "'e2' is 99999"),
]


def dense(n=40, size=16, seed=0):
    columns = [f"e{k}" for k in range(size)]
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(n, size)), [f"P{i}" for i in range(n)], columns)


@pytest.mark.filterwarnings("ignore:Encoder 'embedding'. cells far from")
@pytest.mark.parametrize(("change", "said"), FAILED)
def test_vectors_that_no_network_made_are_named(change, said):
    frame = dense()
    encoder = EmbeddingEncoder.fit(frame, EmbeddingOptions())
    frame.loc["P7"] = change(frame.loc["P7"].to_numpy())
    for read in (lambda rows: EmbeddingEncoder.fit(rows, EmbeddingOptions()), encoder.prepare):
        with pytest.raises(UnreadableError, match=rf"patient 'P7': .*{said}") as found:
            read(frame)
        assert set(found.value.patients) == {"P7"}
        assert "`suspicious: keep`" in str(found.value)
        assert "on_error: absent" in str(found.value)
    if not said.endswith("are 0"):
        with pytest.raises(UnreadableError, match="patient 'P7'"):
            encoder.prepare(frame.loc[["P7"]])
    kept = EmbeddingEncoder.fit(frame, EmbeddingOptions(suspicious="keep"))
    assert torch.isfinite(kept.prepare(frame)).all()


def test_zeros_are_natural_where_vectors_are_sparse_or_narrow():
    counts = pd.DataFrame(np.random.default_rng(0).poisson(0.3, (50, 12)) * 1.0, [f"P{i}" for i in range(50)])
    counts.columns = [f"c{k}" for k in range(12)]
    counts.loc["P3"] = 0.0
    EmbeddingEncoder.fit(counts, EmbeddingOptions()).prepare(counts)
    narrow = dense(size=4)
    narrow.loc["P3"] = 0.0
    EmbeddingEncoder.fit(narrow, EmbeddingOptions()).prepare(narrow)
    wide = wide_table()
    EmbeddingEncoder.fit(wide, EmbeddingOptions()).prepare(wide.iloc[:1])
