"""Bags of codes."""

import json
import time
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from pydantic import ValidationError
from torch.testing import assert_close

from multimodn import Cohort
from multimodn.encoders.codes import CodesEncoder, CodesOptions
from multimodn.errors import DataError, DataWarning, UnreadableError
from tests.data._studies import write_study
from tests.encoders._code_cases import diagnoses, lists


def fit(frame, **options):
    torch.manual_seed(0)
    return CodesEncoder.fit(frame, CodesOptions(**options)).eval()


def table(*rows, columns=("code",)):
    """One row of ``(patient, code, ...)`` each."""
    return pd.DataFrame(rows, columns=["patient", *columns]).set_index("patient")


def weights(encoder, frame):
    """What each patient has, by the names of features."""
    names = [feature.name for feature in encoder.features]
    return [{names[int(k)]: round(float(w), 4) for k, w in items} for items in encoder.prepare(frame).split()]


@pytest.fixture
def frame():
    return diagnoses()


def log1p(n):
    return round(float(np.log1p(n)), 4)


def test_a_patient_has_its_codes_their_prefixes_and_any_code():
    frame = table(("a", "E11.9"), ("a", "E11.9"), ("a", "E11.2"), ("b", "E78.0"), ("b", "I10"))
    encoder = fit(frame, levels=[1, 3, "full"], min_patients=1)
    assert weights(encoder, frame) == [
        {"(any code)": log1p(3), "E…": log1p(3), "E11…": log1p(3), "E112": log1p(1), "E119": log1p(2)},
        {"(any code)": log1p(2), "E…": log1p(1), "I…": log1p(1), "E78…": log1p(1), "I10": log1p(1), "E780": log1p(1)},
    ]


def test_rare_codes_fold_to_their_prefix():
    frame = table(*((f"P{i}", f"E11.{i}") for i in range(6)), *((f"P{i}", "I10") for i in range(3)), ("P5", "Z99.1"))
    encoder = fit(frame, levels=[3, "full"], min_patients=3)
    assert [feature.name for feature in encoder.features] == ["(any code)", "E11…", "I10"]
    assert weights(encoder, frame)[0] == {"(any code)": log1p(2), "E11…": log1p(1), "I10": log1p(1)}
    assert weights(encoder, frame)[5] == {"(any code)": log1p(2), "E11…": log1p(1)}
    assert encoder.summary()["n_patients"].to_dict() == {"(any code)": 6, "E11…": 6, "I10": 3}


def test_unknown_codes_fold_and_are_counted():
    encoder = fit(table(("a", "E11.9"), ("a", "E11.2"), ("b", "I10")), levels=[1, 3, "full"], min_patients=1)
    new = table(("c", "E11.5"), ("c", "E66.0"), ("c", "E66.0"), ("d", "Z99"), ("d", "I10"))
    message = r"4 of 5 codes are not in the training rows.*'E66.0' \(2 rows\) as E….*'E11.5' \(1 rows\) as E11…, "
    with pytest.warns(DataWarning, match=message + r"'Z99' \(1 rows\) as \(any code\)"):
        assert weights(encoder, new) == [
            {"(any code)": log1p(3), "E…": log1p(3), "E11…": log1p(1)},
            {"(any code)": log1p(2), "I…": log1p(1), "I10": log1p(1)},
        ]


def test_rare_codes_of_the_training_are_no_unknown_ones(frame):
    encoder = fit(frame, min_patients=30)
    assert len(encoder.features) < 8
    encoder.prepare(frame)  # without a warning


@pytest.mark.parametrize(
    "cell", ["I10;E11", "I10 ; E11", "I10|E11", "I10,E11", '["I10", "E11"]', "['I10', 'E11']", "[I10]"]
)
def test_lists_in_cells(cell):
    encoder = fit(table(("a", "I10"), ("a", "E11")), min_patients=1)
    expected = table(("a", "I10"), ("a", "E11")) if "E11" in cell else table(("a", "I10"))
    assert weights(encoder, table(("a", cell))) == weights(encoder, expected)


