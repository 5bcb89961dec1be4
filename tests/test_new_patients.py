"""Files of new patients on the command line: exactly they are predicted, whatever the study's own files hold."""

import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from multimodn.cli import app
from multimodn.cli.new_patients import chosen_cohort
from multimodn.data.new_patients import new_cohort
from multimodn.errors import DataError, DataWarning, StudyError
from multimodn.model.multimodn import MultiModN
from multimodn.runs import fit_run
from tests._cohorts import make_frames, write_files

pytestmark = pytest.mark.filterwarnings("ignore:Notes on the data")  # labs tell the outcome of this cohort
NEW = ["n1", "n2", "p03"]  # the last has the identifier of a patient of the study


def call(*arguments):
    result = CliRunner().invoke(app.app, [str(argument) for argument in arguments], catch_exceptions=False)
    return result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    fit_run(write_files(folder, training={"members": 2, "epochs": 1}), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def model(run):
    return MultiModN.load(run)


@pytest.fixture
def new(tmp_path):
    """Three new patients, of whom one has an image, and their outcomes."""
    tables, targets = make_frames(n=10, seed=5)
    tables["labs"].iloc[:3].set_axis(NEW).rename_axis("id").to_csv(tmp_path / "labs.csv")
    tables["image"].iloc[:1].set_axis(NEW[1:2]).rename_axis("id").to_csv(tmp_path / "image.csv")
    outcome = pd.concat(targets.values(), axis=1).iloc[1:4].set_axis(NEW)
    outcome.rename_axis("id").to_csv(tmp_path / "outcome.csv")
    return tmp_path


def test_exactly_the_patients_of_the_files_are_predicted(run, new):
    given = {"files": (new / "labs.csv", new / "image.csv"), "one": (new / "labs.csv",)}
    given["option"] = ("--source", f"labs={new / 'labs.csv'}")
    found = {}
    for name, arguments in given.items():
        call("predict", run, *arguments, "--out", new / f"{name}_out.csv")
        found[name] = pd.read_csv(new / f"{name}_out.csv")
        assert found[name]["patient"].unique().tolist() == NEW
    assert found["files"].groupby("patient")["n_modalities"].first().to_dict() == {"n1": 1, "n2": 2, "p03": 1}
    pd.testing.assert_frame_equal(found["one"], found["option"])


@pytest.mark.parametrize("command", ["predict", "explain", "next", "conformal", "drift"])
def test_every_command_takes_the_same_words(run, new, command):
    flags = ("--exit-zero",) if command == "drift" else ()
    for arguments in ((new / "labs.csv",), ("-s", f"labs={new / 'labs.csv'}"), (f"labs={new / 'labs.csv'}",)):
        said = CliRunner().invoke(app.app, [command, *map(str, (run, *arguments, *flags))], catch_exceptions=False)
        assert said.exit_code == 0, said.output
        assert "p03" in said.output or "3 patients" in said.output
        assert "p05" not in said.output


def test_files_are_known_by_name_or_by_columns(model, new):
    def presence(*paths):
        return chosen_cohort(model, [str(path) for path in paths]).presence

    expected = presence(new / "labs.csv", new / "image.csv")
    shutil.copy(new / "labs.csv", new / "results_2024.csv")
    (new / "archive").mkdir()
    shutil.copy(new / "image.csv", new / "archive/IMAGE.CSV")
    with pytest.warns(DataWarning, match=r"results_2024.csv is read as source 'labs', whose columns it has"):
        other = presence(new / "archive/IMAGE.CSV", new / "results_2024.csv")
    pd.testing.assert_frame_equal(other.loc[expected.index, expected.columns], expected)


def test_targets_are_read_where_they_are_needed_and_else_named(run, model, new):
    files = [str(file) for file in sorted(new.glob("*.csv"))]
    with pytest.warns(DataWarning, match=r"Not read, because only targets are in it: .*outcome\.csv"):
        cohort = chosen_cohort(model, files)
    assert set(cohort.patients) == set(NEW)
    assert cohort.targets == {}
    labelled = chosen_cohort(model, files, labelled=True)
    assert labelled.targets["size"]["size"].notna().all()
    said = call("evaluate", run, *files)
    assert "3 patients of tiny" in said
    with pytest.raises(StudyError, match=r"targets of task 'survival' are in source 'outcome'.*add outcome=PATH"):
        chosen_cohort(model, [str(new / "labs.csv")], labelled=True)


def test_the_study_file_of_another_cohort_names_its_patients(run, new):
    (new / "study.yaml").write_text((run / "study.yaml").read_text())
    call("predict", run, new / "study.yaml", "--out", new / "out.csv")
    assert set(pd.read_csv(new / "out.csv")["patient"]) == set(NEW)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["labs.csv", "copy/labs.csv"], "Both .* are source 'labs' of the study"),
        (["absent.csv"], r"absent\.csv does not exist"),
        (["lbs=labs.csv"], "unknown source 'lbs'. Did you mean 'labs'"),
        (["short.csv"], "no source of the study .labs, image.. The nearest: 'labs', which needs sodium too. Say"),
        (["labs.csv", "short.csv"], "'labs', of which another file is given"),
        (["both.csv"], "has the columns of several sources, labs, image: say which"),
        (["outcome.csv"], "targets alone, of which nothing is predicted"),
        (["copy"], "is a folder. Name the files in it, copy/"),
        (["vectors.npy"], "save a .npz"),
        (["study.yaml", "labs.csv"], "study.yaml is a study file: give it alone"),
    ],
)
def test_files_in_doubt_are_errors(model, new, monkeypatch, arguments, message):
    monkeypatch.chdir(new)
    (new / "copy").mkdir()
    shutil.copy("labs.csv", "copy/labs.csv")
    labs, image = pd.read_csv("labs.csv"), pd.read_csv("image.csv")
    labs.drop(columns="sodium").to_csv("short.csv", index=False)
    labs.merge(image, how="left").to_csv("both.csv", index=False)
    np.save("vectors.npy", np.zeros((3, 4)))
    with pytest.raises((StudyError, DataError), match=message):
        chosen_cohort(model, arguments)


