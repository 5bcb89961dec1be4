"""`multimodn init`: writes a first study file from tables, with comments on what was inferred."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from multimodn.data.keys import write_key
from multimodn.errors import DataError, StudyError, did_you_mean, raise_all, shown
from multimodn.files import write_text
from multimodn.scaffold.code_tables import code_column, code_lines
from multimodn.scaffold.columns import column_lines, left_out_table
from multimodn.scaffold.folders import FolderSource, folder_keys, read_folder
from multimodn.scaffold.keys import key_rules
from multimodn.scaffold.source_options import read_table
from multimodn.scaffold.tasks import tasks
from multimodn.scaffold.yaml_lines import comment, listed, scalar, valid_name
from multimodn.study.keys import KeySpec
from multimodn.study.training import SMALL, advised_members

OTHER_SUFFIXES = "parquet|npz|npy|xlsx|xlsm|dta|sav|zsav|por|sas7bdat|xpt"  # left out of the name of a source
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
    frames, options = _read_tables(sources, patient, targets)
    folders = _read_folders(sources, frames, out.parent)
    homes = _find_targets(frames, targets)
    frames |= {name: folder.frame for name, folder in folders.items()}
    frames, rules = key_rules(frames, list(dict.fromkeys(homes.values())))
    text = _compose(sources, frames, folders, homes, options, rules, patient, out)
    write_text(out, text)
    return text


def _names(tables: Sequence[str | Path]) -> list[str]:
    if not tables:
        raise StudyError("Name at least one table.")
    names = [re.sub(r"[^\w-]", "_", re.sub(r"\.(csv|tsv|txt)(\.gz)?$", "", Path(t).name, flags=re.I)) for t in tables]
    names = [valid_name(re.sub(rf"_({OTHER_SUFFIXES})$", "", name)) for name in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StudyError(f"Several tables are called {shown(twice)}; rename one, as each becomes a modality.")
    return names


def _read_tables(
    sources: dict[str, Path], patient: str, targets: Sequence[str]
) -> tuple[dict[str, pd.DataFrame], dict[str, tuple[dict[str, Any], list[str]]]]:
    """Returns the tables, and for each the options of its source, with notes on them."""
    problems, frames = [], {}
    options: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for name, path in sources.items():
        if path.is_dir():
            continue
        if path.suffix == ".npy":
            problems.append(f"{path}: a .npy has no patient identifiers; write its source by hand: {{path, patients}}.")
            continue
        try:
            frames[name], given, notes = read_table(path, patient, targets)
            options[name] = given, notes
        except DataError as error:
            problems.append(f"{path}: {error}")
    raise_all(problems, DataError, "The tables cannot be read")
    return frames, options


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
    options: dict[str, tuple[dict[str, Any], list[str]]], rules: dict[str, tuple[KeySpec, str]], patient: str,
    out: Path,
) -> str:  # fmt: skip
    source_lines, modality_lines, used = [], [], []
    of_targets, labels = set(homes.values()), [frames[home][target] for target, home in homes.items()]
    of_targets = of_targets if set(frames) - of_targets else set()  # a single table holds the inputs too
    for name, frame in frames.items():
        targets = [target for target, home in homes.items() if home == name]
        if name in of_targets:
            modality_lines += left_out_table(name, frame, targets)
            continue
        if set(frame.columns) <= set(targets):
            raise StudyError(f"{sources[name]} holds targets only; name a table or folder of inputs too.")
        used.append(name)
        if name in folders:
            kind, origin = folders[name].kind, "the files' suffix"
            keys = ["    file_column: file"] if kind == "text" else []
            keys += ["    # on_error: absent   # patients with unreadable files count as without it; default: an error"]
        else:
            origin = sources[name].suffix
            kind, keys = "embedding" if origin == ".npz" else "table", column_lines(frame, targets, labels)
            if not targets and (codes := code_column(frame)) is not None:
                kind, keys, origin = "codes", code_lines(codes, frame), comment(f"its column {codes.name}")
        written = scalar(name)
        modality_lines += [f"  - name: {written}", f"    kind: {kind}   # inferred from {origin}"]
        modality_lines += [f"    source: {written}", *keys]
    for name, path in sources.items():
        relative = os.path.relpath(path.absolute(), out.parent.absolute())
        given, said = {"path": scalar(relative)}, f"{len(frames[name])} rows"
        if name in folders:
            given, said = folder_keys(folders[name])
        own, notes = options.get(name, ({}, []))
        given |= {key: listed(value) if isinstance(value, list) else scalar(value) for key, value in own.items()}
        said = "; check: ".join([said, *map(comment, notes)])
        if name in rules:
            given, said = given | {"key": write_key(rules[name][0])}, f"{said}; {comment(rules[name][1])}"
        source_lines.append(f"    {scalar(name)}: {_source(given)}   # {said}")
    task_lines, first = tasks(frames, homes)
    n_patients = len({patient for frame in frames.values() for patient in frame.index})
    members = advised_members(n_patients)
    return TEMPLATE.format(
        members=members, members_reason=_members_reason(n_patients, members),
        name=scalar(out.stem), patient=scalar(patient), sources="\n".join(source_lines),
        modalities="\n".join(modality_lines), tasks="\n".join(task_lines), order=", ".join(map(scalar, used)),
        stratify=scalar(first),
    )  # fmt: skip


def _members_reason(n_patients: int, members: int) -> str:
    """Says why as many networks are trained."""
    if members > 1:
        return f"An ensemble over folds, as there are {n_patients:,} patients: cohorts below about {SMALL:,} need it."
    if n_patients >= SMALL:
        return f"One network, as there are {n_patients:,} patients; cohorts below about {SMALL:,} need an ensemble."
    return f"One network, as there are only {n_patients} patients: too few for the folds of an ensemble."


def _source(given: dict[str, str]) -> str:
    """Writes the keys of a source in one line; the path alone in its short form."""
    return given["path"] if list(given) == ["path"] else "{" + ", ".join(f"{k}: {v}" for k, v in given.items()) + "}"
