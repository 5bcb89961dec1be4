"""`multimodn init` of folders: the kind of their files, and the patient in their names."""

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
"""Places of the patient in a name: up to the first _, - or dot, or the folder of the file."""


@dataclass(frozen=True)
class FolderSource:
    """The files of a folder.

    Attributes:
        kind: The encoder kind of its files.
        spec: The source, relative to the folder of the study.
        frame: Its files by patient.
        n_in_tables: Number of its patients who are in a table too.
    """

    kind: str
    spec: SourceSpec
    frame: pd.DataFrame
    n_in_tables: int


def read_folder(folder: Path, study_folder: Path, patients: Collection[str]) -> FolderSource:
    """Infers kind and patients of the files of a folder.

    Args:
        folder: The folder.
        study_folder: The folder of the study file.
        patients: The patients of the tables, who are looked for in the names of files.

    Raises:
        DataError: If it holds no files of a known kind, or slides that have not been embedded.
    """
    suffixes = Counter(suffix for file in folder.rglob("*") if (suffix := _suffix(file)) in (*KINDS, *SLIDES))
    if not suffixes:
        raise DataError(f"{folder} holds no files of a known kind: {shown(sorted(KINDS), 20)}.")
    suffix = suffixes.most_common(1)[0][0]
    if suffix in SLIDES:
        raise DataError(
            f"{folder} holds {suffixes[suffix]} {suffix} files. Embed whole slides first, `multimodn "
            f"embed-slides {folder} --out features`, and name `features` here. Save small pictures as PNG."
        )
    nested = not any(_suffix(file) == suffix for file in folder.iterdir())
    relative = os.path.relpath(folder.absolute(), study_folder.absolute())
    pattern = Path(relative, "**/*" if nested else "*").as_posix() + suffix
    best: FolderSource | None = None
    for expression in (None, *NAMES):
        spec = SourceSpec(files=pattern, patient_from=expression)
        try:
            frame = read_file_names(spec, study_folder)
        except DataError:
            continue
        source = FolderSource(KINDS[suffix], spec, frame, len(set(frame.index) & set(patients)))
        if best is None or source.n_in_tables > best.n_in_tables:
            best = source
    assert best is not None  # without an expression every file has a patient
    return best


def _suffix(file: Path) -> str:
    name = file.name.lower()
    if name.startswith(".") or not file.is_file():
        return ""
    return ".nii.gz" if name.endswith(".nii.gz") else file.suffix.lower()