def test_a_folder_of_new_files_takes_the_place_of_a_folder_source(model, new):
    from multimodn.cli.new_patients import chosen_cohort as chosen  # the study of the model is replaced below

    (new / "notes").mkdir()
    for patient in NEW:
        (new / "notes" / f"{patient}.txt").write_text("Stable.")
    content = model.study.to_dict()
    content["cohort"]["sources"]["reports"] = {"files": "texts/*.txt"}
    content["modalities"].append({"name": "reports", "kind": "text", "source": "reports", "file_column": "file"})
    content["order"] = []
    wider = MultiModN(type(model.study).from_dict(content, model.study.folder))
    wider._trained = model.trained
    for given in (f"reports={new / 'notes'}", str(new / "notes")):
        cohort = new_cohort(wider.study, {"reports": None, "labs": new / "labs.csv"})
        assert "reports" not in cohort.modalities
        cohort = chosen(wider, [given, f"labs={new / 'labs.csv'}"])
        assert set(cohort.modalities["reports"].index) == set(NEW)
        assert cohort.modalities["reports"]["file"].str.startswith(str(new / "notes")).all()


def test_a_file_that_several_sources_read_is_all_of_them(model, new):
    content = model.study.to_dict()
    content["cohort"]["sources"] |= {"labs": "all.csv", "image": "all.csv"}
    wide = MultiModN(type(model.study).from_dict(content, model.study.folder))
    wide._trained = model.trained
    pd.read_csv(new / "labs.csv").merge(pd.read_csv(new / "image.csv"), how="left").to_csv(new / "all.csv", index=False)
    assert list(chosen_cohort(wide, [str(new / "all.csv")]).modalities) == ["labs", "image"]
