import csv
import errno
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodn.errors import DataError, StudyError
from multimodn.slides.embedding import cohort, embed
from multimodn.slides.embedding import spool as _spool
from multimodn.slides.embedding.cohort import EmbedError, embed_slides, find_slides
from multimodn.slides.embedding.embed import EmbedOptions, embed_slide
from multimodn.slides.embedding.spool import Spool, spool_path, spooled_tiles
from multimodn.slides.embedding.tile_encoders import load_tile_encoder
from multimodn.slides.feature_files.features import read_features
from multimodn.slides.reader.open import open_slide
from multimodn.slides.reader.slide import SlideError
from tests.slides._encoders import Tiny, write_script
from tests.slides._slides import picture, write_slide

REAL = Path(__file__).parent / "data" / "cmu_small_region.svs"
OPTIONS = EmbedOptions(batch_size=16, overlap=0.5)
OPTIONS_TEXT = "EmbedOptions(batch_size=16, overlap=0.5)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Slides a, b and glass, and a tile encoder."""
    folder = tmp_path_factory.mktemp("slides")
    write_slide(folder / "a.tif", picture(1024, 768))
    write_slide(folder / "b.tif", picture(1024, 640, seed=1))
    (folder / "glass").mkdir()
    write_slide(folder / "glass" / "glass.tif", picture(512, 512, blobs=()))
    write_script(folder / "tiny.pt")
    return folder


@pytest.fixture(scope="module")
def spec(folder):
    return f"torchscript:{folder / 'tiny.pt'}"


@pytest.fixture(scope="module")
def encoder(spec):
    return load_tile_encoder(spec)


@pytest.fixture(scope="module")
def whole(folder, encoder):
    """The bytes of slide a that nothing interrupted."""
    file = folder / "whole" / "a.h5"
    file.parent.mkdir()
    n = embed_slide(folder / "a.tif", file, encoder, OPTIONS).n_tiles
    assert 3 * OPTIONS.batch_size < n  # several batches, the last one not whole
    assert n % OPTIONS.batch_size
    return file.read_bytes()


def stop_after(k):
    """Interrupts when k batches are done."""

    def on_batch(done, of):
        if done >= k * OPTIONS.batch_size:
            raise KeyboardInterrupt

    return on_batch


def test_a_real_slide_becomes_features_of_its_tiles(tmp_path):
    encoder = load_tile_encoder()
    result = embed_slide(REAL, tmp_path / "a.h5", encoder, EmbedOptions(tissue=0.9))
    found = read_features(tmp_path / "a.h5", expect_encoder=encoder.hash, expect_size=1280)
    assert (result.status, result.n_tiles) == ("embedded", len(found.features))
    assert result.n_tiles > 10
    assert (found.meta.slide, found.meta.width, found.meta.height) == ("cmu_small_region.svs", 2220, 2967)
    assert (found.meta.mpp, found.meta.extent, found.meta.encoder) == (0.499, 224, "efficientnet-lite0")
    with open_slide(REAL) as slide:
        for i in (0, result.n_tiles - 1):
            x, y = found.coords[i].tolist()
            tile = slide.read(x, y, 224, 224, 0.5)
            assert tile.mean() < 235  # tissue
            assert np.array_equal(found.features[i], encoder(tile[None])[0].astype(np.float16))


def test_the_bytes_depend_on_neither_time_nor_threads(tmp_path, folder, encoder, whole):
    embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, replace(OPTIONS, threads=3))
    assert (tmp_path / "a.h5").read_bytes() == whole


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_features_do_not_depend_on_the_batch_size(tmp_path, folder, encoder, whole, batch_size):
    embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, replace(OPTIONS, batch_size=batch_size))
    found, expected = read_features(tmp_path / "a.h5"), read_features(folder / "whole" / "a.h5")
    assert np.array_equal(found.features, expected.features)
    assert np.array_equal(found.coords, expected.coords)
    assert replace(found.meta, batch_size=16) == expected.meta


@settings(max_examples=8)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=3))
def test_what_is_interrupted_ends_with_the_same_bytes(tmp_path_factory, folder, encoder, whole, stops):
    file = tmp_path_factory.mktemp("out") / "a.h5"
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            embed_slide(folder / "a.tif", file, encoder, OPTIONS, stop_after(min(stop, 3)))
        assert not file.exists()
    result = embed_slide(folder / "a.tif", file, encoder, OPTIONS)
    assert result.n_resumed == OPTIONS.batch_size * max(min(stop, 3) for stop in stops)
    assert file.read_bytes() == whole
    assert [one.name for one in file.parent.iterdir()] == ["a.h5"]


