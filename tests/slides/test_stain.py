import numpy as np
import pytest

from multimodn.errors import StudyError
from multimodn.slides.reader.open import open_slide
from multimodn.slides.tiles.stain import normaliser
from tests.slides.test_reading import REAL


@pytest.fixture(scope="module")
def tiles():
    with open_slide(REAL) as slide:
        return slide.read_tiles(np.array([[900, 1500], [1000, 2000], [900, 2500]]), 128, 0.5)


def test_none_returns_tiles_as_they_are(tiles):
    assert np.array_equal(normaliser(None)(tiles), tiles)


def test_each_tile_is_normalised_for_itself_and_always_alike(tiles):
    together = normaliser("macenko")(tiles)
    assert (together.shape, together.dtype) == (tiles.shape, np.uint8)
    assert not np.array_equal(together, tiles)
    alone = normaliser("macenko")
    assert np.array_equal(together, np.concatenate([alone(tile[None]) for tile in tiles]))


def test_tiles_of_another_stain_become_more_alike(tiles):
    weaker = (255 * (tiles / 255.0) ** [0.6, 0.75, 0.7]).astype(np.uint8)
    macenko = normaliser("macenko")
    before = np.abs(tiles.astype(float) - weaker).mean()
    after = np.abs(macenko(tiles).astype(float) - macenko(weaker)).mean()
    assert after < before / 3
    assert macenko.n_unchanged == 0


def test_tiles_almost_without_tissue_are_passed_through_and_counted(tiles):
    odd = np.full((3, 128, 128, 3), 245, np.uint8)
    odd[1, :3, :3] = (120, 60, 140)
    odd[2] = tiles[0]
    macenko = normaliser("macenko")
    result = macenko(odd)
    assert np.array_equal(result[:2], odd[:2])
    assert not np.array_equal(result[2], odd[2])
    assert macenko.n_unchanged == 2


def test_no_tiles_stay_no_tiles():
    assert normaliser("macenko")(np.empty((0, 64, 64, 3), np.uint8)).shape == (0, 64, 64, 3)


def test_the_tiles_given_are_not_changed(tiles):
    before = tiles.copy()
    normaliser("macenko")(tiles)
    assert np.array_equal(tiles, before)


def test_a_mistyped_name_is_corrected():
    with pytest.raises(StudyError, match=r"Unknown stain normalisation 'macenco'. Did you mean 'macenko'"):
        normaliser("macenco")
