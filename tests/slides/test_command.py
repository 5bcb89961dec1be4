import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

from multimodn import slides
from multimodn.cli import app
from multimodn.errors import DataError, DataWarning
from multimodn.slides.embedding import cohort
from multimodn.slides.embedding.cohort import EmbedError
from multimodn.slides.embedding.jobs import Progress
from multimodn.slides.embedding.resolutions import read_resolutions
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


def test_a_table_states_the_resolution_of_each_slide(tmp_path, folder):
    (tmp_path / "mpp.csv").write_text("wsi,mpp\na.tif,0.4\nother.tif,0.5\n")
    with pytest.warns(DataWarning, match="1 of its rows name none of the slides: other.tif. 1 slides have no row"):
        result = call(folder, folder, "-o", tmp_path, "--mpp-table", tmp_path / "mpp.csv", "--on-no-tissue", "absent")
    assert result.exit_code == 0, result.output
    assert read_features(tmp_path / "a.h5").meta.mpp == 0.4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,mpp\na.tif,0.5\na,0.25\n", "line 3: slide 'a' has 0.5 and 0.25 microns"),
        ("slide,mpp\na.tif,20x\nb,-1\n", "line 2, slide 'a.tif': `mpp` is '20x'"),
        ("slide;mpp\nC:\\scans\\a.tif;0,5\n\nx/A;0,25\n", "line 4: slide 'x/A' has 0.5 and 0.25 microns"),
        ("slide,mpp\nq.tif,0.5\nr.tif,0.5\n", r"name none of the slides: it has q\.tif, r\.tif; the slides are a\.tif"),
        ("slide,resolution\na,1\n", "has no column 'mpp'"),
        ("case,mpp\na,1\n", "has no column 'slide'"),
        ("", "has no column 'slide'"),
    ],
)
def test_a_table_of_resolutions_in_doubt_is_an_error(tmp_path, text, message):
    (tmp_path / "mpp.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_resolutions(tmp_path / "mpp.csv", [Path("x/a.tif"), Path("x/b.tif")])
    with pytest.raises(DataError, match="does not exist"):
        read_resolutions(tmp_path / "none.csv", [])


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffWSI,stain,MPP\nA.TIF,HE,0.25\nb,HE,0.50\nc.tif,HE,\n",
        "file;mpp\r\nC:\\scans\\a.tif;0,25\r\n/data/b.tif;0.5\r\n",
        "filename\tmpp\n a \t .25 \n\nold/b\t5e-1\n",
    ],
)
def test_resolutions_are_found_however_the_table_is_written(tmp_path, text):
    (tmp_path / "mpp.csv").write_text(text, encoding="utf-8", newline="")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_resolutions(tmp_path / "mpp.csv", [Path("x/a.tif"), Path("x/b.tif")])
    assert found == {Path("x/a.tif"): 0.25, Path("x/b.tif"): 0.5}


def test_a_failed_slide_is_an_error_after_the_others_are_done(tmp_path, folder):
    result = call(folder, folder, "--out", tmp_path)
    assert isinstance(result.exception, EmbedError)  # `main` makes a message and exit status 2 of it
    assert "glass.tif: no tile has 50% of tissue" in str(result.exception)
    assert "Embedded 1 slide (" in result.output
    assert (tmp_path / "a.h5").exists()


def test_an_interrupted_run_says_how_to_go_on(tmp_path, folder, monkeypatch):
    def interrupted(names, out, encoder, options, workers, ray, on_progress, mpp_table):
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
