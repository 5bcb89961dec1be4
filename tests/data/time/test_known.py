"""What is known at the moment of prediction; nothing from after it reaches the cohort."""

import io
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from multimodn import Cohort
from multimodn.audit.audit import audit
from multimodn.cli.terminal.audit import show_audit
from multimodn.data.splits import make_split
from multimodn.data.time.known import TimeCut
from multimodn.encoders.series import SeriesEncoder, SeriesOptions
from multimodn.errors import DataError, DataWarning, StudyError
from multimodn.study.study import Study

CASE = """id,dead,admitted,birth,stage
a,1,2024-01-10,1984-01-10,T1
b,0,2024-03-01,1950-03-01,T2
c,0,2024-05-05,2000-05-05,T1
"""
LABS = """id,time,variable,value
a,2024-01-09,crp,1.5
a,2024-01-10,crp,2
a,2024-01-11,crp,99
b,2023-01-01,crp,3
b,2024-02-29 12:00,hb,9
b,2024-03-02,hb,1
c,2024-05-04,crp,7
"""


def study(folder, labs=LABS, case=CASE, moment="admitted", window=None, kind="series", sources=None, **options):
    (folder / "case.csv").write_text(case)
    (folder / "labs.csv").write_text(labs)
    labs_spec = {"name": "labs", "kind": kind, "source": "labs", **options}
    if window is not None:
        labs_spec["window"] = window
    case_spec = {"name": "case", "kind": "table", "source": "case", "columns": {"all_but": ["dead"]}}
    data = {
        "name": "timed",
        "cohort": {"patient": "id", "sources": {"case": "case.csv", "labs": "labs.csv"} | (sources or {})},
        "modalities": [case_spec, labs_spec],
        "tasks": [{"name": "dead", "kind": "binary", "source": "case", "target": "dead", "positive": "1"}],
    }
    return Study.from_dict(data if moment is None else data | {"index": moment}, folder)


def load(study, labelled=True, **sources):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return Cohort.load(study, labelled=labelled, sources=sources or None)


def cuts(cohort):
    notes = [note for note in cohort.notes if isinstance(note, TimeCut)]
    return [(note.modality, note.column, note.n, note.n_after, note.n_before, note.n_same_day) for note in notes]


def test_rows_after_the_index_are_cut_and_times_count_from_it(tmp_path):
    with pytest.warns(DataWarning, match="modality 'labs': of 7 rows, 2 after the moment of prediction, by 'time'"):
        cohort = Cohort.load(study(tmp_path))
    labs = cohort.modalities["labs"]
    assert labs["time"].tolist() == [-1.0, 0.0, -425.0, -0.5, -1.0]
    assert labs["value"].tolist() == [1.5, 2.0, 3.0, 9.0, 7.0]
    assert cuts(cohort) == [("labs", "time", 7, 2, 0, 0)]


def test_dates_of_tables_become_days_before_the_index(tmp_path):
    case = load(study(tmp_path)).modalities["case"]
    assert case["birth"].tolist() == [14610.0, 27029.0, 8766.0]
    assert list(case.columns) == ["birth", "stage"]  # the moment itself says nothing


def test_dates_of_tables_after_the_index_are_empty_and_counted(tmp_path):
    later = CASE.replace("1984-01-10", "2024-01-11")
    cohort = load(study(tmp_path, case=later))
    np.testing.assert_array_equal(cohort.modalities["case"]["birth"], [np.nan, 27029.0, 8766.0])
    assert cuts(cohort)[0] == ("case", "birth", 3, 1, 0, 0)
    assert "1 of 3 dates in 'birth' lie after the moment of prediction, and count as empty" in str(cohort.notes[0])


