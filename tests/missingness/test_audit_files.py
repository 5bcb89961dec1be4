import json
import sys
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.image import imread
from matplotlib.text import Text
from rich.console import Console
from typer.testing import CliRunner

from multimodn import Cohort, Study
from multimodn.audit import figure
from multimodn.audit.audit import audit, write_audit
from multimodn.cli import app
from multimodn.cli.terminal.audit import slow_notice
from multimodn.data.splits import make_split
from multimodn.errors import StudyError
from multimodn.evaluate.stress.mechanisms import Mechanism, high_outcome
from multimodn.training.build import fit_tasks
from tests._cohorts import make_cohort, study_dict
from tests.missingness._simulated import N, make_study, simulate, without

runner = CliRunner()


@pytest.fixture
def folder(tmp_path):
    """A study whose image is missing for most of the dead; a column splits it."""
    rng, n = np.random.default_rng(0), 300
    ids = pd.Index([f"p{i}" for i in range(n)], name="id")
    dead = rng.random(n) < 0.4
    seen = rng.random(n) > np.where(dead, 0.8, 0.1)
    labs = pd.DataFrame(rng.normal(size=(n, 2)), ids, ["crp", "hb"])
    labs.assign(part=np.repeat(["train", "validation", "test"], n // 3)).to_csv(tmp_path / "labs.csv")
    pd.DataFrame(rng.normal(size=(n, 2)), ids, ["f0", "f1"])[seen].to_csv(tmp_path / "image.csv")
    outcome = {"status": np.where(dead, "dead", "alive"), "size": rng.normal(size=n)}
    pd.DataFrame(outcome, ids).to_csv(tmp_path / "outcome.csv")
    data = study_dict(split={"column": "part", "source": "labs"})
    data["tasks"] = data["tasks"][:2]
    data["modalities"][0]["columns"] = ["crp", "hb"]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(data))
    return tmp_path


def test_the_command_says_what_it_found_and_writes_it(folder, monkeypatch):
    result = runner.invoke(app.app, ["audit", str(folder / "study.yaml")], catch_exceptions=False)
    said = " ".join(result.output.split())
    assert result.exit_code == 0, said
    assert "Alarm: whether a patient has 'image' depends on the outcome of 'death'" in said
    assert "No modality raises an alarm for 'size'" in said
    assert said.count("ALARM") == 1
    assert "Patterns do not differ between the parts of the split" in said
    assert "self-masking" in said
    assert "Next: multimodn fit" in said
    assert {file.name for file in (folder / "audit").iterdir()} == {"audit.json", "audit.png", "audit-dark.png"}
    written = json.loads((folder / "audit" / "audit.json").read_text())
    assert [task["task"] for task in written["tasks"]] == ["death", "size"]
    monkeypatch.setattr("multimodn.audit.figure.Picture.save_png", lambda *_, **__: [])
    again = runner.invoke(app.app, ["audit", str(folder / "study.yaml"), "-o", str(folder / "other")])
    assert again.exit_code == 0
    assert json.loads((folder / "other" / "audit.json").read_text()) == written


def test_a_folder_that_is_a_file_is_an_error_not_a_traceback(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["multimodn", "audit", str(folder / "study.yaml"), "-o", str(folder / "labs.csv")])
    monkeypatch.setattr("warnings.showwarning", None)  # `main` sets it; put back after the test
    with pytest.raises(SystemExit) as stopped:
        app.main()
    said = " ".join(capsys.readouterr().err.split())
    assert stopped.value.code == 2
    assert said.startswith("Error: Cannot write the audit to")


@pytest.mark.parametrize(("terminal", "after", "seen"), [(True, 0.0, True), (True, 60.0, False), (False, 0.0, False)])
def test_only_slow_work_on_a_terminal_is_announced(terminal, after, seen, tmp_path):
    with (tmp_path / "said").open("w+") as file:
        console = Console(file=file, force_terminal=terminal, width=80)
        with slow_notice(console, "Auditing", after=after):
            time.sleep(0.3 if after == 0 else 0)
        file.seek(0)
        assert ("Auditing" in file.read()) == seen


@pytest.fixture(scope="module")
def found():
    """An audit with one alarm, of an outcome that cost patients the modality m1."""
    cohort = simulate(groups=np.repeat(["A", "B", "C", "D"], N // 4))
    task = fit_tasks(make_study(), cohort)[0]
    cohort = Mechanism("mnar", 0.8, ("m1",)).apply(cohort, high_outcome(task, cohort.targets["death"]))
    for k in (0, 2, 3):
        cohort = without(cohort, f"m{k}", np.random.default_rng(k).random(N) < 0.3)
    return audit(make_study(), cohort, make_split(make_study(), cohort))


def test_files_are_written_whole(found, tmp_path):
    files = write_audit(found, tmp_path / "some" / "folder")
    assert [file.name for file in files] == ["audit.json", "audit.png", "audit-dark.png"]
    assert sorted(file.name for file in files[0].parent.iterdir()) == sorted(file.name for file in files)
    data = json.loads(files[0].read_text())
    assert data == found.to_dict()
    assert data["tasks"][0]["modalities"][1] | {"alarm": True, "task": "death"} == data["tasks"][0]["modalities"][1]
    light, dark = (imread(file) for file in files[1:])
    assert light.shape == dark.shape
    assert light[0, 0, :3].mean() > 0.9 > 0.2 > dark[0, 0, :3].mean()
    assert all(len(np.unique(picture[::9, ::9].reshape(-1, 4), axis=0)) > 20 for picture in (light, dark))
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"Cannot write the audit to .*file: .*Name another folder"):
        write_audit(found, tmp_path / "file")


def test_the_picture_names_what_it_shows(found, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(Text, "draw", lambda self, renderer: said.append(self.get_text()))
    figure.audit_chart(found).figure(is_titled=True).savefig(tmp_path / "a.png")
    text, n_patterns = " ".join("\n".join(said).split()), len(found.tasks[0].patterns)
    for part in (
        "▲ m1",
        "1 (n = ",
        "600 of 600 patients labelled",
        f"n = 600 patients, 4 modalities, {n_patterns} presence patterns, the 12 largest",
        f"{n_patterns - 12} others",
    ):
        assert part in text, part
    assert {text for text in said if text.startswith("▲ m")} == {"▲ m1"}


def test_odd_names_many_strata_and_many_tasks_are_drawn(tmp_path, monkeypatch):
    cohort = make_cohort()
    targets = pd.DataFrame({f"l{k}": np.arange(len(cohort)) >> k & 1 for k in range(3)}, cohort.patients)
    data = make_study(tasks=("death",)).to_dict() | {"name": "cost in $ of m_{1} $", "order": []}
    data["modalities"] = [{"name": name, "kind": "table", "source": "s"} for name in cohort.modalities]
    data["tasks"] = [{"name": "labels", "kind": "multilabel", "source": "s", "targets": list(targets)}]
    found = audit(Study.from_dict(data), Cohort.from_frames(cohort.modalities, {"labels": targets}))
    assert sum(n > 0 for n in found.tasks[0].strata) == 8
    write_audit(found, tmp_path)
    monkeypatch.setattr(figure, "HIGHEST", 1.0)
    write_audit(audit(make_study(), simulate()), tmp_path)  # so many tasks that only the first fits
    assert imread(tmp_path / "audit.png").shape[0] < 130 * 6
