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

KINDS = {".h5": "slide", ".txt": "text", ".nii": "volume", ".nii.gz": "volume"}
KINDS |= dict.fromkeys((".png", ".jpg", ".jpeg", ".dcm"), "image")
SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".bif", ".tif", ".tiff")
# places of the patient in a name: up to the first _, - or dot, or the folder of the file
NAMES = (r"([^/_]+)_[^/]*$", r"([^/-]+)-[^/]*$", r"([^/.]+)\.[^/]*$", r"^(?:.*/)?([^/]+)/[^/]+$")


@dataclass(frozen=True)
class FolderSource:
    """The files of a folder."""

    kind: str  # their encoder kind
    spec: SourceSpec  # the source, relative to the folder of the study
    frame: pd.DataFrame  # the files by patient
    n_in_tables: int  # number of patients who are in a table too


def read_folder(folder: Path, study_folder: Path, patients: Collection[str]) -> FolderSource:
    """Infers kind and patients of the files of a folder; the ``patients`` of the tables are looked for in names."""
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
    sources = []
    for expression in (None, *NAMES):
        spec = SourceSpec(files=pattern, patient_from=expression)
        try:
            frame = read_file_names(spec, study_folder)
        except DataError:
            continue
        sources.append(FolderSource(KINDS[suffix], spec, frame, len(set(frame.index) & set(patients))))
    return max(sources, key=lambda source: source.n_in_tables)  # without an expression every file has a patient


def _suffix(file: Path) -> str:
    name = file.name.lower()
    if name.startswith(".") or not file.is_file():
        return ""
    return ".nii.gz" if name.endswith(".nii.gz") else file.suffix.lower()
