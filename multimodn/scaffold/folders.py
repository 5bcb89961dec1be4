"""`multimodn init` of folders: what kind of files they hold, and how a file's name tells its patient."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from multimodn.data.files import read_file_names
from multimodn.errors import DataError, shown
from multimodn.study.study import SourceSpec

KINDS = {
    ".h5": "slide",
    ".txt": "text",
    ".png": "image",
    ".jpg": "image",
    ".jpeg": "image",
    ".dcm": "image",
    ".nii": "volume",
    ".nii.gz": "volume",
}
SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".bif", ".tif", ".tiff")
NAMES = (r"([^/_]+)_[^/]*$", r"([^/-]+)-[^/]*$", r"([^/.]+)\.[^/]*$", r"^(?:.*/)?([^/]+)/[^/]+$")
"""How a name may tell its patient: up to the first _, - or dot, or as the folder that the file lies in."""


@dataclass(frozen=True)
class FolderSource:
    """What was found in a folder.

    Attributes:
        kind: The encoder kind of its files.
        spec: The source, relative to the folder of the study.
        frame: Its files by patient.
        n_known: Patients of it who are in a table too.
    """

    kind: str
    spec: SourceSpec
    frame: pd.DataFrame
    n_known: int


def look_into(folder: Path, study_folder: Path, patients: Collection[str]) -> FolderSource:
    """Looks into a folder.

    Args:
        folder: The folder.
        study_folder: Where the study file will stand.
        patients: The patients of the tables, whose names are looked for in the names of files.

    Raises:
        DataError: If it holds no files of a known kind, or slides that have not been embedded.
    """
    suffixes = Counter(suffix for file in folder.rglob("*") if (suffix := _suffix(file)) in (*KINDS, *SLIDES))
    if not suffixes:
        raise DataError(f"{folder} holds no files of a known kind: {shown(sorted(KINDS), 20)}.")
    suffix = suffixes.most_common(1)[0][0]
    if suffix in SLIDES:
        raise DataError(
            f"{folder} holds {suffixes[suffix]} {suffix} files. Whole slides are embedded first: `multimodn "
            f"embed-slides {folder} --out features`, and then `features` is named here. Save small pictures as PNG."
        )
    nested = not any(_suffix(file) == suffix for file in folder.iterdir())
    relative = Path(_relative(folder, study_folder), "**/*" if nested else "*").as_posix() + suffix
    best: FolderSource | None = None
    for expression in (None, *NAMES):
        spec = SourceSpec(files=relative, patient_from=expression)
        try:
            frame = read_file_names(spec, study_folder)
        except DataError:
            continue
        found = FolderSource(KINDS[suffix], spec, frame, len(set(frame.index) & set(patients)))
        if best is None or found.n_known > best.n_known:
            best = found
    assert best is not None  # without an expression every file has a patient
    return best


def _suffix(file: Path) -> str:
    name = file.name.lower()
    if name.startswith(".") or not file.is_file():
        return ""
    return ".nii.gz" if name.endswith(".nii.gz") else file.suffix.lower()


def _relative(folder: Path, study_folder: Path) -> str:
    return os.path.relpath(folder.absolute(), study_folder.absolute())
