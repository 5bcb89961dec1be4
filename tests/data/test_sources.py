import gzip

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn.data.arrow_table import text_keys
from multimodn.data.sources import from_frame, read_source
from multimodn.errors import DataError
from multimodn.study.study import SourceSpec

TEXT = (
    "id,x,whole,big,flag,empty,word,when,y\n"
    "001,1.5,3,16777217,true,,hi,2020-01-01,1\n"
    "002,,4,5,false,,,2020-01-02,0\n"
    "1,2,,6,,,NA,,\n"
)


def read(folder, label=("y",), **spec):
    return read_source(SourceSpec(**spec), folder, "id", label)


def test_every_form_gives_the_same_table(tmp_path):
    (tmp_path / "t.csv").write_text(TEXT)
    (tmp_path / "t.tsv").write_text(TEXT.replace(",", "\t"))
    with gzip.open(tmp_path / "t.csv.gz", "wt") as file:
        file.write(TEXT)
    table = read(tmp_path, path="t.csv")
    table.reset_index(names="id").to_parquet(tmp_path / "t.parquet", row_group_size=2)
    with duckdb.connect(tmp_path / "t.db") as connection:
        connection.execute(f"create table t as select * from '{tmp_path}/t.parquet'")
    others = [{"path": name} for name in ("t.tsv", "t.csv.gz", "t.parquet")]
    others += [{"query": "select * from 't.parquet'"}, {"query": "select * from t", "database": "t.db"}]
    for spec in others:
        pd.testing.assert_frame_equal(read(tmp_path, **spec), table)


def test_types_keep_what_was_written(tmp_path):
    (tmp_path / "t.csv").write_text(TEXT)
    table = read(tmp_path, path="t.csv")
    assert list(table.index) == ["001", "002", "1"]
    assert table["big"].tolist() == [16777217, 5, 6]  # float32 would say 16777216
    assert table[["x", "whole", "flag", "empty"]].dtypes.unique().tolist() == [np.float32]
    assert table["word"].isna().tolist() == [False, True, True]
    assert table["when"].tolist()[:2] == ["2020-01-01", "2020-01-02"]
    assert table["y"].dtype == float


def test_a_label_with_a_leading_zero_stays_text(tmp_path):
    (tmp_path / "t.csv").write_text("id,y\na,01\nb,02\n")
    assert read(tmp_path, path="t.csv")["y"].tolist() == ["01", "02"]


def test_a_late_text_makes_the_column_text(tmp_path):
    n = 300_000
    lines = "\n".join(f"{i:09d},1.25,{i}" for i in range(n))
    (tmp_path / "t.csv").write_text(f"id,x,z\n{lines}\nlast,oops,7\n")
    table = read(tmp_path, path="t.csv")
    assert table["x"].iloc[[0, -1]].tolist() == ["1.25", "oops"]
    assert table["z"].iloc[[5, -1]].tolist() == [5, 7]


def test_numbers_beyond_float32_are_kept(tmp_path):
    pd.DataFrame({"id": ["a", "b"], "x": [1e300, 1.0]}).to_parquet(tmp_path / "t.parquet")
    assert read(tmp_path, path="t.parquet")["x"].tolist() == [1e300, 1.0]


@pytest.mark.parametrize(
    "numbers",
    [
        ["40762351.0", "40762352.0", "40762353.0", ""],  # codes beside an empty cell
        ["1700000000.25", "1700000020.5", "1700000040.75"],  # seconds since 1970
        ["-16777217.0", "-16777218.0", "0.5"],
        ["1e300", "2.5", ""],
    ],
)
def test_no_number_is_narrowed_to_another(tmp_path, numbers):
    table = "id,x\n" + "".join(f"{i},{number}\n" for i, number in enumerate(numbers))
    (tmp_path / "t.csv").write_text(table)
    read_numbers = read(tmp_path, path="t.csv")["x"].to_numpy(float)
    assert read_numbers[: len(numbers)].tolist() == pytest.approx([float(n or "nan") for n in numbers], 0, 0, True)


