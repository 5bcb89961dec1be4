"""Tables: types of columns, empty cells, unseen levels, wide tables."""

import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rtdl_num_embeddings import PiecewiseLinearEncoding
from torch.testing import assert_close

from multimodn.encoders import TableEncoder, TableOptions
from multimodn.encoders._layers import LevelInput, PeriodicInput, PiecewiseInput, Projection
from multimodn.errors import DataError, DataWarning, StudyError
from tests.encoders._frames import fitted, mixed_table, wide_table


def inputs(encoder, values):
    """What the first layer receives."""
    received = []
    handle = encoder.layers.register_forward_pre_hook(lambda _, args: received.append(args[0].detach()))
    encoder(values)
    handle.remove()
    return received[0]


@pytest.mark.parametrize("scaling", ["quantile", "standard"])
@pytest.mark.parametrize("numeric", ["piecewise", "periodic", "scaled"])
@pytest.mark.parametrize("column", ["lactate", "age", "site", "smoker"])
def test_an_empty_cell_is_encoded_as_the_training_mean(numeric, scaling, column):
    frame = mixed_table()
    options = TableOptions(numeric=numeric, scaling=scaling)
    encoder = TableEncoder.fit(frame, options).eval()
    row = frame.iloc[[0]].copy()
    seen = frame[frame[column].notna()]
    others = pd.concat([row.assign(**{column: cell}) for cell in seen[column]])
    empty = (
        row.assign(**{column: pd.Series([None], index=row.index, dtype=frame[column].dtype)})
        if column != "smoker"
        else row.assign(smoker=np.nan)
    )
    mean = inputs(encoder, encoder.prepare(others)).mean(0)
    tolerance = 0.05 if numeric == "periodic" else 1e-5  # its mean is over quantiles
    assert_close(inputs(encoder, encoder.prepare(empty))[0], mean, rtol=0, atol=tolerance)


@given(hnp.arrays(bool, (60, 3)))
def test_any_empty_cells_give_finite_embeddings_and_gradients(empty):
    encoder, frame = fitted("piecewise")
    periodic, _ = fitted("periodic")
    frame[["lactate", "age", "nodes"]] = frame[["lactate", "age", "nodes"]].mask(empty)
    for each in (encoder, periodic):
        embedding = each(each.prepare(frame))
        embedding.square().sum().backward()
        assert embedding.isfinite().all()
        assert all(parameter.grad.isfinite().all() for parameter in each.parameters())


@given(hnp.arrays(bool, (60,)), st.floats(-1e30, 1e30))
def test_an_empty_cell_leaves_other_rows_alone(empty, cell):
    encoder, frame = fitted("piecewise")
    changed = frame.assign(age=frame["age"].mask(empty, cell))
    difference = (encoder(encoder.prepare(changed)) - encoder(encoder.prepare(frame))).abs().amax(1)
    kept = torch.from_numpy(~empty)
    assert difference[kept].sum() < 1e-3


def test_emptiness_is_an_input_only_on_request():
    silent, frame = fitted("piecewise")
    telling, _ = fitted("indicated")
    plain, indicated = silent.prepare(frame), telling.prepare(frame)
    assert telling.layout.indicated == ["lactate", "age", "nodes", "site"]  # `smoker` was never empty
    assert_close(indicated[:, : plain.shape[1]], plain, rtol=0, atol=0, equal_nan=True)
    expected = frame[telling.layout.indicated].isna().to_numpy(np.float32)
    assert torch.equal(indicated[:, plain.shape[1] :], torch.from_numpy(expected))


def test_an_unseen_level_is_neutral_and_warned_of():
    encoder, frame = fitted("piecewise")
    unseen = frame.assign(site="nose", smoker=2)
    empty = frame.assign(site=None, smoker=np.nan)
    with pytest.warns(DataWarning, match=r"'site': 'nose' \(60 patients\); column 'smoker': '2' \(60 patients\)"):
        values = encoder.prepare(unseen)
    assert torch.equal(encoder(values), encoder(encoder.prepare(empty)))


