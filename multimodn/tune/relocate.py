"""Writes a study for another folder, with relative paths to the same files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from multimodn.study.study import FileSplit, Study

PATHS = ("path", "patients", "database", "files", "meds", "omop", "fhir")
LITERAL = re.compile(r"'((?:[^']|'')*)'")  # a string of SQL; a doubled quote stands for one


def relocated(study: Study, folder: Path) -> Study:
    """Returns the study with paths relative to ``folder`` instead of the folder of the study.

    In queries these are the strings that name, or as a pattern match, a file in the folder of the study. Paths in the
    cells of a query's result are not changed; see `unfollowed`.
    """
    data, start = study.to_dict(), study.folder

    def moved(path: str) -> str:
        return path if Path(path).is_absolute() else Path(os.path.relpath(start.absolute() / path, folder)).as_posix()

    for name, source in data["cohort"]["sources"].items():
        data["cohort"]["sources"][name] = _source(source, moved, start)
    if isinstance(study.split, FileSplit):
        files = data["split"]["files"]
        is_list = isinstance(files, list)
        by_part = {part: path and moved(path) for part, path in (enumerate(files) if is_list else files.items())}
        data["split"]["files"] = list(by_part.values()) if is_list else by_part
    return Study.from_dict(data, folder)


def unfollowed(study: Study) -> list[str]:
    """Names the sources whose cells may hold paths relative to the folder of the study."""
    sources = study.cohort.sources
    return sorted({each.source for each in study.modalities if each.file_columns and sources[each.source].query})


def _source(source: Any, moved: Callable[[str], str], start: Path) -> Any:
    if not isinstance(source, Mapping):
        return moved(source)
    written = {key: moved(value) if key in PATHS else value for key, value in source.items()}
    if "query" in written:

        def literal(match: re.Match[str]) -> str:
            text = match.group(1).replace("''", "'")
            return "'" + moved(text).replace("'", "''") + "'" if _is_file(text, start) else match.group(0)

        written["query"] = LITERAL.sub(literal, written["query"])
    return written


def _is_file(text: str, start: Path) -> bool:
    if not text or Path(text).is_absolute():
        return False
    try:
        return (start / text).is_file() or (bool(set(text) & set("*?[")) and any(start.glob(text)))
    except (ValueError, OSError, NotImplementedError):  # not a path
        return False
