"""OpenSlide and Pillow as readers of slides, each behind the class `Slide`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodn.errors import import_extra
from multimodn.slides.reader.resolution import Statement, levels_of, resolve
from multimodn.slides.reader.slide import CONVERT, MAX_BYTES, WHITE, Slide, SlideError, UnsuitedError


class OpenslideSlide(Slide):
    """A slide of a format that OpenSlide reads: MIRAX, Hamamatsu, Leica, Philips, Ventana, Zeiss, DICOM, ..."""

    backend = "openslide"

    def __init__(self, path: Path, mpp: float | None = None) -> None:
        openslide = import_extra("openslide", "Reading a slide", "slides")
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideUnsupportedFormatError:
            raise UnsuitedError(f"{path}: not a format that OpenSlide reads.") from None
        except openslide.OpenSlideError as error:
            raise SlideError(f"{path}: damaged or truncated ({error}); copy it again.") from None
        self._error = openslide.OpenSlideError
        if mpp is None:
            mpp = resolve(path, _openslide_statements(self._slide.properties))
        super().__init__(path, mpp, levels_of(self._slide.level_dimensions))

    def close(self) -> None:
        """Closes the file."""
        self._slide.close()

    def _pixels(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        downsample = self.levels[level].downsample
        corner = round(x * downsample), round(y * downsample)
        try:
            return _on_white(self._slide.read_region(corner, level, (width, height)))
        except self._error as error:
            raise SlideError(f"{self.path}: damaged ({error}); copy it again.") from None


class ImageSlide(Slide):
    """A plain image, such as PNG, JPEG or untiled TIFF, held whole in memory: at most 500 MB."""

    backend = "image"

    def __init__(self, path: Path, mpp: float | None = None) -> None:
        pillow = import_extra("PIL.Image", "Reading a slide", "slides")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of many pixels, and of metadata that nothing here reads
                image = pillow.open(path)
            with image:
                if 3 * image.width * image.height > MAX_BYTES:
                    raise pillow.DecompressionBombError(f"{image.width} x {image.height} pixels")
                if mpp is None:
                    x, y = (25_400 / float(dpi) if dpi else None for dpi in image.info.get("dpi", (None, None)))
                    mpp = resolve(path, [Statement("the image's dots per inch", x, y)])
                if image.mode not in ("RGB", "RGBA", "L", "LA", "P", "PA", "CMYK", "YCbCr", "1"):
                    raise SlideError(f"{path}: pixels of mode {image.mode}; expected 8 bits per channel.")
                self._image = _on_white(image)
        except pillow.DecompressionBombError as error:
            limit = f"an image that is not tiled is read whole, at most {MAX_BYTES / 1e6:.0f} MB."
            raise SlideError(f"{path}: {error}; {limit} {CONVERT}") from None
        except pillow.UnidentifiedImageError:
            raise UnsuitedError(f"{path}: not an image that Pillow reads.") from None
        except (OSError, SyntaxError) as error:
            raise SlideError(f"{path}: damaged or truncated ({error}); copy it again.") from None
        super().__init__(path, mpp, levels_of([(self._image.shape[1], self._image.shape[0])]))
        self._image.flags.writeable = False

    def close(self) -> None:
        """Closes the file."""
        self._image = np.empty((0, 0, 3), dtype=np.uint8)

    def _pixels(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        return self._image[y : y + height, x : x + width]


def _on_white(image: Any) -> NDArray[np.uint8]:
    """Returns RGB; transparent pixels are white."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        pixels = np.asarray(image.convert("RGBA"))
        alpha = pixels[..., 3:].astype(np.uint16)
        if alpha.min(initial=255) == 255:
            return np.ascontiguousarray(pixels[..., :3])
        return ((pixels[..., :3] * alpha + WHITE * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.asarray(image.convert("RGB"))


def _openslide_statements(properties: Mapping[str, str]) -> list[Statement]:
    def number(key: str, per: float | None = None) -> float | None:
        value = float(properties.get(key) or 0)
        return None if value <= 0 else (value if per is None else per / value)

    per = {"inch": 25_400.0, "centimeter": 10_000.0}.get(properties.get("tiff.ResolutionUnit", ""))
    tags = [None, None] if per is None else [number(f"tiff.{axis}Resolution", per) for axis in "XY"]
    return [
        Statement("openslide.mpp-x/mpp-y", number("openslide.mpp-x"), number("openslide.mpp-y")),
        Statement("TIFF XResolution/YResolution", *tags),
    ]
