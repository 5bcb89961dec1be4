import json
import re
import subprocess
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from multimodn.cli import app
from multimodn.model.multimodn import MultiModN
from multimodn.training.module import FusionModule
from tests._cohorts import make_frames, write_files

runner = CliRunner()
pytestmark = pytest.mark.filterwarnings("ignore:Notes on the data")  # labs tell the outcome of this cohort


def call(*arguments):
    result = runner.invoke(app.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def failing(capsys, monkeypatch, *arguments):
    """Runs the program as a shell would; returns exit status and what stands on stderr, on one line."""
    monkeypatch.setattr(sys, "argv", ["multimodn", *map(str, arguments)])
    monkeypatch.setattr("warnings.showwarning", None)  # `main` sets it; put back after the test
    with pytest.raises(SystemExit) as stopped:
        app.main()
    return stopped.value.code, " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_files(folder)
    call("fit", folder / "study.yaml", "--run", folder / "run")
    return folder


@pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")
def test_from_tables_to_an_explained_patient(tmp_path):
    tables, targets = make_frames()
    tables["labs"].join(tables["image"][["f0"]]).rename_axis("id").to_csv(tmp_path / "labs.csv")
    tables["image"].rename_axis("id").to_csv(tmp_path / "image.csv")
    targets["death"].rename_axis("id").to_csv(tmp_path / "outcomes.csv")
    study = tmp_path / "study.yaml"
    said = call(
        "init",
        *(tmp_path / f"{name}.csv" for name in ("labs", "image", "outcomes")),
        *("--id", "id", "--target", "status", "--out", study),
    )
    assert "multimodn fit" in " ".join(said.split())
    text = study.read_text()
    assert "{members: 5, seed: 0}" in text
    study.write_text(text.replace("{members: 5, seed: 0}", "{members: 2, epochs: 2, seed: 0}"))  # quick
    run = tmp_path / "run"
    said = call("fit", study, "--run", run)
    assert "auroc" in said
    assert "Weights of network and experts: status" in " ".join(said.split())
    call("predict", run, "--out", tmp_path / "all.csv")
    assert pd.read_csv(tmp_path / "all.csv")["patient"].nunique() == 40
    assert "Prediction after each step" in call("explain", run, "--patient", "p00")
    assert "auroc" in call("evaluate", run)


def test_fit_writes_a_run_folder(trained):
    run = trained / "run"
    expected = {
        *("bundle", "checkpoints", "metrics.csv", "run.json", "study.yaml"),
        *("reference.json", "MODEL_CARD.md", "CHECKLIST.md"),
    }
    assert {file.name for file in run.iterdir()} == expected
    assert {"auroc", "rmse", "cindex"} <= set(pd.read_csv(run / "metrics.csv")["metric"])


def test_new_patients_who_lack_a_modality(trained, tmp_path):
    new = make_frames()[0]["labs"].iloc[:3].set_axis(["n1", "n2", "n3"]).rename_axis("id")
    new.to_csv(tmp_path / "labs.csv")
    pd.DataFrame({"id": ["n3"], "f0": 1.0, "f1": 2.0, "f2": 0.5, "f3": 0.1}).to_csv(tmp_path / "image.csv", index=False)
    sources = (f"labs={tmp_path / 'labs.csv'}", "-s", f"image={tmp_path / 'image.csv'}")
    for out in (tmp_path / "new.csv", tmp_path / "new.parquet"):
        said = call("predict", trained / "run", "-s", *sources, "--out", out)
        assert "rows to" in said
    frame = pd.read_csv(tmp_path / "new.csv")
    assert frame.groupby("patient")["n_modalities"].first().to_dict() == {"n1": 1, "n2": 1, "n3": 2}
    assert pd.read_parquet(tmp_path / "new.parquet")["value"].tolist() == pytest.approx(frame["value"].tolist())
    assert not list(tmp_path.glob(".*partial"))
    printed = call("predict", trained / "run", "-s", *sources, "--order", "labs")
    assert printed.startswith("patient,task,output,value,n_modalities\nn1,death,probability,")


def test_explain(trained, tmp_path):
    said = call("explain", trained / "run", "--patient", "p00", "--patient", "p39", "-o", tmp_path / "c.csv")
    assert "Patient p00 has labs, image" in said
    assert "Patient p39 has labs " in said
    assert "+ image" in said
    assert set(pd.read_csv(tmp_path / "c.csv")["patient"]) == {"p00", "p39"}
    assert call("explain", trained / "run").startswith("patient,task,output,modality,contribution")


def test_evaluate_scores_test_patients_or_all(trained, tmp_path):
    assert "8 patients of tiny" in call("evaluate", trained / "run")
    assert "40 patients of tiny" in call("evaluate", trained / "run", "--all", "-o", tmp_path / "scores.csv")
    assert set(pd.read_csv(tmp_path / "scores.csv")["n"]) == {30, 40}


def test_a_run_is_not_overwritten(trained, capsys, monkeypatch):
    before = (trained / "run" / "run.json").read_bytes()
    status, said = failing(capsys, monkeypatch, "fit", trained / "study.yaml", "--run", trained / "run")
    assert status == 2
    assert "holds a run that is finished. Choose another folder" in said
    status, said = failing(capsys, monkeypatch, "fit", trained / "study.yaml", "--run", trained)
    assert status == 2
    assert "is not empty and holds no run" in said
    assert (trained / "run" / "run.json").read_bytes() == before


def test_an_interrupted_run_resumes_unless_something_changed(tmp_path, capsys, monkeypatch):
    write_files(tmp_path, training={"epochs": 3})
    fit = ("fit", tmp_path / "study.yaml", "--run", tmp_path / "run")
    with monkeypatch.context() as patch:
        original = FusionModule.training_step

        def stopped(self, *args):
            if self.current_epoch == 1:
                raise KeyboardInterrupt
            return original(self, *args)

        patch.setattr(FusionModule, "training_step", stopped)
        status, said = failing(capsys, patch, *fit)
    assert status == 130
    assert "--resume" in said
    status, said = failing(capsys, monkeypatch, *fit)
    assert (status, "was interrupted: add --resume" in said) == (2, True)
    study = (tmp_path / "study.yaml").read_text()
    (tmp_path / "study.yaml").write_text(study.replace("epochs: 3", "epochs: 4"))
    status, said = failing(capsys, monkeypatch, *fit, "--resume")
    assert (status, "cannot be continued: study changed" in said) == (2, True)
    (tmp_path / "study.yaml").write_text(study)
    call(*fit, "--resume")
    assert (tmp_path / "run" / "bundle" / "bundle.json").exists()


@pytest.mark.parametrize("flags", [(), ("--resume",)])
def test_a_run_that_failed_before_an_epoch_ended_is_no_run(tmp_path, capsys, monkeypatch, flags):
    write_files(tmp_path)
    image = (tmp_path / "image.csv").read_text()
    table = pd.read_csv(tmp_path / "image.csv", index_col="id")
    table.iloc[0, 0] = float("nan")  # an embedding must be whole: fit fails after the folder was made
    table.to_csv(tmp_path / "image.csv")
    fit = ("fit", tmp_path / "study.yaml", "--run", tmp_path / "run")
    status, said = failing(capsys, monkeypatch, *fit)
    assert (status, "patients have empty cells" in said) == (2, True)
    (tmp_path / "image.csv").write_text(image)
    call(*fit, *flags)
    assert (tmp_path / "run" / "bundle" / "bundle.json").exists()


def test_what_else_is_in_a_folder_of_a_failed_run_stays(tmp_path, capsys, monkeypatch):
    write_files(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    for name in ("study.yaml", "notes.txt"):
        (run / name).write_text("mine")
    (run / "run.json").write_text('{"fingerprint": {}, "finished": false}')
    status, said = failing(capsys, monkeypatch, "fit", tmp_path / "study.yaml", "--run", run)
    assert (status, "is not empty and holds no run" in said) == (2, True)
    assert {file.name for file in run.iterdir()} == {"study.yaml", "notes.txt", "run.json"}


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (("fit", "STUDY", "--run", "FILE"), "FILE"),
        (("fit", "STUDY", "--run", "FILE/run"), "FILE/run"),
        (("fit", "STUDY", "--run", "/proc/run"), "/proc/run"),
        (("predict", "RUN", "--out", "FILE/out.csv"), "FILE/out.csv"),
        (("predict", "RUN", "--out", "FOLDER"), "FOLDER"),
        (("explain", "RUN", "--out", "/proc/out.csv"), "/proc/out.csv"),
        (("evaluate", "RUN", "--out", "/dev/null/out.csv"), "/dev/null/out.csv"),
        (("audit", "STUDY", "--out", "FILE"), "FILE"),
        (("init", "LABS", "--id", "id", "--target", "crp", "--out", "FILE/study.yaml"), "FILE/study.yaml"),
        (("predict", "RUN", "--out", "FOLDER/" + "x" * 300), "cannot be written"),
    ],
)
@pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")
def test_a_place_that_cannot_be_written_is_named(trained, tmp_path, capsys, monkeypatch, arguments, place):
    places = {"STUDY": trained / "study.yaml", "RUN": trained / "run", "LABS": trained / "labs.csv", "FOLDER": tmp_path}
    places["FILE"] = tmp_path / "file"
    places["FILE"].write_text("kept")
    monkeypatch.setattr("multimodn.cli.options.errors._width", 1000)

    def real(text):
        first, slash, rest = text.partition("/")
        return f"{places[first]}{slash}{rest}" if first in places else text

    status, said = failing(capsys, monkeypatch, *map(real, arguments))
    assert status == 2
    assert "Traceback" not in said
    assert real(place) in said
    assert places["FILE"].read_text() == "kept"


