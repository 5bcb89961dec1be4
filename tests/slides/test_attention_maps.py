"""From a trained model back onto the slides of a patient."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from multimodn.cli.app import app
from multimodn.errors import DataError, DataWarning
from multimodn.slides.feature_files.features import FeatureMeta, write_features
from multimodn.slides.heatmaps.attention import draw_attention, draw_evidence, find_places
from tests.slides._slides import picture, write_slide


@pytest.fixture(autouse=True)
def _few_dots(monkeypatch):
    """Most of the time goes into pixels."""
    monkeypatch.setattr("multimodn.slides.heatmaps.heatmap.DPI", 40)


@pytest.fixture(scope="module")
def biobank(tmp_path_factory):
    """One slide of 512 x 512, whose tiles stand for those of 20 patients; a study of them; and its run."""
    folder = tmp_path_factory.mktemp("biobank")
    (folder / "scans").mkdir()
    write_slide(folder / "scans" / "one.tif", picture(512, 512))
    rng = np.random.default_rng(0)
    coords = np.array([[x, y] for y in (0, 128, 256) for x in (0, 128, 256)])
    meta = FeatureMeta(slide="one.tif", extent=128, encoder="e", encoder_hash="a" * 64)
    (folder / "features").mkdir()
    ids = [f"p{i:02d}" for i in range(20)]
    for patient in ids:
        write_features(folder / "features" / f"{patient}.h5", rng.normal(size=(9, 4)).astype(np.float32), coords, meta)
    pd.DataFrame({"id": ids, "died": rng.integers(0, 2, 20)}).to_csv(folder / "case.csv", index=False)
    (folder / "study.yaml").write_text(
        "name: tiles\n"
        "cohort: {patient: id, sources: {case: case.csv, slides: {files: 'features/*.h5'}}}\n"
        "modalities: [{name: slides, kind: slide, source: slides, hidden_size: 4, embedding_size: 4}]\n"
        "tasks: [{name: death, kind: binary, source: case, target: died}]\n"
        "training: {epochs: 1, state_size: 4}\n"
    )
    done = CliRunner().invoke(app, ["fit", str(folder / "study.yaml"), "--run", str(folder / "run")])
    assert done.exit_code == 0, done.output
    return folder


def test_the_command_draws_a_patients_slides(biobank, tmp_path):
    where = ["heatmap", str(biobank / "run"), str(biobank / "scans"), "--out", str(tmp_path / "maps")]
    done = CliRunner().invoke(app, [*where, "--patient", "p03", "--patient", "p05", "--dark"])
    assert done.exit_code == 0, done.output
    assert sorted(file.name for file in (tmp_path / "maps").iterdir()) == ["p03-one.png", "p05-one.png"]


def test_patients_without_a_slide_are_named(biobank, tmp_path):
    (tmp_path / "files.csv").write_text(f"id,file\np03,{biobank / 'features/p03.h5'}\np90,\np91,\n")
    asked = ["heatmap", str(biobank / "run"), str(biobank / "scans"), "--out", str(tmp_path / "maps")]
    asked += ["-s", f"slides={tmp_path / 'files.csv'}"]
    for task in ([], ["--task", "death"]):
        with pytest.raises(DataError, match="Nothing to draw: p90, p91 has no modality 'slides'"):
            CliRunner().invoke(app, [*asked, *task, "--patient", "p90", "--patient", "p91"], catch_exceptions=False)
    with pytest.warns(DataWarning, match="Left out, without modality 'slides': p90"):
        done = CliRunner().invoke(app, [*asked, "--patient", "p03", "--patient", "p90"], catch_exceptions=False)
    assert done.exit_code == 0
    assert [file.name for file in (tmp_path / "maps").iterdir()] == ["p03-one.png"]
    with pytest.raises(DataError, match="none of these patients has a tile"):
        draw_attention(pd.DataFrame(columns=["patient", "attention"]), [biobank / "scans"], tmp_path)


def test_the_command_draws_what_tiles_did_to_a_task(biobank, tmp_path):
    where = ["heatmap", str(biobank / "run"), str(biobank / "scans"), "--out", str(tmp_path / "maps")]
    done = CliRunner().invoke(app, [*where, "--patient", "p03", "--task", "death"])
    assert done.exit_code == 0, done.output
    assert [file.name for file in (tmp_path / "maps").iterdir()] == ["p03-one.png"]


def test_evidence_of_several_outputs_is_refused(biobank, tmp_path):
    found = pd.DataFrame({"task": "grade", "output": ["g1", "g2"], "attribution": 0.0}, ["p03", "p03"])
    with pytest.raises(DataError, match=r"these are 2: grade: g1, grade: g2\. Name one"):
        draw_evidence(found, [biobank / "scans"], tmp_path)


def tiles(file, patient="p03"):
    return pd.DataFrame({"patient": patient, "file": str(file), "x": [0, 128], "y": [0, 0], "attention": [0.7, 0.3]})


def test_slides_that_are_not_found_are_listed_together(biobank, tmp_path):
    file = biobank / "features" / "p03.h5"
    found = pd.concat([tiles(file), tiles(file, "p04")])
    with pytest.raises(DataError, match="2 problems") as caught:
        draw_attention(found, [tmp_path], tmp_path / "maps")
    assert "patient 'p04': no slide 'one.tif'" in str(caught.value)


def test_a_slide_that_states_no_resolution_has_that_of_its_feature_file(biobank, tmp_path):
    write_slide(tmp_path / "two.tif", picture(256, 256), mpp=None)
    file, coords = tmp_path / "two.h5", np.array([[0, 0], [128, 0]])
    for mpp in (0.25, None):
        write_features(file, np.ones((2, 4), np.float32), coords, FeatureMeta(slide="two.tif", extent=128, mpp=mpp))
        places = find_places(tiles(file), [tmp_path])
        assert [(place.slide.name, place.extent, place.mpp) for place in places] == [("two.tif", 128, mpp)]
    with pytest.raises(DataError, match="does not state its resolution"):
        draw_attention(tiles(file), [tmp_path], tmp_path / "maps")


def test_a_feature_file_without_places_is_an_error(biobank, tmp_path):
    file = tmp_path / "one.h5"
    write_features(file, np.ones((2, 4), np.float32), np.zeros((2, 2), np.int64), FeatureMeta(slide="one.tif"))
    with pytest.raises(DataError, match="does not state where its tiles are"):
        draw_attention(tiles(file), [biobank / "scans"], tmp_path / "maps")
