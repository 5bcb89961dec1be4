"""Sources that are folders of files, and columns that name files."""

import re
import shutil

import pandas as pd
import pytest

from multimodn import Cohort, Study
from multimodn.base.cache import OutputCache, content_hash, file_hash
from multimodn.data.files import path_hash, read_file_names
from multimodn.errors import DataError, DataWarning, StudyError
from multimodn.study.study import SourceSpec


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_the_name_of_a_file_is_its_patient(tmp_path):
    touch(tmp_path, "scans/007.nii.gz", "scans/P.1.nii.gz", "scans/.hidden.nii.gz")
    frame = read_file_names(SourceSpec(files="scans/*.nii.gz"), tmp_path)
    assert frame.index.tolist() == ["007", "P.1"]
    assert frame["file"].tolist() == [str(tmp_path / "scans" / f"{name}.nii.gz") for name in frame.index]


def test_an_expression_finds_the_patient_in_the_path(tmp_path):
    touch(tmp_path, "a/P1_x.svs", "a/P1_y.svs", "b/P2_x.svs")
    frame = read_file_names(SourceSpec(files="*/*.svs", patient_from=r"/(P\d+)_"), tmp_path)
    assert frame.index.tolist() == ["P1", "P1", "P2"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.png", ["a.png", "b.PNG", "c.Png"]),
        ("*.{png,jpg}", ["a.png", "b.JPG"]),
        ("*.nii.gz", ["a.nii.gz", "b.NII.GZ"]),
        ("*/x.{nii,nii.gz}", ["a/x.nii", "b/x.NII.gz"]),
        ("{a,b}/*.txt", ["a/p.txt", "b/q.TXT"]),
    ],
)
def test_suffixes_of_either_case_and_alternatives_match(tmp_path, pattern, names):
    touch(tmp_path, *names, "other.csv", ".hidden.png")
    found = read_file_names(SourceSpec(files=pattern), tmp_path)["file"]
    assert sorted(found) == sorted(str(tmp_path / name) for name in names)


def test_files_that_only_their_suffix_leaves_out_are_counted(tmp_path):
    touch(tmp_path, "a.png", "b.png", "c.jpg", "d.JPEG", "a.jpg", "notes.txt")
    with pytest.warns(
        DataWarning, match=r"2 files have other .* c\.jpg\. To read them, write `files: \*\.{jpeg,jpg,png}`"
    ):
        found = read_file_names(SourceSpec(files="*.png"), tmp_path)
    assert found.index.tolist() == ["a", "b"]
    with pytest.raises(DataError, match=r"no file matches .* There are others: \.JPEG, \.jpg, \.png, \.txt"):
        read_file_names(SourceSpec(files="*.tiff"), tmp_path)


def test_files_without_a_patient_are_named_together(tmp_path):
    touch(tmp_path, "P1_x.svs", "readme.svs")
    with pytest.raises(DataError, match=r"finds no patient in 1 of 2 file names: readme.svs"):
        read_file_names(SourceSpec(files="*.svs", patient_from=r"(P\d+)_"), tmp_path)


def test_a_pattern_without_files_is_an_error(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"no file matches the pattern '*.svs' in {tmp_path}")):
        read_file_names(SourceSpec(files="*.svs"), tmp_path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"files": "*.svs", "patient_from": "P"}, "0 groups, expected one"),
        ({"files": "*.svs", "patient_from": "("}, "is not a regular expression"),
        ({"path": "a.csv", "patient_from": "(P)"}, "`patient_from` needs `files`"),
        ({"files": "*.svs", "path": "a.csv"}, "give one of `path`, `query` and `files`"),
    ],
)
def test_a_source_that_contradicts_itself(spec, message):
    with pytest.raises(StudyError, match=message):
        SourceSpec(**spec)


