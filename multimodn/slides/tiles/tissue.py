"""Finds the tissue of a slide that is stained, in focus and free of ink."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from multimodn.errors import StudyError, import_extra, raise_all
from multimodn.files import replacing
from multimodn.slides.reader.slide import Slide, pillow

BLOCK, WINDOW = 1024, 64  # pixels
INK_SATURATION, GREEN_SATURATION = 0.5, 0.3
BLACK, BLACK_CHROMA = 70, 40
OUTLINE = (18, 130, 75)


@dataclass(frozen=True)
class TissueOptions:
    """How tissue is found.

    Attributes:
        mpp: Microns per pixel of the mask.
        least_saturation: Lower bound of Otsu's threshold, so that the noise of an empty slide is not tissue.
        most_saturation: Upper bound of it, so that a slide full of tissue is not cut in half.
        smallest: Pieces below this area (mm2) are specks, which are left out.
        hole: Holes below this area (mm2) are filled; smaller than a tile, so that no tile is glass.
        ink: Whether blue, green and black ink is left out.
        sharpness: Below this (0 to 1, see `sharpness`) tissue is out of focus and left out; 0 = no check. Tissue of
            OpenSlide's CMU-1 has 0.33 to 0.6; blurred by a Gaussian of 2 microns, 0.13 to 0.31; of 3, 0.07 to 0.19.
        focus_mpp: Microns per pixel at which sharpness is measured.
    """

    mpp: float = 8.0
    least_saturation: float = 0.05
    most_saturation: float = 0.15
    smallest: float = 0.01
    hole: float = 0.005
    ink: bool = True
    sharpness: float = 0.2
    focus_mpp: float = 2.0

    def __post_init__(self) -> None:
        expected = {
            "0 < focus_mpp <= mpp <= 100": 0 < self.focus_mpp <= self.mpp <= 100,
            "0 <= least_saturation <= most_saturation <= 1": 0 <= self.least_saturation <= self.most_saturation <= 1,
            "smallest and hole >= 0": self.smallest >= 0 and self.hole >= 0,
            "0 <= sharpness < 1": 0 <= self.sharpness < 1,
        }
        wrong = [rule for rule, holds in expected.items() if not holds]
        raise_all([f"expected {rule}." for rule in wrong], StudyError, f"{self}")


@dataclass(frozen=True)
class Tissue:
    """A tissue mask."""

    mask: NDArray[np.bool_]  # ``(h, w)``
    downsample: float  # level-0 pixels per mask pixel
    fraction: float  # share of the mask that is tissue


def find_tissue(slide: Slide, options: TissueOptions | None = None) -> Tissue:
    """Finds tissue that is stained, in focus and free of ink.

    Smoothed saturation (HSV) above Otsu's threshold (1979); small holes are filled, ink and specks removed, then what
    is out of focus. The mask is at `TissueOptions.mpp`, or the slide's own resolution where that is coarser.
    """
    options = options or TissueOptions()
    scale = slide.scale(max(options.mpp, slide.mpp))
    width, height = int(np.ceil(slide.width / scale)), int(np.ceil(slide.height / scale))
    image = slide.read(0, 0, width, height, slide.mpp * scale)
    per_mm2 = 1e6 / (slide.mpp * scale) ** 2
    mask = ~_without_small(~_stained(image, options), options.hole * per_mm2)
    if options.ink:
        mask &= ~ink(image)
    mask = _without_small(mask, options.smallest * per_mm2)
    if options.sharpness > 0 and mask.any():
        mask = _without_small(mask & _in_focus(slide, mask, scale, options), options.smallest * per_mm2)
    return Tissue(mask, scale, float(mask.mean()))


def saturation(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns the saturation of HSV, 0 to 1."""
    top = image.max(axis=-1).astype(np.float32)
    return np.asarray((top - image.min(axis=-1)) / np.maximum(top, 1), dtype=np.float32)