def test_a_killed_process_leaves_what_the_next_one_goes_on_with(tmp_path, folder, spec, whole):
    program = f"""
import os, signal, sys
from multimodn.slides.embedding.embed import EmbedOptions, embed_slide
from multimodn.slides.embedding.tile_encoders import load_tile_encoder

def on_batch(done, of):
    if done >= 32:
        os.kill(os.getpid(), signal.SIGKILL)

encoder = load_tile_encoder({spec!r})
embed_slide({str(folder / "a.tif")!r}, {str(tmp_path / "a.h5")!r}, encoder, {OPTIONS_TEXT}, on_batch)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    assert spooled_tiles(tmp_path)["a.h5"][0] == 32
    assert embed_slide(folder / "a.tif", tmp_path / "a.h5", load_tile_encoder(spec), OPTIONS).n_resumed == 32
    assert (tmp_path / "a.h5").read_bytes() == whole


@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: data[:-9] + bytes(9), lambda data: data[:300]])
def test_a_batch_that_was_cut_off_is_done_again(tmp_path, folder, encoder, whole, damage):
    with pytest.raises(KeyboardInterrupt):
        embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, OPTIONS, stop_after(3))
    spool = spool_path(tmp_path / "a.h5")
    spool.write_bytes(damage(spool.read_bytes()))
    assert embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, OPTIONS).n_resumed < 48
    assert (tmp_path / "a.h5").read_bytes() == whole


@pytest.mark.parametrize("other", [{"tissue": 0.3}, {"batch_size": 8}, {"dtype": "float32"}])
def test_what_was_begun_with_other_options_is_begun_anew(tmp_path, folder, encoder, whole, other):
    with pytest.raises(KeyboardInterrupt):
        embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, replace(OPTIONS, **other), stop_after(1))
    assert embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, OPTIONS).n_resumed == 0
    assert (tmp_path / "a.h5").read_bytes() == whole


def test_a_full_disk_is_reported_and_the_next_run_goes_on(tmp_path, folder, spec, whole, monkeypatch):
    write, calls = Spool._write, []

    def full(self, data):
        calls.append(len(data))
        if len(calls) > 3:  # the header and two batches
            write(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, data)

    monkeypatch.setattr(Spool, "_write", full)
    with pytest.raises(EmbedError, match=r"a\.tif: \[Errno 28\] No space left.*it resumes after the last whole batch"):
        embed_slides([folder / "a.tif"], tmp_path, spec, OPTIONS)
    assert not (tmp_path / "a.h5").exists()
    monkeypatch.undo()
    assert [result.n_resumed for result in embed_slides([folder / "a.tif"], tmp_path, spec, OPTIONS)] == [32]
    assert (tmp_path / "a.h5").read_bytes() == whole


def test_a_disk_that_is_full_at_the_end_costs_no_tile(tmp_path, folder, encoder, whole, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(embed, "write_features", full)
    with pytest.raises(OSError, match="No space left"):
        embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, OPTIONS)
    monkeypatch.undo()
    result = embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, OPTIONS)
    assert result.n_resumed == result.n_tiles
    assert (tmp_path / "a.h5").read_bytes() == whole


@contextmanager
def largest_file(n_bytes):
    """Lets the system refuse what would make any file larger, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))  # Python ignores the signal
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("n_bytes", "n_resumed"), [(900, 48), (2000, 128), (4000, 0), (9000, 0), (11000, 0)])
def test_what_the_system_refuses_to_write_is_reported(tmp_path, folder, spec, whole, n_bytes, n_resumed):
    """Of the spool, the third or a later batch; of the feature file, its head or what HDF5 writes when it closes."""
    with (
        largest_file(n_bytes),
        pytest.raises(EmbedError, match=r"File too large.*it resumes after the last whole batch"),
    ):
        embed_slides([folder / "a.tif"], tmp_path, spec, OPTIONS)
    assert not list(tmp_path.glob("*.h5"))
    assert not list(tmp_path.glob(".*.h5.*.partial"))
    (result,) = embed_slides([folder / "a.tif"], tmp_path, spec, OPTIONS)
    assert result.n_resumed == (n_resumed or result.n_tiles)
    assert (tmp_path / "a.h5").read_bytes() == whole


