"""What is checked before any library opens a file: libraries are content with what is left of a truncated one."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

from multimodn.errors import did_you_mean
from multimodn.slides.reader.slide import SlideError

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NOT_CHAINED = {".ndpi"}
"""Hamamatsu's offsets wrap around at 4 GB and need rules of their own."""


def check_file(path: Path) -> None:
    """Raises a SlideError unless ``path`` is a file with something in it, and if TIFF with all its directories."""
    if path.is_dir():
        raise SlideError(f"{path} is a folder; name a slide file in it.")
    if not path.is_file():
        near = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        raise SlideError(f"the file {path} does not exist.{did_you_mean(path.name, near)}")
    if path.stat().st_size == 0:
        raise SlideError(f"{path} is empty (0 bytes); copy it again.")
    check_directories(path)


def check_directories(path: Path) -> None:
    """Walks the chain of directories of a TIFF; does nothing for other files.

    Raises:
        SlideError: If a directory lies beyond the end of the file: images, such as levels of the pyramid, are lost.
    """
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4)
        if start not in TIFF_STARTS or path.suffix.lower() in NOT_CHAINED:
            return
        order, is_big = "<" if start[:2] == b"II" else ">", b"+" in start
        seen = set[int]()
        try:
            offset = _number(file, 8, f"{order}Q") if is_big else _number(file, 4, f"{order}I")
            while offset and offset not in seen:
                seen.add(offset)
                n_entries = _number(file, offset, f"{order}{'Q' if is_big else 'H'}")
                end = offset + (8 + 20 * n_entries if is_big else 2 + 12 * n_entries)
                offset = _number(file, end, f"{order}{'Q' if is_big else 'I'}")
        except (struct.error, OSError, OverflowError):
            raise SlideError(
                f"{path}: truncated: {n_bytes:,} bytes, but the directory of its image {len(seen)} lies beyond; copy "
                f"it again."
            ) from None


def _number(file: IO[bytes], at: int, form: str) -> int:
    file.seek(at)
    number: int = struct.unpack(form, file.read(struct.calcsize(form)))[0]
    return number
