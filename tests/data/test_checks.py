import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn.data import checks
from multimodn.data.cohort import Cohort
from multimodn.data.leaks import leak_notes
from multimodn.errors import DataWarning

N = 60
IDS = pd.Index([f"p{i}" for i in range(N)])
GENERATOR = np.random.default_rng(0)
LABEL = pd.DataFrame({"y": np.arange(N) % 3}, index=IDS)


def inputs(**columns):
    return pd.DataFrame({"noise": GENERATOR.normal(size=N)} | columns, index=IDS)


@pytest.mark.parametrize(
    ("column", "leaks"),
    [
        (np.arange(N) % 3, True),
        (7 - 2.0 * (np.arange(N) % 3), True),
        (np.array(["a", "b", "c"])[np.arange(N) % 3], True),
        (np.where(np.arange(N) < 30, np.arange(N) % 3, np.nan), True),
        (np.where(np.arange(N) < 15, np.arange(N) % 3, np.nan), False),
        (np.where(np.arange(N) == 4, 2, np.arange(N) % 3), True),  # in all but one
        (np.where(np.arange(N) % 20 == 4, 2, np.arange(N) % 3), False),
        ((np.arange(N) % 3) // 2, False),
        (np.arange(N), False),
        (np.full(N, 1.0), False),
    ],
)
def test_a_column_that_says_the_target_is_found(column, leaks):
    notes = leak_notes("m", inputs(x=column), {"t": LABEL})
    assert any(note.values == ("m", "x") for note in notes) is leaks
    assert not any("noise" in note.text for note in notes)


@given(st.permutations(range(4)), st.integers(30, 1500))
def test_any_renaming_is_found_in_any_size(names, n):
    ids = [str(i) for i in range(n)]
    label = pd.DataFrame({"y": GENERATOR.permutation(np.arange(n) % 4)}, index=ids)
    frame = pd.DataFrame({"x": np.array(names)[label["y"]], "z": np.arange(n) % 4}, index=ids)[::-1]
    assert leak_notes("m", frame[["x"]], {"t": label})


def test_a_continuous_target_is_found_by_equality_alone():
    label = pd.DataFrame({"y": GENERATOR.normal(size=N)}, index=IDS)
    notes = leak_notes("m", inputs(x=label["y"]), {"t": label})
    assert len(notes) == 1
    assert "x has the same information" in notes[0].text


def test_columns_without_content_are_listed():
    frame = inputs(one=1.0, none=np.nan, word="w", nothing=pd.Series([None] * N, index=IDS, dtype=object))
    notes = checks.column_notes("m", frame)
    assert "2 column(s) are empty: none, nothing" in notes[0].text
    assert "2 column(s) are constant: one, word" in notes[1].text


@pytest.mark.parametrize(
    ("values", "listed"),
    [
        (["a"] * 30 + ["b"] * 29 + ["c"], "1 class(es) occur once: c"),
        ([0] * 59 + [1], "1 class(es) occur once: 1"),
        ([0.0] * 57 + [1.0, 1.0, np.nan], None),
        (list(np.arange(N) * 1.5), None),
    ],
)
def test_a_class_seen_once_is_listed(values, listed):
    notes = checks.class_notes("t", pd.DataFrame({"y": values}, index=IDS))
    assert (listed is None) == (not notes)
    assert listed is None or listed in notes[0].text


def test_one_warning_lists_all_notes():
    frame = inputs(one=1.0, y=LABEL["y"])
    with pytest.warns(
        DataWarning, match=r"(?s)constant: one.*y has the same information as target column 'y'"
    ) as caught:
        cohort = Cohort.from_frames({"m": frame}, {"t": LABEL})
    assert len(caught) == 1
    assert len(cohort.notes) == 2
