import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from multimodn.errors import StudyError
from multimodn.slides.embedding.embed import EmbedOptions
from multimodn.slides.reader.open import BACKENDS, open_slide
from multimodn.slides.reader.slide import SlideError
from tests.slides._slides import halved, picture, write_slide

REAL = Path(__file__).parent / "data" / "cmu_small_region.svs"
PYRAMIDS = {
    "ycbcr": {},
    "rgb": {"photometric": "rgb"},
    "subifds": {"layout": "subifds"},
    "aperio": {"description": "aperio"},
    "ome": {"description": "ome", "layout": "subifds"},
    "zlib": {"compression": "zlib"},
    "jpeg2000-rgb": {"compression": "aperio_jp2000_rgb", "description": "aperio"},
}


@pytest.fixture(scope="module")
def image():
    return picture(1100, 900)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("slides")


@pytest.fixture(scope="module")
def slide(folder, image):
    """Lossless, 0.25 microns, levels 1, 2 and 4."""
    path = write_slide(folder / "plain.tif", image, mpp=0.25, levels=(1, 2, 4), compression="zlib")
    with open_slide(path) as slide:
        yield slide


@pytest.fixture(scope="module")
def single(folder, image):
    """The same without small levels."""
    with open_slide(write_slide(folder / "single.tif", image, mpp=0.25, levels=(1,), compression="zlib")) as slide:
        yield slide


def difference(one, other):
    assert one.shape == other.shape
    return float(np.abs(one.astype(np.int16) - other).mean())


@pytest.mark.parametrize("mpp", [None, 0.5, 0.8, 3.0])
def test_tifffile_agrees_with_openslide_on_a_real_slide(mpp):
    with open_slide(REAL) as slide, open_slide(REAL, backend="openslide") as reference:
        assert (slide.backend, slide.mpp, slide.levels) == ("tifffile", 0.499, reference.levels)
        for x, y in [(0, 0), (701, 333), (2000, 2800), (-50, -60), (5000, 10)]:
            assert difference(slide.read(x, y, 300, 200, mpp), reference.read(x, y, 300, 200, mpp)) < 2


@pytest.mark.parametrize("form", PYRAMIDS)
def test_pyramids_of_every_form_are_read_by_tifffile_as_openslide_does(form, folder, image):
    suffix = "svs" if PYRAMIDS[form].get("description") == "aperio" else "tif"
    path = write_slide(folder / f"{form}.{suffix}", image, **PYRAMIDS[form])
    with open_slide(path) as slide, open_slide(path, mpp=0.5, backend="openslide") as reference:
        assert (slide.backend, slide.mpp) == ("tifffile", 0.5)
        assert [level.downsample for level in slide.levels] == [1, 4]
        assert difference(slide.read(0, 0, 1100, 900), reference.read(0, 0, 1100, 900)) < 2
        assert difference(slide.read(0, 0, 1100, 900), image) < 4
        assert difference(slide.read(0, 0, 275, 225, 2.0), halved(image, 4)) < 4


def test_jpeg2000_of_luma_and_chroma_becomes_rgb(folder, image):
    stored = np.asarray(Image.fromarray(image).convert("YCbCr"))
    path = write_slide(folder / "j.svs", stored, compression="aperio_jp2000_ycbc", description="aperio")
    with open_slide(path) as slide, open_slide(path, backend="openslide") as reference:
        assert slide.backend == "tifffile"
        assert difference(slide.read(0, 0, 1100, 900), image) < 2
        assert difference(slide.read(0, 0, 1100, 900), reference.read(0, 0, 1100, 900)) < 2


def test_label_macro_and_thumbnail_are_no_levels():
    with open_slide(REAL) as slide:
        assert [(level.width, level.height) for level in slide.levels] == [(2220, 2967)]


