import importlib.util
import json
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from multimodn import MultiModN
from multimodn.errors import StudyError
from multimodn.report.answers.run import training
from multimodn.runs import fit_run
from multimodn.training import loggers as tracking
from multimodn.training.fit import TrainerFlags
from multimodn.training.loggers import check_loggers, loggers
from tests._cohorts import make_cohort, make_study, write_files

QUIET = TrainerFlags(progress=False)


def fit(folder: Path, names: list[str], **training):
    study = make_study(training={"loggers": names, **training})
    return MultiModN(study).fit(make_cohort(), folder=folder, flags=QUIET)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"the network was asked for: {args[:2]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def without(monkeypatch, package):
    real = importlib.util.find_spec
    monkeypatch.setattr(tracking, "find_spec", lambda name: None if name == package else real(name))


@pytest.mark.parametrize("names", [[], ["csv"], ["tensorboard"], ["mlflow"]])
def test_csv_files_are_written_whatever_else_is_asked_for(tmp_path, names):
    fit(tmp_path / "checkpoints", names)
    found = training(tmp_path)
    assert list(found["epoch"]) == [0, 1]
    assert found[["validation_loss", "training_loss"]].notna().all(axis=None)


def test_tensorboard_holds_the_losses_of_the_csv_file(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(tmp_path / "checkpoints", ["csv", "tensorboard"])
    events = EventAccumulator(str(tmp_path / "checkpoints/member0/tensorboard/version_0"))
    events.Reload()
    written = [event.value for event in events.Scalars("validation_loss")]
    assert written == pytest.approx(training(tmp_path)["validation_loss"])


def test_mlflow_holds_a_run_of_each_member_with_losses_and_hyperparameters(tmp_path, no_network):
    fit(tmp_path / "checkpoints", ["mlflow"], members=2, seed=7)
    from mlflow.tracking import MlflowClient

    client = MlflowClient((tmp_path / "checkpoints/mlflow").as_uri())
    experiment = client.get_experiment_by_name("multimodn")
    runs = sorted(client.search_runs([experiment.experiment_id]), key=lambda run: run.info.run_name)
    assert [run.info.run_name for run in runs] == ["member 1 of 2", "member 2 of 2"]
    assert [run.data.params["seed"] for run in runs] == ["7", "8"]
    losses = training(tmp_path)
    for member, run in enumerate(runs):
        written = [metric.value for metric in client.get_metric_history(run.info.run_id, "validation_loss")]
        assert written == pytest.approx(losses.loc[losses["member"] == member, "validation_loss"])


@pytest.mark.slow
def test_mlflow_has_no_client_that_reports_home(tmp_path):
    code = (
        "import socket, sys, threading\nfrom pathlib import Path\n"
        "def refuse(*args, **kwargs): print('network', args[:2]); raise OSError\n"
        "socket.getaddrinfo = refuse\n"
        "from multimodn.training.loggers import loggers\n"
        "loggers(['mlflow'], Path(sys.argv[1]) / 'checkpoints' / 'member0', 'training', {'penalty': 1.0})\n"
        "from mlflow.telemetry.client import get_telemetry_client\n"
        "print(get_telemetry_client(), [t.name for t in threading.enumerate()])"
    )
    # pytest's and CI's own variables would switch reports off by themselves
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env={"HOME": str(tmp_path)}
    )
    assert found.stdout.strip().splitlines() == ["None ['MainThread']"], found.stderr


def test_the_hashes_of_a_run_are_noted(tmp_path):
    fit_run(write_files(tmp_path / "in"), tmp_path / "run", flags=QUIET)
    log = json.loads((tmp_path / "run/run.json").read_text())
    noted = (tmp_path / "run/checkpoints/member0/log/version_0/hparams.yaml").read_text()
    assert all(f"{part}_hash: {value}" in noted for part, value in log["fingerprint"].items())
    assert "penalty: 0.3" in noted


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_extra_is_named_before_any_training(tmp_path, monkeypatch, name):
    without(monkeypatch, name)
    with pytest.raises(StudyError, match=rf"pip install 'multimodn\[{name}\]'"):
        fit(tmp_path / "checkpoints", [name])
    assert not list(tmp_path.rglob("*.ckpt"))


def test_csv_needs_no_extra(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    check_loggers(["csv"])


def test_an_unknown_logger_has_a_nearest_word(tmp_path):
    with pytest.raises(StudyError, match="Did you mean 'tensorboard'"):
        loggers(["tensorbord"], tmp_path, "training")


def test_each_attempt_has_a_log_of_its_own_and_curves_join(tmp_path):
    for epochs in (2, 3):  # the second goes on after the first
        fit(tmp_path / "checkpoints", ["csv", "tensorboard"], epochs=epochs)
        (tmp_path / "checkpoints/member0/finished.json").unlink()
    assert len(list((tmp_path / "checkpoints/member0/log").glob("version_*"))) == 2
    assert list(training(tmp_path)["epoch"]) == [0, 1, 2]


def test_what_is_learnt_does_not_depend_on_the_loggers(tmp_path):
    one, other = (
        fit(tmp_path / name / "checkpoints", [name]).link(make_cohort())["size"] for name in ("csv", "tensorboard")
    )
    pd.testing.assert_frame_equal(pd.DataFrame(one), pd.DataFrame(other))
