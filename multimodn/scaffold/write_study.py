"""`multimodn init`: writes a first study file from tables, with comments on what was inferred."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from multimodn.data.sources import read_source
from multimodn.errors import DataError, StudyError, did_you_mean, raise_all, shown
from multimodn.files import write_text
from multimodn.scaffold.code_tables import code_column, code_lines
from multimodn.scaffold.folders import FolderSource, read_folder
from multimodn.scaffold.infer_task import FEW, infer_task
from multimodn.study.sources import check_name
from multimodn.study.study import SourceSpec
from multimodn.study.training import SMALL, advised_members
from multimodn.study.yaml_file import write_yaml

EVENT = re.compile(r"(status|event|death|died|dead|recurrence|progression)", re.IGNORECASE)
TIME = re.compile(r"(^|_)((days?|months?|years?)_to_(?!birth)|time|followup|follow_up)", re.IGNORECASE)
TEMPLATE = """\
# Written by `multimodn init` from the tables below. Every line is a guess that you may change.
name: {name}

cohort:
  patient: {patient}   # key column, in every table
  # group: site   # a column that no split may divide, such as site or family
  sources:
{sources}

modalities:
{modalities}

tasks:
{tasks}

# The order in which a trajectory visits the modalities.
order: [{order}]

split: {{validation: 0.2, test: 0.2, stratify: {stratify}, seed: 0}}

# What predictions may learn from the presence of modalities: neutral (nothing), informative, off.
missingness: neutral

# {members_reason}
training: {{members: {members}, seed: 0}}
"""


def write_study(
    tables: Sequence[str | Path], patient: str, targets: Sequence[str], out: str | Path, *, overwrite: bool = False
) -> str:
    """Writes a commented study file for some tables.

    Args:
        tables: CSV, Parquet, ``.npz``, or folders of reports, pictures or slide features with the patient in their
            names; each becomes a source and a modality.
        patient: The key column.
        targets: Columns to predict, each in one of the tables.
        out: The study file; sources are relative to its folder.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The text of the file.

    Raises:
        StudyError: If the file exists, or a target is in no table or in several.
        DataError: If a table cannot be read.
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise StudyError(f"{out} exists; remove it, name another file, or ask for overwriting.")
    sources = {name: Path(table) for name, table in zip(_names(tables), tables, strict=True)}
    frames = _read_tables(sources, patient, targets)
    folders = _read_folders(sources, frames, out.parent)
    homes = _find_targets(frames, targets)
    frames |= {name: folder.frame for name, folder in folders.items()}
    text = _compose(sources, frames, folders, homes, patient, out)
    write_text(out, text)
    return text