@given(
    x=st.integers(-300, 1200),
    y=st.integers(-300, 1000),
    parts=st.lists(st.integers(1, 120), min_size=1, max_size=3),
    mpp=st.sampled_from([0.25, 0.5, 0.75, 1.0, 1.25, 3.0]),
)
def test_regions_stitched_together_are_one_region(slide, x, y, parts, mpp):
    scale, height = round(mpp / 0.25), 40
    whole = slide.read(x, y, sum(parts), height, mpp)
    starts = np.cumsum([0, *parts[:-1]]) * scale
    stitched = np.hstack([slide.read(x + int(s), y, part, height, mpp) for s, part in zip(starts, parts, strict=True)])
    assert np.abs(whole.astype(int) - stitched).max() <= 2 * (mpp in (0.75, 1.25))  # resampled


@given(mpp=st.floats(0.24, 12.0), x=st.integers(-300, 1200), y=st.integers(-300, 1000))
def test_a_region_read_in_blocks_is_the_region_read_at_once(slide, mpp, x, y):
    once = slide.read(x, y, 60, 50, mpp)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multimodn.slides.reader.slide.BLOCK_PIXELS", 1000)
        blocks = slide.read(x, y, 60, 50, mpp)
    assert np.abs(once.astype(int) - blocks).max() <= 2  # the filter's weights are rounded, once for each direction


@given(xy=st.lists(st.tuples(st.integers(-100, 1200), st.integers(-100, 1000)), max_size=6))
def test_tiles_are_the_regions_read_one_by_one(slide, xy):
    corners = np.array(xy, dtype=np.int64).reshape(-1, 2)
    tiles = slide.read_tiles(corners, 48, 0.7)
    assert tiles.shape == (len(xy), 48, 48, 3)
    for tile, (x, y) in zip(tiles, xy, strict=True):
        assert np.array_equal(tile, slide.read(x, y, 48, 48, 0.7))


def test_aligned_tiles_are_the_stored_pixels(slide, image):
    xy = np.array([[256, 0], [0, 256], [768, 768]])
    tiles = slide.read_tiles(xy, 256, 0.25)
    assert np.array_equal(tiles[0], image[:256, 256:512])
    assert np.array_equal(tiles[1], image[256:512, :256])
    assert np.array_equal(tiles[2][:132], image[768:, 768:1024])
    assert (tiles[2][132:] == 255).all()


def test_beyond_the_edge_all_is_white(slide, image):
    region = slide.read(-20, 880, 50, 60)
    assert np.array_equal(region[:20, 20:], image[880:, :30])
    assert (region[20:] == 255).all()
    assert (region[:, :20] == 255).all()
    assert (slide.read(5000, 5000, 8, 8) == 255).all()


@pytest.mark.parametrize("mpp", [0.5, 1.0, 2.0])
def test_resolutions_agree_after_downsampling(slide, single, image, mpp):
    k = round(mpp / 0.25)
    expected = halved(image[:896, :1088], k)
    height, width = expected.shape[:2]
    for one in (slide, single):
        assert np.abs(one.read(0, 0, width, height, mpp).astype(int) - expected).max() <= 2


@pytest.mark.parametrize("mpp", [0.25, 0.3, 0.5, 0.6, 1.0, 1.7])
def test_a_square_keeps_its_physical_size_and_place(folder, mpp):
    image = np.full((1000, 1000, 3), 240, dtype=np.uint8)
    image[300:700, 200:600] = 40
    path = write_slide(folder / "square.tif", image, mpp=0.25, levels=(1, 4), compression="zlib")
    with open_slide(path) as slide:
        size = int(1000 * 0.25 / mpp)
        dark = (240.0 - slide.read(0, 0, size, size, mpp)[..., 0]) / 200
    assert dark.sum() * mpp**2 == pytest.approx(100 * 100, rel=0.01)
    rows, columns = np.mgrid[:size, :size] + 0.5
    assert (dark * columns).sum() / dark.sum() * mpp == pytest.approx(100, abs=0.15)
    assert (dark * rows).sum() / dark.sum() * mpp == pytest.approx(125, abs=0.15)


