"""An open whole-slide image of any format; regions of it are read at a physical resolution."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from multimodn.errors import DataError, import_extra

MAX_BYTES = 500_000_000  # most bytes that one call reads or returns
BLOCK_PIXELS = 4096 * 4096  # most source pixels that are held while a region is scaled down
SAME_RESOLUTION = 0.01  # resolutions that differ by no more than this are the same one: scanners state theirs no better
MAX_UPSAMPLING = 1.05
WHITE = 255
CONVERT = (
    "Convert it to a tiled pyramid, for instance: vips tiffsave in.tif out.tif --tile --pyramid --compression jpeg"
)


class SlideError(DataError):
    """A slide cannot be read, or not as asked; the message names the file and the repair."""


class UnsuitedError(SlideError):
    """This backend does not read this kind of file; another one may."""


@dataclass(frozen=True)
class Level:
    """One level of the pyramid."""

    width: int  # pixels
    height: int  # pixels
    downsample: float  # level-0 pixels per pixel of this level, along either side; 1 for level 0


class Slide(ABC):
    """An open slide; every backend returns the same pixels. Threads may share one.

    A region at ``mpp`` comes from the coarsest pyramid level that is at least as fine. If ``mpp`` is

    - the resolution of the level, within 1 %: its pixels as they are;
    - a whole multiple of it, within 1 %: the mean of each k x k pixels;
    - else: resampled with an antialiasing filter (Hamming window of the width of an output pixel).

    In the first two the region starts on the level's nearest pixel, and `scale` is the size of an output pixel,
    so that neighbouring regions join without gap or seam. Beyond the slide's edge all is white. ``width`` and
    ``height`` are level-0 pixels, ``mpp`` microns per pixel there, ``levels`` the pyramid, finest first.
    """

    backend: str  # the library that reads it

    def __init__(self, path: Path, mpp: float, levels: tuple[Level, ...]) -> None:
        self.path, self.mpp, self.levels = path, mpp, levels
        self.width, self.height = levels[0].width, levels[0].height

    @abstractmethod
    def _pixels(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Returns a window ``(height, width, 3)`` inside a level, in its pixels; cached pixels are read-only."""

    @abstractmethod
    def close(self) -> None:
        """Closes the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def scale(self, mpp: float | None) -> float:
        """Returns level-0 pixels per output pixel at ``mpp`` microns per pixel (None: 1).

        Raises a SlideError if ``mpp`` is no resolution, or more than 5 % finer than level 0: pixels would be invented.
        """
        if mpp is None:
            return 1.0
        check_mpp(mpp, "asked for", self.path)
        if mpp * MAX_UPSAMPLING < self.mpp:
            problem = f"{mpp:g} microns per pixel asked for, but the finest level has {self.mpp:.4g}"
            raise SlideError(f"{self.path}: {problem}; ask for {self.mpp:.4g} or more.")
        scale = mpp / self.mpp
        downsample = self.levels[self._level(scale)].downsample
        whole = max(1, round(scale / downsample))
        return whole * downsample if abs(scale / downsample - whole) <= SAME_RESOLUTION * whole else scale

    def read(self, x: int, y: int, width: int, height: int, mpp: float | None = None) -> NDArray[np.uint8]:
        """Reads a region, RGB ``(height, width, 3)`` at ``mpp`` microns per pixel; None = level 0.

        Its upper left corner x, y is in level-0 pixels.

        Raises:
            SlideError: If ``mpp`` is finer than the slide, the region takes more than 500 MB, or the file is damaged.
        """
        region = self._region(x, y, width, height, self.scale(mpp))
        return region if region.flags.writeable else region.copy()

    def read_tiles(self, xy: NDArray[np.int64], size: int, mpp: float) -> NDArray[np.uint8]:
        """Reads square regions, RGB ``(n, size, size, 3)``, with upper left corners ``(n, 2)``; see `read`."""
        scale = self.scale(mpp)
        if len(xy):
            self._check_bytes(len(xy) * size, size)
        tiles = np.empty((len(xy), size, size, 3), dtype=np.uint8)
        for tile, (x, y) in zip(tiles, xy.tolist(), strict=True):
            tile[:] = self._region(x, y, size, size, scale)
        return tiles

    def thumbnail(self, max_size: int = 1024) -> NDArray[np.uint8]:
        """Returns the whole slide, its longer side at most ``max_size`` pixels, from the smallest suitable level.

        A slide without small levels is read whole, block by block: slowly, but in no more memory.
        """
        scale = max(1.0, max(self.width, self.height) / max_size)
        width, height = (max(1, int(side / scale + 1e-9)) for side in (self.width, self.height))
        return np.array(self._region(0, 0, width, height, scale))

    def _level(self, scale: float) -> int:
        """Returns the coarsest level that is as fine as ``scale`` level-0 pixels per output pixel."""
        fine = [i for i, level in enumerate(self.levels) if level.downsample <= scale * (1 + SAME_RESOLUTION)]
        return fine[-1] if fine else 0

    def _region(self, x: int, y: int, width: int, height: int, scale: float) -> NDArray[np.uint8]:
        self._check_bytes(width, height)
        i = self._level(scale)
        downsample = self.levels[i].downsample
        ratio = scale / downsample
        whole = round(ratio)
        left, top = x / downsample, y / downsample
        if abs(ratio - whole) < 1e-9:
            first, upper = math.floor(left + 0.5), math.floor(top + 0.5)
            if whole == 1:
                return self._window(i, first, upper, width, height)
            return self._blocks(width, height, whole, lambda *block: self._reduced(i, first, upper, whole, *block))
        return self._blocks(width, height, ratio, lambda *block: self._resampled(i, left, top, ratio, *block))

    def _blocks(
        self, width: int, height: int, ratio: float, block: Callable[[int, int, int, int], NDArray[np.uint8]]
    ) -> NDArray[np.uint8]:
        """Fills a region block by block, so that no more than `BLOCK_PIXELS` of a level are held at once."""
        pixels = BLOCK_PIXELS / ratio**2
        rows = max(1, min(height, int(max(pixels / width, math.sqrt(pixels)))))
        columns = max(1, min(width, int(pixels / rows)))
        if rows == height and columns == width:
            return block(0, 0, width, height)
        region = np.empty((height, width, 3), dtype=np.uint8)
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                n_rows, n_columns = min(rows, height - top), min(columns, width - left)
                region[top : top + n_rows, left : left + n_columns] = block(left, top, n_columns, n_rows)
        return region

    def _reduced(
        self, level: int, x: int, y: int, k: int, left: int, top: int, width: int, height: int
    ) -> NDArray[np.uint8]:
        source = self._window(level, x + left * k, y + top * k, width * k, height * k)
        return np.asarray(pillow().fromarray(source).reduce(k))

    def _resampled(
        self, level: int, x: float, y: float, ratio: float, left: int, top: int, width: int, height: int
    ) -> NDArray[np.uint8]:
        margin = math.ceil(ratio) + 1  # what the filter reaches beyond the box, so that blocks join without a seam
        x_from, y_from = x + left * ratio, y + top * ratio
        x_to, y_to = x_from + width * ratio, y_from + height * ratio
        x0, y0 = math.floor(x_from) - margin, math.floor(y_from) - margin
        source = self._window(level, x0, y0, math.ceil(x_to) + margin - x0, math.ceil(y_to) + margin - y0)
        box, image = (x_from - x0, y_from - y0, x_to - x0, y_to - y0), pillow()
        return np.asarray(image.fromarray(source).resize((width, height), image.Resampling.HAMMING, box=box))

    def _window(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Returns a window of a level, white where it reaches beyond the level."""
        size = self.levels[level]
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + width, size.width), min(y + height, size.height)
        if x1 - x0 == width and y1 - y0 == height:
            return self._pixels(level, x, y, width, height)
        window = np.full((height, width, 3), WHITE, dtype=np.uint8)
        if x1 > x0 and y1 > y0:
            window[y0 - y : y1 - y, x0 - x : x1 - x] = self._pixels(level, x0, y0, x1 - x0, y1 - y0)
        return window

    def _check_bytes(self, width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise SlideError(f"{self.path}: {width} x {height} pixels asked for; expected 1 x 1 or more.")
        if 3 * width * height > MAX_BYTES:
            limits = f"{3 * width * height / 1e6:,.0f} MB; at most {MAX_BYTES / 1e6:.0f} MB are read."
            advice = "Read it in parts, or at a coarser resolution (more microns per pixel)."
            raise SlideError(f"{self.path}: {width} x {height} pixels asked for at once, {limits} {advice}")


def check_mpp(mpp: float, what: str, path: Path) -> None:
    """Raises a SlideError unless ``mpp`` can be a resolution: above 0, at most 100 microns per pixel."""
    if not 0 < mpp <= 100:
        raise SlideError(f"{path}: {mpp:g} microns per pixel {what}; expected a number above 0 and at most 100.")


def pillow() -> Any:
    """Returns `PIL.Image`."""
    return import_extra("PIL.Image", "Resampling a slide", "slides")
