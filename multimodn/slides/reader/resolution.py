"""The resolution of a slide, from what its file states."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multimodn.slides.reader.slide import Level, SlideError

FINEST, COARSEST = 0.02, 20.0  # plausible microns per pixel; others are defaults of programs, such as 72 dpi
SQUARE = 0.02  # share by which the sides of a square pixel may differ
TO_MICRONS = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "um": 1.0, "nm": 1e-3}
TIFF_UNITS = {2: 25_400.0, 3: 10_000.0}  # inch, centimetre, in microns


@dataclass(frozen=True)
class Statement:
    """The resolution that one place of a file states."""

    source: str  # the place, such as ``Aperio MPP``
    x: float | None  # microns per pixel, horizontally; None = not stated
    y: float | None  # microns per pixel, vertically


def resolve(path: Path, statements: Sequence[Statement]) -> float:
    """Returns the first plausible resolution, microns per pixel; a SlideError if there is none, or not of squares."""
    rejected = list[str]()
    for statement in statements:
        x, y = statement.x, statement.y
        if x is None or y is None:
            rejected.append(f"{statement.source} (absent)")
        elif not (FINEST <= x <= COARSEST and FINEST <= y <= COARSEST):
            rejected.append(f"{statement.source} ({x:.4g} microns per pixel, which no slide scanner has)")
        elif abs(x - y) > SQUARE * max(x, y):
            raise SlideError(
                f"{path}: {statement.source} states {x:.4g} x {y:.4g} microns per pixel; only square pixels are read. "
                f"If this is wrong, give the right one with --mpp (mpp=)."
            )
        else:
            return (x + y) / 2
    raise SlideError(
        f"{path}: the file does not state its resolution. Read: {', '.join(rejected)}. Give the microns per pixel "
        f"of its finest level with --mpp (mpp=): about 0.25 for a 40x scan, 0.5 for 20x; for slides of several "
        f"scanners with --mpp-table FILE.csv (mpp_table=)."
    )


def tiff_statements(page: Any) -> list[Statement]:
    """Reads the resolution from a TIFF page: Aperio's description, OME-XML, resolution tags."""
    description = str(page.description or "")
    aperio = _number(re.search(r"\bMPP\s*=\s*([0-9.]+)", description))
    return [
        Statement("Aperio MPP", aperio, aperio),
        Statement("OME PhysicalSizeX/Y", _ome(description, "X"), _ome(description, "Y")),
        Statement("TIFF XResolution/YResolution", _tag(page, "XResolution"), _tag(page, "YResolution")),
    ]


def levels_of(sizes: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """Returns pyramid levels of sizes ``(width, height)``, finest first.

    A level is 1/k of the slide exactly where its size is that of level 0 divided by a whole number k and rounded
    up or down; the quotient of rounded sizes would be off by a little, and each tile by a pixel.
    """
    full_width, full_height = sizes[0]

    def downsample(width: int, height: int) -> float:
        mean = (full_width / width + full_height / height) / 2
        whole = round(mean)
        is_whole = abs(full_width / whole - width) < 1 and abs(full_height / whole - height) < 1
        return float(whole) if is_whole else mean

    return tuple(Level(width, height, downsample(width, height)) for width, height in sizes)


def _number(match: re.Match[str] | None) -> float | None:
    try:
        value = float(match.group(1)) if match else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None


def _ome(description: str, axis: str) -> float | None:
    if "<OME" not in description:
        return None
    value = _number(re.search(rf'\bPhysicalSize{axis}="([0-9.eE+-]+)"', description))
    unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]+)"', description)
    factor = TO_MICRONS.get(unit.group(1) if unit else "µm")
    return None if value is None or factor is None else value * factor


def _tag(page: Any, name: str) -> float | None:
    tag, unit = page.tags.get(name), page.tags.get("ResolutionUnit")
    microns = TIFF_UNITS.get(int(unit.value)) if unit is not None else None
    if tag is None or microns is None:
        return None
    numerator, denominator = tag.value
    return microns * denominator / numerator if numerator and denominator else None