def test_within_one_percent_a_level_is_read_as_it_is(folder, image):
    with open_slide(write_slide(folder / "close.tif", image, mpp=0.2525, compression="zlib")) as slide:
        assert (slide.scale(0.25), slide.scale(0.5), slide.scale(1.0)) == (1, 2, 4)
        assert slide.scale(0.3) == pytest.approx(0.3 / 0.2525)
        assert np.array_equal(slide.read(7, 9, 50, 40, 0.25), image[9:49, 7:57])


def test_pixels_are_not_invented(slide):
    assert slide.read(0, 0, 10, 10, 0.24).shape == (10, 10, 3)
    with pytest.raises(SlideError, match=r"plain.tif: 0.125 microns.*finest level has 0.25; ask for 0.25 or more"):
        slide.read(0, 0, 10, 10, 0.125)


def test_a_region_is_the_callers_own(slide):
    for region in (slide.read(0, 0, 256, 256), slide.read(0, 0, 256, 256), slide.thumbnail(64)):
        region[:] = 0
    assert slide.read(0, 0, 256, 256).any()


def test_a_region_of_many_bytes_is_refused(slide):
    with pytest.raises(SlideError, match=r"20000 x 20000 pixels asked for at once, 1,200 MB; at most 500"):
        slide.read(0, 0, 20000, 20000)


def test_a_region_without_pixels_is_refused(slide):
    with pytest.raises(SlideError, match="0 x 5 pixels asked for; expected 1 x 1 or more"):
        slide.read(0, 0, 0, 5)


def test_threads_share_a_slide(slide):
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 800, (40, 2))
    expected = slide.read_tiles(corners, 100, 0.5)
    with open_slide(slide.path) as fresh, ThreadPoolExecutor(8) as pool:
        tiles = list(pool.map(lambda at: fresh.read(int(at[0]), int(at[1]), 100, 100, 0.5), corners))
    assert np.array_equal(expected, np.stack(tiles))


def test_segments_without_bytes_are_white(folder, image):
    path = folder / "sparse.tif"
    tiles = (None if i == 1 else image[:256, :256] for i in range(4))
    form = {"tile": (256, 256), "photometric": "rgb", "compression": "zlib", "metadata": None}
    tifffile.imwrite(
        path, tiles, shape=(512, 512, 3), dtype=np.uint8, resolution=(2e4, 2e4), resolutionunit="CENTIMETER", **form
    )
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].databytecounts[1] == 0
    with open_slide(path) as slide:
        region = slide.read(0, 0, 512, 512)
    assert (region[:256, 256:] == 255).all()
    assert np.array_equal(region[:256, :256], image[:256, :256])


def test_the_thumbnail_shows_the_whole_slide(slide, single):
    for one in (slide, single):
        small = one.thumbnail(110)
        assert small.shape == (90, 110, 3)
        assert difference(small, slide.read(0, 0, 110, 90, 2.5)) < 1.5
    assert slide.thumbnail(10_000).shape == (900, 1100, 3)


def test_plain_images_are_slides_of_one_level(folder, image):
    Image.fromarray(image).save(folder / "a.png")
    Image.fromarray(image).save(folder / "a.jpg", dpi=(50_800, 50_800), quality=95)
    tifffile.imwrite(folder / "strips.tif", image, photometric="rgb", resolution=(2e4, 2e4), resolutionunit=3)
    for name, mpp in (("a.png", 0.5), ("a.jpg", None), ("strips.tif", None)):
        with open_slide(folder / name, mpp) as slide:
            assert (slide.backend, slide.mpp, len(slide.levels)) == ("image", pytest.approx(0.5), 1)
            assert difference(slide.read(10, 20, 300, 200), image[20:220, 10:310]) < 4


def test_what_is_transparent_is_white(folder, image):
    clear = np.dstack([image, np.zeros(image.shape[:2], np.uint8)])
    clear[:100, :, 3] = 255
    Image.fromarray(clear).save(folder / "clear.png", compress_level=1)
    with open_slide(folder / "clear.png", 0.5) as slide:
        assert (slide.read(0, 100, 200, 200) == 255).all()
        assert np.array_equal(slide.read(0, 0, 200, 100), image[:100, :200])


