"""Outputs of frozen networks, kept on disk between runs by what went in and by what it went through."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multimodn.files import replacing


class OutputCache:
    """One small file an output, under ``<folder>/<network>/<content>``; nothing is ever changed, only added.

    ``network`` is a hash of the network and of everything that decides what it makes of a content. Folders are made for
    their owner alone: outputs are derived from patients' data.
    """

    def __init__(self, network: str, folder: Path | None = None) -> None:
        self.folder = (folder or cache_folder()) / network

    def get(self, content: str) -> NDArray[np.float32] | None:
        """Returns the output for a content hash; None if it is not there, or cannot be read."""
        try:
            output: NDArray[np.float32] = np.load(self._file(content), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return output

    def put(self, content: str, output: NDArray[np.float32]) -> None:
        """Keeps an output; another process that keeps the same one at the same time does no harm."""
        file = self._file(content)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with replacing(file) as temporary, temporary.open("wb") as stream:
            np.save(stream, output, allow_pickle=False)

    def _file(self, content: str) -> Path:
        return self.folder / content[:2] / f"{content}.npy"


def cache_folder() -> Path:
    """Returns ``MULTIMODN_CACHE`` of the environment, else ``multimodn`` in the user's cache folder; may not exist."""
    named = os.environ.get("MULTIMODN_CACHE")
    return Path(named or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multimodn")


def content_hash(*parts: bytes | str) -> str:
    """Returns a SHA-256 over parts, each with its length, so that no two lists of parts look alike."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def file_hash(path: str | Path) -> str:
    """Returns the SHA-256 of a file, remembered while its size and time of change stay the same."""
    path = Path(path)
    status = path.stat()
    key = (str(path.absolute()), status.st_size, status.st_mtime_ns)
    if key not in _FILE_HASHES:
        with path.open("rb") as file:
            _FILE_HASHES[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _FILE_HASHES[key]


def folder_hash(files: Iterable[Path]) -> str:
    """Returns a hash over the names and contents of some files, whatever their order."""
    return content_hash(*(part for file in sorted(files) for part in (file.name, file_hash(file))))


_FILE_HASHES: dict[tuple[str, int, int], str] = {}
