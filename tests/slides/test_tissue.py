import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from multimodn.errors import StudyError
from multimodn.slides.reader.open import open_slide
from multimodn.slides.tiles.tissue import TissueOptions, draw_tissue, find_tissue, ink, sharpness
from tests.slides._slides import GLASS, picture, write_slide
from tests.slides.test_reading import REAL


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("slides")


@pytest.fixture(scope="module")
def image():
    return picture(1600, 1200)


def found(folder, image, mpp=0.5, options=None):
    path = write_slide(folder / "slide.tif", image, mpp=mpp, compression="zlib")
    with open_slide(path) as slide:
        return find_tissue(slide, options)


def at(tissue, x, y):
    return bool(tissue.mask[int(y / tissue.downsample), int(x / tissue.downsample)])


def truth(image, k=16):
    is_tissue = ndimage.gaussian_filter(image[..., 1].astype(float), 8) < 220
    return is_tissue[k // 2 :: k, k // 2 :: k]


def test_the_mask_is_the_tissue(folder, image):
    tissue = found(folder, image)
    assert (tissue.mask.shape, tissue.downsample) == ((75, 100), 16)
    assert tissue.mask.dtype == bool
    assert tissue.fraction == tissue.mask.mean()
    expected = truth(image)
    assert (tissue.mask & expected).sum() / (tissue.mask | expected).sum() > 0.93


@pytest.mark.parametrize("noise", [0, 1, 5])
def test_glass_has_no_tissue(folder, noise):
    rng = np.random.default_rng(0)
    glass = np.clip(np.array(GLASS) + rng.normal(0, noise, (600, 800, 3)), 0, 255).astype(np.uint8)
    assert found(folder, glass).fraction == 0


def test_a_slide_full_of_tissue_is_not_cut_in_half(folder):
    assert found(folder, picture(800, 600, blobs=((0.5, 0.5, 3.0),))).fraction > 0.98


def test_holes_and_specks_of_little_area_are_undone_and_larger_ones_kept(folder, image):
    drawn = image.copy()
    drawn[500:560, 480:540] = GLASS  # 30 x 30 microns
    drawn[60:120, 60:120] = (190, 80, 150)
    drawn[700:1000, 1100:1400] = GLASS  # 150 x 150 microns
    drawn[850:1150, 100:400] = image[400:700, 400:700]
    tissue = found(folder, drawn)
    assert at(tissue, 510, 530)
    assert not at(tissue, 90, 90)
    assert not at(tissue, 1250, 850)
    assert at(tissue, 250, 1000)


@pytest.mark.parametrize("colour", [(30, 60, 180), (40, 140, 70), (25, 25, 30), (10, 100, 120)])
def test_ink_is_left_out(folder, image, colour):
    drawn = image.copy()
    drawn[100:1100, 440:520] = colour
    drawn[40:90, 900:1500] = colour
    tissue = found(folder, drawn, options=TissueOptions(smallest=0.005))
    assert not at(tissue, 480, 500)
    assert not at(tissue, 1200, 65)
    assert at(tissue, 350, 480)
    assert at(found(folder, drawn, options=TissueOptions(ink=False, sharpness=0)), 480, 500)


def test_stained_tissue_is_no_ink():
    with open_slide(REAL) as slide:
        marked = ink(slide.thumbnail(400)).mean()
    assert marked < 0.01
    assert not ink(np.full((20, 20, 3), (170, 180, 210), np.uint8)).any()  # a blue counterstain
    assert not ink(np.full((20, 20, 3), (150, 100, 60), np.uint8)).any()  # DAB


@pytest.mark.parametrize("noise", [0, 3])
def test_what_is_out_of_focus_is_left_out(folder, noise):
    rng = np.random.default_rng(0)
    with open_slide(REAL) as slide:
        drawn = slide.read(800, 1500, 1000, 1400)
    drawn[:700] = ndimage.gaussian_filter(drawn[:700], (8, 8, 0))  # 4 microns
    drawn = np.clip(drawn + rng.normal(0, noise, drawn.shape), 0, 255).astype(np.uint8)
    tissue, all_of_it = found(folder, drawn), found(folder, drawn, options=TissueOptions(sharpness=0))
    sharp, blurred = tissue.mask[48:] == all_of_it.mask[48:], tissue.mask[:36]
    assert all_of_it.fraction > 0.8
    assert sharp.mean() > 0.97
    assert blurred.mean() < 0.03


def test_sharpness_falls_with_blur():
    with open_slide(REAL) as slide:
        grey = slide.read(800, 1500, 250, 250, 2.0).mean(-1, dtype=np.float32)
    values = [float(sharpness(ndimage.gaussian_filter(grey, s), 64).mean()) for s in (0, 0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.4
    assert values[-1] < 0.05


def test_a_slide_coarser_than_the_mask_is_read_as_it_is(folder):
    tissue = found(folder, picture(200, 150), mpp=10.0, options=TissueOptions(sharpness=0))
    assert (tissue.mask.shape, tissue.downsample) == ((150, 200), 1)


@pytest.mark.parametrize("mpp", [0.25, 0.27, 0.5])
def test_the_mask_covers_the_slide_whatever_its_resolution(folder, image, mpp):
    tissue = found(folder, image, mpp=mpp, options=TissueOptions(smallest=0.005))
    height, width = tissue.mask.shape
    assert 0 <= width * tissue.downsample - 1600 < tissue.downsample
    assert 0 <= height * tissue.downsample - 1200 < tissue.downsample
    assert tissue.downsample == pytest.approx(8 / mpp, rel=0.01)
    assert tissue.fraction == pytest.approx(truth(image).mean(), rel=0.08)


def test_the_drawing_shows_slide_and_outline(tmp_path):
    with open_slide(REAL) as slide:
        draw_tissue(slide, find_tissue(slide), tmp_path / "new" / "tissue.png")
        thumbnail = slide.thumbnail(1600)
    drawn = np.asarray(Image.open(tmp_path / "new" / "tissue.png"))
    assert drawn.shape == thumbnail.shape
    share = (drawn == thumbnail).all(axis=-1).mean()
    assert 0.3 < share < 0.6
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["tissue.png"]


@pytest.mark.parametrize(
    "wrong", [{"mpp": 0}, {"focus_mpp": 9}, {"least_saturation": 0.3}, {"smallest": -1}, {"hole": -1}, {"sharpness": 2}]
)
def test_options_that_cannot_be_are_refused(wrong):
    with pytest.raises(StudyError, match="expected"):
        TissueOptions(**wrong)
