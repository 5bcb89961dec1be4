import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn.errors import StudyError
from multimodn.slides.reader.open import open_slide
from multimodn.slides.reader.slide import SlideError
from multimodn.slides.tiles.tiling import Tiling, tile_extent, tile_grid
from multimodn.slides.tiles.tissue import Tissue, find_tissue
from tests.slides.test_reading import REAL


def stand_in(width, height, scale):
    return SimpleNamespace(width=width, height=height, scale=lambda mpp: scale)


@st.composite
def slides(draw):
    width, height = draw(st.integers(20, 400)), draw(st.integers(20, 400))
    downsample = draw(st.sampled_from([1.0, 4.0, 7.3, 16.0]))
    shape = math.ceil(height / downsample), math.ceil(width / downsample)
    mask = np.random.default_rng(draw(st.integers(0, 99))).random(shape) < draw(st.floats(0, 1))
    return stand_in(width, height, draw(st.sampled_from([1.0, 2.0, 1.37]))), Tissue(mask, downsample, mask.mean())


tilings = st.builds(
    Tiling,
    size=st.integers(5, 60),
    overlap=st.sampled_from([0.0, 0.25, 0.5]),
    tissue=st.sampled_from([0.0, 0.3, 0.5, 1]),
)


def naive(slide, tissue, tiling):
    """One tile after the other, each mask pixel weighed by what of it lies in the tile."""
    side, d = tiling.size * slide.scale(tiling.mpp), tissue.downsample
    step, found = max(1.0, side * (1 - tiling.overlap)), []
    height, width = tissue.mask.shape

    def weights(start, n):
        return np.array([max(0.0, min(start + side, (i + 1) * d) - max(start, i * d)) for i in range(n)])

    # a tile whose start fits only because it is rounded down is left out
    n_rows, n_columns = (max(0, math.floor((n - side) / step + 1e-9) + 1) for n in (slide.height, slide.width))
    for row in range(n_rows):
        for column in range(n_columns):
            x, y = math.floor(column * step + 0.5), math.floor(row * step + 0.5)
            if x + side <= slide.width and y + side <= slide.height:
                share = weights(y, height) @ tissue.mask @ weights(x, width) / side**2
                if share >= tiling.tissue - 1e-9:
                    found.append((x, y))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


@given(slides(), tilings)
def test_tiles_are_those_of_a_loop_over_tiles(given_slide, tiling):
    slide, tissue = given_slide
    assert np.array_equal(tile_grid(slide, tissue, tiling), naive(slide, tissue, tiling))


@given(slides(), tilings)
def test_tiles_lie_inside_the_slide_in_rows(given_slide, tiling):
    slide, tissue = given_slide
    xy = tile_grid(slide, tissue, tiling)
    side = tiling.size * slide.scale(tiling.mpp)
    assert xy.dtype == np.int64
    assert (xy >= 0).all()
    assert (xy + side <= [slide.width, slide.height]).all()
    assert [tuple(at) for at in xy[:, ::-1]] == sorted({tuple(at) for at in xy[:, ::-1]})


@given(overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75]), size=st.sampled_from([16, 32, 64]))
def test_overlap_is_the_share_that_neighbours_have_in_common(overlap, size):
    everywhere = Tissue(np.ones((50, 50), bool), 8.0, 1.0)
    xy = tile_grid(stand_in(400, 400, 2.0), everywhere, Tiling(size=size, overlap=overlap))
    for axis in (0, 1):
        assert set(np.diff(np.unique(xy[:, axis]))) == {2 * size * (1 - overlap)}


def test_glass_has_no_tiles():
    glass = Tissue(np.zeros((10, 10), bool), 8.0, 0.0)
    assert tile_grid(stand_in(80, 80, 1.0), glass, Tiling(size=16)).shape == (0, 2)


def test_a_slide_smaller_than_a_tile_has_no_tiles():
    tissue = Tissue(np.ones((10, 10), bool), 8.0, 1.0)
    assert tile_grid(stand_in(80, 80, 1.0), tissue, Tiling(size=81)).shape == (0, 2)
    assert tile_grid(stand_in(80, 80, 1.0), tissue, Tiling(size=80)).tolist() == [[0, 0]]


def test_tiles_of_a_real_slide_show_tissue():
    with open_slide(REAL) as slide:
        tiling = Tiling(size=128, tissue=0.9)
        xy = tile_grid(slide, find_tissue(slide), tiling)
        tiles = slide.read_tiles(xy, 128, 0.5)
    assert tile_extent(slide, tiling) == 128
    assert 50 < len(xy) < 17 * 23
    assert tiles.mean(axis=(1, 2, 3)).max() < 235
    assert np.median(tiles) < 200


def test_tiles_finer_than_the_slide_are_refused():
    with open_slide(REAL) as slide, pytest.raises(SlideError, match=r"finest level has 0.499"):
        tile_extent(slide, Tiling(mpp=0.25))


@pytest.mark.parametrize("wrong", [{"size": 0}, {"overlap": 1.0}, {"overlap": -0.1}, {"tissue": 1.1}])
def test_tilings_that_cannot_be_are_refused(wrong):
    with pytest.raises(StudyError, match="expected"):
        Tiling(**wrong)