def ink(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Returns where ``image`` shows ink, with a margin: strong blue or green, or black.

    Haematoxylin and eosin pass red better than green everywhere, and a blue counterstain is pale; ink passes red least
    and has a strong colour.
    """
    red, green, blue = (image[..., i].astype(np.int16) for i in range(3))
    colour = saturation(image)
    is_green = (green > blue) & (green > red + 10) & (colour > GREEN_SATURATION)
    is_blue = (red < green) & (green <= blue) & (colour > INK_SATURATION)
    is_black = (image.max(axis=-1) < BLACK) & (image.max(axis=-1) - image.min(axis=-1) < BLACK_CHROMA)
    strokes = ndimage.binary_opening(is_green | is_blue | is_black, iterations=1)
    return np.asarray(ndimage.binary_dilation(strokes, iterations=3), dtype=np.bool_)


def sharpness(grey: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """Returns the share of the local gradient that a small blur removes, 0 (blurred already) to 1, around each pixel.

    Crete et al., The blur effect: perception and estimation with a new no-reference perceptual blur metric, SPIE 6492,
    2007, in windows: 1 minus the ratio of mean absolute gradients after and before a 3 x 3 mean.
    """
    before, after = (
        ndimage.uniform_filter(np.abs(np.gradient(x, axis=0)) + np.abs(np.gradient(x, axis=1)), window)
        for x in (grey, ndimage.uniform_filter(grey, 3))
    )
    return np.asarray(1 - after / np.maximum(before, 1e-3), dtype=np.float32)


def draw_tissue(slide: Slide, tissue: Tissue, file: Path) -> None:
    """Writes the slide as a small PNG, with the tissue outlined and the rest dimmed."""
    image = pillow()
    picture = slide.thumbnail(1600)
    size = (picture.shape[1], picture.shape[0])
    covered = (round(slide.width / tissue.downsample), round(slide.height / tissue.downsample))
    mask = image.fromarray(tissue.mask).crop((0, 0, *covered)).resize(size, image.Resampling.NEAREST)
    inside = np.asarray(mask)
    edge = ndimage.binary_dilation(inside, iterations=2) & ~ndimage.binary_erosion(inside, iterations=1, border_value=1)
    drawn = np.where(inside[..., None], picture, (picture * 0.6 + 255 * 0.4).astype(np.uint8))
    drawn[edge] = OUTLINE
    with replacing(file) as temporary:
        image.fromarray(drawn).save(temporary, format="PNG")


def _stained(image: NDArray[np.uint8], options: TissueOptions) -> NDArray[np.bool_]:
    filters = import_extra("skimage.filters", "Finding tissue", "slides")
    colour = ndimage.gaussian_filter(saturation(image), 1.0)
    threshold = float(filters.threshold_otsu(colour)) if np.ptp(colour) > 0 else 1.0
    return np.asarray(colour > np.clip(threshold, options.least_saturation, options.most_saturation))


def _without_small(mask: NDArray[np.bool_], n_pixels: float) -> NDArray[np.bool_]:
    """Removes pieces of fewer than ``n_pixels``."""
    pieces, _ = ndimage.label(mask)
    is_large = np.bincount(pieces.ravel()) >= n_pixels
    is_large[0] = False
    return np.asarray(is_large[pieces], dtype=np.bool_)


def _in_focus(slide: Slide, mask: NDArray[np.bool_], scale: float, options: TissueOptions) -> NDArray[np.bool_]:
    """Returns where tissue is sharp enough, at the mask's size; measured block by block."""
    fine = slide.scale(max(options.focus_mpp, slide.mpp))
    step = max(1, int(BLOCK * fine / scale))
    focused = np.ones_like(mask)
    for top in range(0, mask.shape[0], step):
        for left in range(0, mask.shape[1], step):
            part = np.s_[top : top + step, left : left + step]
            if mask[part].any():
                focused[part] = _block_focus(slide, mask[part].shape, (left, top), scale, fine) >= options.sharpness
    return focused


def _block_focus(
    slide: Slide, shape: tuple[int, ...], corner: tuple[int, int], scale: float, fine: float
) -> NDArray[np.float32]:
    ratio = scale / fine
    margin = WINDOW // 2
    height, width = (round(side * ratio) + 2 * margin for side in shape)
    x, y = (round(start * scale - margin * fine) for start in corner)
    grey = slide.read(x, y, width, height, slide.mpp * fine).mean(axis=-1, dtype=np.float32)
    rows, columns = (
        np.minimum(((np.arange(side) + 0.5) * ratio).astype(int) + margin, full - 1)
        for side, full in zip(shape, grey.shape, strict=True)
    )
    return np.asarray(sharpness(grey, WINDOW)[np.ix_(rows, columns)])
