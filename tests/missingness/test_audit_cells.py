"""The audit of empty cells: columns of tables and variables of series."""

import json
import re
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from multimodn import Cohort, Study
from multimodn.audit.audit import audit
from multimodn.audit.findings import PresenceAuroc
from multimodn.audit.independence import emptiness_tests, independence
from multimodn.audit.sentences import short_verdict
from multimodn.cli.terminal.audit import show_audit
from multimodn.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")  # columns that are empty for many
NOTHING = PresenceAuroc(None, None, None, "it decides no alarm, and takes time")


def make_study(modalities=("labs", "other"), kind="binary", **options):
    named = [{"name": name, "kind": "table", "source": "s", **options.get(name, {})} for name in modalities]
    tasks = [{"name": "outcome", "kind": kind, "source": "s", "target": "outcome"}]
    cohort = {"patient": "id", "sources": {"s": "s.csv"}}
    return Study.from_dict({"name": "cells", "cohort": cohort, "modalities": named, "tasks": tasks})


def cohort_of(frames, outcome, **given):
    ids = [f"p{i}" for i in range(len(outcome))]
    named = {name: frame.set_axis(ids) if len(frame) == len(ids) else frame for name, frame in frames.items()}
    return Cohort.from_frames(named, {"outcome": pd.DataFrame({"outcome": outcome}, ids)}, **given)


