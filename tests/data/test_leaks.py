"""Columns that nearly tell an outcome are named before training; strong predictors and noise are not."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn.data.cohort import Cohort
from multimodn.data.leaks import follow_up_notes, leak_notes, telling_columns
from multimodn.errors import DataWarning

N = 400
IDS = [f"p{i}" for i in range(N)]
DEAD = np.arange(N) % 3 == 0
TIME = np.random.default_rng(5).integers(1, 999, N).astype(float)


def draw(seed=0):
    return np.random.default_rng(seed)


NEAR = {
    "parted by order": DEAD * 5 + draw().normal(size=N),
    "parted downwards": -(DEAD * 5.0) + draw().normal(size=N),
    "copy with errors": np.where(np.arange(N) < 8, ~DEAD, DEAD).astype(int),
    "codes of two each": np.where(DEAD, draw().choice([2, 5], N), draw().choice([1, 9], N)),
    "words of two each": np.where(DEAD, draw().choice(["died", "exitus"], N), draw().choice(["well", "ill"], N)),
    "filled for the dead": np.where(DEAD, TIME, np.nan),
    "empty for the dead": np.where(DEAD, None, "2020-01-31"),
}
FAR = {
    "strong": DEAD * 2.5 + draw().normal(size=N),
    "noise": draw().normal(size=N),
    "category": draw().choice(list("abc"), N),
    "every tenth": np.where(np.arange(N) % 10 == 0, ~DEAD, DEAD).astype(int),
    "half filled": np.where(draw().random(N) < 0.5, np.nan, 1.0),
    "identifier": [f"code {i}" for i in range(N)],
    "constant": np.ones(N),
}


@pytest.mark.parametrize("name", [*NEAR, *FAR])
def test_what_nearly_tells_the_classes_is_named(name):
    frame = pd.DataFrame({"noise too": draw(1).normal(size=N), name: (NEAR | FAR)[name]}, index=IDS)
    label = pd.DataFrame({"died": DEAD}, index=IDS)
    notes = leak_notes("m", frame, {"t": label})
    assert [note.values for note in notes] == ([("m", name)] if name in NEAR else [])
    if name in NEAR:
        assert "nearly tells target column 'died' of task 't'. If it is not known before the outcome" in notes[0].text


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (np.round(TIME / 30.4, 1), "correlation 1.0000"),
        (np.where(np.arange(N) < 8, 0, TIME), "equal in 98.0%"),
        (TIME + draw().normal(0, 100, N), None),
        (np.where(DEAD, TIME, np.nan) * 2, "correlation 1.0000"),
    ],
)
def test_what_nearly_tells_a_number_is_named(column, said):
    frame = pd.DataFrame({"x": column, "noise": draw().normal(size=N)}, index=IDS)
    assert telling_columns(frame, pd.Series(TIME, IDS)) == ({"x": said} if said else {})


def test_three_classes_are_told_by_categories():
    stage = np.arange(N) % 3
    frame = pd.DataFrame(
        {"x": np.where(np.arange(N) < 6, 0, stage + 10), "y": stage + draw().normal(size=N)}, index=IDS
    )
    assert telling_columns(frame, pd.Series(stage, IDS)) == {"x": "agrees in 98.5%"}


@given(st.integers(0, 10_000), st.integers(20, 60), st.integers(5, 9))
def test_no_column_of_noise_is_named_however_many_there_are(seed, n, n_rare):
    noise = draw(seed).normal(size=(n, 3000))
    noise[:, ::3] = noise[:, ::3].round()
    noise[draw(seed + 1).random(noise.shape) < 0.05] = np.nan
    frame = pd.DataFrame(noise, [str(i) for i in range(n)])
    assert telling_columns(frame, pd.Series(np.arange(n) < n_rare, frame.index)) == {}


def test_a_rare_class_needs_more_than_agreement():
    rare = np.arange(N) < 8  # a column of one value agrees in 98 %
    frame = pd.DataFrame({"x": np.where(np.arange(N) % 50 == 49, 1, 0)}, index=IDS)
    assert telling_columns(frame, pd.Series(rare, IDS)) == {}


def test_times_of_follow_up_are_named_by_their_names():
    frame = pd.DataFrame({"days_to_last_followup": TIME, "futime": TIME, "age": TIME, "days": TIME}, index=IDS)
    (note,) = follow_up_notes("m", frame)
    assert note.values == ("m", "days_to_last_followup, futime")
    assert follow_up_notes("m", frame[["age", "days"]]) == []


def test_leaks_are_noted_before_training():
    frame = pd.DataFrame({"x": NEAR["parted by order"], "OS_MONTHS": draw(3).integers(1, 99, N)}, index=IDS)
    with pytest.warns(DataWarning, match=r"x \(AUROC 0\.99.*\) nearly tells.*\n.*OS_MONTHS is called like a time"):
        Cohort.from_frames({"m": frame}, {"t": pd.DataFrame({"died": DEAD}, index=IDS)})
