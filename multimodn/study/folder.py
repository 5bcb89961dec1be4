"""Whether a folder may hold, or continue, what a study writes into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from multimodn.errors import StudyError


def check_unused(folder: Path, what: str) -> None:
    """Refuses a file, and a folder with other content than ``what``, such as a run, that has not started yet."""
    if folder.is_file():
        raise StudyError(f"{folder} is a file; choose a folder.")
    if folder.exists() and any(folder.iterdir()):
        raise StudyError(f"{folder} is not empty and holds no {what}; choose another folder.")


def check_unchanged(
    folder: Path, what: str, stored: Mapping[str, str | int], fingerprint: Mapping[str, str | int]
) -> None:
    """Refuses to continue what a folder holds, such as a run, if its fingerprint is not the stored one."""
    changed = " and ".join(part for part, value in fingerprint.items() if stored.get(part) != value)
    if changed:
        why = f"{changed} changed since it started. Choose another folder, or remove it."
        raise StudyError(f"{folder} holds a {what} that cannot be continued: {why}")
