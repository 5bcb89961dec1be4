"""A report and the card beside it agree, and neither claims more than it has."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from multimodn import Cohort, MultiModN
from multimodn.card import CARD, CHECKLIST, write_card
from multimodn.card.sections.scores import NOT_COMPARED
from multimodn.card.update import complete_card
from multimodn.evaluate.baselines.compare import compare_with_baselines, sentences
from multimodn.evaluate.baselines.stored_comparison import COMPARISON, cached_comparison
from multimodn.figures.baselines import differences_chart
from multimodn.figures.picture import Picture
from multimodn.report.html.page import DataTable, Drawing, Page, Section, render
from multimodn.runs import fit_run
from tests._cohorts import write_files
from tests.evaluate._verdicts import made

pytestmark = pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("carded")
    study = write_files(folder, training={"epochs": 1}, split={"validation": 0.2, "test": 0.4})
    model = fit_run(study, folder / "run")
    files = {name: (folder / "run" / name).read_text() for name in (CARD, CHECKLIST)}
    return model, folder / "run", compare_with_baselines(model, arms=["late_ridge"], n_resamples=50), files


@pytest.fixture
def fresh(run):
    """The run as fit leaves it."""
    model, folder, comparison, files = run
    (folder / COMPARISON).unlink(missing_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return model, folder, comparison


def test_a_card_without_comparison_names_the_command_that_makes_it(fresh):
    section = (fresh[1] / CARD).read_text().partition("## 13.")[2].partition("## 14.")[0]
    assert NOT_COMPARED in section
    assert "`multimodn report RUN`" in section


def test_a_comparison_goes_into_the_card_and_is_kept(fresh):
    model, folder, comparison = fresh
    files = complete_card(model, folder, comparison)
    assert {file.name for file in files} == {CARD, CHECKLIST, COMPARISON}
    text = (folder / CARD).read_text()
    assert NOT_COMPARED not in text
    assert "was not compared with simple models" not in text
    assert all(sentence.split(";")[0] in text for sentence in sentences(comparison))
    pd.testing.assert_frame_equal(cached_comparison(folder, model), comparison, check_dtype=False)


def test_a_card_that_has_the_comparison_is_left_as_it_is(fresh):
    model, folder, comparison = fresh
    complete_card(model, folder, comparison)
    (folder / CARD).write_text("mine")
    assert complete_card(model, folder, comparison) == []
    assert (folder / CARD).read_text() == "mine"


def test_a_kept_comparison_goes_into_a_card_that_lacks_it(fresh):
    model, folder, comparison = fresh
    without = (folder / CARD).read_text()
    complete_card(model, folder, comparison)
    (folder / CARD).write_text(without)
    assert {file.name for file in complete_card(model, folder, comparison)} == {CARD, CHECKLIST}
    assert NOT_COMPARED not in (folder / CARD).read_text()


@pytest.mark.parametrize("comparison", [None, pd.DataFrame()])
def test_without_a_comparison_nothing_is_written(fresh, comparison):
    model, folder, _ = fresh
    before = (folder / CARD).read_text()
    assert complete_card(model, folder, comparison) == []
    assert (folder / CARD).read_text() == before


def test_a_bundle_alone_gets_no_card(run, tmp_path):
    model, _, comparison, _ = run
    assert complete_card(model, tmp_path, comparison) == []
    assert not list(tmp_path.iterdir())


def test_what_was_calibrated_stands_on_the_card(fresh):
    model, folder, _ = fresh
    [line] = [one for one in (folder / CARD).read_text().splitlines() if one.startswith("| Calibration |")]
    fitted = set(model.provenance["calibration"].values())
    assert all(what.partition(":")[0] in line for what in fitted)
    assert ("whom each network did not train on" in line) != all(what.startswith("identity") for what in fitted)


def test_no_calibration_stands_on_the_card_too(fresh, tmp_path):
    model, _, _ = fresh
    spec = model.study.training.model_copy(update={"calibrate": False})
    study = model.study.model_copy(update={"training": spec})
    provenance = {name: value for name, value in model.provenance.items() if name != "calibration"}
    uncalibrated = MultiModN.of(replace(model.trained, study=study, provenance=provenance))
    write_card(uncalibrated, Cohort.load(study), tmp_path)
    assert "| Calibration | `training.calibrate: false` |" in (tmp_path / CARD).read_text()


def test_rows_without_an_interval_are_not_counted_as_intervals():
    frame = made(arms=(("early_concat", (0.2, np.nan, np.nan)),))
    assert len(frame[frame["arm"] != "ours"]) == 3
    assert "1 of 2 intervals excludes 0" in differences_chart(frame).caption


LONG = pd.DataFrame({"a": range(100)})


def page_of(block):
    return render(Page("t", "l", [], [Section("s", "S", [block])], "f"))


def test_a_long_table_without_a_file_names_none():
    text = page_of(DataTable("c", LONG))
    assert "40 rows more are not shown." in text
    assert "in the file" not in text


def test_a_long_table_of_a_figure_names_its_file():
    def draw(theme):
        from matplotlib.figure import Figure

        return Figure()

    assert "40 rows more are in the file." in page_of(Drawing(Picture("p", "P", "c", "a", draw, LONG)))
