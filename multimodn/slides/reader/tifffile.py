"""Reads tiled TIFF segment by segment: those that a region needs are decoded once each, and copied."""

from __future__ import annotations

import os
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodn.errors import import_extra
from multimodn.slides.reader.checks import TIFF_STARTS
from multimodn.slides.reader.resolution import levels_of, resolve, tiff_statements
from multimodn.slides.reader.slide import CONVERT, MAX_BYTES, WHITE, Slide, SlideError, UnsuitedError

CACHE_BYTES = 1 << 28
RGB, YCBCR = 2, 6
JPEG = {6, 7}
APERIO_YCBCR = 33003


@dataclass(frozen=True)
class _Segments:
    """Where and how the file stores the segments of one level."""

    width: int  # of a segment, pixels
    height: int  # of a segment, pixels
    across: int  # segments in a row
    offsets: NDArray[np.int64]  # of each segment in the file, bytes
    counts: NDArray[np.int64]  # bytes of each segment; 0 = not stored
    decode: Callable[..., Any]  # turns bytes and index into pixels
    tables: bytes | None  # JPEG tables that segments share
    is_ycbcr: bool  # whether decoded segments are luma and chroma still


class TifffileSlide(Slide):
    """A tiled TIFF: Aperio SVS, OME-TIFF, or any pyramid of tiled RGB pages; label and macro images are not read.

    tifffile reads the directory, imagecodecs decodes. Decoded segments of the last reads are kept, up to 256 MB, so
    that tiles that share a segment decode it once. A segment without bytes (a sparse slide's glass) is white.
    """

    backend = "tifffile"

    def __init__(self, path: Path, mpp: float | None = None) -> None:
        import_extra("imagecodecs", "Reading a slide with tifffile", "slides")
        tifffile = import_extra("tifffile", "Reading a slide with tifffile", "slides")
        with path.open("rb") as head:
            magic = head.read(8)
        if magic[:4] not in TIFF_STARTS:
            raise UnsuitedError(f"{path}: not a TIFF (it starts with {magic!r}).")
        try:
            with tifffile.TiffFile(path) as file:
                pages = _pyramid(path, file)
                segments = [_segments(page) for page in pages]
                statements = tiff_statements(pages[0])
        except (tifffile.TiffFileError, struct.error, IndexError, KeyError, ValueError, OSError) as error:
            if isinstance(error, SlideError):
                raise
            raise SlideError(f"{path}: its TIFF directory is damaged or truncated ({error}); copy it again.") from None
        _check_length(path, segments)
        levels = levels_of([(page.imagewidth, page.imagelength) for page in pages])
        super().__init__(path, resolve(path, statements) if mpp is None else mpp, levels)
        self._segments = segments
        self._file, self._lock = path.open("rb", buffering=0), Lock()
        self._cache = _Cache(CACHE_BYTES)
        self._try_decoding()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _pixels(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        layout = self._segments[level]
        rows = range(y // layout.height, (y + height - 1) // layout.height + 1)
        columns = range(x // layout.width, (x + width - 1) // layout.width + 1)
        if len(rows) == len(columns) == 1 and (width, height) == (layout.width, layout.height):
            return self._segment(level, rows[0] * layout.across + columns[0], keep=False)
        window = np.empty((height, width, 3), dtype=np.uint8)
        for row in rows:
            for column in columns:
                left, top = column * layout.width - x, row * layout.height - y
                x0, y0 = max(left, 0), max(top, 0)
                x1, y1 = min(left + layout.width, width), min(top + layout.height, height)
                segment = self._segment(level, row * layout.across + column)
                window[y0:y1, x0:x1] = segment[y0 - top : y1 - top, x0 - left : x1 - left]
        return window

    def _segment(self, level: int, index: int, keep: bool = True) -> NDArray[np.uint8]:
        """Returns a decoded segment; threads may decode the same one twice, which is rare and harmless."""
        segment = self._cache.get((level, index))
        if segment is None:
            segment = self._decoded(level, index)
            if keep:
                self._cache.put((level, index), segment)
        return segment

    def _decoded(self, level: int, index: int) -> NDArray[np.uint8]:
        layout = self._segments[level]
        shape = (layout.height, layout.width, 3)
        count = int(layout.counts[index])
        if count == 0:
            return np.full(shape, WHITE, dtype=np.uint8)
        data = self._read(int(layout.offsets[index]), count)
        try:
            decoded = layout.decode(data, index, jpegtables=layout.tables)[0]
        except Exception as error:  # each codec has an exception of its own
            problem = f"tile {index} of level {level} cannot be decoded ({error})"
            raise SlideError(f"{self.path}: {problem}; the file is damaged, copy it again.") from None
        pixels: NDArray[np.uint8] = decoded[0]
        if layout.is_ycbcr:
            pixels = _to_rgb(pixels)
        if pixels.shape == shape:
            return pixels
        padded = np.full(shape, WHITE, dtype=np.uint8)  # an edge segment may be stored without its padding
        padded[: pixels.shape[0], : pixels.shape[1]] = pixels
        return padded

    def _read(self, offset: int, count: int) -> bytes:
        if hasattr(os, "pread"):
            data = os.pread(self._file.fileno(), count, offset)
        else:
            with self._lock:
                self._file.seek(offset)
                data = self._file.read(count)
        if len(data) != count:
            raise SlideError(f"{self.path}: truncated while it was read; copy it again.")
        return data

    def _try_decoding(self) -> None:
        """Decodes one segment, so that another backend is tried where imagecodecs lacks the codec."""
        stored = np.flatnonzero(self._segments[-1].counts)
        if len(stored):
            try:
                self._segment(len(self._segments) - 1, int(stored[0]))
            except SlideError as error:
                self.close()
                raise UnsuitedError(str(error)) from None


class _Cache:
    """Decoded segments, the least recently used of which go first."""

    def __init__(self, n_bytes: int) -> None:
        self._left, self._lock = n_bytes, Lock()
        self._items: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()

    def get(self, key: tuple[int, int]) -> NDArray[np.uint8] | None:
        with self._lock:
            if key not in self._items:
                return None
            self._items.move_to_end(key)
            return self._items[key]

    def put(self, key: tuple[int, int], item: NDArray[np.uint8]) -> None:
        with self._lock:
            if key in self._items:
                return
            item.flags.writeable = False
            self._items[key] = item
            self._left -= item.nbytes
            while self._left < 0:
                self._left += self._items.popitem(last=False)[1].nbytes


def _pages(file: Any) -> Iterator[Any]:
    for page in file.pages:
        yield page
        if page.subifds is not None:
            yield from page.pages


def _pyramid(path: Path, file: Any) -> list[Any]:
    """Returns the pages of the slide, finest first: the largest tiled page, and smaller ones of its form."""
    tiled = sorted((page for page in _pages(file) if page.is_tiled), key=lambda p: -p.imagewidth * p.imagelength)
    if not tiled:
        raise UnsuitedError(f"{path}: an untiled TIFF.")
    full = tiled[0]
    if full.dtype != np.uint8 or full.samplesperpixel not in (3, 4):
        raise SlideError(f"{path}: {full.samplesperpixel} channels of {full.dtype}; expected RGB of 8 bits.")
    if problem := _unsuited(full):
        raise UnsuitedError(f"{path}: {problem}.")
    pyramid = [full]
    for page in tiled[1:]:
        if (page.imagewidth, page.imagelength) == (full.imagewidth, full.imagelength):
            raise SlideError(f"{path}: several images of full size, as of several focal planes; export one of them.")
        ratio = full.imagewidth / page.imagewidth
        is_same_form = abs(full.imagelength / ratio - page.imagelength) <= 1 + 1 / ratio
        if page.imagewidth < pyramid[-1].imagewidth and is_same_form and not _unsuited(page):
            pyramid.append(page)
    return pyramid


def _unsuited(page: Any) -> str:
    if page.samplesperpixel != 3 or page.planarconfig != 1 or page.imagedepth != 1 or page.dtype != np.uint8:
        return "channels are not interleaved RGB"
    is_packed = page.compression in JPEG or page.compression == APERIO_YCBCR
    if page.photometric != RGB and not (page.photometric == YCBCR and is_packed):
        return f"colours stored as {getattr(page.photometric, 'name', page.photometric)}, expected RGB"
    return ""


def _segments(page: Any) -> _Segments:
    across = -(-page.imagewidth // page.tilewidth)
    offsets, counts = (np.asarray(each, dtype=np.int64) for each in (page.dataoffsets, page.databytecounts))
    is_ycbcr = page.compression == APERIO_YCBCR
    return _Segments(page.tilewidth, page.tilelength, across, offsets, counts, page.decode, page.jpegtables, is_ycbcr)


def _to_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Converts full-range YCbCr (ITU-R BT.601, as JPEG has it) to RGB."""
    from PIL import Image

    size = (pixels.shape[1], pixels.shape[0])
    return np.asarray(Image.frombytes("YCbCr", size, np.ascontiguousarray(pixels).tobytes()).convert("RGB"))


def _check_length(path: Path, segments: list[_Segments]) -> None:
    n_bytes = path.stat().st_size
    end = max(int((level.offsets + level.counts).max(initial=0)) for level in segments)
    if end > n_bytes:
        raise SlideError(f"{path}: truncated: {n_bytes:,} bytes, but it lists tiles up to byte {end:,}; copy it again.")
    largest = max(3 * level.width * level.height for level in segments)
    if largest > MAX_BYTES:
        limits = f"a tile of it takes {largest / 1e6:,.0f} MB; at most {MAX_BYTES / 1e6:.0f} MB are read at once."
        raise SlideError(f"{path}: {limits} {CONVERT}")
