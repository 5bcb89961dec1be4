"""Repeated readings of a modality: one frame a reading, in time order, the latest of them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn import Cohort
from multimodn.data.modality_frames import _numbers
from multimodn.errors import DataError, DataWarning
from multimodn.study.study import RepeatSpec
from tests.data._studies import write_study

VISITS = "id,day,crp\n001,3,30\n001,1,10\n002,5,50\n001,2,20\n010,1,11\n010,9,19\n011,1,5\n"


def repeated(tmp_path, labs=VISITS, most=2, by="day", **changes):
    modality = {"name": "labs", "kind": "table", "source": "labs", "repeats": {"by": by, "most": most}}
    history = {"name": "history", "kind": "table", "source": "clinical", "columns": ["age"]}
    return write_study(tmp_path, labs=labs, modalities=[history, modality | changes])


def test_readings_are_steps_in_time_order_and_the_latest_are_kept(tmp_path):
    study = repeated(tmp_path)
    assert list(study.steps) == ["history", "labs@1", "labs@2"] == study.order
    with pytest.warns(DataWarning, match="1 readings before the latest 2 of a patient are not used"):
        cohort = Cohort.load(study)
    first, second = cohort.modalities["labs@1"]["crp"], cohort.modalities["labs@2"]["crp"]
    assert first.to_dict() == {"001": 20, "002": 50, "010": 11, "011": 5}
    assert second.to_dict() == {"001": 30, "010": 19}
    assert "day" not in cohort.modalities["labs@1"]
    assert cohort.presence["labs@2"].to_dict() == {"001": True, "002": False, "010": True, "011": False}


def test_the_ordering_column_is_an_input_where_it_is_named(tmp_path):
    cohort = Cohort.load(repeated(tmp_path, most=3, columns=["day", "crp"]))
    assert cohort.modalities["labs@2"].loc["001"].to_dict() == {"day": 2, "crp": 20}


def test_dates_order_readings_too(tmp_path):
    dates = "id,day,crp\n001,2021-10-01,2\n001,2021-09-30,1\n"
    cohort = Cohort.load(repeated(tmp_path, dates), labelled=False)
    assert cohort.modalities["labs@1"]["crp"].to_dict() == {"001": 1}


def test_a_row_without_a_time_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"'day' is empty for patient\(s\) 001; every reading needs a time"):
        Cohort.load(repeated(tmp_path, "id,day,crp\n001,,3\n001,2,4\n"))


def test_two_rows_of_one_time_are_an_error(tmp_path):
    with pytest.raises(DataError, match=r"patient\(s\) 001 have several rows with the same 'day'; kind 'table'"):
        Cohort.load(repeated(tmp_path, "id,day,crp\n001,2,3\n001,2,4\n"))


def test_a_mistyped_ordering_column_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no column 'dya' to order readings by. Did you mean 'day'"):
        Cohort.load(repeated(tmp_path, by="dya"))


def test_several_rows_without_repeats_stay_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"have several rows: 001, 010.*`repeats:`"):
        Cohort.load(write_study(tmp_path, labs=VISITS))


def test_a_reading_that_nobody_has_is_a_note(tmp_path):
    with pytest.warns(DataWarning, match="'labs@3': no patient has so many readings"):
        Cohort.load(repeated(tmp_path, "id,day,crp\n001,1,3\n001,2,4\n002,1,1\n", most=3))


@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), min_size=1, max_size=20), most=st.integers(2, 4)
)
def test_numbers_are_those_of_each_patients_latest_distinct_times(rows, most):
    by = pd.Series([time for _, time in rows], index=[patient for patient, _ in rows], dtype=float)
    numbers, left_out = _numbers(by, RepeatSpec(by="t", most=most))
    expected_out = 0
    for patient in by.index.unique():
        times = sorted(set(by[[patient]]))
        expected_out += max(0, len(times) - most)
        place = {time: k - max(0, len(times) - most) for k, time in enumerate(times)}
        here = np.asarray(by.index == patient)
        assert numbers[here].tolist() == [place[time] for time in by[here]]
    assert left_out == expected_out