def test_levels_survive_a_change_of_type():
    frame = pd.DataFrame({"code": [1, 2, 3, 1], "flag": [True, False, True, False]})
    encoder = TableEncoder.fit(frame, TableOptions(categorical=["code"])).eval()
    values = encoder.prepare(frame)
    other = pd.DataFrame({"code": ["1", " 2", "3 ", "1"], "flag": [1.0, 0.0, 1.0, 0.0]})
    assert torch.equal(encoder.prepare(other), values)
    assert torch.equal(encoder.prepare(frame.astype({"code": float})), values)
    assert torch.equal(encoder.prepare(frame.astype({"code": "category", "flag": object})), values)
    nullable = encoder.prepare(frame.astype({"code": "Int64", "flag": "boolean"}))
    assert torch.equal(nullable, values)


def test_kinds_of_columns():
    n = 30
    frame = pd.DataFrame(
        {
            "text_numbers": [f" {i}.5" for i in range(n)],
            "count": [i % 3 for i in range(n)],
            "two": [i % 2 * 7 for i in range(n)],
            "yes": [["yes", "no", ""][i % 3] for i in range(n)],
            "code": [i % 4 for i in range(n)],
            "note": [f"note {i}" for i in range(n)],
            "blank": [" "] * n,
            "none": [None] * n,
        }
    )
    with pytest.warns(DataWarning, match=r"'note' \(free text.*30 values in 30.*'blank' \(empty\), 'none' \(empty\)"):
        encoder = TableEncoder.fit(frame, TableOptions(categorical=["code"], numeric_columns=["two"]))
    kind = encoder.summary()["kind"]
    assert kind[kind == "numeric"].index.tolist() == ["text_numbers", "count", "two"]
    assert kind[kind == "categorical"].index.tolist() == ["yes", "code"]
    assert kind[kind == "dropped"].index.tolist() == ["note", "blank", "none"]
    assert encoder.summary().loc["yes", "levels"] == ["no", "yes"]
    assert encoder.summary().loc["yes", "n_empty"] == 10


def test_summary_keeps_units_and_ranges():
    encoder, frame = fitted("piecewise")
    lactate = encoder.summary().loc["lactate"]
    assert lactate["unit"] == "mmol/l"
    assert lactate["minimum"] == frame["lactate"].min()
    assert lactate["median"] == pytest.approx(frame["lactate"].median())
    assert lactate["maximum"] == frame["lactate"].max()
    assert lactate["n_empty"] == frame["lactate"].isna().sum()


def test_mostly_numbers_is_an_error_that_names_patient_and_value():
    frame = mixed_table().astype({"lactate": object})
    frame.loc["P7", "lactate"] = "<0.5"
    with pytest.raises(DataError, match=r"'lactate' holds numbers, but 1 of 60 .*'<0.5' \(patient 'P7'\).*Clean"):
        TableEncoder.fit(frame, TableOptions())
    with pytest.raises(DataError, match=r"column 'lactate' is numeric, but 1 of 60 cells"):
        TableEncoder.fit(frame, TableOptions(numeric_columns=["lactate"]))


