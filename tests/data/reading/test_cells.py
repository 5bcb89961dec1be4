import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn.data.reading.cells import with_flags, with_options
from multimodn.encoders.table import TableEncoder, TableOptions
from multimodn.errors import DataError, StudyError
from multimodn.study.study import SourceSpec


def converted(cells, notes=None, **options):
    frame = pd.DataFrame({"x": cells}, index=[f"P{i}" for i in range(len(cells))])
    return with_options(frame, SourceSpec(path="t.csv", **options), (), [] if notes is None else notes)


@pytest.mark.parametrize(
    ("cells", "options", "numbers"),
    [
        (["4,2", "5", None], {"decimal": ","}, [4.2, 5, np.nan]),
        (["1.234,5", "0,2"], {"decimal": ","}, [1234.5, 0.2]),
        (["4,238", "12,100.5"], {"thousands": ","}, [4238, 12100.5]),
        (["1'234", "2\u2019345"], {"thousands": "'"}, [1234, 2345]),
        (["1 234", "12\u00a0345,5"], {"thousands": " ", "decimal": ","}, [1234, 12345.5]),
        (["21 %", "3%", ""], {"units": "strip"}, [21, 3, np.nan]),
        (["4.2 mmol/L", " 5.0 mmol/l ", "6"], {"units": "strip"}, [4.2, 5, 6]),
        (["4,2 mmol/L", "5 mmol/L"], {"units": "strip", "decimal": ","}, [4.2, 5]),
        (["4.2 mg/L", "5"], {"units": {"x": "mg/L"}}, [4.2, 5]),
        (["<0.5", "0.7", ">100"], {"detection_limit": "half"}, [0.25, 0.7, 100]),
        (["< 0.5", "\u2264 0.7", ">=100"], {"detection_limit": "limit"}, [0.5, 0.7, 100]),
        (["<0,5 mg/L", "2 mg/L"], {"detection_limit": "half", "units": "strip", "decimal": ","}, [0.25, 2]),
        (["42-47", "50", "10 \u2013 20"], {"ranges": "middle"}, [44.5, 50, 15]),
        (["\u22124.2", "3"], {"decimal": "."}, [-4.2, 3]),
    ],
)
def test_options_make_numbers_of_text(cells, options, numbers):
    assert converted(cells, **options)["x"].tolist() == pytest.approx(numbers, nan_ok=True)


@pytest.mark.parametrize(
    ("cells", "options"),
    [
        (["4.2", "5,1"], {"decimal": ","}),  # two writings
        (["4,2", "5"], {}),
        (["4,23", "5"], {"thousands": ","}),
        (["yes", "no"], {"units": "strip", "detection_limit": "half", "decimal": ","}),
        (["<0.5", "haemolysed"], {"detection_limit": "half"}),
        (["T1", "T2"], {"units": "strip"}),
        (["50-40", "1"], {"ranges": "middle"}),
    ],
)
def test_what_is_no_number_under_the_options_stays_text(cells, options):
    assert converted(cells, **options)["x"].tolist() == cells


def test_what_was_decided_is_noted_with_counts_and_examples():
    notes: list[str] = []
    converted(["<0.5 mg/L", "1 mg/L", "2"], notes, detection_limit="half", units="strip")
    assert notes == [
        "column 'x': 2 cells have the unit mg/L, which is left out; 1 cells without a unit count as in mg/L.",
        "column 'x': 1 cells beyond a detection limit ('<0.5 mg/L') count as half the limit where below it, else the "
        "limit.",
    ]


def test_several_units_and_cells_that_a_named_column_cannot_have_are_errors():
    with pytest.raises(DataError, match=r"'x' has several units: mmol/L in 2 cells, mg/dL in 1 .*first of .* 'P2'"):
        converted(["4 mmol/L", "5 mmol/L", "76 mg/dL"], units="strip")
    with pytest.raises(DataError, match=r"'x', which `units` names, has cells that are no numbers: '76 mg/dL' .*'P1'"):
        converted(["4 mmol/L", "76 mg/dL"], units={"x": "mmol/L"})
    with pytest.raises(DataError, match=r"'x', which `detection_limit` names.*'low' \(patient 'P1'\)"):
        converted(["4", "low"], detection_limit={"x": "half"})
    with pytest.raises(DataError, match=r"`units` names columns that do not exist: y"):
        converted(["4"], units={"y": "mg"})


def test_flags_tell_cells_beyond_a_limit_and_new_patients_without_such_cells_have_them():
    frame = converted(["<0.5", "0.7", ">100", None] * 5, detection_limit="flag")
    assert frame["x"].iloc[:4].tolist() == pytest.approx([0.5, 0.7, 100, np.nan], nan_ok=True)
    assert frame["x (limit)"].iloc[:4].tolist() == pytest.approx([-1, 0, 1, np.nan], nan_ok=True)
    encoder = TableEncoder.fit(frame, TableOptions())
    new = converted([1.0, 2.0, np.nan], detection_limit="flag")
    assert list(new) == ["x"]
    assert encoder.prepare(new).shape == (3, 2)
    assert with_flags(new, ["x", "x (limit)"])["x (limit)"].tolist() == pytest.approx([0, 0, np.nan], nan_ok=True)
    assert "x (limit)" in converted([1.0, 2.0], detection_limit={"x": "flag"})


def test_literal_columns_stay():
    frame = pd.DataFrame({"code": ["1,5", "2,5"]})
    assert with_options(frame, SourceSpec(path="t.csv", decimal=",", empty=["1,5"]), ["code"], []).equals(frame)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "t.parquet", "delimiter": ";"}, r"`delimiter` is for .csv, .tsv, .txt files"),
        ({"path": "t.csv", "sheet": "a"}, r"`sheet` is for .xlsx, .xlsm files"),
        ({"path": "t.csv", "delimiter": ";;"}, r"`delimiter` is one sign or tab"),
        ({"path": "t.csv", "encoding": "windows"}, r"no encoding 'windows'; cp1252"),
        ({"path": "t.csv", "decimal": ",", "thousands": ","}, r"`decimal` and `thousands` are both ','"),
        ({"path": "t.csv", "detection_limit": "third"}, r"detection_limit"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(StudyError, match=message):
        SourceSpec(**options)


NUMBERS = st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), min_size=1)


@given(NUMBERS)
def test_every_writing_of_a_number_is_read_as_the_number(numbers):
    def comma(x):
        return f"{x:,.3f}".translate(str.maketrans(",.", ".,"))

    assert converted(list(map(comma, numbers)), decimal=",")["x"].astype(float).tolist() == numbers
    assert converted([f"{x:,.3f}" for x in numbers], thousands=",")["x"].astype(float).tolist() == numbers
    assert converted([f"{x:.3f} µmol/L" for x in numbers], units="strip")["x"].astype(float).tolist() == numbers


@given(st.lists(st.one_of(st.none(), st.text(max_size=8)), min_size=1))
def test_no_text_is_lost_unless_all_are_numbers(cells):
    frame = converted(cells, decimal=",", units="strip", detection_limit="half", ranges="middle", thousands=".")
    if frame["x"].dtype == object or isinstance(frame["x"].dtype, pd.StringDtype):
        assert [None if pd.isna(cell) else cell for cell in frame["x"]] == cells
    else:
        assert (frame["x"].isna() == [cell is None or not cell.strip() for cell in cells]).all()
