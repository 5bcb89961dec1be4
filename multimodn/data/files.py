"""Columns that name files, and sources that are folders of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

from multimodn.base.cache import content_hash, file_hash
from multimodn.errors import DataError, shown
from multimodn.study.study import SourceSpec

FILE = "file"  # the column of a source of file names


def read_file_names(spec: SourceSpec, folder: Path) -> pd.DataFrame:
    """Lists the files of a pattern, in the order of their names, indexed by the patient in each name."""
    pattern = str(spec.files)
    parts = Path(pattern).parts
    n_fixed = next((k for k, part in enumerate(parts) if set(part) & set("*?[")), len(parts) - 1)
    base = Path(os.path.normpath(folder.absolute().joinpath(*parts[:n_fixed])))
    paths = sorted(path for path in base.glob("/".join(parts[n_fixed:])) if not path.name.startswith("."))
    if not paths:
        raise DataError(f"no file matches the pattern '{pattern}' in {folder.absolute()}.")
    if spec.patient_from is None:
        patients: list[str | None] = [Path(re.sub(r"\.gz\Z", "", path.name, flags=re.I)).stem for path in paths]
    else:
        search = re.compile(spec.patient_from).search
        matches = [search(path.relative_to(base).as_posix()) for path in paths]
        patients = [match.group(1) if match else None for match in matches]
    nameless = [path.name for path, patient in zip(paths, patients, strict=True) if not patient]
    if nameless:
        counts = f"{len(nameless)} of {len(paths)} file names"
        raise DataError(f"`patient_from: {spec.patient_from}` finds no patient in {counts}: {shown(nameless)}.")
    index = pd.Index(patients, dtype=object, name="patient")
    return pd.DataFrame({FILE: pd.Series([str(path.absolute()) for path in paths], index=index, dtype=object)})


def with_absolute_paths(frame: pd.DataFrame, columns: list[str], folder: Path) -> pd.DataFrame:
    """Returns the frame with relative paths of some columns resolved against ``folder``; empty cells stay empty."""
    frame = frame.copy(deep=False)
    for name in columns:
        if name in frame.columns:
            frame[name] = frame[name].map(lambda cell: str((folder / str(cell)).absolute()), na_action="ignore")
    return frame


def path_hash(path: str) -> str:
    """Returns a hash of the content of a file or folder, wherever it is; of the name if there is no such path."""
    place = Path(path)
    if place.is_file():
        return file_hash(place)
    if place.is_dir():
        files = sorted(file for file in place.rglob("*") if file.is_file())
        return content_hash(*(part for file in files for part in (str(file.relative_to(place)), file_hash(file))))
    return f"no file {place.name}"