def test_dates_are_refused():
    frame = mixed_table().assign(visit=pd.date_range("2020-01-01", periods=60))
    with pytest.raises(DataError, match=r"column 'visit' holds dates.*age in years or days since"):
        TableEncoder.fit(frame, TableOptions())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TableOptions(categorical=["sit"]), "'categorical' names column 'sit'.*Did you mean 'site'"),
        (TableOptions(units={"lactat": "mmol/l"}), "'units' names column 'lactat'.*Did you mean 'lactate'"),
        (TableOptions(categorical=["age"], numeric_columns=["age"]), "'age' is declared both"),
        (TableOptions(n_components=3, numeric="piecewise"), "`n_components` replaces the numeric columns"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(StudyError, match=message):
        TableEncoder.fit(mixed_table(), options)


def test_unknown_option():
    with pytest.raises(ValueError, match="hiden_size"):
        TableOptions.model_validate({"hiden_size": 3})


@given(hnp.arrays(float, 50, elements=st.floats(-1e300, 1e300)))
def test_quantile_scaling_is_monotone_and_bounded(cells):
    frame = pd.DataFrame({"x": cells, "y": np.arange(50.0)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # a constant column may be drawn
        encoder = TableEncoder.fit(frame, TableOptions(numeric_columns=["x"]))
    if "x" not in encoder.columns:
        return
    scaled = encoder.prepare(frame)[:, 0].numpy()
    assert (np.diff(scaled[np.argsort(cells, kind="stable")]) >= 0).all()
    assert np.abs(scaled).max() < 6
    assert abs(scaled.mean()) < 1e-5


def test_large_numbers_keep_their_differences():
    frame = pd.DataFrame({"nanoseconds": 1.7e18 + 1e6 * np.arange(100)})
    scaled = TableEncoder.fit(frame, TableOptions()).prepare(frame)[:, 0]
    assert (scaled.diff() > 0).all()


@pytest.mark.parametrize("n_bins", [2, 4, 7])
def test_piecewise_encoding_agrees_with_rtdl_num_embeddings(n_bins):
    ours = PiecewiseInput(3, n_bins)
    values = torch.randn(50, 3) * 2
    inner = torch.special.ndtri(torch.linspace(0.0, 1.0, n_bins + 1)[1:-1])
    edges = torch.cat([torch.tensor([-3.0]), inner, torch.tensor([3.0])])
    theirs = PiecewiseLinearEncoding([edges] * 3)(values).view(50, 3, n_bins)
    assert_close(ours(values)[:, 3:].view(50, n_bins, 3).transpose(1, 2), theirs)
    assert torch.equal(ours(values)[:, :3], values)


@pytest.mark.parametrize("n_layers", [0, 1, 2])
def test_training_starts_from_a_linear_model(n_layers):
    encoder = TableEncoder.fit(mixed_table()[["age", "lactate"]], TableOptions(n_layers=n_layers)).eval()
    rows = torch.tensor([[-1.0, 0.5], [0.0, 0.5], [1.0, 0.5]])
    low, middle, high = encoder(rows)
    assert_close(high - middle, middle - low)


def test_periodic_mean_follows_the_weights():
    numeric = PeriodicInput(2)
    values = torch.randn(500, 2)
    numeric.fit(values)
    torch.nn.init.normal_(numeric.embeddings.linear.weight)
    assert numeric(values).mean(0).abs().max() < 0.1
    assert torch.equal(numeric(torch.full((1, 2), torch.nan)), torch.zeros(1, 16))


def test_rare_levels_count_as_unseen():
    codes = [str(i) for i in range(300)] * 2 + ["0"] * 5
    frame = pd.DataFrame({"icd": [f"c{code}" for code in codes]})
    encoder = TableEncoder.fit(frame, TableOptions(categorical=["icd"]))
    assert len(encoder.layout.categorical[0].levels) == 256
    assert sum(encoder.layout.categorical[0].frequency) == pytest.approx(1.0)


def test_level_input_has_mean_zero():
    levels = LevelInput([[0.25, 0.75], [0.5, 0.25, 0.25]])
    encoded = levels(torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]))
    assert_close(encoded.mean(0), torch.zeros(5))


def test_wide_table_is_projected_in_time():
    frame = wide_table(60, 5000)
    started = time.perf_counter()
    encoder = TableEncoder.fit(frame, TableOptions()).eval()
    assert time.perf_counter() - started < 6  # 1.2 s on an idle core
    assert encoder.layout.n_components == 20
    assert encoder.layout.scaling == "standard"
    variance = encoder.prepare(frame).var(0, correction=0)
    assert variance.mean().item() == pytest.approx(1.0, abs=1e-3)
    assert (variance.diff() <= 1e-4).all()


def test_skewed_columns_enter_as_logarithms():
    frame = wide_table(80, 50).assign(shifted=lambda f: f["g0"] - 1.0, even=np.linspace(0, 1, 80))
    frame["g1"] = np.exp(2 * np.linspace(-2, 2, 80))
    is_log = {c.name: c.is_log for c in TableEncoder.fit(frame, TableOptions()).layout.numeric}
    assert is_log["g1"]
    assert not is_log["shifted"]
    assert not is_log["even"]


def test_two_valued_columns_of_a_wide_table_are_numbers():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.random((40, 100)) < 0.3, columns=[f"m{i}" for i in range(100)])
    encoder = TableEncoder.fit(frame, TableOptions())
    assert not encoder.layout.categorical
    assert encoder.prepare(frame).shape == (40, 13)