def test_folders_above_a_file_are_made(trained, tmp_path):
    call("predict", trained / "run", "--out", tmp_path / "a" / "b.csv")
    assert len(pd.read_csv(tmp_path / "a" / "b.csv"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "nowhere"), "is no bundle"),
        (("predict", "RUN", "--order", "lab"), "Did you mean 'labs'"),
        (("predict", "RUN", "-s", "labs"), "expected NAME=PATH"),
        (("predict", "RUN", "-s", "lbs=x.csv"), "Did you mean 'labs'"),
        (("predict", "RUN", "-s", "labs=x.csv"), "does not exist"),
        (("explain", "RUN", "--patient", "nobody"), "not in the cohort: nobody"),
        (("fit", "nowhere.yaml"), "Cannot read the study file nowhere.yaml"),
    ],
)
def test_a_foreseen_error_is_a_message_and_status_2(trained, capsys, monkeypatch, arguments, message):
    arguments = [trained / "run" if argument == "RUN" else argument for argument in arguments]
    status, said = failing(capsys, monkeypatch, *arguments)
    assert status == 2
    assert said.startswith("Error:")
    assert message in said
    assert "Traceback" not in said


def test_help_does_not_wait_for_torch():
    code = (
        "import sys\nfrom multimodn.cli import app\nsys.argv = ['multimodn', '--help']\n"
        "try:\n    app.main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pandas', 'sklearn', 'scipy', 'matplotlib', 'pytorch_lightning', 'duckdb', 'optuna'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    commands = ("init", "fit", "predict", "explain", "evaluate", "tune", "conformal", "drift", "stress", "audit")
    assert all(re.search(rf"^\W*{command} ", done.stdout, re.M) for command in commands)


def test_a_run_keeps_its_scores_with_the_model(trained):
    kept = pd.DataFrame(MultiModN.load(trained / "run").provenance["metrics"])
    written = pd.read_csv(trained / "run" / "metrics.csv")
    pd.testing.assert_frame_equal(kept, written, check_dtype=False)


@pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")
def test_stress_writes_table_page_and_picture_and_goes_on(trained, capsys, monkeypatch):
    run = trained / "run"
    choice = ("--task", "death", "--modality", "image", "--folds", 2, "--arm", "skip", "--arm", "late_ridge")
    said = call("stress", run, *choice)
    assert "flipped:0.8" in said
    scores = pd.read_csv(run / "stress" / "results.csv")
    assert set(scores["arm"]) == {"skip", "late_ridge", "late_ridge_mean"}
    assert (run / "stress" / "stress-dark.png").read_bytes().startswith(b"\x89PNG")
    cells = {file: file.stat().st_mtime_ns for file in run.glob("stress/cells-*/*-*.csv")}
    assert len(cells) == 4
    call("stress", run, *choice)
    assert {file: file.stat().st_mtime_ns for file in cells} == cells
    said = call("stress", run, "--task", "death", "--column", "labs:crp", "--folds", 2, "--arm", "late_ridge")
    assert "flipped:0.8" in said
    plans = [json.loads(file.read_text()) for file in run.glob("stress/cells-*/plan.json")]
    assert sorted((plan["modalities"], plan["columns"]) for plan in plans) == [([], [["labs", "crp"]]), (["image"], [])]
    status, said = failing(capsys, monkeypatch, "stress", run, "--column", "labs:crpp")
    assert status == 2
    assert "'labs' has no column 'crpp'. Did you mean 'crp'?" in said
    status, said = failing(capsys, monkeypatch, "stress", run, "--arm", "xgbost")
    assert status == 2
    assert "Unknown arm 'xgbost'. Did you mean 'xgboost'?" in said


@pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")
def test_the_audit_of_a_run_probes_its_model(trained, tmp_path):
    said = call("audit", trained / "run", "--out", tmp_path)
    assert "What the trained model learned from presence" in said
    found = pd.read_csv(tmp_path / "probe.csv")
    assert set(found["read_from"]) == {"start", "state", "prediction"}
    assert found["r2"].isna().all()  # 8 test patients tell nothing, and it says so
    assert "too few patients" in " ".join(said.split())
    assert (tmp_path / "audit.json").exists()
