"""Opens a slide with the fastest backend that reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from multimodn.errors import did_you_mean, import_extra
from multimodn.slides.reader.backends import ImageSlide, OpenslideSlide
from multimodn.slides.reader.checks import TIFF_STARTS, check_file
from multimodn.slides.reader.slide import Slide, SlideError, UnsuitedError, check_mpp
from multimodn.slides.reader.tifffile import TifffileSlide

BACKENDS: Mapping[str, Callable[[Path, float | None], Slide]]
BACKENDS = {"tifffile": TifffileSlide, "openslide": OpenslideSlide, "image": ImageSlide}
# what OpenSlide calls the TIFF that any reader understands; other vendors' need their own rules, such as overlaps
FOR_TIFFFILE = {None, "aperio", "generic-tiff"}


def open_slide(path: Path | str, mpp: float | None = None, backend: str | None = None) -> Slide:
    """Opens a slide.

    Args:
        path: The file.
        mpp: Microns per pixel at level 0, where the file states none or a wrong one.
        backend: One of `BACKENDS`; None = by format: `tifffile` for tiled TIFF (Aperio SVS, OME-TIFF, generic),
            `openslide` for the scanner formats it reads, `image` (Pillow) for PNG, JPEG and untiled TIFF.

    Raises:
        SlideError: If it does not exist, is empty, truncated or of an unknown format, or has no resolution.
        MissingExtraError: If the library that reads it is not installed.
    """
    path = Path(path)
    if backend is not None and backend not in BACKENDS:
        raise SlideError(f"{path}: unknown backend '{backend}'.{did_you_mean(backend, BACKENDS)}")
    if mpp is not None:
        check_mpp(mpp, "given", path)
    check_file(path)
    if backend is not None:
        return BACKENDS[backend](path, mpp)
    problems = list[str]()
    for candidate in _candidates(path):
        try:
            return BACKENDS[candidate](path, mpp)
        except UnsuitedError as error:
            problems.append(f"{candidate}: {str(error).removeprefix(f'{path}: ')}")
    raise SlideError(f"{path}: no backend can read this file. " + " ".join(problems))


def _candidates(path: Path) -> list[str]:
    """Returns the backends to try for a file, in order."""
    with path.open("rb") as file:
        is_tiff = file.read(4) in TIFF_STARTS
    vendor = import_extra("openslide", "Reading a slide", "slides").OpenSlide.detect_format(path)
    first = ["tifffile"] if is_tiff and vendor in FOR_TIFFFILE else []
    return first + (["openslide"] if vendor else []) + ["image"]
