"""The libraries that read slides, each behind the same class; and which of them to try for a file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodn.errors import MissingExtraError
from multimodn.slides.reader.checks import TIFF_STARTS
from multimodn.slides.reader.resolution import Statement, levels_of, resolve, tiff_statements
from multimodn.slides.reader.slide import CONVERT, MAX_BYTES, WHITE, Level, Slide, SlideError, UnsuitedError
from multimodn.slides.reader.tifffile import TifffileSlide

FOR_TIFFFILE = {None, "aperio", "generic-tiff"}
"""What OpenSlide calls the TIFF that any reader understands; other vendors' need their own rules, such as overlaps."""


class OpenslideSlide(Slide):
    """Whatever OpenSlide reads: MIRAX, Hamamatsu, Leica, Philips, Ventana, Zeiss, DICOM, ..."""

    backend = "openslide"

    def __init__(self, path: Path, mpp: float | None = None) -> None:
        openslide = _library("openslide")
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideUnsupportedFormatError:
            raise UnsuitedError(f"{path}: not a format that OpenSlide knows.") from None
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
        at = _level_0(self.levels[level], x, y)
        try:
            image = self._slide.read_region(at, level, (width, height))
        except self._error as error:
            raise SlideError(f"{self.path}: damaged ({error}); copy it again.") from None
        return _on_white(image)


class CucimSlide(Slide):
    """Tiled TIFF read by cuCIM, on the processor."""

    backend = "cucim"

    def __init__(self, path: Path, mpp: float | None = None) -> None:
        try:
            cucim = import_module("cucim")
            tifffile = import_module("tifffile")
        except ImportError as error:
            raise SlideError(f"{path}: backend 'cucim' needs cuCIM: pip install cucim-cu12. ({error})") from None
        try:
            self._slide = cucim.CuImage(str(path))
        except (RuntimeError, ValueError) as error:
            raise UnsuitedError(f"{path}: cuCIM cannot read it ({error}).") from None
        if mpp is None:
            with tifffile.TiffFile(path) as file:
                mpp = resolve(path, tiff_statements(file.pages[0]))
        super().__init__(path, mpp, levels_of(self._slide.resolutions["level_dimensions"]))

    def close(self) -> None:
        """Closes the file."""
        self._slide.close()

    def _pixels(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        try:
            region = self._slide.read_region(_level_0(self.levels[level], x, y), (width, height), level)
        except (RuntimeError, ValueError) as error:
            raise SlideError(f"{self.path}: cuCIM cannot read a region ({error}).") from None
        return np.asarray(region)[..., :3]


class MonaiSlide(Slide):
    """MONAI's `WSIReader` over OpenSlide, for what is built on that interface."""

    backend = "monai"

    def __init__(self, path: Path, mpp: float | None = None) -> None:
        _library("openslide")
        self._reader = _library("monai.data.wsi_reader").WSIReader("openslide")
        self._inner = OpenslideSlide(path, mpp)
        self._slide = self._reader.read(path)
        sizes = [self._reader.get_size(self._slide, i)[::-1] for i in range(self._reader.get_level_count(self._slide))]
        super().__init__(path, self._inner.mpp, levels_of(sizes))

    def close(self) -> None:
        """Closes the file."""
        self._inner.close()
        self._slide.close()

    def _pixels(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        at = _level_0(self.levels[level], x, y)
        region, _ = self._reader.get_data(self._slide, at[::-1], (height, width), level)
        return np.ascontiguousarray(np.moveaxis(region, 0, -1), dtype=np.uint8)


class ImageSlide(Slide):
    """A plain image, such as PNG, JPEG or untiled TIFF, held in memory whole: at most 500 MB."""

    backend = "image"

    def __init__(self, path: Path, mpp: float | None = None) -> None:
        pillow = _library("PIL.Image")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of many pixels, and of metadata that nothing here reads
                image = pillow.open(path)
            with image:
                if 3 * image.width * image.height > MAX_BYTES:
                    raise pillow.DecompressionBombError(f"{image.width} x {image.height} pixels")
                mpp = resolve(path, [_image_statement(image)]) if mpp is None else mpp
                self._image = _on_white(_checked_mode(path, image))
        except pillow.DecompressionBombError as error:
            raise SlideError(
                f"{path}: {error}; an image that is not tiled is read whole, at most {MAX_BYTES / 1e6:.0f} MB. "
                f"{CONVERT}"
            ) from None
        except pillow.UnidentifiedImageError:
            raise UnsuitedError(f"{path}: not an image that Pillow knows.") from None
        except (OSError, SyntaxError) as error:
            raise SlideError(f"{path}: damaged or truncated ({error}); copy it again.") from None
        super().__init__(path, mpp, levels_of([(self._image.shape[1], self._image.shape[0])]))
        self._image.flags.writeable = False

    def close(self) -> None:
        """Closes the file."""
        self._image = np.empty((0, 0, 3), dtype=np.uint8)

    def _pixels(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        return self._image[y : y + height, x : x + width]


OPENERS: Mapping[str, Callable[[Path, float | None], Slide]] = {
    "tifffile": TifffileSlide,
    "openslide": OpenslideSlide,
    "cucim": CucimSlide,
    "image": ImageSlide,
    "monai": MonaiSlide,
}


def open_with(backend: str, path: Path, mpp: float | None) -> Slide:
    """Opens a slide with a named backend; see `open_slide`."""
    return OPENERS[backend](path, mpp)


def suited(path: Path) -> list[str]:
    """Returns the backends to try for a file, in order."""
    with path.open("rb") as file:
        is_tiff = file.read(4) in TIFF_STARTS
    vendor = _library("openslide").OpenSlide.detect_format(path)
    first = ["tifffile"] if is_tiff and vendor in FOR_TIFFFILE else []
    return first + (["openslide"] if vendor else []) + ["image"]


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError("Reading a slide", "slides", error) from None


def _level_0(level: Level, x: int, y: int) -> tuple[int, int]:
    return round(x * level.downsample), round(y * level.downsample)


def _on_white(image: Any) -> NDArray[np.uint8]:
    """Returns RGB; what is transparent is white."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        pixels = np.asarray(image.convert("RGBA"))
        alpha = pixels[..., 3:].astype(np.uint16)
        if alpha.min(initial=255) == 255:
            return np.ascontiguousarray(pixels[..., :3])
        return ((pixels[..., :3] * alpha + WHITE * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.asarray(image.convert("RGB"))


def _checked_mode(path: Path, image: Any) -> Any:
    if image.mode not in ("RGB", "RGBA", "L", "LA", "P", "PA", "CMYK", "YCbCr", "1"):
        raise SlideError(f"{path}: pixels of mode {image.mode}; expected 8 bits per channel.")
    return image


def _image_statement(image: Any) -> Statement:
    x, y = image.info.get("dpi", (None, None))
    return Statement("the image's dots per inch", 25_400 / float(x) if x else None, 25_400 / float(y) if y else None)


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
