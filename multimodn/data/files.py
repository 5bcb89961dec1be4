"""Columns that name files, and sources that are folders of them."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import pandas as pd

from multimodn.base.cache import content_hash, file_hash
from multimodn.errors import DataError, DataWarning, shown
from multimodn.study.study import SourceSpec

FILE = "file"  # the column of a source of file names
ALIKE = (  # suffixes of files that one encoder reads
    (".png", ".jpg", ".jpeg", ".dcm"), (".nii", ".nii.gz"), (".txt",), (".h5",), (".pt",),
)  # fmt: skip
WILD = re.compile(r"[*?[{]")
BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")
SUFFIX = re.compile(r"(\.[A-Za-z0-9]+|\.\{[A-Za-z0-9.,]+\})(\.[gG][zZ])?\Z")  # at the end of a pattern


def read_file_names(spec: SourceSpec, folder: Path) -> pd.DataFrame:
    """Lists the files of a pattern, in the order of their names, indexed by the patient in each name.

    ``*.{png,jpg}`` are files with either suffix; upper and lower case of a suffix are the same.

    Raises:
        DataError: If no file matches, or a name has no patient.

    Warns:
        DataWarning: If files of other patients beside these differ from the pattern in the suffix alone.
    """
    pattern = str(spec.files)
    parts = Path(pattern).parts
    n_fixed = next((k for k, part in enumerate(parts) if WILD.search(part)), len(parts) - 1)
    base = Path(os.path.normpath(folder.absolute().joinpath(*parts[:n_fixed])))
    rest = "/".join(parts[n_fixed:])
    paths = _matching(base, rest)
    if not paths:
        raise DataError(f"no file matches the pattern '{pattern}' in {folder.absolute()}.{_other_suffixes(base, rest)}")
    if spec.patient_from is None:
        patients: list[str | None] = [_stem(path) for path in paths]
    else:
        search = re.compile(spec.patient_from).search
        matches = [search(path.relative_to(base).as_posix()) for path in paths]
        patients = [match.group(1) if match else None for match in matches]
    nameless = [path.name for path, patient in zip(paths, patients, strict=True) if not patient]
    if nameless:
        counts = f"{len(nameless)} of {len(paths)} file names"
        raise DataError(f"`patient_from: {spec.patient_from}` finds no patient in {counts}: {shown(nameless)}.")
    if left_out := _left_out(base, rest, paths):
        text = f"{len(left_out)} files have other suffixes than `files: {pattern}` and are left out, such as"
        suffixes = ",".join(sorted({_suffix(path).lstrip(".") for path in (*paths, *left_out)}))
        repair = SUFFIX.sub(f".{{{suffixes}}}", pattern)
        warnings.warn(f"{text} {left_out[0].name}. To read them, write `files: {repair}`.", DataWarning, stacklevel=2)
    index = pd.Index(patients, dtype=object, name="patient")
    return pd.DataFrame({FILE: pd.Series([str(path.absolute()) for path in paths], index=index, dtype=object)})


def _matching(base: Path, pattern: str) -> list[Path]:
    """Returns the files of a pattern, whatever the case of their suffixes, without hidden ones, sorted."""
    if braces := BRACES.search(pattern):
        before, after = pattern[: braces.start()], pattern[braces.end() :]
        found = [path for text in braces[1].split(",") for path in _matching(base, before + text + after)]
        return sorted(set(found))
    suffix = SUFFIX.search(pattern)
    if suffix:
        any_case = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in suffix[0])
        pattern = pattern[: suffix.start()] + any_case
    return sorted(path for path in base.glob(pattern) if not path.name.startswith("."))


def _left_out(base: Path, pattern: str, paths: list[Path]) -> list[Path]:
    """Returns the files beside ``paths`` that only a suffix of the same kind keeps out of a pattern."""
    suffix = SUFFIX.search(pattern)
    own = {_suffix(path) for path in paths}
    kinds = [alike for alike in ALIKE if own & set(alike)]
    if not suffix or len(kinds) != 1:
        return []
    stems = {path.parent / _stem(path) for path in paths}
    others = [
        path for text in kinds[0] if text not in own for path in _matching(base, pattern[: suffix.start()] + text)
    ]
    return [path for path in others if path.parent / _stem(path) not in stems]


def _other_suffixes(base: Path, pattern: str) -> str:
    """Says which suffixes there are in place of a pattern's, if any."""
    suffix = SUFFIX.search(pattern)
    found = _matching(base, pattern[: suffix.start()] + ".*") if suffix else []
    return f" There are others: {shown(sorted({path.suffix for path in found if path.suffix}))}." if found else ""


def _stem(path: Path) -> str:
    return Path(re.sub(r"\.gz\Z", "", path.name, flags=re.I)).stem


def _suffix(path: Path) -> str:
    """Returns the suffix of a name in lower case, ``.gz`` with the one before it."""
    return path.name[len(_stem(path)) :].lower()


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
