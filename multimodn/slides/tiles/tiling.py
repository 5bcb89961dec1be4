"""The grid of tiles of a slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodn.errors import StudyError
from multimodn.slides.reader.slide import Slide
from multimodn.slides.tiles.tissue import Tissue

ROUNDING = 1e-9


@dataclass(frozen=True)
class Tiling:
    """How tiles are cut."""

    size: int = 224  # side of a tile, output pixels
    mpp: float = 0.5  # microns per output pixel; 0.5 is called 20x
    overlap: float = 0.0  # share of its side that a tile has in common with its neighbour, from 0 to below 1
    tissue: float = 0.5  # least share of a tile that must be tissue, from 0 (every tile) to 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise StudyError(f"Tiles of {self.size} pixels; expected a size of 1 or more.")
        if not 0 <= self.overlap < 1:
            raise StudyError(f"Tiles that overlap by {self.overlap:g}; expected a share of the side from 0 to below 1.")
        if not 0 <= self.tissue <= 1:
            raise StudyError(f"Tiles with at least {self.tissue:g} of tissue; expected a share from 0 to 1.")


def tile_extent(slide: Slide, tiling: Tiling) -> int:
    """Returns the side of a tile in level-0 pixels, rounded; a SlideError if ``tiling.mpp`` is finer than the slide."""
    return round(tiling.size * slide.scale(tiling.mpp))


def tile_grid(slide: Slide, tissue: Tissue, tiling: Tiling) -> NDArray[np.int64]:
    """Returns the tiles of a regular grid from (0, 0) that lie inside the slide and have enough tissue.

    They are upper left corners x, y ``(n, 2)`` in level-0 pixels, row by row; for the error see `tile_extent`.
    """
    side = tiling.size * slide.scale(tiling.mpp)
    xs, ys = (_starts(length, side, tiling.overlap) for length in (slide.width, slide.height))
    share = _shares(tissue, xs, ys, side)
    rows, columns = np.nonzero(share >= tiling.tissue - ROUNDING)
    return np.stack([xs[columns], ys[rows]], axis=1)


def _starts(length: int, side: float, overlap: float) -> NDArray[np.int64]:
    """Returns where tiles start along one side, each at the edge of an output pixel of `Slide.read`."""
    step = max(1.0, side * (1 - overlap))
    n = int(max(0, np.floor((length - side) / step + ROUNDING) + 1))
    starts = np.floor(np.arange(n) * step + 0.5).astype(np.int64)
    return np.asarray(starts[starts + side <= length + ROUNDING])


def _shares(tissue: Tissue, xs: NDArray[np.int64], ys: NDArray[np.int64], side: float) -> NDArray[np.float64]:
    """Returns the exact share of tissue of each tile, ``(len(ys), len(xs))``, parts of mask pixels included.

    The integral image of the mask, interpolated linearly between the edges of its pixels, is the area of tissue above
    and to the left of a point; the tissue of a tile is the sum of four of them, with signs.
    """
    height, width = tissue.mask.shape
    area = np.zeros((height + 1, width + 1))
    area[1:, 1:] = tissue.mask.cumsum(0, dtype=np.float64).cumsum(1)
    band = _between(area, ys / tissue.downsample, (ys + side) / tissue.downsample)
    cells = _between(band.T, xs / tissue.downsample, (xs + side) / tissue.downsample).T
    return np.asarray(cells / (side / tissue.downsample) ** 2)


def _between(area: NDArray[Any], first: NDArray[Any], last: NDArray[Any]) -> NDArray[Any]:
    def area_up_to(position: NDArray[Any]) -> NDArray[Any]:
        position = np.clip(position, 0, len(area) - 1)
        below = np.minimum(position.astype(np.int64), len(area) - 2)
        part = (position - below)[:, None]
        return np.asarray(area[below] * (1 - part) + area[below + 1] * part)

    return np.asarray(area_up_to(last) - area_up_to(first))
