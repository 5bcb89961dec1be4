import contextlib
import datetime

import numpy as np
import openpyxl
import pandas as pd
import pyreadstat
import pytest

from multimodn.data.sources import read_source
from multimodn.errors import DataError, MissingExtraError, StudyError
from multimodn.study.study import SourceSpec

FRAME = pd.DataFrame(
    {
        "id": [7, 8, 9],
        "x": [1.5, np.nan, 3],
        "sex": [1.0, 2.0, 1.0],
        "pain": [1.0, 3.0, 5.0],
        "word": ["a", "", "b"],
        "day": pd.to_datetime(["2024-01-01", None, "2024-02-01"]),
    }
)
LABELS = {"sex": {1: "male", 2: "female"}, "pain": {1: "none", 5: "worst"}}


def read(folder, path, exact=(), notes=None, **options):
    return read_source(SourceSpec(path=path, **options), folder, "id", exact, (), (), notes)


def save(path):
    if path.suffix == ".sav":
        pyreadstat.write_sav(FRAME, path, variable_value_labels=LABELS)
    elif path.suffix == ".dta":
        pyreadstat.write_dta(FRAME, path, variable_value_labels={"sex": LABELS["sex"]})
    elif path.suffix == ".xpt":
        pyreadstat.write_xport(FRAME, path)
    else:
        FRAME.to_excel(path, index=False)


@pytest.mark.parametrize("suffix", ["xlsx", "dta", "sav", "xpt"])
def test_files_of_programs_hold_what_a_csv_holds(tmp_path, suffix):
    save(tmp_path / f"t.{suffix}")
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    table, expected = read(tmp_path, f"t.{suffix}"), read(tmp_path, "t.csv")
    sex = table.pop("sex").tolist()
    assert sex == (["male", "female", "male"] if suffix in ("dta", "sav") else [1, 2, 1])
    pd.testing.assert_frame_equal(table, expected[table.columns])


def test_cells_that_the_file_calls_missing_are_empty(tmp_path):
    pyreadstat.write_sav(FRAME, tmp_path / "t.sav", missing_ranges={"x": [3], "pain": [{"lo": 4, "hi": 9}]})
    table = read(tmp_path, "t.sav")
    assert table["x"].isna().tolist() == [False, True, True]
    assert table["pain"].isna().tolist() == [False, False, True]


def workbook(path, *rows, **sheets):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for name, others in sheets.items():
        sheet = book.create_sheet(name)
        for row in others:
            sheet.append(row)
    book.save(path)


def test_cells_of_a_workbook_are_read_as_they_are(tmp_path):
    rows = [
        ("001", 1, "NA", True, datetime.datetime(2024, 1, 2, 8, 30), "<0.5", ""),
        (2.0, "NA", "x", False, None, 7, ""),
    ]
    workbook(tmp_path / "t.xlsx", ("id", "n", "word", "flag", "when", "crp", None), *rows)
    notes: list[str] = []
    table = read(tmp_path, "t.xlsx", notes=notes)
    assert list(table.index) == ["001", "2"]
    assert table["n"].isna().tolist() == [False, True]
    assert table["flag"].tolist() == [1, 0]
    assert table["when"].iloc[0] == "2024-01-02 08:30:00"
    assert table["crp"].tolist() == ["<0.5", "7"]
    assert notes == []  # NA stands for numbers too
    assert read(tmp_path, "t.xlsx", detection_limit="half")["crp"].tolist() == [0.25, 7]
    assert read(tmp_path, "t.xlsx", empty=[])["word"].tolist() == ["NA", "x"]
    workbook(tmp_path / "t.xlsx", ("id", "country"), (1, "NA"), (2, "DE"))
    read(tmp_path, "t.xlsx", notes=notes)
    assert "'NA' counts as empty in 'country' (1 cells)" in notes[0]


def test_a_sheet_is_named_where_there_are_several(tmp_path):
    workbook(tmp_path / "t.xlsx", ("id", "a"), (1, 2), labs=[("id", "b"), (1, 3)])
    with pytest.raises(DataError, match=r"several sheets: Sheet, labs\. Name one by `sheet`"):
        read(tmp_path, "t.xlsx")
    assert list(read(tmp_path, "t.xlsx", sheet="labs")) == ["b"] == list(read(tmp_path, "t.xlsx", sheet=2))
    for sheet in ("lab", 3):
        with pytest.raises(DataError, match=r"there is no sheet"):
            read(tmp_path, "t.xlsx", sheet=sheet)
    workbook(tmp_path / "t.xlsx", ("id", "a"), (1, 2), notes=[])
    assert list(read(tmp_path, "t.xlsx")) == ["a"]


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("t.xlsx", [("id", "x"), (1, "=1+1"), (2, 3)], r"formulas without a value in B2; open and save it"),
        ("t.xlsx", [("id", "x", "x"), (1, 2, 3)], r"several columns named x"),
        ("t.xlsx", [("pid", "x"), (1, 2)], r"no key column 'id'.*Did you mean 'pid'"),
        ("t.xlsx", [("id", "x")], r"there are no rows"),
        ("t.xlsx", [], r"is empty"),
    ],
)
def test_a_workbook_that_cannot_be_read_is_an_error(tmp_path, name, rows, message):
    workbook(tmp_path / name, *rows)
    with pytest.raises(DataError, match=message):
        read(tmp_path, name)


@pytest.mark.parametrize("suffix", ["xlsx", "dta", "sav", "xpt"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_cut_files_are_data_errors_or_tables(tmp_path, suffix, share):
    save(tmp_path / f"t.{suffix}")
    content = (tmp_path / f"t.{suffix}").read_bytes()
    (tmp_path / f"t.{suffix}").write_bytes(content[: int(share * len(content))])
    with contextlib.suppress(DataError):
        read(tmp_path, f"t.{suffix}")


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    save(tmp_path / "t.sav")
    monkeypatch.setitem(__import__("sys").modules, "pyreadstat", None)
    with pytest.raises(MissingExtraError, match=r"multimodn\[files\]"):
        read(tmp_path, "t.sav")


def test_an_old_workbook_says_what_to_do(tmp_path):
    (tmp_path / "t.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    with pytest.raises(DataError, match=r"unknown kind of file.*\.xlsx"):
        read(tmp_path, "t.xls")
    with pytest.raises(StudyError, match="xlsx"):
        SourceSpec(path="t.csv", sheet=1)
