"""Opens a slide with the fastest backend that reads it."""

from __future__ import annotations

from pathlib import Path

from multimodn.errors import did_you_mean
from multimodn.slides.reader.slide import BACKENDS, Slide, SlideError, UnsuitedError, check_mpp


def open_slide(path: Path | str, mpp: float | None = None, backend: str | None = None) -> Slide:
    """Opens a slide.

    Args:
        path: The file.
        mpp: Microns per pixel at level 0, where the file states none or a wrong one.
        backend: One of `BACKENDS`; None = by format: `tifffile` for tiled TIFF (Aperio SVS, OME-TIFF, generic),
            `openslide` for the scanner formats it knows, `image` (Pillow) for PNG, JPEG and untiled TIFF.

    Raises:
        SlideError: If it does not exist, is empty, truncated or of no known format, or has no resolution.
        MissingExtraError: If the library that reads it is not installed.
    """
    path = Path(path)
    if backend is not None and backend not in BACKENDS:
        raise SlideError(f"{path}: unknown backend '{backend}'.{did_you_mean(backend, BACKENDS)}")
    if mpp is not None:
        check_mpp(mpp, "given", path)
    from multimodn.slides.reader.backends import open_with, suited
    from multimodn.slides.reader.checks import check_file

    check_file(path)
    if backend is not None:
        return open_with(backend, path, mpp)
    problems = list[str]()
    for candidate in suited(path):
        try:
            return open_with(candidate, path, mpp)
        except UnsuitedError as error:
            problems.append(f"{candidate}: {str(error).removeprefix(f'{path}: ')}")
    raise SlideError(f"{path}: no reader takes this file. " + " ".join(problems))