def test_the_resolution_can_be_given(folder, image):
    path = write_slide(folder / "given.tif", image, mpp=None)
    with open_slide(path, mpp=0.4) as slide:
        assert slide.mpp == 0.4
    with open_slide(REAL, mpp=0.25) as slide:
        assert slide.mpp == 0.25


@pytest.mark.parametrize("description", ["generic", "aperio", "ome"])
def test_a_slide_without_resolution_asks_for_it(folder, image, description):
    path = write_slide(folder / f"none-{description}.tif", image, mpp=None, description=description)
    with pytest.raises(SlideError, match=r"none-.*not state its resolution.*Aperio MPP \(absent\).*TIFF XRes.*--mpp"):
        open_slide(path)


def test_the_resolution_of_a_screen_is_none(folder, image):
    path = write_slide(folder / "screen.tif", image, mpp=25_400 / 72)
    with pytest.raises(SlideError, match=r"352.8 microns per pixel, which no slide scanner has.*--mpp"):
        open_slide(path)


def test_pixels_that_are_not_square_are_refused(folder, image):
    path = folder / "flat.tif"
    tifffile.imwrite(path, image, tile=(256, 256), photometric="rgb", resolution=(2e4, 1e4), resolutionunit=3)
    with pytest.raises(SlideError, match=r"states 0.5 x 1 microns per pixel; only square"):
        open_slide(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95])
@pytest.mark.parametrize("kind", ["real.svs", "pages.tif", "subifds.tif", "a.png", "a.jpg"])
def test_a_truncated_slide_is_named(folder, image, kind, share):
    whole = folder / f"whole-{kind}"
    if kind == "real.svs":
        whole = REAL
    elif kind.endswith("tif"):
        write_slide(whole, image, layout=kind.removesuffix(".tif"))
    else:
        Image.fromarray(image).save(whole)
    cut = folder / f"cut-{kind}"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    with pytest.raises(SlideError, match=rf"cut-{kind}: .*truncated.*copy it again"):
        open_slide(cut, mpp=0.5)


def test_a_damaged_tile_is_named(folder, image):
    path = write_slide(folder / "damaged.tif", image, levels=(1, 4))
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[2]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(200))
    with open_slide(path) as slide:
        slide.read(0, 0, 100, 100)
        with pytest.raises(SlideError, match=r"damaged.tif: tile 2 of level 0 cannot be decoded.*damaged"):
            slide.read(520, 0, 100, 100)


def test_what_is_no_slide_is_named(tmp_path):
    (tmp_path / "text.svs").write_text("no slide " * 9)
    (tmp_path / "empty.svs").touch()
    with pytest.raises(SlideError, match=r"text.svs: no backend can read this file"):
        open_slide(tmp_path / "text.svs")
    with pytest.raises(SlideError, match=r"empty.svs is empty \(0 bytes\)"):
        open_slide(tmp_path / "empty.svs")
    with pytest.raises(SlideError, match=r"txt.svs does not exist. Did you mean 'text.svs'"):
        open_slide(tmp_path / "txt.svs")
    with pytest.raises(SlideError, match="is a folder"):
        open_slide(tmp_path)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_asked_for_by_name_says_what_it_cannot_read(backend, tmp_path, capfd):
    (tmp_path / "text.svs").write_text("no slide " * 9)
    with pytest.raises(SlideError, match=r"text.svs: "):
        open_slide(tmp_path / "text.svs", mpp=0.5, backend=backend)


def test_a_backend_that_there_is_not_is_named_with_those_that_there_are():
    with pytest.raises(SlideError, match=r"unknown backend 'cucim'. Valid: image, openslide, tifffile"):
        open_slide(REAL, backend="cucim")
    with pytest.raises(StudyError, match=r"Unknown slide backend 'monai'.*Valid: image, openslide, tifffile"):
        EmbedOptions(backend="monai")
    with pytest.raises(SlideError, match=r"unknown backend 'tiffile'. Did you mean 'tifffile'"):
        open_slide(REAL, backend="tiffile")


