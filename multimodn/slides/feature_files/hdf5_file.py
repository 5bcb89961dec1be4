"""A file for HDF5 to write to that fails late but cleanly."""

from __future__ import annotations

from typing import IO, Any


class Sink:
    """What `h5py.File` takes in place of a file name.

    HDF5 cannot be stopped in the middle: a write that fails, as on a full disk, leaves it with half-open objects, and
    the process crashes when it closes them. So the first error is kept, what follows is not written at all, and
    `check` raises the error when HDF5 is through.

    Args:
        stream: An unbuffered binary file, open for reading and writing.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes all of ``data``, or nothing once a write has failed."""
        rest = memoryview(data).cast("B")
        n = len(rest)
        try:
            while rest and self._error is None:
                rest = rest[self._stream.write(rest) :]
        except OSError as error:
            self._error = error
        return n

    def truncate(self, size: int) -> int:
        """Sets the size of the file."""
        try:
            return self._stream.truncate(size) if self._error is None else size
        except OSError as error:
            self._error = error
            return size

    def check(self) -> None:
        """Raises the first error, if there was one."""
        if self._error is not None:
            raise self._error

    def readinto(self, buffer: Any) -> int:
        """Reads into a buffer and returns how many bytes."""
        found = self._stream.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def read(self, n: int = -1) -> bytes:
        """Reads ``n`` bytes."""
        return self._stream.read(n)

    def seek(self, at: int, whence: int = 0) -> int:
        """Goes to a place."""
        return self._stream.seek(at, whence)

    def tell(self) -> int:
        """Returns the place."""
        return self._stream.tell()

    def flush(self) -> None:
        """Does nothing: the stream has no buffer."""