def reports_study(folder, **source):
    data = {
        "name": "reports",
        "cohort": {"patient": "id", "sources": {"texts": source, "outcome": "outcome.csv"}},
        "modalities": [{"name": "texts", "kind": "text", "source": "texts", "file_column": "file"}],
        "tasks": [{"name": "death", "kind": "binary", "source": "outcome", "target": "status"}],
    }
    return Study.from_dict(data, folder)


@pytest.fixture
def biobank(tmp_path):
    touch(tmp_path, "texts/001.txt", "texts/002.txt", "texts/003.txt")
    (tmp_path / "outcome.csv").write_text("id,status\n001,0\n002,1\n003,1\n")
    (tmp_path / "list.csv").write_text("id,file\n001,texts/001.txt\n002,texts/002.txt\n002,texts/003.txt\n")
    return tmp_path


def test_paths_start_where_the_table_stands(biobank):
    inner = biobank / "inner"
    inner.mkdir()
    (inner / "list.csv").write_text("id,file\n001,../texts/001.txt\n")
    for study, expected in (
        (reports_study(biobank, path="list.csv"), biobank / "texts" / "001.txt"),
        (reports_study(biobank, path="inner/list.csv"), inner / "../texts/001.txt"),
        (reports_study(biobank, files="texts/*.txt"), biobank / "texts" / "001.txt"),
    ):
        assert Cohort.load(study).modalities["texts"].loc[["001"], "file"].tolist()[0] == str(expected)


def test_the_data_hash_follows_what_files_hold_not_where_they_are(biobank, tmp_path_factory):
    study = reports_study(biobank, path="list.csv")
    before = Cohort.load(study).hash()
    moved = tmp_path_factory.mktemp("moved") / "copy"
    shutil.copytree(biobank, moved)
    assert Cohort.load(reports_study(moved, path="list.csv")).hash() == before
    (moved / "texts" / "003.txt").write_text("other words")
    assert Cohort.load(reports_study(moved, path="list.csv")).hash() != before


def test_the_data_hash_does_not_depend_on_the_order_of_a_patients_rows(biobank):
    before = Cohort.load(reports_study(biobank, path="list.csv")).hash()
    (biobank / "list.csv").write_text("id,file\n002,texts/003.txt\n001,texts/001.txt\n002,texts/002.txt\n")
    assert Cohort.load(reports_study(biobank, path="list.csv")).hash() == before


def test_frames_with_several_rows_are_taken_where_they_are_declared():
    frame = pd.DataFrame({"file": ["a.h5", "b.h5"]}, index=["p", "p"])
    with pytest.raises(DataError, match="several rows"):
        Cohort.from_frames({"slides": frame})
    cohort = Cohort.from_frames({"slides": frame}, several_rows=["slides"], files={"slides": ["file"]})
    assert len(cohort) == 1
    assert len(cohort.subset(["p"]).modalities["slides"]) == 2


def test_a_folder_counts_with_all_its_files(tmp_path):
    touch(tmp_path, "series/1.dcm", "series/2.dcm")
    before = path_hash(str(tmp_path / "series"))
    (tmp_path / "series" / "2.dcm").write_text("changed")
    assert path_hash(str(tmp_path / "series")) != before
    assert path_hash(str(tmp_path / "nothing.dcm")) == "no file nothing.dcm"


def test_what_was_cached_is_found_again_and_only_for_the_same_network(tmp_path):
    import numpy as np

    cache = OutputCache("network", tmp_path)
    assert cache.get("ab12") is None
    cache.put("ab12", np.arange(3, dtype=np.float32))
    np.testing.assert_array_equal(cache.get("ab12"), np.arange(3))
    assert OutputCache("other", tmp_path).get("ab12") is None
    next(tmp_path.rglob("*.npy")).write_bytes(b"\x93NUMPY half")
    assert cache.get("ab12") is None
    assert not list(tmp_path.rglob("*.partial"))


def test_hashes_tell_parts_from_their_sum(tmp_path):
    assert content_hash("ab", "c") != content_hash("a", "bc")
    file = tmp_path / "a"
    file.write_text("one")
    before = file_hash(file)
    file.write_text("three")
    assert file_hash(file) != before
