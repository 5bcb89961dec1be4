"""Irregular time series."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score
from torch.testing import assert_close

from multimodn.base.ragged import Ragged
from multimodn.encoders._series.layers import summaries
from multimodn.encoders.series import SeriesEncoder, SeriesOptions
from multimodn.errors import DataError, DataWarning, UnreadableError
from tests.encoders._series_cases import CASES, measurements, trends


def fit(frame, **options):
    torch.manual_seed(0)
    return SeriesEncoder.fit(frame, SeriesOptions(**options)).eval()


def table(*rows):
    """One row of ``(patient, time, variable, value)`` each."""
    frame = pd.DataFrame(rows, columns=["patient", "time", "variable", "value"])
    return frame.set_index("patient")


@pytest.fixture
def frame():
    return measurements()


def test_items_are_standardised_and_ordered_by_time(frame):
    values = fit(frame).prepare(frame)
    patients = frame.index.unique()
    assert values.lengths.tolist() == [int((frame.index == patient).sum()) for patient in patients]
    ordered = pd.concat([frame.loc[[patient]].sort_values("time") for patient in patients])
    time = (ordered["time"] - frame["time"].mean()) / frame["time"].std(ddof=0)
    groups = frame.groupby("variable")["value"]
    value = (ordered["value"] - ordered["variable"].map(groups.mean())) / ordered["variable"].map(groups.std(ddof=0))
    code = ordered["variable"].map({name: i for i, name in enumerate(sorted(frame["variable"].unique()))})
    expected = np.stack([time, code, value.clip(-5, 5)], 1).astype(np.float32)
    assert_close(values.items, torch.from_numpy(expected), rtol=1e-5, atol=1e-5)


@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(random):
    frame = measurements(8)
    frame = pd.concat([frame, frame.iloc[:3]])  # the same time, and the same row, twice
    encoder = fit(frame)
    order = list(range(len(frame)))
    random.shuffle(order)
    shuffled = frame.iloc[order]
    assert fit(shuffled).config()["variables"][0]["n_rows"] == encoder.config()["variables"][0]["n_rows"]
    place = pd.Index(shuffled.index.unique()).get_indexer(frame.index.unique())
    before, after = encoder.prepare(frame), encoder.prepare(shuffled)[torch.from_numpy(place)]
    assert torch.equal(before.items, after.items)
    assert torch.equal(encoder(before), encoder(after))


@pytest.mark.parametrize("name", CASES)
def test_a_row_does_not_depend_on_its_batch(name):
    kind, options, make = CASES[name]
    encoder = kind.fit(make(), options).eval()
    values = encoder.prepare(make())
    together = encoder(values)
    alone = torch.cat([encoder(values[torch.tensor([i])]) for i in range(len(values))])
    assert_close(alone, together, rtol=1e-5, atol=1e-5)
    order = torch.randperm(len(values))
    assert_close(encoder(values[order]), together[order], rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(encoder(values), together)


def test_padding_changes_nothing():
    short, long = table(("a", 1.0, "x", 2.0)), table(*(("b", float(t), "x", t % 7.0) for t in range(300)))
    encoder = fit(pd.concat([short, long]))
    alone = encoder(encoder.prepare(short))
    assert_close(encoder(encoder.prepare(pd.concat([short, long])))[:1], alone, rtol=1e-5, atol=1e-5)


def test_no_rows(frame):
    encoder = fit(frame)
    values = encoder.prepare(frame.iloc[:0])
    assert values.items.shape == (0, 3)
    assert encoder(values).shape == (0, 32)


def test_one_measurement_is_enough():
    frame = table(("a", 1.0, "x", 2.0))
    encoder = fit(frame)
    assert encoder(encoder.prepare(frame)).isfinite().all()
    assert encoder.prepare(table(("a", 1.0, "x", 1e300))).items.tolist() == [[0.0, 0.0, 5.0]]


@pytest.mark.parametrize("name", CASES)
def test_configuration_and_state_restore_it_exactly(name):
    kind, options, make = CASES[name]
    encoder = kind.fit(make(), options).eval()
    values = encoder.prepare(make())
    restored = kind.from_config(json.loads(json.dumps(encoder.config(), allow_nan=False))).eval()
    restored.load_state_dict(encoder.state_dict())
    assert restored.config() == encoder.config()
    assert torch.equal(restored.prepare(make()).items, values.items)
    assert torch.equal(restored(values), encoder(values))


@pytest.mark.parametrize("name", CASES)
def test_gradients_reach_every_parameter(name):
    kind, options, make = CASES[name]
    encoder = kind.fit(make(), options)
    values = encoder.prepare(make())
    for _ in range(2):  # weights that start at zero hide those before them
        encoder.zero_grad()
        encoder(values).square().mean().backward()
        torch.optim.SGD(encoder.parameters(), lr=0.01).step()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 1e-9, parameter_name


@pytest.mark.parametrize("name", CASES)
def test_float64(name):
    kind, options, make = CASES[name]
    encoder = kind.fit(make(), options).eval()
    values = encoder.prepare(make())
    single = encoder(values)
    double = encoder.double()(encoder.prepare(make()))
    assert double.dtype == torch.float64
    assert_close(double.float(), single, rtol=1e-4, atol=1e-5)


def test_summaries_are_last_and_mean_values():
    items = torch.tensor([[0.0, 1, 2], [1, 1, 4], [1, 0, 8], [0, 2, 1]])
    answer = summaries(Ragged(items, torch.tensor([3, 1])), 3)
    assert answer.tolist() == [[8, 4, 0, 8, 3, 0], [0, 0, 1, 0, 0, 1]]


def scores_of_new_patients(encoder, frame, labels, new, new_labels, n_epochs=40, read=None):
    """Trains the encoder with one linear output, and returns the AUROC on new patients."""
    read = encoder if read is None else read
    values, later = encoder.prepare(frame), encoder.prepare(new)
    target = torch.tensor(labels, dtype=torch.float32)
    head = torch.nn.Linear(read(values).shape[1], 1)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)
    encoder.train()
    for _ in range(n_epochs):
        for rows in torch.randperm(len(values)).split(50):
            optimizer.zero_grad()
            logit = head(read(values[rows]))[:, 0]
            torch.nn.functional.binary_cross_entropy_with_logits(logit, target[rows]).backward()
            optimizer.step()
    encoder.eval()
    with torch.no_grad():
        return roc_auc_score(new_labels, head(read(later))[:, 0].numpy())


def test_learns_a_trend():
    encoder = fit(trends()[0], hidden_size=16, n_layers=1)
    assert scores_of_new_patients(encoder, *trends(), *trends(seed=1), n_epochs=10) > 0.9


def test_attention_alone_learns_a_trend():
    encoder = fit(trends()[0], hidden_size=16, n_layers=1, dropout=0.0)
    auroc = scores_of_new_patients(encoder, *trends(400), *trends(seed=1), n_epochs=30, read=encoder.transformer)
    assert auroc > 0.9


def test_unknown_variables_are_left_out_with_one_warning(frame):
    encoder = fit(frame)
    more = table(("P1", 1.0, "potassium", 4.0), ("P2", 1.0, "potassium", 4.1), ("P1", 1.0, "sodium", 140.0))
    with pytest.warns(
        DataWarning, match=r"3 of \d+ measurements .* 'potassium' \(2 rows\), 'sodium' \(1 rows\)"
    ) as caught:
        values = encoder.prepare(pd.concat([frame, more]))
    assert len(caught) == 1
    assert torch.equal(values.items, encoder.prepare(frame).items)


def test_patients_without_a_known_variable_are_unreadable(frame):
    encoder = fit(frame, on_error="absent")
    assert encoder.on_error == "absent"
    more = table(("new", 1.0, "potassium", 4.0), ("other", 1.0, "sodium", 4.1), ("P1", 1.0, "sodium", 140.0))
    with warnings.catch_warnings(), pytest.raises(UnreadableError, match="none of the 1 measurements") as caught:
        encoder.prepare(pd.concat([frame, more]))
    assert list(caught.value.patients) == ["new", "other"]
    assert "they are of potassium" in caught.value.patients["new"]


def test_the_latest_measurements_are_kept(frame):
    encoder = fit(frame, max_measurements=3)
    with pytest.warns(DataWarning, match=r"`max_measurements` is 3: the earliest \d+ of \d+ rows, of \d+ patients"):
        values = encoder.prepare(frame)
    whole = fit(frame).prepare(frame)
    for kept, items in zip(values.split(), whole.split(), strict=True):
        assert torch.equal(kept, items[-3:])


@pytest.mark.parametrize("during", ["fit", "prepare"])
def test_all_bad_cells_are_named_with_patient_time_and_variable(frame, during):
    read = fit(frame).prepare if during == "prepare" else fit
    bad = table(
        ("P1", 2.0, "lactate", None),
        ("P2", 3.0, "lactate", "<5"),
        ("P3", 4.0, "lactate", np.inf),
        ("P4", 5.0, " ", 1.0),
        ("P5", None, "lactate", 1.0),
        ("P6", "2020-01-02 03:00", "lactate", 1.0),
    )
    with pytest.raises(DataError, match="6 problems") as caught:
        read(pd.concat([frame.astype(object), bad]))
    message = str(caught.value)
    assert "rows have an empty cell in column 'value': patient 'P1' at time 2.0, variable lactate" in message
    assert "have no number in column 'value': patient 'P2' at time 3.0, variable lactate, value <5" in message
    assert "have an infinite number in column 'value': patient 'P3' at time 4.0" in message
    assert "have no variable in column 'variable': patient 'P4' at time 5.0" in message
    assert "have an empty cell in column 'time': patient 'P5'" in message
    assert "have no number in column 'time': patient 'P6' at time 2020-01-02 03:00" in message
    assert "not dates" in message


def test_only_the_first_bad_rows_are_quoted(frame):
    with pytest.raises(DataError, match=r"have no number in column 'value': .*; ... \(\d+ more\)"):
        fit(frame.assign(value="x"))


def test_dates(frame):
    dates = pd.Timestamp("2020-01-01") + pd.to_timedelta(frame["time"].to_numpy(), unit="h")
    with pytest.raises(DataError, match=r"column 'time' holds dates .* such as hours since admission"):
        fit(frame.assign(time=dates))


def test_missing_columns_are_named_together(frame):
    with pytest.raises(DataError, match="2 problems") as caught:
        fit(frame.rename(columns={"time": "times", "value": "val"}))
    assert "column 'time' is missing. Did you mean 'times'?" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"hidden_size": 30}, "must be a multiple of `n_heads`, 4"), ({"time": "value"}, "must name three columns")],
)
def test_options_that_contradict(options, message):
    with pytest.raises(ValidationError, match=message):
        SeriesOptions(**options)


def test_summary(frame):
    summary = fit(frame).summary()
    assert summary.loc["lactate", "mean"] == pytest.approx(frame.loc[frame["variable"] == "lactate", "value"].mean())
    assert summary["n_rows"].sum() == len(frame)


def test_empty_cells_are_the_variables_that_a_patient_was_not_measured_for():
    frame = table(("q", 0, "rate", 70), ("p", 1, "lactate", 2), ("q", 2, "lactate", np.nan), ("p", 3, "rate", 80))
    frame = pd.concat([frame, table(("q", 4, "rate", 72), ("r", 5, "pH ", 7.4))])
    empty = SeriesEncoder.empty_cells(frame, SeriesOptions())
    assert set(map(str, empty.dtypes)) <= {"bool"}
    assert list(empty.index) == list(frame.index.unique()) == ["q", "p", "r"]
    assert empty.to_dict("list") == {
        "lactate": [True, False, True],
        "pH": [True, True, False],
        "rate": [False, False, True],
    }


def test_empty_cells_of_a_table_without_values_name_the_column(frame):
    with pytest.raises(DataError, match="column 'value' is missing"):
        SeriesEncoder.empty_cells(frame.drop(columns="value"), SeriesOptions())
