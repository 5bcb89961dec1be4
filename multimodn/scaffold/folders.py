"""`multimodn init` of folders: the kind of their files, and the patient in their names."""

from __future__ import annotations

import glob
import os
import warnings
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from multimodn.data.ehr.recognise import record_format
from multimodn.data.files import read_file_names
from multimodn.errors import DataError, DataWarning, shown
from multimodn.study.study import SourceSpec

KINDS = {".h5": "slide", ".txt": "text", ".nii": "volume", ".nii.gz": "volume"}
KINDS |= dict.fromkeys((".png", ".jpg", ".jpeg", ".dcm"), "image")
DOCUMENTS = (".pdf", ".doc", ".docx", ".rtf", ".odt", ".html", ".htm", ".xml")
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
    files = [file for file in folder.rglob("*") if _suffix(file)]
    found = Counter(map(_suffix, files))
    known = Counter({suffix: n for suffix, n in found.items() if suffix in (*KINDS, *SLIDES)})
    written = Counter({suffix: n for suffix, n in found.items() if suffix in DOCUMENTS})
    if not known and written:
        suffix = _by_count(written)[0]
        raise DataError(
            f"{folder} holds {written[suffix]} {suffix} files. Save their text as .txt, UTF-8, and name these here."
        )
    if not known:
        records = record_format(folder)
        if records is not None:
            raise DataError(
                f"{folder} holds health records ({records.upper()}). Name their parts as sources in a study, such "
                f"as `labs: {{{records}: {folder}, part: measurement}}`."
            )
        raise DataError(f"{folder} holds no files of a known kind: {shown(sorted(KINDS), 20)}.")
    suffix = _by_count(known)[0]
    if suffix in SLIDES:
        raise DataError(
            f"{folder} holds {known[suffix]} {suffix} files. Embed whole slides first, `multimodn "
            f"embed-slides {folder} --out features`, and name `features` here. Save small pictures as PNG."
        )
    suffixes = _suffixes(files, known, KINDS[suffix])
    taken = [file for file in files if _suffix(file) in suffixes]
    left_out = Counter({suffix: n for suffix, n in found.items() if suffix not in suffixes})
    if left_out:
        counts = shown([f"{left_out[suffix]} {suffix}" for suffix in _by_count(left_out)])
        text = f"{folder} is read as {KINDS[suffix]}: {len(taken)} files ({', '.join(suffixes)}). Left out: {counts}."
        warnings.warn(text, DataWarning, stacklevel=2)
    nested = any(file.parent != folder for file in taken)
    relative = glob.escape(os.path.relpath(folder.absolute(), study_folder.absolute()))
    names = suffixes[0] if len(suffixes) == 1 else f".{{{','.join(text.lstrip('.') for text in suffixes)}}}"
    pattern = Path(relative, "**/*" if nested else "*").as_posix() + names
    sources = []
    for expression in (None, *NAMES):
        spec = SourceSpec(files=pattern, patient_from=expression)
        try:
            frame = read_file_names(spec, study_folder)
        except DataError:
            continue
        sources.append(FolderSource(KINDS[suffix], spec, frame, len(set(frame.index) & set(patients))))
    return max(sources, key=lambda source: source.n_in_tables)  # without an expression every file has a patient


def folder_keys(folder: FolderSource) -> tuple[dict[str, str], str]:
    """Returns the keys of the source of a folder, as YAML, and what the folder holds."""
    given = {"files": folder.spec.files, "patient_from": folder.spec.patient_from}
    # in quotes, as a pattern may begin with a bracket or an asterisk, which have a meaning in YAML
    keys = {key: "'{}'".format(text.replace("'", "''")) for key, text in given.items() if text is not None}
    counts = f"{len(folder.frame)} files of {folder.frame.index.nunique()} patients, {folder.n_in_tables} of them"
    return keys, f"{counts} in a table"


def _suffixes(files: list[Path], known: Counter[str], kind: str) -> list[str]:
    """Returns the suffixes of a kind, without those of second copies: files with the name of one that is taken."""
    chosen, stems = list[str](), set[Path]()
    for suffix in _by_count(known):
        if KINDS.get(suffix) != kind:
            continue
        own = {file.parent / file.name[: -len(suffix)] for file in files if _suffix(file) == suffix}
        if not own & stems:
            chosen.append(suffix)
            stems |= own
    return sorted(chosen)


def _by_count(suffixes: Counter[str]) -> list[str]:
    """Orders suffixes by their number, the most common first, those of equal number by the alphabet."""
    return sorted(suffixes, key=lambda suffix: (-suffixes[suffix], suffix))


def _suffix(file: Path) -> str:
    name = file.name.lower()
    if name.startswith(".") or name in ("thumbs.db", "desktop.ini") or not file.is_file():
        return ""
    return ".nii.gz" if name.endswith(".nii.gz") else file.suffix.lower()