@given(st.lists(st.integers(-(2**53), 2**53), min_size=1), st.sampled_from(["", ".0"]))
def test_whole_numbers_are_exact_however_they_are_written(tmp_path_factory, numbers, decimals):
    path = tmp_path_factory.mktemp("whole") / "t.csv"
    path.write_text("id,x\n" + "".join(f"{i},{number}{decimals}\n" for i, number in enumerate(numbers)))
    assert read(path.parent, path=path.name)["x"].astype(float).tolist() == numbers


def test_large_numbers_that_differ_much_stay_float32(tmp_path):
    (tmp_path / "t.csv").write_text("id,x\na,33554433.3\nb,0.5\nc,123456789.7\n")
    assert read(tmp_path, path="t.csv")["x"].dtype == np.float32


def test_more_rows_than_room_was_made_for(tmp_path, monkeypatch):
    monkeypatch.setattr("multimodn.data.arrow_table.FIRST_CELLS", 1)
    table = read(tmp_path, query="select i::varchar as id, i * 0.5 as x from range(40000) t(i)")
    assert (table["x"].to_numpy() == np.arange(40000) * 0.5).all()


@pytest.mark.parametrize("ids", [["001", "002"], [b"001", b"002"]])
def test_arrays(tmp_path, ids):
    features = np.arange(6.0).reshape(2, 3)
    np.savez(tmp_path / "t.npz", patient=np.array(ids), features=features)
    np.save(tmp_path / "t.npy", features)
    (tmp_path / "ids.csv").write_text("id\n001\n002\n")
    table = read(tmp_path, path="t.npz")
    assert list(table.columns) == ["e0", "e1", "e2"]
    assert list(table.index) == ["001", "002"]
    pd.testing.assert_frame_equal(read(tmp_path, path="t.npy", patients="ids.csv"), table)


