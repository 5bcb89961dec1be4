import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn.data.reading.number_texts import writings


def found(*texts):
    return writings(pd.Index(texts), np.ones(len(texts), dtype=np.int64))


@pytest.mark.parametrize(
    ("texts", "counts", "advice"),
    [
        (["4,2", "5"], {"comma": 1, "plain": 1}, 'decimal: ","'),
        (["4,238", "4,2"], {"comma": 2}, 'decimal: ","'),
        (["1.234,5", "0,2"], {"comma": 2}, 'decimal: ","'),
        (["21 %", "3%"], {"percent": 2}, "units: strip"),
        (["4.2 mmol/L", "5.0mmol/L"], {"unit": 2}, "units: strip"),
        (["4,2 mmol/L", "5,0 mmol/L"], {"unit": 2}, 'units: strip` at its source, and write `decimal: ","`'),
        (["4.2 x10^9/L", "10 x10^9/L"], {"unit": 2}, "units: strip"),
        (["36.6 °C", "37 °C"], {"unit": 2}, "units: strip"),
        (["4.2 mmol/L", "76 mg/dL"], {"unit": 2}, "convert the units mmol/L, mg/dL to one"),
        (["3 weeks", "2 months"], {"unit": 2}, "convert the units weeks, months to one"),
        (["4,238", "12,100"], {"thousands": 2}, 'thousands: ","'),
        (["1'234", "2'345.5"], {"thousands": 2}, 'thousands: "\'"'),
        (["1\u00a0234", "12 345"], {"thousands": 2}, 'thousands: " "'),
        (["1.234.567", "2.000.000"], {"thousands": 2}, 'thousands: "."'),
        (["<4.3", "4.5"], {"limit": 1, "plain": 1}, "detection_limit: half"),
        (["≥ 500", "5 mg/L"], {"limit": 1, "unit": 1}, "detection_limit: half"),
        (["42-47", "50 \u2013 55"], {"range": 2}, "ranges: middle"),
        (["<0.5", "0.7", "hemolysed", *map(str, range(20))], {"limit": 1, "other": 1, "plain": 21}, '["hemolysed"]'),
    ],
)
def test_numbers_as_text_are_recognised_and_say_what_settles_them(texts, counts, advice):
    writing = found(*texts)
    assert writing.counts == counts
    assert writing.are_numbers
    assert advice in writing.repair()


@pytest.mark.parametrize(
    "texts",
    [
        ["1a", "1b", "2a"],
        ["1+", "2+", "3+"],
        ["1st", "2nd"],
        ["T1", "T2"],
        ["IIa", "IIIb"],
        ["8500/3", "8140/3"],
        ["120/80", "130/90"],
        ["46,XX", "46,XY"],
        ["4.2 H", "4.3"],
        ["A-1", "B-2"],
        ["1 lesion", "2 lesions"],
        ["yes", "no"],
        ["2024-01-31", "2023-12-31"],
        ["1-2-3", "4-5-6"],
        ["-", "."],
    ],
)
def test_codes_and_words_are_no_numbers(texts):
    assert not found(*texts).are_numbers


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, unique=True))
def test_what_python_writes_is_plain(numbers):
    assert set(found(*map(repr, numbers)).counts) == {"plain"}


@given(st.text(max_size=12))
def test_every_text_has_one_writing(text):
    assert found(text).n_filled == 1
