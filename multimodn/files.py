"""Names of the files of a run, and writing files and folders so that nobody ever reads half of one."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUNDLE, LOG, CHECKPOINTS = "bundle", "run.json", "checkpoints"


class PlaceError(OSError):
    """A file or folder cannot be written where it is asked for."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} cannot be written: {error.strerror or error}. Choose another place.")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields an empty file beside ``path``, of this use alone, that becomes ``path`` at the end; removed if that fails.

    Folders above it are made. A `PlaceError` says if nothing can be written there.
    """
    temporary = _temporary(path)
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        temporary.touch()
    try:
        yield temporary
        with _naming(path):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yields a new, empty folder beside ``path`` that becomes ``path`` at the end, as `replacing` does for a file."""
    temporary = _temporary(path)
    make_folder(temporary, named=path)
    try:
        yield temporary
    except BaseException:  # an interruption too
        shutil.rmtree(temporary)
        raise
    if path.exists():
        old = _temporary(path)
        path.rename(old)
        temporary.rename(path)
        shutil.rmtree(old)
    else:
        temporary.rename(path)


def make_folder(folder: Path, named: Path | None = None) -> None:
    """Makes a folder, and those above it, unless it exists.

    Raises:
        PlaceError: If that is not possible; it names ``named``, or else the folder.
    """
    with _naming(named or folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "it may not be written in")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns what the system says into an error that names the place."""
    try:
        yield
    except OSError as error:
        raise PlaceError(path, error) from None


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.partial")