@pytest.mark.parametrize(
    ("window", "kept", "cut"),
    [
        ({"before": "365d"}, [1.5, 2, 9, 7], (2, 1)),
        ({"before": "12h"}, [2, 9], (2, 3)),
        ({"after": "1d"}, [1.5, 2, 99, 3, 9, 1, 7], None),
        ({"before": "1d", "after": "1 day"}, [1.5, 2, 99, 9, 1, 7], (0, 1)),
    ],
)
def test_windows(tmp_path, window, kept, cut):
    cohort = load(study(tmp_path, window=window))
    assert cohort.modalities["labs"]["value"].tolist() == kept
    assert [each[3:5] for each in cuts(cohort)] == ([] if cut is None else [cut])


def test_rows_of_the_day_without_a_clock_may_lie_after_an_index_that_has_one(tmp_path):
    clocked = CASE.replace("2024-01-10,", "2024-01-10 08:00,").replace("2024-03-01,", "2024-03-01 08:00,")
    clocked = clocked.replace("2024-05-05,", "2024-05-05 08:00,")
    cohort = load(study(tmp_path, case=clocked))
    assert cohort.modalities["labs"]["value"].tolist() == [1.5, 3.0, 9.0, 7.0]
    assert cuts(cohort)[0] == ("labs", "time", 7, 2, 0, 1)
    assert "without a clock (`same_day: keep` keeps them)" in str(cohort.notes[0])
    kept = load(study(tmp_path, case=clocked, window={"same_day": "keep"}))
    assert kept.modalities["labs"]["value"].tolist() == [1.5, 2.0, 3.0, 9.0, 7.0]


def test_a_moment_for_all_in_hours(tmp_path):
    labs = "id,time,variable,value\na,1.5,crp,1\na,24,crp,2\nb,24.5,crp,3\nc,00:30,crp,4\n"
    hours = {"at": 24, "unit": "hours"}
    with pytest.raises(DataError, match=r"1 of 4 cells are no number: '00:30' \(patient 'c'\)"):
        load(study(tmp_path, labs=labs, moment=hours))
    cohort = load(study(tmp_path, labs=labs.replace("00:30", "0.5"), moment=hours))
    assert cohort.modalities["labs"]["time"].tolist() == [-22.5 / 24, 0.0, -23.5 / 24]
    clocks = "id,time,variable,value\na,01:30,crp,1\na,24:00,crp,2\nb,24:30,crp,3\nc,00:30,crp,4\n"
    cohort = load(study(tmp_path, labs=clocks, moment=hours))
    np.testing.assert_allclose(cohort.modalities["labs"]["time"], [-22.5 / 24, 0.0, -23.5 / 24])


def test_numbers_and_dates_are_not_compared(tmp_path):
    labs = "id,time,variable,value\na,1.5,crp,1\n"
    message = (
        "modality 'labs': column 'time' holds numbers, and the moments of prediction .* are dates. Give both as dates"
    )
    with pytest.raises(DataError, match=message):
        load(study(tmp_path, labs=labs))


def test_a_time_zone_on_one_side_alone_is_in_doubt(tmp_path):
    zoned = "id,time,variable,value\na,2024-01-09T12:00Z,crp,1\n"
    clocked = CASE.replace("2024-01-10,", "2024-01-10 08:00,")
    with pytest.raises(DataError, match="'time' has a time zone and column 'admitted' of source 'case' has none"):
        load(study(tmp_path, labs=zoned, case=clocked))
    assert load(study(tmp_path, labs=zoned)).modalities["labs"]["time"].tolist() == [-0.5]


def test_patients_without_a_moment_are_named(tmp_path):
    with pytest.raises(
        DataError, match=r"column 'admitted' of source 'case'.*1 of 3 patients have none: b. Give it, or"
    ):
        load(study(tmp_path, case=CASE.replace("2024-03-01", "")))
    more = LABS + "new,2024-01-01,crp,1\n"
    cohort = load(study(tmp_path, labs=more))
    assert list(cohort.patients) == ["a", "b", "c"]
    assert any("1 of 8 rows are of patients without a moment of prediction" in str(note) for note in cohort.notes)