def _names(tables: Sequence[str | Path]) -> list[str]:
    if not tables:
        raise StudyError("Name at least one table.")
    names = [re.sub(r"[^\w-]", "_", re.sub(r"\.(csv|tsv)(\.gz)?$", "", Path(t).name, flags=re.I)) for t in tables]
    names = [_name(re.sub(r"_(parquet|npz|npy)$", "", name)) for name in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StudyError(f"Several tables are called {shown(twice)}; rename one, as each becomes a modality.")
    return names


def _read_tables(sources: dict[str, Path], patient: str, targets: Sequence[str]) -> dict[str, pd.DataFrame]:
    problems, frames = [], {}
    for name, path in sources.items():
        if path.is_dir():
            continue
        if path.suffix == ".npy":
            problems.append(f"{path}: a .npy has no patient identifiers; write its source by hand: {{path, patients}}.")
            continue
        try:
            frames[name] = read_source(SourceSpec(path=str(path)), Path(), patient, targets)
        except DataError as error:
            problems.append(f"{path}: {error}")
    raise_all(problems, DataError, "The tables cannot be read")
    return frames


def _read_folders(
    sources: dict[str, Path], frames: dict[str, pd.DataFrame], study_folder: Path
) -> dict[str, FolderSource]:
    problems, folders = [], {}
    patients = {patient for frame in frames.values() for patient in frame.index}
    for name, path in sources.items():
        if path.is_dir():
            try:
                folders[name] = read_folder(path, study_folder, patients)
            except DataError as error:
                problems.append(str(error))
    raise_all(problems, DataError, "The folders cannot be used")
    return folders


def _find_targets(frames: dict[str, pd.DataFrame], targets: Sequence[str]) -> dict[str, str]:
    """Returns for each target the table that has it."""
    problems, homes = [], {}
    for target in targets:
        names = [name for name, frame in frames.items() if target in frame.columns]
        if len(names) == 1:
            homes[target] = names[0]
        elif names:
            problems.append(f"target '{target}' is in several tables: {shown(names)}. Rename it in all but one.")
        else:
            columns = [str(column) for frame in frames.values() for column in frame.columns]
            problems.append(f"no table has a column '{target}'.{did_you_mean(target, columns)}")
    if not targets:
        problems.append("name at least one target column.")
    raise_all(problems, StudyError, "The targets cannot be found")
    return homes


def _compose(
    sources: dict[str, Path], frames: dict[str, pd.DataFrame], folders: dict[str, FolderSource], homes: dict[str, str],
    patient: str, out: Path,
) -> str:  # fmt: skip
    source_lines, modality_lines, used = [], [], []
    for name, frame in frames.items():
        targets = [target for target, home in homes.items() if home == name]
        if set(frame.columns) <= set(targets):
            continue
        used.append(name)
        if name in folders:
            kind, origin = folders[name].kind, "the files' suffix"
            keys = ["    file_column: file"] if kind == "text" else []
            keys += ["    # on_error: absent   # patients with unreadable files count as without it; default: an error"]
        else:
            origin = sources[name].suffix
            kind, keys = "embedding" if origin == ".npz" else "table", _column_keys(frame, targets)
            if not targets and (codes := code_column(frame)) is not None:
                kind, keys, origin = "codes", code_lines(codes, frame), f"its column {codes.name}"
        modality_lines += [f"  - name: {name}", f"    kind: {kind}   # inferred from {origin}", f"    source: {name}"]
        modality_lines += keys
    for name, path in sources.items():
        if name in folders:
            source_lines.append(_folder(name, folders[name]))
        else:
            relative = os.path.relpath(path.absolute(), out.parent.absolute())
            source_lines.append(f"    {name}: {_scalar(relative)}   # {len(frames[name])} rows")
    modality_lines += [f"  # source {name} holds targets only" for name in frames if name not in used]
    task_lines = [line for target, home in homes.items() for line in _task(target, home, frames[home])]
    n_patients = len({patient for frame in frames.values() for patient in frame.index})
    members = advised_members(n_patients)
    return TEMPLATE.format(
        members=members, members_reason=_members_reason(n_patients, members),
        name=_scalar(out.stem), patient=_scalar(patient), sources="\n".join(source_lines),
        modalities="\n".join(modality_lines), tasks="\n".join(task_lines), order=", ".join(used),
        stratify=_name(next(iter(homes))),
    )  # fmt: skip


def _members_reason(n_patients: int, members: int) -> str:
    """Says why as many networks are trained."""
    if members > 1:
        return f"An ensemble over folds, as there are {n_patients:,} patients: cohorts below about {SMALL:,} need it."
    if n_patients >= SMALL:
        return f"One network, as there are {n_patients:,} patients; cohorts below about {SMALL:,} need an ensemble."
    return f"One network, as there are only {n_patients} patients: too few for the folds of an ensemble."


def _folder(name: str, folder: FolderSource) -> str:
    given = {"files": folder.spec.files, "patient_from": folder.spec.patient_from}
    # in quotes, as a pattern may begin with a bracket or an asterisk, which have a meaning in YAML
    keys = ["{}: '{}'".format(key, text.replace("'", "''")) for key, text in given.items() if text is not None]
    counts = f"{len(folder.frame)} files of {folder.frame.index.nunique()} patients, {folder.n_in_tables} of them"
    return f"    {name}: {{{', '.join(keys)}}}   # {counts} in a table"


def _column_keys(frame: pd.DataFrame, targets: list[str]) -> list[str]:
    inputs = [column for column in frame.columns if column not in targets]
    numbers = [str(c) for c in inputs if pd.api.types.is_numeric_dtype(frame[c].dtype)]
    texts = [str(c) for c in inputs if str(c) not in set(numbers)]
    cells = {name: frame[name].dropna() for name in texts}
    identifiers = [c for c in texts if len(cells[c]) > FEW and cells[c].nunique() > 0.9 * len(cells[c])]
    texts = [c for c in texts if c not in identifiers]
    lines = ["    columns: all"]
    if targets or identifiers:
        left_out = ", ".join(_scalar(column) for column in [*targets, *identifiers])
        lines = ["    # no inputs: targets, and columns that follow the outcome, which you must add"]
        lines.append(f"    columns: {{all_but: [{left_out}]}}")
    lines.append(f"    # numeric ({len(numbers)}): {_comment(shown(numbers))}")
    if identifiers:
        lines.append(f"    # left out, as nearly every patient has another text: {_comment(shown(identifiers))}")
    if texts:
        lines.append(f"    # categorical ({len(texts)}): {_comment(shown(texts))}")
    suspects = [column for column in inputs if EVENT.search(str(column)) or TIME.search(str(column))]
    if suspects:
        lines.append(f"    # known before the outcome? if not, add to all_but: {_comment(shown(suspects))}")
    return lines


def _task(target: str, home: str, frame: pd.DataFrame) -> list[str]:
    inferred = infer_task(frame[target])
    why = _comment(f"inferred: {inferred.reason}; alternatives: {inferred.alternatives}")
    lines = [f"  - name: {_name(target)}", f"    kind: {inferred.kind}   # {why}", f"    source: {home}"]
    lines.append(f"    target: {_scalar(target)}")
    for key, value in inferred.options.items():
        listed = f"[{', '.join(map(_scalar, value))}]" if isinstance(value, list) else _scalar(value)
        lines.append(f"    {key}: {listed}   # inferred; check")
    times = [str(c) for c in frame.columns if c != target and TIME.search(str(c))]
    if inferred.kind == "binary" and EVENT.search(target) and times:
        keys = f"{{kind: survival, time: {times[0]}, event: {target}}}"
        lines.append(f"    # with a time this may be survival: {keys}; times here: {_comment(shown(times))}")
    return lines


def _name(column: str) -> str:
    """Returns a valid name near that of a column."""
    name = re.sub(r"[^\w-]", "_", column)
    try:
        return check_name(name)
    except ValueError:  # reserved by torch
        return f"{name}_"


def _scalar(value: Any) -> str:
    """Writes a value as YAML in one line, quoted where necessary."""
    return write_yaml([value])[2:].strip()


def _comment(text: str) -> str:
    return " ".join(text.split())
