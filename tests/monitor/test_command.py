"""The command `multimodn drift`."""

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from multimodn.cli.drift import drift
from multimodn.data.cohort import Cohort
from multimodn.errors import MultiModNError
from multimodn.monitor.reference import write_reference
from multimodn.runs import fit_run
from tests._cohorts import make_frames, write_files

pytestmark = pytest.mark.filterwarnings("ignore::multimodn.errors.DataWarning")
app = typer.Typer()
app.command()(drift)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    study = write_files(folder, training={"members": 2, "epochs": 1})
    model = fit_run(study, folder / "run")
    write_reference(model, Cohort.load(study), folder / "run")
    return folder / "run"


def call(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, MultiModNError):
        raise result.exception
    return result.exit_code, " ".join(result.output.split())


def test_a_batch_like_the_training_patients_has_status_0(run):
    folder = run.parent
    status, said = call(run, f"labs={folder / 'labs.csv'}", f"image={folder / 'image.csv'}")
    assert (status, "Nothing drifted" in said) == (0, True)
    status, said = call(run, folder / "study.yaml")
    assert (status, "Nothing drifted" in said) == (0, True)


def test_a_batch_that_drifted_has_status_1_unless_asked(run, tmp_path):
    labs = make_frames()[0]["labs"].assign(crp=lambda f: f["crp"] + 5)
    labs.rename_axis("id").to_csv(tmp_path / "labs.csv")
    status, said = call(run, f"labs={tmp_path / 'labs.csv'}", "--out", tmp_path / "drift.csv")
    assert status == 1
    assert "input: labs.crp" in said
    assert "presence: image" in said
    assert pd.read_csv(tmp_path / "drift.csv")["verdict"].eq("drifted").sum() >= 2
    assert call(run, f"labs={tmp_path / 'labs.csv'}", "--exit-zero")[0] == 0


def test_a_table_that_fits_no_source_is_asked_for_its_name(run, tmp_path):
    (tmp_path / "x.csv").write_text("id,y\nn1,3\n")
    with pytest.raises(MultiModNError, match=r"x\.csv has the columns of no source .* Say which it is: NAME=.*x\.csv"):
        call(run, tmp_path / "x.csv")
    with pytest.raises(MultiModNError, match="Name the files of new patients"):
        call(run)


def test_a_run_without_a_reference_is_told_how_to_get_one(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "bundle").symlink_to(run / "bundle")
    with pytest.raises(MultiModNError, match="write_reference"):
        call(tmp_path / "run", "labs=x.csv")