def test_new_patients_need_the_moment_too(tmp_path):
    timed = study(tmp_path)
    labs = pd.DataFrame(
        {"id": ["n", "n"], "time": ["2024-01-01", "2024-01-03"], "variable": "crp", "value": [1.0, 2.0]}
    )
    with pytest.raises(
        DataError, match="read from source 'case', which is not given; give it too, with 'id' and 'admitted'"
    ):
        load(timed, labelled=False, case=None, labs=labs)
    case = pd.DataFrame({"id": ["n"], "admitted": ["2024-01-02"], "birth": ["1990-01-01"], "stage": ["T1"]})
    cohort = load(timed, labelled=False, case=case, labs=labs)
    assert cohort.modalities["labs"]["value"].tolist() == [1.0]


def test_readings_are_cut_by_their_dates(tmp_path):
    visits = "id,day,crp\na,02.01.2024,1\na,11.01.2024,9\na,10.01.2024,2\nb,31.12.2023,3\n"
    repeats = {"by": "day", "most": 2}
    timed = study(tmp_path, labs=visits, kind="table", repeats=repeats)
    cohort = load(timed)
    assert cohort.modalities["labs@1"]["crp"].to_dict() == {"a": 1.0, "b": 3.0}
    assert cohort.modalities["labs@2"]["crp"].to_dict() == {"a": 2.0}
    named = load(study(tmp_path, labs=visits, kind="table", repeats=repeats, columns=["day", "crp"]))
    assert named.modalities["labs@2"]["day"].to_dict() == {"a": 0.0}
    assert named.modalities["labs@1"]["day"].to_dict() == {"a": -8.0, "b": -61.0}


def test_the_time_of_rows_is_a_column_that_the_window_names(tmp_path):
    notes = "id,seen,text\na,2024-01-09,fine\na,2024-01-12,dead\nb,2024-02-01,ill\n"
    timed = study(tmp_path, labs=notes, kind="text", column="text", window={"time": "seen"})
    assert load(timed).modalities["labs"]["text"].tolist() == ["fine", "ill"]
    assert list(load(timed).modalities["labs"].columns) == ["text"]
    untimed = load(study(tmp_path, labs=notes, kind="text", column="text"))
    assert any("its rows have no time, so that none of them is left out" in str(note) for note in untimed.notes)
    with pytest.raises(DataError, match=r"no column 'sen', the `time` of its `window`. Did you mean 'seen'"):
        load(study(tmp_path, labs=notes, kind="text", column="text", window={"time": "sen"}))


def test_ages_of_codes_count_from_the_index(tmp_path):
    codes = "id,day,code\na,2024-01-09,I10\na,2024-01-12,E11\nb,2024-02-01,I10\nc,2024-05-05,I10\n"
    options = {"time": "day", "weight": "recency", "index": 0, "min_patients": 1}
    cohort = load(study(tmp_path, labs=codes, kind="codes", **options))
    assert cohort.modalities["labs"]["day"].tolist() == [-1.0, -29.0, 0.0]
    assert cohort.modalities["labs"]["code"].tolist() == ["I10", "I10", "I10"]


def test_dates_of_series_without_an_index_count_from_the_first_row(tmp_path):
    times = load(study(tmp_path, moment=None)).modalities["labs"]["time"]
    assert times.tolist() == [0.0, 1.0, 2.0, 0.0, 424.5, 426.0, 0.0]
    SeriesEncoder.fit(load(study(tmp_path, moment=None)).modalities["labs"], SeriesOptions())


