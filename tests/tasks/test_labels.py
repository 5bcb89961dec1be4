"""Labels of any dtype read alike; every message says whose cell it is."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodn.errors import DataError, DataWarning
from multimodn.tasks._labels import as_text, read_labels, read_numbers
from tests.tasks._cases import fit

NAN = float("nan")
COLUMNS = {
    "int": pd.Series([0, 1, 1, 0]),
    "float": pd.Series([0.0, 1.0, 1.0, 0.0]),
    "text": pd.Series(["0", "1", "1", "0"]),
    "text of floats": pd.Series(["0.0", "1.0", " 1 ", "0"]),
    "bool": pd.Series([False, True, True, False]),
    "text of bools": pd.Series(["False", "true", "TRUE", "FALSE"]),
    "words": pd.Series(["no", "yes", "yes", "no"]),
    "category": pd.Series(pd.Categorical([0, 1, 1, 0])),
    "Int64": pd.Series([0, 1, 1, 0], dtype="Int64"),
    "boolean": pd.Series([False, True, True, False], dtype="boolean"),
    "object": pd.Series([0, 1.0, "1", False], dtype=object),
}


def framed(values, column="y") -> pd.DataFrame:
    return pd.DataFrame({column: values}).set_axis([f"P{i}" for i in range(len(values))])


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("other", COLUMNS)
@pytest.mark.filterwarnings("error")
def test_binary_labels_of_any_dtype_agree(name, other):
    task = fit("binary", framed(COLUMNS[name]), target="y")
    target, known = task.prepare(framed(COLUMNS[other]))
    assert target.tolist() == [0, 1, 1, 0]
    assert known.all()


@pytest.mark.parametrize("empty", [None, NAN, pd.NA, "", "  "])
def test_an_empty_cell_is_no_label(empty):
    column = pd.Series([0, 1, empty, 1, 0], dtype=object)
    target, known = fit("binary", framed(column), target="y").prepare(framed(column))
    assert known.tolist() == [True, True, False, True, True]
    assert target[known].tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(("positive", "values"), [(True, ["yes", "no"]), (1, ["True", "False"]), ("yes", [1.0, 0.0])])
def test_a_positive_word_finds_its_answer(positive, values):
    frame = framed(values * 2)
    assert fit("binary", frame, target="y", positive=positive).prepare(frame)[0].tolist() == [1, 0, 1, 0]


def test_positive_may_turn_the_labels_around():
    frame = framed([0, 1, 0, 1])
    assert fit("binary", frame, target="y", positive=0).prepare(frame)[0].tolist() == [1, 0, 1, 0]


@given(st.lists(st.one_of(st.integers(-99, 99), st.text("ab1. ", max_size=3), st.none()), min_size=1, max_size=12))
def test_labels_round_trip_through_their_texts(values):
    codes, texts = read_labels("t", framed(pd.Series(values, dtype=object)), "y")
    assert [texts[code] if code >= 0 else "" for code in codes] == ["" if v is None else as_text(v) for v in values]
    assert len(set(texts)) == len(texts)


def test_numeric_classes_are_in_the_order_of_numbers():
    frame = framed([10, 9, 2, 10, 9, 2])
    assert fit("ordinal", frame, target="y").classes == ["2", "9", "10"]
    assert fit("multiclass", frame, target="y").classes == ["2", "9", "10"]
    assert framed(["01", "1"], "y")["y"].map(as_text).tolist() == ["01", "1"]


def test_classes_of_the_study_give_the_order():
    frame = framed(["low", "high", "low", "high"])
    assert fit("multiclass", frame, target="y", classes=["low", "high"]).classes == ["low", "high"]


ERRORS = [
    ("binary", ["a", "b", "a"], {}, r"has the values a, b: say which one is positive, for example `positive: b`"),
    ("binary", ["a", "b", "c"], {"positive": "a"}, r"has 3 values, expected 2: a, b, c.*multiclass"),
    ("binary", ["dead", "alive"], {"positive": "daed"}, r"no training row has the value 'daed'.*Did you mean 'dead'"),
    ("binary", [1, 1, NAN], {}, r"one class only in the training rows: all 2 labels are '1'"),
    ("binary", [0, 0, NAN], {}, r"one class only in the training rows: all 2 labels are '0'"),
    ("binary", ["yes", "true"], {}, r"say which one is positive"),
    ("multiclass", ["a", "a"], {}, r"one class only"),
    ("multiclass", ["a", "b"], {"classes": ["a", "c"]}, r"patient 'P1' has 'b', expected one of: a, c"),
    ("ordinal", ["low", "high"], {}, r"their order is unknown: high, low.*`classes: \[...\]`"),
    ("ordinal", ["expected", "b"], {"classes": ["expected", "b"]}, r"cannot be called 'expected'"),
    ("regression", [3, 3, NAN], {}, r"is 3 in all 2 labelled training rows"),
    ("regression", [1.0, np.inf], {}, r"patient 'P1' has 'inf', expected a finite number"),
    ("regression", [1.0, 1e39], {}, r"patient 'P1' has '1e\+39', expected a finite number"),
    ("regression", ["1.5", "2,5", "x"], {}, r"(?s)2 problems.*'P1' has '2,5'.*'P2' has 'x'"),
    ("regression", ["x"] * 20, {}, r"12 more cells like these"),
    ("regression", pd.to_datetime(["2020-01-01", "2021-01-01"]), {}, r"holds dates or durations"),
]


@pytest.mark.parametrize(("kind", "values", "options", "message"), ERRORS)
def test_labels_that_cannot_carry_the_task(kind, values, options, message):
    with pytest.raises(DataError, match=r"Task 'outcome'.*column 'y'|Task 'outcome'") as caught:
        fit(kind, framed(values), target="y", **options)
    assert caught.match(message)


def test_problems_of_all_labels_are_collected():
    frame = pd.DataFrame({"a": [1] * 4, "b": [0, 1] * 2, "c": ["x", "y"] * 2})
    with pytest.raises(DataError, match=r"(?s)2 problems.*'a' has one class only.*'c' has the values x, y"):
        fit("multilabel", frame, targets=["a", "b", "c"])


def test_an_unknown_class_names_patient_and_label():
    task = fit("multiclass", framed(["a", "b", "a", "b"]), target="y")
    with pytest.raises(DataError, match=r"column 'y': patient 'P1' \(and 1 more\) has 'c', expected one of: a, b"):
        task.prepare(framed(["a", "c", NAN, "c"]))
    with pytest.raises(DataError, match=r"(?s)2 problems.*has 'c'.*has 'd'"):
        task.prepare(framed(["d", "c"]))


def test_rare_classes_are_warned_about():
    frame = framed(["a", "a", "b", "b", "c"])
    with pytest.warns(DataWarning, match=r"hardly seen in the training rows: 'c' once, 'd' never"):
        fit("multiclass", frame, target="y", classes=["a", "b", "c", "d"])


def test_repeated_classes_are_refused():
    with pytest.raises(ValueError, match=r"repeated: 1"):
        fit("ordinal", framed([1, 2]), target="y", classes=[1, "1.0", 2])


@pytest.mark.parametrize("dtype", ["float32", "Float64", "Int64", "object", "category", "string"])
def test_numbers_of_any_dtype_agree(dtype):
    column = pd.Series([1, 2, None, 4], dtype="float64").astype("Int64").astype(dtype)
    np.testing.assert_array_equal(read_numbers("t", framed(column), "y"), [1, 2, NAN, 4])


SURVIVAL_ERRORS = [
    ({"t": [1, -2.5, 3], "e": [1, 0, 1]}, {}, r"column 't': patient '1' has -2.5, expected a time of 0 or later"),
    ({"t": [1, NAN, 3], "e": [1, 1, 0]}, {}, r"column 'e': patient '1' has an event \('1'\) but no time in column 't'"),
    ({"t": [1, 2, 3], "e": [0, 0, 0]}, {}, r"no event later than time 0"),
    ({"t": [0, 0, 3], "e": [1, 1, 0]}, {}, r"no event later than time 0"),
    ({"t": [1, 2], "e": ["dead", "alive"]}, {}, r"for example `event_positive: dead`"),
    ({"t": [1, 2], "e": ["dead", "alive"]}, {"event_positive": "deads"}, r"of `event_positive`.*Did you mean 'dead'"),
    ({"t": [-1, NAN], "e": [0, 1]}, {}, r"(?s)2 problems.*has -1.*no time"),
]


@pytest.mark.parametrize(("columns", "options", "message"), SURVIVAL_ERRORS)
def test_survival_rows_that_cannot_be(columns, options, message):
    with pytest.raises(DataError, match=message):
        fit("survival", pd.DataFrame(columns), time="t", event="e", **options)


def test_survival_without_time_or_event_is_unlabelled():
    frame = pd.DataFrame({"t": [5, 3, NAN, 4, 2], "e": [1, 0, 0, NAN, 1]})
    target, known = fit("survival", frame, time="t", event="e").prepare(frame)
    assert known.tolist() == [True, True, False, False, True]
    assert torch.equal(target[known], torch.tensor([[5.0, 1], [3, 0], [2, 1]]))


def test_one_event_is_warned_about_and_none_censored_is_fine():
    with pytest.warns(DataWarning, match="one event only"):
        fit("survival", pd.DataFrame({"t": [5, 3], "e": [1, 0]}), time="t", event="e")
    task = fit("survival", pd.DataFrame({"t": [5, 3, 2], "e": [1, 1, 1]}), time="t", event="e")
    assert task.edges.tolist() == [2, 3, 5]
    assert task.prior().isfinite().all()
