import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn import Cohort
from multimodn.data.reading import text_files
from multimodn.data.sources import read_source
from multimodn.errors import DataError, DataWarning
from multimodn.study.study import SourceSpec
from tests.data._studies import CLINICAL, study_dict, write_study


def read(folder, path, exact=(), literal=(), notes=None, **options):
    return read_source(SourceSpec(path=path, **options), folder, "id", exact, (), literal, notes)


TEXT = "id,größe,note\n001,1.5,a\n002,2.5,ü\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1", "utf-16-le", "mac-roman"])
def test_every_encoding_gives_the_same_table(tmp_path, encoding):
    (tmp_path / "t.csv").write_bytes(TEXT.encode(encoding))
    told = {} if encoding in ("utf-8", "utf-8-sig", "utf-16") else {"encoding": encoding}
    table = read(tmp_path, "t.csv", **told)
    assert table["größe"].tolist() == [1.5, 2.5]
    assert table["note"].tolist() == ["a", "ü"]
    assert list(table.index) == ["001", "002"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", TEXT.encode("cp1252"), r"t\.csv, line 1: 'id,größe,note' is not text in UTF-8.*`encoding: cp1252`"),
        ("t.csv", b"id,x\n1,a\n2,b\xe4r\n", r"line 3: '2,bär' is not text in UTF-8"),
        ("t.csv", TEXT.encode("utf-16-le"), r"write `encoding: utf-16-le` at its source"),
        ("t.csv", TEXT.encode("utf-16-be"), r"write `encoding: utf-16-be` at its source"),
        ("t.csv", b"id,x\n1,\xc3", r"ends within a sign of utf-8"),
        ("t.csv.gz", b"id,x\n1,2\n", r"t\.csv\.gz is not compressed.*name it t\.csv"),
        ("t.tsv.gz", b"id\tx\n1\t2\n", r"is not compressed"),
        ("t.csv.gz", gzip.compress(b"id,x\n" + b"P1,3\n" * 900, mtime=0)[:40], r"damaged or cut off.*Copy it again"),
        ("t.csv.gz", gzip.compress(b"id,x\n" + b"P1,3\n" * 900, mtime=0)[:-4], r"damaged or cut off"),
        ("t.csv", gzip.compress(b"id,x\n1,2\n", mtime=0), r"is no CSV but compressed; name it t\.csv\.gz"),
        ("t.csv", b"PK\x03\x04rest", r"is no CSV but a ZIP file, such as an Excel workbook"),
        ("t.csv", b"<!DOCTYPE html><table>", r"is no CSV but a web page"),
        ("t.csv", b"PAR1\x15\x04", r"name it \.parquet"),
        (
            "t.csv",
            b"id;crp\n1;4,2\n2;5\n",
            r"by ';' with decimal commas: write `delimiter: \";\"` and `decimal: \",\"`",
        ),
        ("t.csv", b"id;crp\n1;4.2\n", r"separated by ';': write `delimiter: \";\"`"),
        ("t.csv", b"id\tcrp\n1\t4\n", r"separated by tab: write `delimiter: tab`"),
        ("t.tsv", b"id,crp\n1,4\n", r"separated by ',': write `delimiter: \",\"`"),
        ("t.csv", b"id|crp\n1|4\n", r"separated by '\|'"),
        ("t.csv", b"pid;crp;ph\n1;4;7\n", r"separated by ';'.*Did you mean 'pid'"),
        ("t.csv", "id;größe\n1;4,2\n".encode("utf-16"), r"by ';' with decimal commas"),
        ("t.csv", b"Export of May\n\nid,crp\n1,4\n", r"no key column 'id' in line 1, but in line 3\. Delete the lines"),
        ("t.csv", b"id,a\n1,2,3\n", r"Expected 2 columns, got 3.*must stand in quotes"),
        ("t.csv", b"", r"Empty CSV file"),
        ("t.csv", b"\n\n", r"Empty CSV file"),
        ("t.csv", b"id,a", r"there are no rows"),
    ],
)
def test_what_is_no_such_text_is_an_error_that_names_the_repair(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path, name)


def test_the_options_that_an_error_names_read_the_file(tmp_path):
    (tmp_path / "t.csv").write_text("id;crp;n;name\n1;4,25;1.000;a.b\n2;1.234,5;12.000;c\n")
    table = read(tmp_path, "t.csv", delimiter=";", decimal=",")
    assert table["crp"].tolist() == [4.25, 1234.5]
    assert table["n"].tolist() == [1000, 12000]
    assert table["name"].tolist() == ["a.b", "c"]
    (tmp_path / "t.csv").write_text("id\tx\n1\t2\n")
    assert read(tmp_path, "t.csv", delimiter="tab")["x"].tolist() == [2]


@pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\r\n'])
def test_a_line_of_excel_names_the_delimiter(tmp_path, first):
    (tmp_path / "t.csv").write_text(first + "id;x\n1;2\n")
    assert read(tmp_path, "t.csv")["x"].tolist() == [2]