def test_finished_files_are_kept(tmp_path, folder, spec, whole, monkeypatch):
    embed_slides([folder / "a.tif"], tmp_path, spec, OPTIONS)
    spool_path(tmp_path / "a.h5").write_bytes(b"left over")
    monkeypatch.setattr(embed, "find_tissue", lambda *_: pytest.fail("the slide was looked at again"))
    results = embed_slides([folder / "a.tif"], tmp_path, spec, replace(OPTIONS, batch_size=3, threads=2))
    assert [result.status for result in results] == ["kept"]
    assert (tmp_path / "a.h5").read_bytes() == whole
    assert not spool_path(tmp_path / "a.h5").exists()


def test_files_made_with_other_options_are_refused_or_made_again(tmp_path, folder, encoder, whole):
    embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, replace(OPTIONS, tissue=0.9))
    with pytest.raises(DataError, match=r"made with other options \(tissue_share 0.9, now 0.5\)"):
        embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, OPTIONS)
    assert embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, replace(OPTIONS, overwrite=True)).n_tiles
    assert (tmp_path / "a.h5").read_bytes() == whole


def test_files_of_another_encoder_or_slide_are_refused(tmp_path, folder, encoder):
    embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, OPTIONS)
    other = load_tile_encoder(write_script(tmp_path / "other.pt", Tiny(seed=1)))
    with pytest.raises(DataError, match=r"encoder torchscript:tiny, now torchscript:other, encoder_hash"):
        embed_slide(folder / "a.tif", tmp_path / "a.h5", other, OPTIONS)
    with pytest.raises(DataError, match=r"slide a.tif, now b.tif"):
        embed_slide(folder / "b.tif", tmp_path / "a.h5", encoder, OPTIONS)
    with pytest.raises(DataError, match="another type of the features"):
        embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, replace(OPTIONS, dtype="float32"))


def test_two_processes_do_not_write_one_file(tmp_path, folder, encoder):
    with (
        Spool(tmp_path / "a.h5", "key", 5, 6, 16, "float16"),
        pytest.raises(DataError, match="is being written by another process"),
    ):
        embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, OPTIONS)


def test_reading_ahead_is_bounded(tmp_path, folder, encoder, monkeypatch):
    """However slow the network, the tiles in memory are those of threads + 2 batches."""
    with open_slide(folder / "a.tif") as slide:
        slide_type, read, counts = type(slide), [0], []
    original = slide_type.read_tiles

    def count(self, *arguments):
        read[0] += 1
        return original(self, *arguments)

    class Slow:
        def __getattr__(self, name):
            return getattr(encoder, name)

        def __call__(self, tiles):
            time.sleep(0.01)
            return encoder(tiles)

    monkeypatch.setattr(slide_type, "read_tiles", count)
    options = replace(OPTIONS, batch_size=2, threads=2)
    on_batch = lambda done, of: counts.append(read[0] - done / 2)  # noqa: E731
    embed_slide(folder / "a.tif", tmp_path / "a.h5", Slow(), options, on_batch)
    assert len(counts) > 20
    assert max(counts) <= options.threads + 2


def test_threads_of_torch_are_as_before(tmp_path, folder, encoder):
    import torch

    torch.set_num_threads(2)
    seen = []
    embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, OPTIONS, lambda *_: seen.append(torch.get_num_threads()))
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2


class Odd:
    """A tile encoder whose features of the fourth tile of a batch are no use."""

    spec, name, hash, feature_size, tile_size, device = "odd", "odd", "0" * 64, 2, 64, "cpu"
    mean = std = (1.0, 1.0, 1.0)

    def __init__(self, value):
        self.value = value

    def check_size(self, tile_size):
        return 2

    def __call__(self, tiles):
        features = np.ones((len(tiles), 2), dtype=np.float32)
        features[3:4, 1] = self.value
        return features


@pytest.mark.parametrize(("value", "hint"), [(np.nan, ""), (1e5, "too large for float16: write float32")])
def test_features_that_are_not_finite_are_named_by_their_tile(tmp_path, folder, whole, value, hint):
    x, y = read_features(folder / "whole" / "a.h5").coords[3].tolist()
    with pytest.raises(DataError, match=rf"tile at \({x}, {y}\) are not all finite.*{hint}"):
        embed_slide(folder / "a.tif", tmp_path / "a.h5", Odd(value), OPTIONS)