def test_projection_agrees_with_singular_values():
    values = torch.randn(30, 80, dtype=torch.float64)
    values -= values.mean(0)
    for rows in (values, values.T - values.T.mean(0)):
        scores = Projection.fit(rows.float(), 5)(rows.float()).double()
        singular = torch.linalg.svdvals(rows)[:5]
        assert_close(scores.norm(dim=0) / scores.norm(), singular / singular.norm(), rtol=1e-4, atol=1e-5)
        assert_close(scores.T @ scores, torch.diag(scores.square().sum(0)), rtol=1e-3, atol=1e-2)


def test_thousands_of_missing_columns_are_counted():
    encoder, frame = fitted("wide")
    with pytest.raises(DataError, match=r"150 of 200 columns are missing: g0, g1, .*\(142 more\)"):
        encoder.prepare(frame.iloc[:, 150:])


@pytest.mark.parametrize("scaling", ["standard", "quantile"])
def test_noise_in_the_last_digits_does_not_change_the_scale_of_counts(scaling):
    rng = np.random.default_rng(0)
    counts = rng.choice([-2.0, -1.0, 0.0, 1.0, 2.0], size=(90, 30), p=[0.02, 0.06, 0.04, 0.8, 0.08])
    options = TableOptions(scaling=scaling)
    frames = [pd.DataFrame(counts * (1 + 1e-9 * rng.normal(size=counts.shape) * noisy)) for noisy in (False, True)]
    frames = [frame.set_axis([f"gene{k}" for k in range(30)], axis=1) for frame in frames]
    exact, noisy = (TableEncoder.fit(frame, options).prepare(frame) for frame in frames)
    assert_close(exact, noisy, atol=1e-4, rtol=1e-4)


def test_empty_cells_are_nan_none_and_blanks_of_every_type():
    frame = pd.DataFrame(
        {
            "float": [1.0, np.nan, 3.0],
            "nullable": pd.array([1, None, 3], "Int64"),
            "text": pd.Series(["a", " ", None], dtype=object),
            "string": pd.array(["", "b", None], "string"),
            "level": pd.Categorical(["x", None, "x"]),
            "date": pd.to_datetime(["2020-01-01", None, "2020-01-03"]),
            "mixed": pd.Series([True, "  ", 3.0], dtype=object),
        }
    )
    frame.index = pd.Index(["p", "q", "r"])
    empty = TableEncoder.empty_cells(frame, TableOptions())
    assert set(map(str, empty.dtypes)) <= {"bool"}
    assert list(empty.index) == ["p", "q", "r"]
    rows = {name: column.tolist() for name, column in empty.items()}
    second, blanks = [False, True, False], [False, True, True]
    assert rows == {
        "float": second, "nullable": second, "text": blanks, "string": [True, False, True], "level": second,
        "date": second, "mixed": second,
    }  # fmt: skip


def test_empty_cells_of_a_wide_table_are_found_at_once():
    values = np.random.default_rng(0).normal(size=(60, 20_000))
    values[values > 1] = np.nan
    frame = pd.DataFrame(values, [f"p{i}" for i in range(60)], [f"g{k}" for k in range(20_000)])
    before = time.process_time()
    empty = TableEncoder.empty_cells(frame, TableOptions())
    assert time.process_time() - before < 1.0  # column by column it takes 3 s and more
    assert (empty.to_numpy() == np.isnan(values)).all()