def test_landmarks_are_rows_of_one_patient_on_one_side_of_the_split(tmp_path):
    (tmp_path / "asked.csv").write_text("id,at\na,2024-01-12\na,2024-01-09\nb,2024-03-01\nc,2024-05-05\nc,2024-05-06\n")
    asked = {"source": "asked", "time": "at"}
    timed = study(tmp_path, case=CASE.replace("admitted", "stay"), moment=asked, sources={"asked": "asked.csv"})
    cohort = load(timed)
    assert list(cohort.patients) == ["a@1", "a@2", "b@1", "c@1", "c@2"]
    assert cohort.groups.tolist() == ["a", "a", "b", "c", "c"]
    assert cohort.targets["dead"]["dead"].tolist() == [1, 1, 0, 0, 0]
    assert cohort.modalities["case"]["birth"].tolist() == [14609.0, 14612.0, 27029.0, 8766.0, 8767.0]
    np.testing.assert_array_equal(cohort.modalities["case"]["stay"], [np.nan, 2.0, 0.0, 0.0, 1.0])
    labs = cohort.modalities["labs"]
    assert labs["value"].groupby(level=0).agg(list).to_dict() == {
        "a@1": [1.5], "a@2": [1.5, 2.0, 99.0], "b@1": [3.0, 9.0], "c@1": [7.0], "c@2": [7.0],
    }  # fmt: skip
    assert labs.loc["a@2", "time"].tolist() == [-3.0, -2.0, -1.0]
    split = make_split(timed, cohort)
    parts = [{name.partition("@")[0] for name in ids} for ids in (split.train, split.validation, split.test)]
    assert sum(map(len, parts)) == 3


def test_landmarks_of_the_targets_have_their_own_labels(tmp_path):
    rows = ["a,0,2024-01-09,1984-01-10,T1", "a,1,2024-01-12,1984-01-10,T2", "b,0,2024-03-01,1950-03-01,T2"]
    case = "\n".join([CASE.splitlines()[0], *rows]) + "\n"
    cohort = load(study(tmp_path, case=case))
    assert cohort.targets["dead"]["dead"].to_dict() == {"a@1": 0, "a@2": 1, "b@1": 0}
    assert cohort.modalities["case"]["stage"].to_dict() == {"a@1": "T1", "a@2": "T2", "b@1": "T2"}
    twice = case.replace("2024-01-12", "2024-01-09")
    with pytest.raises(DataError, match=r"the same moment is there twice for patient\(s\) a"):
        load(study(tmp_path, case=twice))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"moment": {"source": "cases", "time": "t"}}, r"unknown source 'cases'. Did you mean 'case'"),
        ({"moment": {"at": 1.0, "time": "t"}}, "give `time`, a column of moments, or `at`"),
        ({"moment": None, "window": {"before": "1d"}}, "the `window` of labs needs an `index`"),
        ({"window": {"before": "6m"}}, "m may be minutes .* or months"),
        ({"window": {"before": 365}}, "365 has no unit; write for example 365d"),
        ({"window": {"before": "soon"}}, "'soon' is no duration"),
    ],
)
def test_mistakes_of_a_study_are_named(tmp_path, changes, message):
    with pytest.raises(StudyError, match=message):
        study(tmp_path, **changes)


def test_a_study_with_an_index_reads_back(tmp_path):
    timed = study(tmp_path, window={"before": "365d", "after": 0}, moment={"at": 24, "unit": "hours"})
    assert Study.from_dict(timed.to_dict(), tmp_path) == timed
    assert "index" not in study(tmp_path, moment=None).to_dict()


values = st.one_of(st.integers(-5, 5).map(float), st.floats(-1e3, 1e3).map(lambda x: round(x, 3)))
anything = st.one_of(values, st.just(123456789.25), st.just(1e30))
row = st.tuples(st.sampled_from("abc"), st.integers(-30, 0), st.sampled_from(["crp", "hb"]), values)
later = st.tuples(st.sampled_from("abc"), st.integers(1, 30), st.sampled_from(["crp", "na+", "zz"]), anything)