def test_float32_keeps_every_bit(tmp_path, folder, encoder):
    embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, replace(OPTIONS, dtype="float32"))
    found = read_features(tmp_path / "a.h5")
    with open_slide(folder / "a.tif") as slide:
        tiles = slide.read_tiles(found.coords, 64, 0.5)
    assert found.features.dtype == np.float32
    assert np.array_equal(found.features, encoder(tiles))


def test_stain_normalisation_changes_the_features_and_is_recorded(tmp_path, folder, encoder, whole):
    embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, replace(OPTIONS, stain="macenko"))
    found = read_features(tmp_path / "a.h5")
    assert found.meta.stain == "macenko"
    assert not np.array_equal(found.features, read_features(folder / "whole" / "a.h5").features)


def test_another_size_of_tiles_is_tried_first(tmp_path, folder, encoder):
    embed_slide(folder / "a.tif", tmp_path / "a.h5", encoder, replace(OPTIONS, tile_size=96))
    assert read_features(tmp_path / "a.h5").meta.extent == 96
    from torch import nn

    fixed = load_tile_encoder(write_script(tmp_path / "fixed.pt", nn.Sequential(nn.Flatten(), nn.Linear(12288, 2))))
    with pytest.raises(DataError, match="does not take tiles of 96 x 96 pixels"):
        embed_slide(folder / "a.tif", tmp_path / "b.h5", fixed, replace(OPTIONS, tile_size=96))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"overlap": 1.0}, "overlap"),
        ({"tissue": 1.5}, "tissue"),
        ({"stain": "macenco"}, "Did you mean 'macenko'"),
        ({"dtype": "float64"}, "expected float16 or float32"),
        ({"on_no_tissue": "skip"}, "expected error or absent"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(options, message):
    with pytest.raises(StudyError, match=message):
        EmbedOptions(**options)


def test_any_number_of_workers_writes_the_same_bytes(tmp_path, folder, spec, whole):
    slides, shown = [folder / "a.tif", folder / "b.tif"], []
    one = embed_slides(slides, tmp_path / "one", spec, OPTIONS)
    two = embed_slides(slides, tmp_path / "two", spec, OPTIONS, workers=2, on_progress=shown.append)
    assert [replace(result, file=result.file.name) for result in one] == [
        replace(result, file=result.file.name) for result in two
    ]
    for name in ("a.h5", "b.h5", "slides.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / "a.h5").read_bytes() == whole
    n = sum(result.n_tiles for result in two)
    assert asdict(shown[-1]) == {"n_slides": 2, "of_slides": 2, "n_tiles": n, "of_tiles": n}


def test_slides_that_fail_do_not_stop_the_others(tmp_path, folder, spec):
    (tmp_path / "broken.tif").write_bytes(b"II*\0 no slide")
    write_slide(tmp_path / "mute.tif", picture(512, 512), mpp=None)
    slides = [tmp_path / "broken.tif", folder / "a.tif", tmp_path / "mute.tif", folder / "glass" / "glass.tif"]
    with pytest.raises(EmbedError, match="3 of 4 slides failed") as raised:
        embed_slides(slides, tmp_path / "out", spec, OPTIONS)
    for name in ("broken.tif", "mute.tif", "glass.tif"):
        assert f"{name}" in str(raised.value)
    assert [(result.slide.name, result.status) for result in raised.value.results] == [
        (slide.name, "embedded" if slide.name == "a.tif" else "failed") for slide in find_slides(slides)
    ]
    with (tmp_path / "out" / "slides.csv").open() as file:
        assert [row["slide"] for row in csv.DictReader(file)] == ["a.tif"]


def test_an_empty_slide_is_an_error_or_recorded_as_absent(tmp_path, folder, spec):
    glass = folder / "glass" / "glass.tif"
    with pytest.raises(EmbedError, match=r"no tile has 50% of tissue \(0.0% of the slide is tissue\)"):
        embed_slides([glass], tmp_path, spec, OPTIONS)
    absent = replace(OPTIONS, on_no_tissue="absent")
    results = embed_slides([glass, folder / "a.tif"], tmp_path, spec, absent)
    assert [result.status for result in results] == ["embedded", "absent"]
    assert embed_slides([folder / "a.tif"], tmp_path, spec, absent)[0].status == "kept"
    text = (tmp_path / "absent.csv").read_text()
    assert text == "slide,reason\nglass.tif,no tile has 50% of tissue (0.0% of the slide is tissue)\n"
    embed_slides([glass], tmp_path, spec, replace(OPTIONS, tissue=0.0))
    assert not (tmp_path / "absent.csv").exists()


def test_two_slides_of_one_name_are_refused_before_any_work(tmp_path, folder, spec):
    (tmp_path / "a.svs").write_bytes((folder / "a.tif").read_bytes())
    with pytest.raises(DataError, match=r"a\.(tif|svs) and .*a\.(tif|svs) would both be written to a\.h5"):
        embed_slides([folder / "a.tif", folder / "b.tif", tmp_path / "a.svs"], tmp_path / "out", spec, OPTIONS)
    assert not (tmp_path / "out").exists()


def test_the_table_lists_all_feature_files_of_the_folder(tmp_path, folder, spec):
    embed_slides([folder / "b.tif"], tmp_path, spec, OPTIONS)
    n = [result.n_tiles for result in embed_slides([folder / "a.tif"], tmp_path, spec, OPTIONS)]
    lines = (tmp_path / "slides.csv").read_text().splitlines()
    assert lines[0] == "slide,file,n_tiles,mpp,width,height,encoder"
    assert lines[1] == f"a.tif,a.h5,{n[0]},0.5,1024,768,torchscript:tiny"
    assert lines[2].startswith("b.tif,b.h5,")


def test_a_damaged_feature_file_of_the_folder_is_reported(tmp_path, folder, spec):
    (tmp_path / "old.h5").write_bytes(b"x")
    with pytest.raises(EmbedError, match=r"old\.h5 is truncated, or not an HDF5 file"):
        embed_slides([folder / "a.tif"], tmp_path, spec, OPTIONS)
    assert (tmp_path / "a.h5").exists()


def test_thumbnails_are_written_if_they_are_asked_for(tmp_path, folder, spec):
    embed_slides([folder / "a.tif"], tmp_path, spec, replace(OPTIONS, thumbnails=True))
    assert (tmp_path / "thumbnails" / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_slides_are_found_by_file_folder_and_pattern_each_once(folder):
    a, b, glass = folder / "a.tif", folder / "b.tif", folder / "glass" / "glass.tif"
    assert find_slides([folder]) == [a, b, glass]
    assert find_slides([b, f"{folder}/*.tif", a]) == [a, b]
    assert find_slides([f"{folder}/**/g*.tif"]) == [glass]


def test_names_without_slides_are_all_reported(tmp_path, folder):
    with pytest.raises(DataError, match=r"2 problems(?s:.*)Did you mean 'a.tif'(?s:.*)holds no slide"):
        find_slides([folder / "aa.tif", tmp_path])


def test_an_encoder_that_changes_under_a_run_is_noticed(tmp_path, folder):
    spec = write_script(tmp_path / "changing.pt")
    jobs = cohort._jobs(find_slides([folder / "a.tif"]), tmp_path)
    from multimodn.slides.embedding.jobs import Work, run_job

    result = run_job(jobs[0], Work(spec, "0" * 64, OPTIONS))
    assert "has other weights here" in result.problem


def test_a_spool_reads_back_what_was_appended(tmp_path):
    rows = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    with Spool(tmp_path / "a.h5", "key", 10, 3, 4, "float32") as spool:
        for start in (0, 4, 8):
            spool.append(rows[start : start + 4])
        assert np.array_equal(np.concatenate(list(spool.blocks())), rows)
        assert spooled_tiles(tmp_path) == {"a.h5": (10, 10)}


def test_unfinished_files_of_others_are_passed_over(tmp_path):
    (tmp_path / f".a.h5{_spool.SUFFIX}").write_bytes(b"")
    (tmp_path / f".b.h5{_spool.SUFFIX}").write_bytes(b"{}")
    assert spooled_tiles(tmp_path) == {}


def test_slide_errors_are_data_errors(tmp_path, encoder):
    with pytest.raises(SlideError, match="does not exist"):
        embed_slide(tmp_path / "none.svs", tmp_path / "a.h5", encoder, OPTIONS)
    assert not list(tmp_path.iterdir())


def test_attributes_say_how_the_features_were_made(folder, whole):
    with h5py.File(folder / "whole" / "a.h5") as file:
        assert file.attrs["encoder"] == "torchscript:tiny"
        assert file["features"].dtype == np.float16
        assert file["coords"].attrs["patch_size"] == 64
