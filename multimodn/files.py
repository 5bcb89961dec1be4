"""Names of the files of a run, and writing files and folders so that nobody ever reads half of one."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUNDLE, LOG, CHECKPOINTS = "bundle", "run.json", "checkpoints"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside ``path``, of this use alone, that becomes ``path`` at the end; removed after an error."""
    temporary = _temporary(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yields a new, empty folder beside ``path`` that becomes ``path`` at the end, as `replacing` does for a file."""
    temporary = _temporary(path)
    temporary.mkdir(parents=True)
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


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.partial")
