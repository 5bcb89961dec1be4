"""Writes an audit to a folder: what it found as JSON, and a picture, light and dark."""

from __future__ import annotations

import json
from pathlib import Path

from multimodn.errors import StudyError
from multimodn.missingness.audit_picture import DARK, LIGHT, draw
from multimodn.missingness.findings import Audit
from multimodn.runs import write_text


def write_audit(found: Audit, folder: Path) -> list[Path]:
    """Writes ``audit.json``, ``audit.png`` and ``audit-dark.png``, each under another name first.

    Args:
        found: What to write.
        folder: Made if it does not exist; files of an earlier audit are replaced.

    Returns:
        The files.

    Raises:
        StudyError: If the folder is a file, or cannot be written.
    """
    files = [folder / name for name in ("audit.json", "audit.png", "audit-dark.png")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(files[0], json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n")
        for file, palette in zip(files[1:], (LIGHT, DARK), strict=True):
            temporary = file.with_name(f".{file.name}.partial")
            draw(found, temporary, palette)
            temporary.replace(file)
    except OSError as error:
        raise StudyError(f"Cannot write the audit to {folder}: {error.strerror}. Name another folder.") from None
    return files