@pytest.mark.filterwarnings("ignore:.*far from all others:multimodn.errors.DataWarning")  # some random numbers are
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(row, min_size=1, max_size=8), future=st.lists(later, max_size=6), text=st.booleans())
@pytest.mark.parametrize("source", ["file", "frame"])
@pytest.mark.parametrize("kind", ["series", "table"])
def test_values_after_the_index_change_no_bit(tmp_path, kind, source, rows, future, text):
    """Rows from after the index, whatever they hold, leave frames, types, order of columns and tensors as they are."""
    base = pd.DataFrame([("c", -1, "crp", 0.5), *rows], columns=["id", "day", "variable", "value"])
    start = {"a": "2024-01-10", "b": "2024-03-01", "c": "2024-05-05"}
    readings = {"repeats": {"by": "time", "most": 3}, "columns": {"all_but": ["variable"]}}
    cohorts = []
    for more in ([], future):
        table = pd.concat([base, pd.DataFrame(more, columns=base.columns)]) if more else base
        day = pd.to_datetime(table["id"].map(start)) + pd.to_timedelta(table["day"].astype(float), unit="D")
        table = table.assign(time=day.dt.strftime("%Y-%m-%d"), other=np.arange(len(table)) % 3, flag=table["value"] > 0)
        if more and text and kind == "table":
            table = table.astype({"value": object, "other": object, "flag": object})
            table.iloc[-1, [3, 5, 6]] = "n.d."
        if kind == "table":
            table = table.drop_duplicates(["id", "time"])
        table = table.drop(columns="day")
        timed = study(tmp_path, labs=table.to_csv(index=False), kind=kind, **(readings if kind == "table" else {}))
        cohorts.append(load(timed, **({"labs": table} if source == "frame" else {})))
    one, other = cohorts
    assert one.modalities.keys() == other.modalities.keys()
    for name, frame in one.modalities.items():
        pd.testing.assert_frame_equal(frame, other.modalities[name])
    assert one.hash() == other.hash()
    if kind == "series":
        encoders = [SeriesEncoder.fit(cohort.modalities["labs"], SeriesOptions()) for cohort in cohorts]
        items = [e.prepare(c.modalities["labs"]).items for e, c in zip(encoders, cohorts, strict=True)]
        assert torch.equal(*items)


def test_the_audit_counts_what_lies_after_the_index(tmp_path):
    n = 40
    ids = [f"{i:02d}" for i in range(n)]
    case = "\n".join(
        [CASE.splitlines()[0], *(f"{i},{k % 2},2024-01-10,1984-01-10,T{k % 3}" for k, i in enumerate(ids))]
    )
    labs = "\n".join(["id,time,variable,value", *(f"{i},2024-01-{d:02d},crp,{d}" for i in ids for d in (1, 9, 12))])
    timed = study(tmp_path, labs=labs + "\n", case=case + "\n", window={"before": "5d"})
    found = audit(timed, load(timed))
    assert [(late.modality, late.column, late.n, late.n_after, late.n_before) for late in found.late] == [
        ("labs", "time", 120, 40, 40)
    ]
    assert found.to_dict()["late"][0]["n_after"] == 40
    console = Console(record=True, width=120, file=io.StringIO())
    show_audit(console, found)
    assert "Not used, by time" in console.export_text()


def test_registries_have_moments_of_their_own(tmp_path):
    timed = study(tmp_path)
    south = (
        CASE.replace("2024-01-10,", "12.01.2024,")
        .replace("2024-03-01,", "1.3.2024,")
        .replace("2024-05-05,", "5.5.2024,")
    )
    (tmp_path / "south.csv").write_text(south)
    (tmp_path / "south_labs.csv").write_text(LABS)
    data = timed.to_dict()
    data["modalities"][0]["columns"] = ["birth", "stage"]
    own = {"case": "south.csv", "labs": "south_labs.csv"}
    data["cohorts"] = {"north": {"sources": data["cohort"]["sources"]}, "south": {"sources": own}}
    labs = load(Study.from_dict(data, tmp_path)).modalities["labs"]["value"]
    assert labs[["north/a"]].tolist() == [1.5, 2.0]
    assert labs[["south/a"]].tolist() == [1.5, 2.0, 99.0]