@pytest.mark.parametrize("mpp", [0, -1, 101, float("nan")])
def test_a_resolution_that_cannot_be_is_refused(slide, mpp):
    with pytest.raises(SlideError, match=r"expected a number above 0 and at most 100"):
        open_slide(REAL, mpp=mpp)
    with pytest.raises(SlideError, match=r"expected a number above 0 and at most 100"):
        slide.read(0, 0, 10, 10, mpp)


def test_pixels_that_are_not_8_bit_rgb_are_refused(folder, image):
    form = {"tile": (256, 256), "resolution": (2e4, 2e4), "resolutionunit": 3}
    tifffile.imwrite(folder / "deep.tif", image.astype(np.uint16), photometric="rgb", **form)
    tifffile.imwrite(folder / "grey.tif", image[..., 0], **form)
    with pytest.raises(SlideError, match=r"deep.tif: 3 channels of uint16; expected RGB of 8 bits"):
        open_slide(folder / "deep.tif")
    with pytest.raises(SlideError, match=r"grey.tif: 1 channel.* of uint8; expected RGB of 8 bits"):
        open_slide(folder / "grey.tif")


def test_several_focal_planes_are_refused(folder, image):
    path = folder / "planes.tif"
    tifffile.imwrite(path, np.stack([image, image]), tile=(256, 256), photometric="rgb")
    with pytest.raises(SlideError, match=r"planes.tif: several images of full size"):
        open_slide(path, mpp=0.5)


def test_an_untiled_image_of_many_bytes_is_refused(folder):
    (folder / "large.ppm").write_bytes(b"P6 20000 20000 255 ")
    with pytest.raises(SlideError, match=r"large.ppm: .*read whole, at most 500 MB. Convert it to a tiled pyramid"):
        open_slide(folder / "large.ppm", mpp=0.5)


LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
MEASURE = """
import sys
from pathlib import Path
from multimodn.slides.reader.open import open_slide
from multimodn.slides.tiles.tiling import Tiling, tile_grid
from multimodn.slides.tiles.tissue import find_tissue

with open_slide(sys.argv[1]) as slide:
    tissue = find_tissue(slide)
    xy = tile_grid(slide, tissue, Tiling(size=256))
    assert len(xy) > 100
    for start in range(0, len(xy), 64):
        slide.read_tiles(xy[start : start + 64], 256, 0.5)
    assert slide.thumbnail().shape == (1024, 1024, 3)
# not getrusage: that of a child begins with the memory of the process that started it
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)
"""


def peak_megabytes(path):
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, str(path)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(answer.stdout)


def large_slide(path, size, levels):
    """Repeats the tiles of a small picture over a large slide; the pixels would take 3 x size x size bytes."""
    image = picture(512, 512, blobs=((0.5, 0.5, 0.9),))
    form = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg", "metadata": None, "dtype": np.uint8}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for k in levels:
            n = -(-size // k // 256)
            glass, tile = np.full((256, 256, 3), 244, np.uint8), image[:256, :256]
            tiles = (tile if n // 4 <= i // n < n // 2 else glass for i in range(n * n))
            shape = (size // k, size // k, 3)
            file.write(
                tiles, shape=shape, subfiletype=int(k > 1), resolution=(2e4, 2e4), resolutionunit="CENTIMETER", **form
            )
    return path


@LINUX
def test_a_slide_without_small_levels_is_read_in_bounded_memory(tmp_path):
    assert peak_megabytes(large_slide(tmp_path / "l.tif", 8192, (1,))) < 1000


@pytest.mark.slow
def test_a_slide_of_40_000_pixels_is_read_in_less_than_2_gb(tmp_path):
    assert peak_megabytes(large_slide(tmp_path / "l.tif", 40_000, (1, 4, 16))) < 2000
