"""Files of a run, and writing them so that nobody reads half a file."""

from __future__ import annotations

from pathlib import Path

BUNDLE, LOG, CHECKPOINTS = "bundle", "run.json", "checkpoints"


def write_text(path: Path, text: str) -> None:
    """Writes a file under another name and renames it, so that nobody ever reads half of it."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text)
    temporary.replace(path)