def test_lines_of_comments_before_the_header_are_no_rows(tmp_path):
    names = "#Patient Identifier\tAge\n#Identifier\tAge at diagnosis\n#STRING\tNUMBER\n#1\t1\n"
    (tmp_path / "data_clinical_patient.txt").write_text(names + "id\tAGE\tSTATUS\nP1\t50\t0:LIVING\nP2\t\t1:DECEASED\n")
    table = read(tmp_path, "data_clinical_patient.txt")
    assert table["AGE"].tolist()[0] == 50
    assert list(table.index) == ["P1", "P2"]
    (tmp_path / "t.tsv").write_text("#version 2.4\nid\tx\n#7\t1\n")
    assert list(read(tmp_path, "t.tsv").index) == ["#7"]


def test_a_comment_that_is_the_header_is_kept(tmp_path):
    (tmp_path / "t.csv").write_text("#export\n#id,id,x\n1,P1,2\n")
    assert list(read(tmp_path, "t.csv").index) == ["P1"]


def test_a_first_line_without_end_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "LONGEST_LINE", 1000)
    (tmp_path / "t.csv").write_text("id," + "x" * 5000)
    with pytest.raises(DataError, match=r"a first line of over 0 MB, which is no header"):
        read(tmp_path, "t.csv")


def test_a_row_longer_than_a_block_is_read(tmp_path):
    (tmp_path / "t.csv").write_text("id,x,note\n1,2,a\n2,3," + "long " * 1_200_000 + "\n")
    assert read(tmp_path, "t.csv")["x"].tolist() == [2, 3]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_and_quoted_line_breaks_are_read(tmp_path, end):
    (tmp_path / "t.csv").write_bytes(end.join(["id,x,note", '1,2,"a,b"', '2,3,"c', 'd"', ""]).encode())
    table = read(tmp_path, "t.csv")
    assert table["x"].tolist() == [2, 3]
    assert table["note"].iloc[0] == "a,b"


def test_sodium_and_namibia_are_noted_and_an_option_keeps_them(tmp_path):
    (tmp_path / "t.csv").write_text("id,country,age\n1,NA,5\n2,DE,\n3,NA,7\n4,FR,8\n")
    notes: list[str] = []
    assert read(tmp_path, "t.csv", notes=notes)["country"].isna().sum() == 2
    assert notes == [
        "'NA' counts as empty in 'country' (2 cells), beside values such as 'DE', 'FR'. If it means something there, "
        'write `empty: []` at the source; if not, `empty: ["NA"]`.'
    ]
    for empty, expected in (([], ["NA", "DE"]), (["NA"], [None, "DE"]), (["DE"], ["NA", None])):
        notes = []
        cells = read(tmp_path, "t.csv", notes=notes, empty=empty)["country"].iloc[:2]
        assert [None if pd.isna(cell) else cell for cell in cells] == expected
        assert notes == []


def test_marks_that_numbers_have_too_need_no_note(tmp_path):
    notes: list[str] = []
    (tmp_path / "t.csv").write_text('id,stage,age,gene\n1,NA,5,null\n2,II,NA,present\n3,"NA",7,null\n')
    read(tmp_path, "t.csv", notes=notes)
    assert [note.split(" counts")[0] for note in notes] == ["'null'"]
    notes.clear()
    (tmp_path / "t.csv").write_text("id,stage,age,y\n1,,5,NA\n2,II,,1\n3,NA,7,0\n")
    read(tmp_path, "t.csv", ("y",), notes=notes)
    assert notes == []


def test_a_variable_named_na_is_sodium(tmp_path):
    rows = "".join(f"{p},{t},{v},{t + 1}\n" for p in ("001", "002") for t in range(3) for v in ("NA", "K"))
    series = {"name": "labs", "kind": "series", "source": "labs"}
    history = {"name": "history", "kind": "table", "source": "clinical", "columns": ["age"]}
    study = write_study(tmp_path, labs="id,time,variable,value\n" + rows, modalities=[history, series])
    assert set(Cohort.load(study, labelled=False).modalities["labs"]["variable"]) == {"NA", "K"}


def test_sentinels_named_as_empty_are_empty_in_numbers_and_text(tmp_path):
    (tmp_path / "t.csv").write_text("id,x,y,word,z\n1,-999,-999.0,-999,1\n2,3,4.5,unknown,2\n")
    table = read(tmp_path, "t.csv", ("z",), empty=["-999", "unknown"])
    assert table.loc["1"].isna().tolist() == [True, True, True, False]
    assert table["word"].isna().all()
    pd.DataFrame({"id": ["1", "2"], "x": [-999, 3], "word": ["unknown", "a"]}).to_parquet(tmp_path / "t.parquet")
    table = read(tmp_path, "t.parquet", empty=["-999", "unknown"])
    assert table.loc["1"].isna().all()
    assert table.loc["2"].tolist() == [3, "a"]


def test_a_column_is_text_where_a_late_cell_is_and_others_stay_as_they_are(tmp_path):
    n = 200_000
    lines = "\n".join(f"{i:09d},1.25,true,2024-01-01" for i in range(n))
    (tmp_path / "t.csv").write_text(f"id,x,flag,day\n{lines}\nlast,<0.5,false,2024-01-02\n")
    table = read(tmp_path, "t.csv")
    assert table["x"].iloc[[0, -1]].tolist() == ["1.25", "<0.5"]
    assert table["flag"].dtype == np.float32
    assert table["day"].iloc[-1] == "2024-01-02"