def test_an_array_for_each_patient(tmp_path):
    np.savez(tmp_path / "t.npz", **{"002": np.zeros(2), "001": np.ones(2)})
    table = read(tmp_path, path="t.npz")
    assert list(table.index) == ["002", "001"]
    assert table["e1"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"path": "good.cvs"}, r"good\.cvs does not exist\. Did you mean 'good\.csv'\?"),
        ({"path": "file.doc"}, r"unknown kind of file"),
        ({"path": "empty.csv"}, r"empty\.csv cannot be read as CSV: Empty CSV"),
        ({"path": "head.csv"}, r"there are no rows"),
        ({"path": "ragged.csv"}, r"ragged\.csv cannot be read as CSV: .*Expected 2 columns, got 3"),
        ({"path": "latin.csv"}, r"latin\.csv, line 2: '1,é' is not text in UTF-8.*`encoding: cp1252`"),
        ({"path": "key.csv"}, r"key\.csv has no key column 'id'\. Did you mean 'idd'\?"),
        ({"path": "twice.csv"}, r"several columns named a; rename"),
        ({"path": "bad.parquet"}, r"bad\.parquet cannot be read as Parquet"),
        ({"path": "float.parquet"}, r"the patient key holds (double|float64)"),
        ({"path": "list.parquet"}, r"column 'v' holds list"),
        ({"query": "selct 1"}, r"the query 'selct 1' failed: Parser Error"),
        ({"query": "create table x(a int)"}, r"returns no table|has no key column"),
        ({"query": "select 1", "database": "no.db"}, r"no\.db does not exist"),
        ({"path": "bad.npz"}, r"bad\.npz cannot be read"),
        ({"path": "names.npz"}, r"names\.npz has no array 'patient'\. Did you mean 'patients'\?"),
        ({"path": "shape.npz"}, r"shape\.npz: `features` is float64 of shape \(3, 2\), expected .*\(2, d\)"),
        ({"path": "object.npz"}, r"object\.npz cannot be read: Object arrays"),
        ({"path": "good.npy", "patients": "two.csv"}, r"two\.csv has no key column 'id'"),
        ({"path": "good.npy", "patients": "none.csv"}, r"none\.csv does not exist"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, spec, message):
    for name, text in {
        "good.csv": "id,a\n1,2\n",
        "file.doc": "id",
        "empty.csv": "",
        "head.csv": "id,a\n",
        "ragged.csv": "id,a\n1,2,3\n",
        "key.csv": "idd,a\n1,2\n",
        "twice.csv": "id,a,a\n1,2,3\n",
        "two.csv": "k,l\n1,2\n",
        "bad.parquet": "PAR1",
        "bad.npz": "no zip",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.csv").write_bytes("id,a\n1,é\n".encode("latin-1"))
    pd.DataFrame({"id": [1.0, None], "v": 1}).to_parquet(tmp_path / "float.parquet")
    pd.DataFrame({"id": ["1"], "v": [[1]]}).to_parquet(tmp_path / "list.parquet")
    np.savez(tmp_path / "names.npz", patients=["a"], features=np.ones((1, 2)))
    np.savez(tmp_path / "shape.npz", patient=["a", "b"], features=np.ones((3, 2)))
    np.savez(tmp_path / "object.npz", patient=np.array(["a"], dtype=object), features=np.ones((1, 2)))
    np.save(tmp_path / "good.npy", np.ones((1, 2)))
    with pytest.raises(DataError, match=message):
        read(tmp_path, **spec)


@given(st.lists(st.integers(0, 2**60), min_size=1))
def test_whole_numbers_become_their_digits(keys):
    assert list(text_keys(keys)) == [str(key) for key in keys]


@given(st.lists(st.text("0123456789abc", min_size=1), min_size=1, unique=True))
def test_text_keys_stay_as_they_are(keys):
    frame = pd.DataFrame({"id": keys, "x": 1.0})
    assert list(from_frame(frame, "id").index) == keys
    assert list(frame.columns) == ["id", "x"]


@pytest.mark.parametrize("name", ["t.npz", "t.npy", "t.parquet"])
@given(place=st.floats(0, 1), content=st.binary(max_size=40), cut=st.booleans())
def test_damaged_files_are_data_errors_or_tables(tmp_path_factory, name, place, content, cut):
    folder = tmp_path_factory.mktemp("damaged")
    if name == "t.npz":
        np.savez(folder / name, patient=["001", "002"], features=np.ones((2, 3)))
    elif name == "t.npy":
        np.save(folder / name, np.ones((2, 3)))
    else:
        pd.DataFrame({"id": ["001", "002"], "x": [1.0, 2.0], "t": ["a", None]}).to_parquet(folder / name)
    (folder / "ids.csv").write_text("id\n001\n002\n")
    whole = (folder / name).read_bytes()
    start = int(place * len(whole))
    (folder / name).write_bytes(whole[:start] + content + (b"" if cut else whole[start + len(content) :]))
    try:
        read(folder, path=name, **({"patients": "ids.csv"} if name == "t.npy" else {}))
    except DataError:
        return


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("interval 3 day", r"column 'i' holds spans of time .*date_diff"),
        ("[1, 2]", r"column 'i' holds list"),
        ("{'a': 1}", r"column 'i' holds struct"),
        ("'ab'::blob", r"column 'i' holds bytes"),
        ("9007199254740993", r"more than 15 digits"),
    ],
)
def test_types_of_a_database_that_are_no_input_are_named(tmp_path, value, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, query=f"select 'a' as id, {value} as i")
    if "digits" not in message:  # a label keeps its digits
        with pytest.raises(DataError, match=message):
            read(tmp_path, ("i",), query=f"select 'a' as id, {value} as i")


@pytest.mark.parametrize(
    "value", ["uuid()", "time '10:00'", "timestamptz '2024-01-01 00:00+01'", "1.5::decimal(38, 10)"]
)
def test_further_types_of_a_database_are_text_or_numbers(tmp_path, value):
    for exact in ((), ("i",)):
        table = read(tmp_path, exact, query=f"select 'a' as id, {value} as i union all select 'b', null")
        assert isinstance(table["i"].iloc[0], str | float | np.floating)