def planted(n, seed, if_positive=0.8, if_negative=0.0):
    """Column ``b`` is empty for most positives; everyone has both modalities."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, 4))
    outcome = (rng.random(n) < 1 / (1 + np.exp(0.5 - truth[:, 0] - truth[:, 1]))).astype(int)
    values = truth + 0.5 * rng.normal(size=truth.shape)
    values[rng.random(n) < np.where(outcome == 1, if_positive, if_negative), 1] = np.nan
    other = pd.DataFrame({"d": values[:, 3], "e": rng.normal(size=n)})
    return cohort_of({"labs": pd.DataFrame(values[:, :3], columns=list("abc")), "other": other}, outcome)


def at_random(n, seed, n_columns=8, share=0.2):
    """Cells are empty whatever the outcome is."""
    rng = np.random.default_rng(seed)
    frames = {}
    for name in ("labs", "other"):
        values = rng.normal(size=(n, n_columns))
        values[rng.random(values.shape) < share] = np.nan
        frames[name] = pd.DataFrame(values, columns=[f"{name}{k}" for k in range(n_columns)])
    return cohort_of(frames, (rng.random(n) < 0.3).astype(int))


def named(found):
    return [(alarm.task, alarm.modality, alarm.columns) for alarm in found.cell_alarms]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("multimodn.audit.empty_cells.presence_auroc", lambda *_, **__: NOTHING)
    monkeypatch.setattr("multimodn.audit.audit.presence_auroc", lambda *_: NOTHING)


FAST, ALL = range(4), pytest.param(range(20), marks=pytest.mark.slow)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seeds", [FAST, ALL])
@pytest.mark.parametrize("n", [300, 2000])
def test_a_planted_column_is_named_in_every_cohort(n, seeds):
    study = make_study()
    assert all(named(audit(study, planted(n, seed))) == [("outcome", "labs", ("b",))] for seed in seeds)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seeds", [FAST, ALL])
@pytest.mark.parametrize("n", [300, 2000])
def test_cells_that_are_empty_at_random_raise_at_most_one_alarm_in_twenty_cohorts(n, seeds):
    study = make_study()
    alarmed = [seed for seed in seeds if audit(study, at_random(n, seed), seed=seed).cell_alarms]
    assert len(alarmed) <= 1, alarmed


def test_what_was_found_is_counted_written_and_said():
    cohort = planted(300, 0)
    outcome, empty = cohort.targets["outcome"]["outcome"], cohort.modalities["labs"]["b"].isna()
    found = audit(make_study(), cohort)
    (cells,) = found.tasks[0].cells  # `other` has no empty cell
    (one,) = cells.cells
    assert (cells.modality, cells.n_columns, cells.n_tested, cells.n_alarms, cells.n_unidentifiable) == (
        ("labs", 3, 1, 1, 1)
    )
    assert one.empty == (0, int((empty & (outcome == 1)).sum()))
    assert one.empty_high == pytest.approx(empty[outcome == 1].mean())
    assert (one.never_empty, one.always_empty, one.is_identifiable) == ((0,), (), False)
    assert cells.auroc.value == pytest.approx(0.5 + one.empty_high / 2, abs=0.01)
    verdict = found.tasks[0].verdict
    assert "Alarm: whether a cell is empty depends on the outcome of 'outcome' ('b' of labs: empty for 0%" in verdict
    assert "Not identifiable from these patients: no patient with outcome 0 has an empty cell in 'b' of labs" in verdict
    assert "AUROC of emptiness alone, on patients left out: labs 0.90" in verdict
    assert "Any mode of training is fine" not in verdict
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert written["tasks"][0]["cells"][0]["cells"][0]["columns"] == ["b"]
    short = short_verdict(found.tasks[0], 1)
    assert "Alarm: whether the cell of 'b' of labs is empty depends on the outcome." in short
    assert "not identifiable" in short
    assert "%" not in short  # shares and counts may be of few patients


def test_an_outcome_without_a_filled_cell_is_not_identifiable_and_one_by_chance_is_counted():
    cohort = planted(300, 0, 1.0, 0.3)
    labs = cohort.modalities["labs"].copy()
    labs.loc[cohort.patients[cohort.targets["outcome"]["outcome"] == 0][:1], "c"] = np.nan
    found = audit(make_study(), Cohort.from_frames(cohort.modalities | {"labs": labs}, cohort.targets))
    (cells,) = found.tasks[0].cells
    assert named(found) == [("outcome", "labs", ("b",))]
    assert [(one.columns, one.never_empty, one.always_empty) for one in cells.cells] == [
        (("b",), (), (1,)),
        (("c",), (1,), ()),
    ]
    verdict = found.tasks[0].verdict
    assert "Not identifiable from these patients: no patient with outcome 1 has a filled cell in 'b' of labs" in verdict
    assert "In 1 other column(s) some outcome has no empty, or no filled, cell" in verdict


def test_cells_that_say_nothing_are_said_to():
    found = audit(make_study(), at_random(600, 0))
    assert "Of 16 columns with some empty cells none raises an alarm for 'outcome'." in found.tasks[0].verdict
    assert short_verdict(found.tasks[0], 2).endswith("Which cells are empty raises no alarm.")
    few = audit(make_study(), at_random(60, 0)).tasks[0].verdict
    assert "But a difference in empty cells of less than about" in few


def test_a_cohort_without_empty_cells_says_nothing_of_them():
    found = audit(make_study(), planted(60, 0, 0.0))
    assert found.tasks[0].cells == ()
    assert "cell" not in found.tasks[0].verdict
    assert "cell" not in short_verdict(found.tasks[0], 2)


def test_columns_that_raise_no_alarm_alone_may_predict_together():
    rng = np.random.default_rng(0)
    outcome = rng.integers(0, 2, 1500)
    empty = rng.random((1500, 60)) < np.where(outcome == 1, 0.32, 0.28)[:, None]
    found = audit(make_study(["labs"]), cohort_of({"labs": pd.DataFrame(np.where(empty, np.nan, 1.0))}, outcome))
    assert found.cell_alarms == []
    assert found.tasks[0].cells[0].auroc.low > 0.55
    assert "none alone raises an alarm for 'outcome', but together they predict the outcome." in found.tasks[0].verdict


def test_variables_of_a_series_are_cells():
    rng = np.random.default_rng(0)
    outcome = rng.integers(0, 2, 200)
    ids = np.array([f"p{i}" for i in range(200)])
    has = np.column_stack(
        [np.ones(200, bool), rng.random((200, 2)) < np.column_stack([0.9 - 0.7 * outcome, [0.5] * 200])]
    )
    patient, variable = np.nonzero(has)
    rows = pd.DataFrame({"variable": np.array(["rate", "lactate", "ph"])[variable]}, ids[patient])
    rows = rows.assign(time=rng.uniform(0, 48, len(rows)), value=rng.normal(size=len(rows)))
    study = make_study(["vitals"], vitals={"kind": "series"})
    found = audit(study, cohort_of({"vitals": rows}, outcome, several_rows=["vitals"]))
    assert named(found) == [("outcome", "vitals", ("lactate",))]
    assert found.cell_alarms[0].empty_high == pytest.approx(0.8, abs=0.1)
    assert (found.tasks[0].cells[0].n_columns, found.tasks[0].cells[0].n_tested) == (3, 2)


def test_columns_that_are_empty_in_the_same_patients_are_tested_once():
    rng = np.random.default_rng(0)
    outcome = rng.integers(0, 2, 300)
    labs = pd.DataFrame(rng.normal(size=(300, 5)), columns=["x", "p1", "p2", "y", "p3"])
    labs.loc[rng.random(300) < 0.1 + 0.6 * outcome, ["p1", "p2", "p3"]] = np.nan
    labs.loc[::7, "y"] = np.nan
    found = audit(make_study(["labs"]), cohort_of({"labs": labs}, outcome))
    (cells,) = found.tasks[0].cells
    assert named(found) == [("outcome", "labs", ("p1", "p2", "p3"))]
    assert (cells.n_tested, cells.n_tests, cells.n_alarms) == (4, 2, 3)
    assert "'p1' of labs (and 2 columns empty in the same patients): empty for" in found.tasks[0].verdict


def test_only_patients_who_have_the_modality_count():
    cohort = planted(400, 1, 0.3, 0.3)
    lost = cohort.patients[cohort.targets["outcome"]["outcome"] == 1][:120]
    frames = cohort.modalities | {"labs": cohort.modalities["labs"].drop(lost).sample(frac=1.0, random_state=0)}
    found = audit(make_study(), Cohort.from_frames(frames, cohort.targets, patients=cohort.patients))
    assert [alarm.modality for alarm in found.alarms] == ["labs"]
    assert found.cell_alarms == []
    (cells,) = found.tasks[0].cells
    assert sum(cells.strata) == 280
    outcome = cohort.targets["outcome"]["outcome"].reindex(frames["labs"].index)
    empty = frames["labs"]["b"].isna()
    assert cells.cells[0].empty == tuple(int((empty & (outcome == k)).sum()) for k in (0, 1))


def test_a_modality_is_not_tested_for_a_task_that_does_not_see_it():
    found = audit(make_study(labs={"exclude_for": ["outcome"]}), planted(300, 0))
    assert found.tasks[0].cells == ()
    assert "cell" not in found.tasks[0].verdict


def test_an_outcome_in_the_middle_is_seen():
    rng = np.random.default_rng(0)
    outcome = rng.integers(0, 3, 400)
    labs = pd.DataFrame(rng.normal(size=(400, 2)), columns=["a", "b"])
    labs.loc[rng.random(400) < np.where(outcome == 1, 0.6, 0.2), "a"] = np.nan
    found = audit(make_study(["labs"], kind="multiclass"), cohort_of({"labs": labs}, outcome))
    assert named(found) == [("outcome", "labs", ("a",))]


def test_a_frame_that_cannot_be_read_is_named():
    study = make_study(["labs", "vitals"], vitals={"kind": "series"})
    frames = {"labs": pd.DataFrame({"a": [1.0] * 20}), "vitals": pd.DataFrame({"value": [1.0] * 20})}
    with pytest.raises(DataError, match=r"modality 'vitals'.*'variable' is missing"):
        audit(study, cohort_of(frames, [0, 1] * 10))


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(3, 400))
def test_many_tests_at_once_are_those_one_by_one(seed, n_strata, n):
    rng = np.random.default_rng(seed)
    strata = rng.multinomial(n, np.ones(n_strata) / n_strata) + 1
    empty = rng.binomial(strata, rng.random((5, 1)), size=(5, n_strata))
    empty = empty[(empty.sum(1) > 0) & (empty.sum(1) < strata.sum())]
    tables = np.stack([strata - empty, empty], axis=2)
    tests, p, v = emptiness_tests(tables, np.arange(n_strata) >= n_strata / 2, n_tests=1, seed=seed)
    for k, table in enumerate(tables):
        one = independence(table, 1, seed)
        assert (tests[k], p[k], v[k]) == (one.test, pytest.approx(one.p), pytest.approx(one.cramers_v))


def test_sparse_tables_among_very_many_compare_halves_exactly():
    tables = np.array([[[40, 0], [40, 0], [20, 20]]])
    sparse = np.array([[[40, 0], [40, 0], [36, 4]]])
    high = np.array([False, False, True])
    assert emptiness_tests(tables, high, n_tests=1000)[0] == ["chi-squared"]
    tests, p, _ = emptiness_tests(sparse, high, n_tests=1000)
    assert tests == ["fisher"]
    assert p[0] == pytest.approx(independence(np.array([[80, 0], [36, 4]])).p)
    assert emptiness_tests(sparse, high, n_tests=10)[0] == ["permutation"]


def test_a_wide_table_takes_seconds_and_shows_ten_columns(tmp_path):
    rng = np.random.default_rng(0)
    outcome = rng.integers(0, 2, 80)
    values = rng.normal(size=(80, 5_000))
    values[rng.random(values.shape) < 0.2] = np.nan
    values[outcome == 1, 7] = np.nan
    cohort = cohort_of({"omics": pd.DataFrame(values, columns=[f"g{k}" for k in range(5_000)])}, outcome)
    before = time.process_time()
    found = audit(make_study(["omics"]), cohort)
    assert time.process_time() - before < 3.0  # one test at a time takes 5 s and more
    assert named(found) == [("outcome", "omics", ("g7",))]
    assert len(json.dumps(found.to_dict())) < 100_000
    with (tmp_path / "said").open("w+") as file:
        show_audit(Console(file=file, width=140), found)
        file.seek(0)
        said = file.read()
    assert len(re.findall(r"omics +│ g", said)) == 10
    assert "4,990 more" in said
    assert said.count("ALARM") == 1
