"""The features of an unfinished slide, in a file to which every finished batch is appended."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from multimodn.errors import DataError

HEADER, CHECK = 256, 4  # bytes
SUFFIX = ".partial"


class Spool:
    """The finished batches of a slide, with which the next process resumes if this one is killed.

    The file has a header of 256 bytes and then every batch's rows with their CRC-32, so that a batch which was cut off
    by a kill, a full disk or a power failure is detected and computed again. One process at a time may have it open; to
    the others it raises a DataError.

    It is ``.<its name>.partial`` beside the feature ``file`` to be written, for ``n`` rows of ``feature_size`` numbers.
    ``key`` is a hash of all that decides the rows; batches under another key are discarded. ``n_done`` batches of
    ``batch_size`` rows are finished; the last may have fewer.
    """

    def __init__(self, file: Path, key: str, n: int, feature_size: int, batch_size: int, dtype: str) -> None:
        self.path = spool_path(file)
        self.n, self.feature_size, self.batch_size, self.dtype = n, feature_size, batch_size, np.dtype(dtype)
        row_bytes = feature_size * self.dtype.itemsize
        header = {"key": key, "n": n, "row_bytes": row_bytes, "batch_size": batch_size}
        self._header = json.dumps(header).encode().ljust(HEADER)
        self._stream = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        try:
            _lock(self._stream, self.path)
            self.n_done = sum(1 for _ in self._valid()) if self._stream.read(HEADER) == self._header else 0
            if self.n_done == 0:
                self._stream.seek(0)
                self._write(self._header)
            self._stream.truncate(self._start(self.n_done))
        except BaseException:
            self._stream.close()
            raise

    @property
    def n_rows(self) -> int:
        """Rows of the finished batches."""
        return min(self.n, self.n_done * self.batch_size)

    def append(self, rows: NDArray[Any]) -> None:
        """Adds the rows ``(k, feature_size)`` of the next batch; if they cannot be written, earlier ones stay."""
        data = np.ascontiguousarray(rows, dtype=self.dtype).tobytes()
        self._stream.seek(self._start(self.n_done))
        self._write(data + zlib.crc32(data).to_bytes(CHECK, "little"))
        self.n_done += 1

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yields the rows of each batch in turn."""
        for data in self._valid():
            yield np.frombuffer(data, dtype=self.dtype).reshape(-1, self.feature_size)

    def remove(self) -> None:
        """Deletes the file, once its features are in the feature file."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def _valid(self) -> Iterator[bytes]:
        """Yields the bytes of the batches from the first to the last whole one."""
        for k in range(-(-self.n // self.batch_size)):
            self._stream.seek(self._start(k))
            data = self._stream.read(self._start(k + 1) - self._start(k))
            if not data or zlib.crc32(data[:-CHECK]).to_bytes(CHECK, "little") != data[-CHECK:]:
                return
            yield data[:-CHECK]

    def _start(self, k: int) -> int:
        return HEADER + min(self.n, k * self.batch_size) * self.feature_size * self.dtype.itemsize + k * CHECK

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._stream.write(rest) :]


def spool_path(file: Path) -> Path:
    """Returns where the unfinished features of a feature file are."""
    return file.with_name(f".{file.name}{SUFFIX}")


def spooled_tiles(folder: Path) -> dict[str, tuple[int, int]]:
    """Returns the finished tiles and all tiles of each unfinished feature file of a folder, by its name."""
    tiles = {}
    for path in folder.glob(f".*.h5{SUFFIX}"):
        try:
            with path.open("rb") as stream:
                header = json.loads(stream.read(HEADER))
            done = max(0, path.stat().st_size - HEADER) // header["row_bytes"]
        except (OSError, ValueError, KeyError):
            continue  # just finished, or just begun
        tiles[path.name[1 : -len(SUFFIX)]] = (min(done, header["n"]), header["n"])
    return tiles


def _lock(stream: Any, path: Path) -> None:
    """Locks the file for this process until it is closed or the process ends, where the system supports it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(f"{path} is being written by another process; wait until it ends, or end it.") from None
    except OSError:  # a file system without locks
        return
