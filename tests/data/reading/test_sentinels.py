import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn import Cohort
from multimodn.data.reading.sentinels import sentinel_notes
from multimodn.errors import DataWarning
from tests.data._studies import LABS, write_study


def noted(*cells):
    return [
        note.text for note in sentinel_notes("labs", "labs", pd.DataFrame({"x": np.array(cells, dtype=np.float32)}))
    ]


@pytest.mark.parametrize(
    ("cells", "marks"),
    [
        ((-999, -999, 1, 2, np.nan), ["-999"]),
        ((-99, -99, 0.5, 1), ["-99"]),
        ((9999, 9999, 1, 4000), ["9999"]),
        ((99, 99, 10, 4), ["99"]),
        ((-9, -9, -8, -8, 0, 1), ["-9", "-8"]),
        ((-999, -999, -10, 5), ["-999"]),
        ((999, 999, 9999, 9999, 100), ["999", "9999"]),
        ((-99, -99, 99, 99, 5), ["-99", "99"]),
    ],
)
def test_repeated_numbers_far_from_all_others_are_noted_with_the_option(cells, marks):
    (text,) = noted(*cells)
    listed = ", ".join(f'"{mark}"' for mark in marks)
    assert f"write `empty: [{listed}]` at source 'labs'" in text
    assert "'x' (2 cells)" in text


@pytest.mark.parametrize(
    "cells",
    [
        (-999, 1, 2),  # once
        (9999, 9999, 6000),  # no gap
        (99, 99, 50, 98),  # an age
        (-1, -1, 0, 1),  # copy numbers
        (-9, -9, -5, 3),  # base excess
        (-999, -999, -999),  # nothing else
        (1, 2, 3),
    ],
)
def test_other_numbers_are_not(cells):
    assert noted(*cells) == []


@given(st.lists(st.floats(-1e5, 1e5, width=32).filter(lambda x: abs(x) % 11 > 0.01), min_size=2, unique=True))
def test_numbers_that_occur_once_are_never_noted(cells):
    assert noted(*cells) == []


def test_a_cohort_notes_them_and_the_option_ends_the_note(tmp_path):
    labs = LABS.replace("011,,", "011,-999,-999").replace("140", "-999").replace("1.5", "-999")
    with pytest.warns(
        DataWarning, match=r"-999 in 'crp' \(2 cells\), 'sodium' \(2 cells\)\. If so, write `empty: ..-999.."
    ):
        Cohort.load(write_study(tmp_path, labs=labs))
    sources = {"clinical": "clinical.csv", "labs": {"path": "labs.csv", "empty": ["-999"]}}
    cohort = Cohort.load(write_study(tmp_path, labs=labs, cohort={"patient": "id", "sources": sources}), labelled=False)
    assert list(cohort.modalities["labs"].index) == ["001"]


def test_blank_rows_below_a_table_are_left_out_with_a_note(tmp_path):
    with pytest.warns(DataWarning, match=r"source 'labs': 2 rows are blank; they are left out"):
        cohort = Cohort.load(write_study(tmp_path, labs=LABS + ",,\n , ,\n"))
    assert list(cohort.modalities["labs"].index) == ["002", "001"]