def test_codes_of_many_digits_are_not_rounded(tmp_path):
    (tmp_path / "t.csv").write_text("id,code,x\n1,900000000000207008,1\n2,900000000000207009,2\n3,,3\n")
    for exact in ((), ("code",)):
        assert read(tmp_path, "t.csv", exact)["code"].dropna().astype(str).tolist() == [
            "900000000000207008",
            "900000000000207009",
        ]
    frame = pd.DataFrame({"id": ["1", "2"], "code": [900000000000207008, 900000000000207009]})
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"'code' holds whole numbers of more than 15 digits.*cast"):
        read(tmp_path, "t.parquet")


@pytest.mark.parametrize(
    ("labs", "columns"),
    [
        (",id,crp\n0,001,1\n1,002,2\n", ["crp"]),
        ('"","id","crp"\n"1","001",1\n"2","002",2\n', ["crp"]),
        ("Unnamed: 0,id,crp\n3,001,1\n7,002,2\n", ["crp"]),
        ("id,crp,,\n001,1,,\n002,2,,\n", ["crp"]),
        (",id,crp,\n5,001,1,\n6,002,2,\n", ["crp"]),
    ],
)
def test_columns_without_a_name_that_are_no_data_are_left_out_with_a_note(tmp_path, labs, columns):
    study = write_study(tmp_path, labs=labs)
    with pytest.warns(DataWarning, match=r"has no name and holds (row numbers|no values); it is left out"):
        cohort = Cohort.load(study)
    assert list(cohort.modalities["labs"]) == columns
    name = next(column for column in read(tmp_path, "labs.csv") if column != "crp")
    modalities = study_dict()["modalities"]
    modalities[1] = {**modalities[1], "columns": [name, "crp"]}  # who names it means it
    cohort = Cohort.load(write_study(tmp_path, labs=labs, modalities=modalities), labelled=False)
    assert list(cohort.modalities["labs"]) == [name, "crp"]


def test_a_column_without_a_name_that_may_be_data_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"column '' of source 'labs' has no name and holds 7.5, 3.5.*all_but"):
        Cohort.load(write_study(tmp_path, labs="id,crp,\n001,1,7.5\n002,2,3.5\n"))


def test_new_files_are_read_with_the_options_of_the_study(tmp_path):
    sources = {"clinical": "clinical.csv", "labs": {"path": "labs.csv", "delimiter": ";", "decimal": ","}}
    study = write_study(tmp_path, CLINICAL, "id;crp\n001;1,5\n002;2,5\n", cohort={"patient": "id", "sources": sources})
    assert Cohort.load(study).modalities["labs"]["crp"].tolist() == [1.5, 2.5]
    (tmp_path / "new.csv").write_text("id;crp\n7;3,5\n")
    cohort = Cohort.load(study, labelled=False, sources={"labs": tmp_path / "new.csv", "clinical": None})
    assert cohort.modalities["labs"]["crp"].tolist() == [3.5]
    pd.DataFrame({"id": ["7"], "crp": [3.5]}).to_parquet(tmp_path / "new.parquet")
    cohort = Cohort.load(study, labelled=False, sources={"labs": tmp_path / "new.parquet", "clinical": None})
    assert cohort.modalities["labs"]["crp"].tolist() == [3.5]


@pytest.mark.parametrize(
    "columns",
    [["31-0.0", "21022-0.0"], ["p31", "p21022_i0"], ["race___1", "race___2"], ["a.b", "weight"], ["a b", "[x]"]],
)
def test_names_of_biobanks_and_redcap_work_in_a_study_file(tmp_path, columns):
    labs = f"id,{','.join(columns)}\n001,1,2.5\n002,0,3.5\n"
    modality = {"name": "labs", "kind": "table", "source": "labs", "columns": columns}
    history = {"name": "history", "kind": "table", "source": "clinical", "columns": ["age"]}
    study = write_study(tmp_path, labs=labs, modalities=[history, modality])
    (tmp_path / "study.yaml").write_text(study.to_yaml())
    assert list(Cohort.load(type(study).load(tmp_path / "study.yaml")).modalities["labs"].columns) == columns


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_table_or_in_a_data_error(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("t.csv", "t.csv.gz", "t.txt"):
        (folder / name).write_bytes(b"id,x\n" + content if name == "t.csv" else content)
        try:
            read(folder, name)
        except DataError:
            continue


def test_in_numbers_na_is_empty_whatever_the_marks(tmp_path):
    (tmp_path / "t.csv").write_text("id,x,y,word\n1,NA,NA,NA\n2,1,0,a\n3,n/a,1,null\n4,-999,1,b\n")
    table = read(tmp_path, "t.csv", ("y",), empty=["-999"])
    assert table["x"].isna().tolist() == [True, False, True, True]
    assert table["y"].isna().tolist() == [True, False, False, False]
    assert table["word"].tolist() == ["NA", "a", "null", "b"]
