import subprocess
import sys

import pytest
from typer.testing import CliRunner

from multimodn import slides
from multimodn.cli import app
from multimodn.slides.embedding import cohort
from multimodn.slides.embedding.cohort import EmbedError
from multimodn.slides.embedding.jobs import Progress
from multimodn.slides.feature_files.features import read_features
from tests.slides._encoders import write_script
from tests.slides._slides import picture, write_slide

runner = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    write_slide(folder / "a.tif", picture(1024, 768))
    write_slide(folder / "glass.tif", picture(512, 512, blobs=()))
    write_script(folder / "tiny.pt")
    return folder


def call(folder, *arguments):
    encoder = ("--encoder", f"torchscript:{folder / 'tiny.pt'}")
    return runner.invoke(app.app, ["embed-slides", *map(str, arguments), *encoder])


def test_slides_become_feature_files(tmp_path, folder):
    out = tmp_path / "out"
    options = ("--on-no-tissue", "absent", "--tissue", 0.4, "--overlap", 0.25, "--dtype", "float32", "--thumbnails")
    result = call(folder, folder, "--out", out, *options)
    assert result.exit_code == 0, result.output
    found = read_features(out / "a.h5")
    said = " ".join(result.output.split())
    assert f"Embedded 1 slide ({len(found.features)} tiles in" in said
    assert "1 without tissue are in absent.csv" in said
    assert (found.meta.tissue_share, found.meta.overlap, found.features.dtype) == (0.4, 0.25, "float32")
    assert {file.name for file in out.iterdir()} == {"a.h5", "absent.csv", "slides.csv", "thumbnails"}
    again = " ".join(call(folder, folder, "--out", out, *options).output.split())
    assert "Embedded 0 slides (0 tiles" in again
    assert "kept 1 that were there" in again


def test_a_failed_slide_is_an_error_after_the_others_are_done(tmp_path, folder):
    result = call(folder, folder, "--out", tmp_path)
    assert isinstance(result.exception, EmbedError)  # `main` makes a message and exit status 2 of it
    assert "glass.tif: no tile has 50% of tissue" in str(result.exception)
    assert "Embedded 1 slide (" in result.output
    assert (tmp_path / "a.h5").exists()


def test_an_interrupted_run_says_how_to_go_on(tmp_path, folder, monkeypatch):
    def interrupted(names, out, encoder, options, workers, ray, on_progress):
        on_progress(Progress(0, 2, 16, 64))
        raise KeyboardInterrupt

    monkeypatch.setattr(cohort, "embed_slides", interrupted)
    result = call(folder, folder, "--out", tmp_path)
    assert result.exit_code == 130
    assert "The same command continues after the last finished batch" in " ".join(result.output.split())


def test_the_command_line_does_not_wait_for_what_slides_need():
    program = "import sys, multimodn.cli.app; print({'torch', 'h5py', 'numpy', 'ray', 'monai'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_every_public_name_can_be_imported():
    assert sorted(name for names in slides._MODULES.values() for name in names) == slides.__all__
    for name in slides.__all__:
        assert getattr(slides, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = slides.nothing
