"""A file for HDF5 that reports a failed write cleanly."""

from __future__ import annotations

from io import FileIO
from pathlib import Path
from typing import Any


class Sink(FileIO):
    """A new file that `h5py.File` takes in place of a name.

    HDF5 cannot be stopped in the middle: a write that fails, as on a full disk, leaves it with half-open objects, and
    the process crashes when it closes them. So the first error is kept, later writes do nothing, and `check` raises the
    error when HDF5 has finished.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+b")
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes all of ``data``, or nothing once a write has failed."""
        rest = memoryview(data).cast("B")
        n = len(rest)
        try:
            while rest and self._error is None:
                rest = rest[super().write(rest) or 0 :]
        except OSError as error:
            self._error = error
        return n

    def truncate(self, size: int | None = None) -> int:
        """Sets the size of the file."""
        try:
            return super().truncate(size) if self._error is None else size or 0
        except OSError as error:
            self._error = error
            return size or 0

    def check(self) -> None:
        """Raises the first error, if there was one."""
        if self._error is not None:
            raise self._error
