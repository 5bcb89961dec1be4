"""`multimodn init`: a first study file, written by looking at the tables, with every inference beside it."""

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
from multimodn.scaffold.folders import FolderSource, look_into
from multimodn.scaffold.infer_task import FEW, infer_task
from multimodn.study.sources import check_name
from multimodn.study.study import SourceSpec
from multimodn.study.yaml_file import write_yaml

EVENT = re.compile(r"(status|event|death|died|dead|recurrence|progression)", re.IGNORECASE)
TIME = re.compile(r"(^|_)((days?|months?|years?)_to_(?!birth)|time|followup|follow_up)", re.IGNORECASE)


def write_study(
    tables: Sequence[str | Path],
    patient: str,
    targets: Sequence[str],
    out: str | Path,
    *,
    overwrite: bool = False,
) -> str:
    """Writes a commented study file for some tables.

    Args:
        tables: CSV, Parquet, ``.npz``, or folders of reports, pictures or slide features, whose names tell the
            patient; each becomes a source and a modality.
        patient: The key column.
        targets: Columns to predict, each in one of the tables.
        out: The study file; sources in it are relative to its folder.
        overwrite: Whether an existing file may go.

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
    folders = _look_into_folders(sources, frames, out.parent)
    homes = _find_targets(frames, targets)
    text = _compose(
        sources, frames | {name: found.frame for name, found in folders.items()}, folders, homes, patient, out
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    return text


def _names(tables: Sequence[str | Path]) -> list[str]:
    if not tables:
        raise StudyError("Name at least one table.")
    names = [re.sub(r"[^\w-]", "_", re.sub(r"\.(csv|tsv)(\.gz)?$", "", Path(t).name, flags=re.I)) for t in tables]
    names = [_name(re.sub(r"_(parquet|npz|npy)$", "", name)) for name in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StudyError(f"Several tables are called {shown(twice)}; rename one, as each names a modality.")
    return names


def _read_tables(sources: dict[str, Path], patient: str, targets: Sequence[str]) -> dict[str, pd.DataFrame]:
    problems, frames = [], {}
    for name, path in sources.items():
        if path.is_dir():
            continue
        if path.suffix == ".npy":
            problems.append(f"{path}: a .npy names no patients; write its source by hand: {{path, patients}}.")
            continue
        try:
            frames[name] = read_source(SourceSpec(path=str(path)), Path(), patient, targets)
        except DataError as error:
            problems.append(f"{path}: {error}")
    raise_all(problems, DataError, "The tables cannot be read")
    return frames


def _look_into_folders(
    sources: dict[str, Path], frames: dict[str, pd.DataFrame], study_folder: Path
) -> dict[str, FolderSource]:
    problems, found = [], {}
    patients = {patient for frame in frames.values() for patient in frame.index}
    for name, path in sources.items():
        if path.is_dir():
            try:
                found[name] = look_into(path, study_folder, patients)
            except DataError as error:
                problems.append(str(error))
    raise_all(problems, DataError, "The folders cannot be used")
    return found


def _find_targets(frames: dict[str, pd.DataFrame], targets: Sequence[str]) -> dict[str, str]:
    """Returns for each target the table that has it."""
    problems, homes = [], {}
    for target in targets:
        found = [name for name, frame in frames.items() if target in frame.columns]
        if len(found) == 1:
            homes[target] = found[0]
        elif found:
            problems.append(f"target '{target}' is in several tables: {shown(found)}. Rename it in all but one.")
        else:
            every = [str(column) for frame in frames.values() for column in frame.columns]
            problems.append(f"no table has a column '{target}'.{did_you_mean(target, every)}")
    if not targets:
        problems.append("name at least one target column.")
    raise_all(problems, StudyError, "The targets cannot be found")
    return homes


def _compose(
    sources: dict[str, Path],
    frames: dict[str, pd.DataFrame],
    folders: dict[str, FolderSource],
    homes: dict[str, str],
    patient: str,
    out: Path,
) -> str:
    lines = [
        "# Written by `multimodn init` from the tables below. Every line is a guess that you may change.",
        f"name: {_scalar(out.stem)}",
        "",
        "cohort:",
        f"  patient: {_scalar(patient)}   # key column, in every table",
        "  # group: site   # a column that no split may divide, such as site or family",
        "  sources:",
    ]
    for name, path in sources.items():
        if name in folders:
            lines += _folder(name, folders[name])
            continue
        relative = os.path.relpath(path.absolute(), out.parent.absolute())
        lines.append(f"    {name}: {_scalar(relative)}   # {len(frames[name])} rows")
    lines += ["", "modalities:"]
    used = [name for name, frame in frames.items() if set(frame.columns) - {t for t in homes if homes[t] == name}]
    for name in used:
        if name in folders:
            lines += _file_modality(name, folders[name].kind)
            continue
        lines += _modality(name, sources[name], frames[name], [t for t, home in homes.items() if home == name])
    lines += [f"  # source {name} holds targets only" for name in frames if name not in used]
    lines += ["", "tasks:"]
    for target, home in homes.items():
        lines += _task(target, home, frames[home])
    first = next(iter(homes))
    lines += [
        "",
        "# The order in which a trajectory visits the modalities.",
        f"order: [{', '.join(used)}]",
        "",
        f"split: {{validation: 0.2, test: 0.2, stratify: {_name(first)}, seed: 0}}",
        "",
        "# What predictions may learn from which modalities a patient has: neutral (nothing), informative, off.",
        "missingness: neutral",
        "",
        "# With fewer than a few thousand patients an ensemble over folds predicts better: members: 5.",
        "training: {members: 1, seed: 0}",
    ]
    return "\n".join(lines) + "\n"


def _folder(name: str, found: FolderSource) -> list[str]:
    given = {"files": found.spec.files, "patient_from": found.spec.patient_from}
    # in quotes: a pattern may begin with a bracket or an asterisk, which mean something else in YAML
    keys = ["{}: '{}'".format(key, text.replace("'", "''")) for key, text in given.items() if text is not None]
    n_patients = found.frame.index.nunique()
    return [
        f"    {name}: {{{', '.join(keys)}}}   # {len(found.frame)} files of {n_patients} patients, {found.n_known} of "
        "them in a table"
    ]


def _file_modality(name: str, kind: str) -> list[str]:
    lines = [f"  - name: {name}", f"    kind: {kind}   # inferred from the files' suffix", f"    source: {name}"]
    if kind == "text":
        lines.append("    file_column: file")
    return [*lines, "    # on_error: absent   # whose file cannot be read lacks it; default: an error that names them"]


def _modality(name: str, path: Path, frame: pd.DataFrame, targets: list[str]) -> list[str]:
    inputs = [column for column in frame.columns if column not in targets]
    kind = "embedding" if path.suffix == ".npz" else "table"
    numbers = [str(c) for c in inputs if pd.api.types.is_numeric_dtype(frame[c].dtype)]
    identifiers = [str(c) for c in inputs if str(c) not in set(numbers) and _is_identifier(frame[c])]
    texts = [str(c) for c in inputs if str(c) not in {*numbers, *identifiers}]
    lines = [f"  - name: {name}", f"    kind: {kind}   # inferred from {path.suffix}", f"    source: {name}"]
    if targets or identifiers:
        left_out = ", ".join(_scalar(column) for column in [*targets, *identifiers])
        lines.append("    # targets are no inputs, nor is what follows the outcome: add it here")
        lines.append(f"    columns: {{all_but: [{left_out}]}}")
    else:
        lines.append("    columns: all")
    lines.append(f"    # numeric ({len(numbers)}): {_comment(shown(numbers))}")
    if identifiers:
        lines.append(f"    # left out, a text of its own for nearly every patient: {_comment(shown(identifiers))}")
    if texts:
        lines.append(f"    # categorical ({len(texts)}): {_comment(shown(texts))}")
    suspects = [column for column in inputs if EVENT.search(str(column)) or TIME.search(str(column))]
    if suspects:
        lines.append(f"    # known before the outcome? if not, add to all_but: {_comment(shown(suspects))}")
    return lines


def _is_identifier(values: pd.Series[Any]) -> bool:
    known = values.dropna()
    return len(known) > FEW and known.nunique() > 0.9 * len(known)


def _task(target: str, home: str, frame: pd.DataFrame) -> list[str]:
    inferred = infer_task(frame[target])
    why = _comment(f"inferred: {inferred.reason}; alternatives: {inferred.alternatives}")
    lines = [
        f"  - name: {_name(target)}",
        f"    kind: {inferred.kind}   # {why}",
        f"    source: {home}",
        f"    target: {_scalar(target)}",
    ]
    for key, value in inferred.options.items():
        listed = f"[{', '.join(map(_scalar, value))}]" if isinstance(value, list) else _scalar(value)
        lines.append(f"    {key}: {listed}   # inferred; check")
    times = [str(c) for c in frame.columns if c != target and TIME.search(str(c))]
    if inferred.kind == "binary" and EVENT.search(target) and times:
        lines.append(
            f"    # with a time this may be survival: {{kind: survival, time: {times[0]}, event: {target}}}; "
            f"times here: {_comment(shown(times))}"
        )
    return lines


def _name(column: str) -> str:
    """Returns a valid name near that of a column."""
    name = re.sub(r"[^\w-]", "_", column)
    try:
        return check_name(name)
    except ValueError:  # one of torch's own words
        return f"{name}_"


def _scalar(value: Any) -> str:
    """Writes a value as YAML in a line of its own, quoted where it has to be."""
    return write_yaml([value])[2:].strip()


def _comment(text: str) -> str:
    return " ".join(text.split())
