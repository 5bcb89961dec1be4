"""Checks a slide file before a library opens it: libraries read a truncated file without an error."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

from multimodn.errors import did_you_mean_file
from multimodn.slides.reader.slide import SlideError

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NOT_CHAINED = {".ndpi"}  # Hamamatsu's offsets wrap around at 4 GB and need rules of their own


def check_file(path: Path) -> None:
    """Raises a SlideError unless ``path`` is a file that is not empty and, if it is a TIFF, has all its directories."""
    if path.is_dir():
        raise SlideError(f"{path} is a folder; name a slide file in it.")
    if not path.is_file():
        raise SlideError(f"the file {path} does not exist.{did_you_mean_file(path)}")
    if path.stat().st_size == 0:
        raise SlideError(f"{path} is empty (0 bytes); copy it again.")
    _check_directories(path)


def _check_directories(path: Path) -> None:
    """Raises a SlideError if a directory of a TIFF lies beyond its end: images, such as levels, are lost."""
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4)
        if start not in TIFF_STARTS or path.suffix.lower() in NOT_CHAINED:
            return
        order, is_big = "<" if start[:2] == b"II" else ">", b"+" in start
        seen = set[int]()
        try:
            offset = _number(file, 8 if is_big else 4, order + "IQ"[is_big])
            while offset and offset not in seen:
                seen.add(offset)
                n_entries = _number(file, offset, order + "HQ"[is_big])
                end = offset + (8 + 20 * n_entries if is_big else 2 + 12 * n_entries)
                offset = _number(file, end, order + "IQ"[is_big])
        except (struct.error, OSError, OverflowError):
            problem = f"truncated: {n_bytes:,} bytes, but the directory of its image {len(seen)} lies beyond"
            raise SlideError(f"{path}: {problem}; copy it again.") from None


def _number(file: IO[bytes], offset: int, form: str) -> int:
    file.seek(offset)
    return int(struct.unpack(form, file.read(struct.calcsize(form)))[0])