@pytest.mark.parametrize(
    "cell", [["I10", "E11"], ("I10", "E11"), np.array(["I10", "E11"], dtype=object), ["I10", None, "E11"]]
)
def test_lists_of_python(cell):
    encoder = fit(table(("a", "I10"), ("a", "E11")), min_patients=1)
    frame = pd.DataFrame({"code": pd.Series([cell], dtype=object)}).set_axis(["a"])
    assert weights(encoder, frame) == weights(encoder, table(("a", "I10"), ("a", "E11")))
    cohort = Cohort.from_frames({"codes": frame})
    assert weights(encoder, cohort.modalities["codes"]) == weights(encoder, frame)
    assert cohort.hash() == Cohort.from_frames({"codes": frame}).hash()


def test_rows_and_lists_say_the_same(frame):
    encoder = fit(frame)
    of_patient = frame.groupby(level=0, sort=False)["code"].agg(";".join).to_frame()
    assert_close(encoder.prepare(of_patient).items, encoder.prepare(frame).items)


@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(random):
    frame = diagnoses(12)
    order = list(range(len(frame)))
    random.shuffle(order)
    shuffled = frame.iloc[order]
    one, other = fit(frame, min_patients=2), fit(shuffled, min_patients=2)
    assert one.features == other.features
    place = torch.from_numpy(pd.Index(shuffled.index.unique()).get_indexer(frame.index.unique()))
    assert torch.equal(one(one.prepare(frame)), other(other.prepare(shuffled)[place]))


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["A1", "A12", "A13", "B", "B2.4", "", "[]"])), min_size=1))
def test_weights_are_those_of_a_plain_loop(rows):
    frame = table(*((f"P{i}", code) for i, code in rows), ("P0", "A12"), ("P6", "A13"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        without = {patient for patient in frame.index if not any(frame.loc[[patient], "code"])}
        if without:
            with pytest.raises(UnreadableError) as caught:
                fit(frame, levels=[1, "full"], min_patients=2)
            assert set(caught.value.patients) == without
            return
        encoder = fit(frame, levels=[1, "full"], min_patients=2)
        found = weights(encoder, frame)
    names = {feature.name for feature in encoder.features}
    for patient, own in zip(frame.index.unique(), found, strict=True):
        codes = [code.replace(".", "") for code in frame.loc[[patient], "code"] if code not in ("", "[]")]
        counts = {"(any code)": len(codes)}
        for code in codes:
            for name in {code, code[:1] + "…" if len(code) > 1 else code} & names:
                counts[name] = counts.get(name, 0) + 1
        assert own == {name: log1p(n) for name, n in counts.items()}


def test_recency_is_the_age_of_the_latest_row():
    rows = [
        ("a", "I10", "2024-01-11"),
        ("a", "I10", "2023-10-03"),
        ("a", "E11", "2024-01-01"),
        ("b", "I10", "2020-05-05"),
    ]
    frame = table(*rows, columns=("code", "day"))
    encoder = fit(frame, time="day", weight="recency", half_life=10, min_patients=1, levels=["full"])
    assert weights(encoder, frame) == [{"(any code)": 1.0, "I10": 1.0, "E11": 0.5}, {"(any code)": 1.0, "I10": 1.0}]
    frame["asked"] = ["2024-01-21 00:00"] * 3 + ["2020-05-25"]
    encoder = fit(frame, time="day", index="asked", weight="recency", half_life=10, min_patients=1, levels=["full"])
    assert weights(encoder, frame) == [{"(any code)": 0.5, "I10": 0.5, "E11": 0.25}, {"(any code)": 0.25, "I10": 0.25}]
    days = frame.assign(day=[-10.0, -100.0, -20.0, -20.0])
    numbers = fit(days, time="day", index=0, weight="recency", half_life=10, min_patients=1, levels=["full"])
    assert weights(numbers, days) == weights(encoder, frame)


def test_codes_after_the_index_are_refused():
    frame = table(
        ("a", "I10", "2024-01-11", "2024-01-01"), ("b", "I10", "2023-01-11", "2024-01-01"), columns=("code", "t", "at")
    )
    with pytest.raises(DataError, match=r"codes of 1 patient\(s\) lie after their `index`, at: 'a'"):
        fit(frame, time="t", index="at", weight="recency")


def test_all_bad_cells_are_named():
    frame = table(
        ("a", "I10", "2024-01-11", "x"), ("b", "I10", "", "-1"), ("c", "I10", "soon", ""), columns=("code", "t", "n")
    )
    with pytest.raises(DataError, match=r"(?s)no dates?: 'soon' \(patient 'c'\)"):
        fit(frame, time="t", weight="recency")
    with pytest.raises(DataError, match=r"column 't' is empty in 1 rows that have a code: .*'b'"):
        fit(frame.iloc[:2], time="t", weight="recency")
    with pytest.raises(
        DataError, match=r"(?s)'x' \(patient 'a'\).*1 amounts are empty.*'c'.*1 amounts are below 0.*'b'"
    ):
        fit(frame, value="n")


def test_patients_without_a_code_are_unreadable_and_empty_rows_are_counted(frame):
    more = table(("P1", None), ("new", ""), ("new", None))
    with pytest.raises(
        UnreadableError, match=r"column 'code' is empty. A patient who is known to have no code has \[\]"
    ):
        fit(pd.concat([frame, more]))
    with pytest.warns(
        DataWarning, match=r"1 of \d+ rows have no code in column 'code', and are left out: patient 'P1'"
    ):
        fit(pd.concat([frame, more.iloc[:1]]))
    with pytest.raises(DataError, match="there is no code in the training rows"):
        fit(table(("a", "[]")))


def test_a_patient_known_to_have_no_code_has_the_modality():
    frame = lists()
    encoder = fit(frame, code="codes")
    assert weights(encoder, frame)[3] == {"(any code)": 0.0}
    assert encoder(encoder.prepare(frame)).isfinite().all()


def test_ways_of_writing_are_one_code_with_a_note():
    frame = table(("a", "E11.9"), ("b", "e119 "), ("c", "I10"))
    with pytest.warns(DataWarning, match=r"1 codes are written in several ways: E11.9 = e119. .*`fold: false`"):
        encoder = fit(frame, min_patients=2)
    assert [feature.name for feature in encoder.features] == ["(any code)", "E11…", "E119"]
    apart = fit(frame, fold=False, min_patients=1)
    assert {"E11.9", "e119"} <= {feature.name for feature in apart.features}


@pytest.mark.parametrize("word", ["NA", "none", "-", "n/a", "Unknown"])
def test_words_that_may_mean_none_are_named(word):
    with pytest.warns(
        DataWarning, match=rf"'{word}' \(2 rows\) count as codes; if they are none, leave the cell empty"
    ):
        fit(table(("a", word), ("b", word), ("c", "I10")))


def test_blanks_that_may_separate_codes_are_named():
    frame = table(("a", "I10 E11"), ("b", "I10"))
    with pytest.warns(DataWarning, match=r"1 codes hold blanks: 'I10 E11' \(1 rows\).*`separators`"):
        fit(frame)
    separated = fit(frame, separators=" ;", min_patients=1, levels=["full"])
    assert {feature.name for feature in separated.features} == {"(any code)", "I10", "E11"}


def test_years_are_no_days():
    frame = table(("a", "I10", 2019), ("b", "I10", 2021), columns=("code", "t"))
    with pytest.raises(DataError, match="'t' holds numbers that look like years, from 2019 to 2021"):
        fit(frame, weight="recency", time="t")


def test_experts_read_what_varies_most_and_nothing_twice(frame):
    encoder = fit(frame, levels=[1, 3, "full"], min_patients=1)
    vector = encoder.vector(encoder.prepare(frame))
    assert_close(vector.mean(0), torch.zeros(encoder.vector_size), atol=1e-5, rtol=0)
    assert_close(vector.std(0, correction=0), torch.ones(encoder.vector_size), atol=1e-4, rtol=0)
    assert torch.unique(vector.round(decimals=4), dim=1).shape[1] == encoder.vector_size
    few = fit(frame, levels=[1, 3, "full"], min_patients=1, n_vector=3)
    assert few.vector_size == 3
    spreads = sorted((f.spread for f in few.features), reverse=True)
    assert few.spread.min() >= spreads[5]


def test_gates_of_codes_reach_their_prefixes(frame):
    encoder = fit(frame, levels=[1, "full"]).double()
    parts = encoder.parts(frame, encoder.prepare(frame), 1)
    patient = int(parts.lengths.argmax())
    rows, n = torch.tensor([patient]), int(parts.lengths[patient])
    gates = torch.ones(1, n, dtype=torch.float64)
    gates[0, 1] = 0.0
    own = frame.loc[[frame.index.unique()[patient]]]
    closed = parts.names["feature"].iloc[int(parts.lengths[:patient].sum()) + 1]
    without = encoder.prepare(own[own["code"] != closed])
    assert_close(encoder.encode_parts(parts, rows, gates), encoder(without), rtol=1e-5, atol=1e-6)
    assert_close(encoder.vector_parts(parts, rows, gates), encoder.vector(without), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [3, 1]}, "from the shortest prefix to `full`"),
        ({"levels": ["full", 3]}, "from the shortest prefix"),
        ({"weight": "recency"}, "needs `time`"),
        ({"weight": "recency", "time": "t", "value": "v"}, "which `weight: recency` does not use"),
        ({"index": "t"}, "used by `weight: recency` alone"),
        ({"value": "code"}, "must name different columns"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        CodesOptions(**options)


def study_of(tmp_path, **source):
    modality = {"name": "codes", "kind": "codes", "source": "labs", "min_patients": 1, "levels": ["full"]}
    study = write_study(tmp_path, modalities=[modality])
    sources = {"clinical": "clinical.csv", "labs": source}
    return study.model_copy(update={"cohort": type(study.cohort)(patient="id", sources=sources)})


SNOMED = [900000000000207008, 900000000000207009, 73211009]


@pytest.mark.parametrize("how", ["csv", "csv with gaps", "parquet", "parquet with gaps", "duckdb", "parquet lists"])
def test_codes_are_read_as_they_are_written(tmp_path, how):
    ids = ["001", "002", "010"]
    if how.startswith("csv"):
        gap = "001,\n" if "gaps" in how else ""
        (tmp_path / "c.csv").write_text(
            "id,code\n" + gap + "".join(f"{i},{c}\n" for i, c in zip(ids, SNOMED, strict=True))
        )
        source = {"path": "c.csv"}
    else:
        gap = "gaps" in how
        codes = [[c] for c in SNOMED] if "lists" in how else SNOMED
        columns = {"id": [*ids, *["001"] * gap], "code": [*codes, *[None] * gap]}
        parquet.write_table(pa.table(columns), tmp_path / "c.parquet")
        source = {"path": "c.parquet"} if how != "duckdb" else {"query": "SELECT id, code FROM 'c.parquet'"}
    frame = Cohort.load(study_of(tmp_path, **source), labelled=False).modalities["codes"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        encoder = fit(frame, min_patients=1, levels=["full"])
    assert {feature.name for feature in encoder.features} == {"(any code)", *map(str, SNOMED)}


@pytest.mark.parametrize("codes", [["001.0", "001", "1"], ["250.00", "250.0", "250"], ["NaN1", "1e5", "1E05"]])
def test_codes_that_look_like_numbers_keep_their_zeros(tmp_path, codes):
    (tmp_path / "c.csv").write_text("id,code\n" + "".join(f"00{i},{c}\n" for i, c in enumerate(codes)))
    frame = Cohort.load(study_of(tmp_path, path="c.csv"), labelled=False).modalities["codes"]
    assert frame["code"].tolist() == codes


def test_whole_numbers_of_frames_are_codes_without_a_point():
    frame = pd.DataFrame({"code": [250.0, 40.0, np.nan]}, ["a", "b", "a"])
    with pytest.warns(DataWarning, match="1 of 3 rows have no code"):
        assert [f.name for f in fit(frame, min_patients=1, levels=["full"]).features] == ["(any code)", "250", "40"]


def test_many_codes_need_no_dense_table():
    n = 30_000
    code = np.array([f"C{i:05d}" for i in range(n)], dtype=object)
    frame = pd.DataFrame({"code": np.tile(code, 2)}, [f"P{i % 5000}" for i in range(2 * n)])
    start = time.process_time()
    encoder = fit(frame, min_patients=1)
    values = encoder.prepare(frame)
    assert len(encoder.features) > n
    assert values.items.shape[0] < 10 * n  # 5,000 x 30,000 cells would be 150 million
    assert encoder(values[torch.arange(64)]).isfinite().all()
    assert encoder.vector(values[torch.arange(64)]).shape == (64, encoder.vector_size)
    assert time.process_time() - start < 20


def test_the_model_holds_no_name_of_a_rare_code(frame):
    more = pd.concat([frame, table(("P1", "Q99.9"))])
    encoder = fit(more, min_patients=5)
    assert "Q999" not in json.dumps(encoder.config())
    assert "Q99.9" not in json.dumps(encoder.config())
