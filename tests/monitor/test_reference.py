"""What is kept of the training patients: enough to compare with, and nobody in it."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from multimodn import MultiModN
from multimodn.errors import DataError
from multimodn.monitor.reference import FILE, Reference, is_opaque, make_reference, summarise, write_reference
from multimodn.monitor.summaries import as_texts, one_row_each, summarise_categories
from tests.monitor._patients import make_patients, study

pytestmark = pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")


@pytest.fixture(scope="module")
def fitted():
    cohort = make_patients(200, np.random.default_rng(0), prefix="secret")
    model = MultiModN(study()).fit(cohort)
    return model, cohort, make_reference(model, cohort)


def test_a_reference_survives_its_file(fitted, tmp_path):
    model, cohort, reference = fitted
    assert write_reference(model, cohort, tmp_path) == tmp_path / FILE
    assert Reference.load(tmp_path) == reference == Reference.load(tmp_path / FILE)
    assert not list(tmp_path.glob(".*"))


def test_it_holds_no_identifier_and_no_rare_category(fitted):
    model, cohort, reference = fitted
    text = reference.to_json()
    assert "secret" not in text
    seen = cohort.subset([*model.split.train, *model.split.validation]).modalities["labs"]["site"].value_counts()
    rare = list(seen.index[seen < 5])
    assert rare
    (site,) = [c for c in reference.modalities[0].categories if c.name == "site"]
    assert set(site.values) == set(seen.index[seen >= 5])
    assert site.rest == seen[rare].sum()


def test_it_holds_no_cell_of_a_patient(fitted):
    _, cohort, reference = fitted
    cells = cohort.modalities["labs"][["crp", "hb", "sodium"]].to_numpy().ravel()
    kept = {round(number, 12) for column in reference.modalities[0].numbers.edges for number in column}
    assert len(kept) > 20
    assert not kept & {round(cell, 12) for cell in cells[~np.isnan(cells)].tolist()}


def test_what_is_kept_is_of_training_and_validation_patients(fitted):
    model, cohort, reference = fitted
    assert reference.n == 160
    only = make_reference(model, cohort.subset([*model.split.train, *model.split.validation]))
    assert only.modalities == reference.modalities
    assert only.labels == reference.labels


def test_predictions_are_of_patients_whom_the_member_left_out(fitted):
    _, _, reference = fitted
    assert reference.predicted == "160 patients by the member that left them out and 40 test patients"
    assert [p.task for p in reference.predictions] == ["death", "size", "survival"]
    assert sum(reference.predictions[0].values.counts[0]) == pytest.approx(200)


def test_without_anybody_held_out_there_are_no_predictions():
    cohort = make_patients(60, np.random.default_rng(1))
    alone = study(training={"epochs": 1, "members": 1}, split={"validation": 0.0, "test": 0.0})
    reference = make_reference(MultiModN(alone).fit(cohort), cohort)
    assert reference.predictions == ()
    assert "nobody" in reference.predicted


def test_a_damaged_file_and_another_version_are_told(fitted, tmp_path):
    _, _, reference = fitted
    text = reference.to_json()
    with pytest.raises(DataError, match="cannot be read"):
        Reference.from_json(text[:-20])
    with pytest.raises(DataError, match="format 2, expected 1"):
        Reference.from_json(re.sub(r'"format":1', '"format":2', text))
    with pytest.raises(DataError, match="cannot be read"):
        Reference.from_json(json.dumps({**json.loads(text), "n": "many"}))
    with pytest.raises(DataError, match=r"has no reference\.json"):
        Reference.load(tmp_path)


def test_texts_of_numbers_do_not_depend_on_their_type():
    for column in (pd.Series([1, 0]), pd.Series([1.0, 0.0], dtype="float32"), pd.Series([True, False])):
        assert list(as_texts(column)) == ["1", "0"]


def test_frequent_categories_come_first_and_empty_cells_are_counted():
    found = summarise_categories(as_texts(pd.Series(["b"] * 7 + ["a"] * 9 + ["c", " ", None], name="x")))
    assert (found.values, found.counts, found.rest, found.empty) == (("a", "b"), (9, 7), 1, 2)


def test_several_rows_are_summed_up_whatever_their_order():
    frame = pd.DataFrame({"value": [1.0, 3.0, 5.0], "what": ["x", "y", "y"]}, index=["p", "p", "q"])
    found = one_row_each(frame)
    assert found.loc["p"].tolist() == [2.0, "x", 2]
    pd.testing.assert_frame_equal(one_row_each(frame.iloc[::-1]).loc[found.index], found)


def test_free_text_is_kept_as_its_length():
    words = [f"margin free {'x' * (i % 9)} {i}" for i in range(80)]
    frame = pd.DataFrame({"note": words, "side": ["left", "right"] * 40})
    found = summarise("notes", frame, SimpleNamespace(columns=["note", "side"], several_rows=False), [])
    assert found.lengths.names == ("note",)
    assert [column.name for column in found.categories] == ["side"]
    assert is_opaque(found, SimpleNamespace(several_rows=False), frame)


def test_names_of_files_are_not_looked_at():
    frame = pd.DataFrame({"file": [f"/slides/{i}.h5" for i in range(20)]})
    encoder = SimpleNamespace(columns=["file"], several_rows=False)
    found = summarise("slides", frame, encoder, ["file"])
    assert (found.lengths.names, found.categories, found.numbers.names) == ((), (), ())
    assert is_opaque(found, encoder, frame)
