"""Labels that are written in several ways are one label, with a note; dates and empty cells are named."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn.base.kinds import load_kind
from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, DataWarning
from multimodn.study.study import Study
from tests.tasks._cases import fit

MIXED = ["Yes", "yes ", "No", "no", "Yes", "YES", "no", "No"] * 3


def study(tmp_path, values, **task):
    ids = [f"P{i:02d}" for i in range(len(values))]
    pd.DataFrame({"id": ids, "x": range(len(ids))}).to_csv(tmp_path / "x.csv", index=False)
    pd.DataFrame({"id": ids, "y": values}).to_csv(tmp_path / "y.csv", index=False)
    return Study(
        name="s", folder=tmp_path,
        cohort={"patient": "id", "sources": {"x": "x.csv", "y": "y.csv"}},
        modalities=[{"name": "x", "kind": "table", "source": "x"}],
        tasks=[{"name": "y", "source": "y", "target": "y", **task}],
    )  # fmt: skip


def tidied(kind, values, **options):
    task = load_kind("tasks", kind)
    frame = pd.DataFrame({"y": values}, dtype=object).set_axis([f"P{i}" for i in range(len(values))])
    return task.tidied(frame, task.Options(target="y", **options))


def test_mixed_spellings_are_one_label_with_a_note(tmp_path):
    with pytest.warns(DataWarning, match=r"task 'y', column 'y': 12 labels are read in another spelling: 'yes' as"):
        cohort = Cohort.load(study(tmp_path, MIXED, kind="multiclass"))
    assert sorted(cohort.targets["y"]["y"].unique()) == ["No", "Yes"]


@pytest.mark.parametrize(
    ("kind", "values", "options", "expected"),
    [
        ("binary", ["1", "yes", "0", "no", "1"], {}, ["1", "1", "0", "0", "1"]),
        ("binary", ["A", "a", "A"], {}, ["A", "a", "A"]),  # two labels stay two
        ("multiclass", ["Low", "low", "high", "Low"], {}, ["Low", "Low", "high", "Low"]),
        ("multiclass", ["A", "a", "B"], {"classes": ["A", "a", "B"]}, ["A", "a", "B"]),
        ("ordinal", ["LOW", "mid", "High", "low"], {"classes": ["low", "mid", "high"]}, ["low", "mid", "high", "low"]),
        ("multiclass", ["Rückfall", "ruckfall", "keiner", None], {}, ["Rückfall", "Rückfall", "keiner", None]),
    ],
)
def test_the_usual_spelling_or_that_of_the_study_is_taken(kind, values, options, expected):
    frame, notes = tidied(kind, values, **options)
    assert [None if pd.isna(value) else value for value in frame["y"]] == expected
    assert bool(notes) is (values != expected)


@given(st.lists(st.sampled_from(["yes", "no", None, "1", "0"]), max_size=9), st.sampled_from(["binary", "multiclass"]))
def test_labels_of_one_spelling_are_handed_through(values, kind):
    values = [value if value in (None, "yes") else "no" for value in values]
    frame, notes = tidied(kind, values)
    assert frame["y"].tolist() == pd.Series(values, dtype=object).tolist()
    assert notes == []


def test_a_label_in_another_spelling_is_found_by_a_fitted_task():
    frame = pd.DataFrame({"y": ["Yes", "No", "yes", "No", "Yes"]}).set_axis(list("abcde"))
    task = fit("binary", frame, target="y", positive="YES")
    assert task.prepare(frame)[0].tolist() == [1, 0, 1, 0, 1]


def test_cells_that_mean_empty_are_named():
    notes = tidied("multiclass", ["a", "b", "n.a.", "b", "a"])[1]
    assert notes == [
        "column 'y': 'n.a.' (1) is a label like others. Empty these cells if they mean that nothing is known."
    ]
    assert tidied("multiclass", ["a", "b", "n.a."], classes=["a", "b", "n.a."])[1] == []


def test_numbers_among_texts_are_named():
    notes = tidied("multiclass", [*map(str, range(20)), "4,2"])[1]
    assert "20 different numbers and '4,2' are taken for classes" in notes[0]


@pytest.mark.parametrize("form", ["2020-{:02d}-01", "01.{:02d}.2020", "2020{:02d}01", "{:02d}/15/2021"])
def test_dates_are_no_classes(form):
    frame = pd.DataFrame({"y": [form.format(1 + i % 12) for i in range(24)]}).set_axis(range(24))
    with pytest.raises(DataError, match=r"column 'y' holds dates such as .*, which are no classes.*`classes: \[...\]`"):
        fit("multiclass", frame, target="y")


def test_dates_as_numbers_are_named():
    assert "its numbers are dates such as 20200131" in tidied("regression", [20200131, 20200212, None])[1][0]
    assert tidied("regression", [20209931, 20200212])[1] == []


@pytest.mark.parametrize(("values", "likely"), [(["Dead", "Alive"], "Dead"), (["neg", "pos"], "pos")])
def test_an_unclear_positive_class_is_proposed_by_its_words(values, likely):
    frame = pd.DataFrame({"y": values * 3}).set_axis(range(6))
    with pytest.raises(DataError, match=f"for example `positive: {likely}`"):
        fit("binary", frame, target="y")


@pytest.mark.parametrize(
    ("kind", "values", "options", "expected"),
    [
        ("binary", ["yes", "no", "n.a.", "unknown", "yes"], {}, ["yes", "no", None, None, "yes"]),
        ("binary", ["Yes", "no", "k.A.", "yes", "yes"], {}, ["yes", "no", None, "yes", "yes"]),
        ("multiclass", ["a", "b", "[Not Available]"], {"classes": ["a", "b"]}, ["a", "b", None]),
        ("ordinal", ["low", "high", "?"], {"classes": ["low", "high"]}, ["low", "high", None]),
        ("regression", ["1.5", "n.a.", "2", None], {}, ["1.5", None, "2", None]),
    ],
)
def test_words_for_an_empty_cell_that_can_be_no_class_are_no_label(kind, values, options, expected):
    frame, notes = tidied(kind, values, **options)
    assert [None if pd.isna(value) else value for value in frame["y"]] == expected
    assert any("count as no label: " in note for note in notes)
    fitted = pd.concat([frame] * 4, ignore_index=True)
    assert fit(kind, fitted, target="y", **options).prepare(fitted)[1].tolist() == [v is not None for v in expected] * 4


@pytest.mark.parametrize("values", [["yes", "n.a.", "yes"], ["1.5", "<0.5", "2"], ["n.a.", "unknown"]])
def test_a_word_that_may_be_a_class_or_a_value_is_left_as_it_is(values):
    kind = "regression" if "2" in values else "binary"
    assert tidied(kind, values)[0]["y"].tolist() == values
