"""The commands that ask whether to trust a model, through the program itself: status and one telling line each."""

import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from multimodn import Cohort, Study
from multimodn.cli import app
from multimodn.model.multimodn import MultiModN
from tests._cohorts import make_frames, make_study, write_files

pytestmark = pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")


def call(*arguments):
    result = CliRunner().invoke(app.app, [str(argument) for argument in arguments], catch_exceptions=False)
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study, its run with two members, and as `other` the study of patients whom nobody has seen."""
    folder = tmp_path_factory.mktemp("trained")
    write_files(folder, training={"members": 2, "epochs": 1})
    assert call("fit", folder / "study.yaml", "--run", folder / "run")[0] == 0
    (folder / "other").mkdir()
    tables, targets = make_frames(n=30, seed=3)
    for name, table in (tables | {"outcome": pd.concat(targets.values(), axis=1)}).items():
        table.add_prefix("q", axis=0).rename_axis("id").to_csv(folder / f"other/{name}.csv")
    (folder / "other/study.yaml").write_text(make_study(folder / "other", name="elsewhere").to_yaml())
    return folder


def test_tune_writes_a_study_and_ends_when_the_trials_are_there(trained, tmp_path):
    asked = ("tune", trained / "study.yaml", "--out", tmp_path, "--time", 600, "--trials", 2, "--folds", 2)
    for _ in range(2):  # the second time, nothing is left to do
        status, said = call(*asked)
        assert (status, "Trials: 2 complete, 0 pruned, 0 interrupted" in said) == (0, True)
        assert "Next: multimodn fit" in said
        assert pd.read_csv(tmp_path / "trials.csv")["trial"].tolist() == [0, 1]
    best = Study.load(tmp_path / "best.yaml")
    assert Cohort.load(best).hash() == Cohort.load(Study.load(trained / "study.yaml")).hash()


def test_coverage_is_the_share_of_test_patients_whose_sets_held_the_truth(trained, tmp_path):
    status, said = call("conformal", trained / "run", "--coverage", "--level", 0.6)
    assert (status, "Coverage of 60% conformal prediction sets" in said) == (0, True)
    for name, flags in {"sets": (), "counted": ("--coverage",)}.items():
        assert call("conformal", trained / "run", *flags, "--level", 0.6, "-o", tmp_path / f"{name}.csv")[0] == 0
    (row,) = pd.read_csv(tmp_path / "counted.csv").query("task == 'size' and pattern == 'all'").to_dict("records")
    sets = pd.read_csv(tmp_path / "sets.csv").query("task == 'size'").set_index("patient")
    assert len(sets) == 40
    tested = sets.loc[list(MultiModN.load(trained / "run").split.test)]
    truth = pd.read_csv(trained / "outcome.csv").set_index("id")["size"].loc[tested.index]
    held = truth.between(tested["low"], tested["high"])
    assert row["n"] == len(tested) == 8
    assert 0 < held.mean() < 1
    assert row["coverage"] == pytest.approx(held.mean())


def test_drift_has_status_0_for_the_same_patients_and_1_for_others(trained, tmp_path):
    status, said = call("drift", trained / "run", trained / "study.yaml")
    assert (status, "Nothing drifted" in said) == (0, True)
    status, said = call("drift", trained / "run", f"labs={trained / 'labs.csv'}", "-o", tmp_path / "drift.csv")
    assert (status, "Presence of modalities changed: image 78% to 0%" in said) == (1, True)
    assert "drifted" in set(pd.read_csv(tmp_path / "drift.csv").query("kind == 'presence'")["verdict"])


def test_another_hospital_is_scored_and_nothing_is_trained(trained):
    bundle = {file: file.read_bytes() for file in (trained / "run/bundle").rglob("*") if file.is_file()}
    status, said = call("evaluate", trained / "run", trained / "other/study.yaml")
    assert (status, "30 patients of elsewhere" in said) == (0, True)
    assert "No patient has the identifier of one who was trained on." in said
    written = trained / "run/external/study"
    scores = pd.read_csv(written / "performance.csv").query("by == 'overall'")
    assert set(scores["task"]) == {"death", "size", "survival"}
    assert (written / "EXTERNAL.md").exists()
    assert bundle == {file: file.read_bytes() for file in bundle}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tune", "nowhere.yaml"), "Cannot read the study file nowhere.yaml"),
        (("conformal", "RUN", "--coverage", "--patient", "nobody"), "nobody is none of them"),
        (("drift", "RUN", "x.csv"), "x.csv does not exist"),
        (("evaluate", "RUN", "STUDY"), "identifiers of patients who were trained on"),
        (("evaluate", "RUN", "STUDY", "-s", "labs=x.csv"), "the other study names its own"),
    ],
)
def test_a_foreseen_error_is_a_message_and_status_2(trained, capsys, monkeypatch, arguments, message):
    paths = {"RUN": trained / "run", "STUDY": trained / "study.yaml"}
    monkeypatch.setattr(sys, "argv", ["multimodn", *(str(paths.get(argument, argument)) for argument in arguments)])
    monkeypatch.setattr("warnings.showwarning", None)  # `main` sets it; put back after the test
    with pytest.raises(SystemExit) as stopped:
        app.main()
    said = " ".join(capsys.readouterr().err.split())
    assert stopped.value.code == 2
    assert said.startswith("Error:")
    assert message in said
