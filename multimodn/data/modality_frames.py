"""From tables to one frame for each modality, or for each reading where a modality is read repeatedly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from multimodn.base.column_blocks import column_blocks
from multimodn.data import checks
from multimodn.data.checks import Note
from multimodn.data.files import with_absolute_paths
from multimodn.data.reading.header import NAMELESS, nameless_kind
from multimodn.data.reading.order import order_of_readings
from multimodn.data.reading.sentinels import sentinel_notes
from multimodn.data.sources import Given, Tables
from multimodn.data.tables import label_columns
from multimodn.data.time.index import Index
from multimodn.data.time.known import as_known
from multimodn.errors import DataError, did_you_mean, shown
from multimodn.study.sources import flag_column
from multimodn.study.study import AllBut, ModalitySpec, RepeatSpec, SourceSpec, Study
from multimodn.study.time import index_columns

FEW = 16  # columns that are cheaper to delete than the others to copy


def modality_frames(
    study: Study, tables: Tables, replaced: Mapping[str, Given], labelled: bool, problems: list[str],
    notes: list[Note], index: Index | None = None,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Returns for each step the rows of the patients who have it; adds to ``problems`` and ``notes``.

    With an ``index`` they are what is known at each moment of prediction.

    A modality whose source is not in ``tables`` has no frame. Inputs for training (``labelled``) must hold no targets.
    """
    frames = {}
    for modality in study.modalities:
        if modality.source not in tables:
            continue
        table = tables[modality.source]
        columns = modality_columns(study, modality, list(table.columns), labelled, problems)
        columns = _without_nameless(modality, table, columns, problems, notes)
        date_format = study.cohort.sources[modality.source].date_format
        if study.index is None or index is not None:
            table = as_known(modality, table, columns, index, date_format, problems, notes)
        folder = source_folder(study, modality.source, replaced.get(modality.source))
        frame = with_absolute_paths(_select(table, columns), modality.file_columns, folder)
        problems += checks.infinite_problems(modality.name, frame)
        notes += sentinel_notes(modality.name, modality.source, frame)
        for name, reading in _readings(modality, table, frame, date_format, problems, notes).items():
            frames[name] = with_values(reading)
    return frames


def _without_nameless(
    modality: ModalitySpec, table: pd.DataFrame, columns: list[str], problems: list[str], notes: list[Note]
) -> list[str]:
    """Leaves out the row numbers and the empty cells that programs write in columns without a name."""
    if isinstance(modality.columns, list):
        return columns
    nameless = [name for name in columns if NAMELESS.fullmatch(str(name))]
    for name in nameless:
        kind = nameless_kind(table[name])
        if kind is None:
            cells = shown(table[name].dropna().unique()[:3].tolist())
            where = f"modality '{modality.name}': column '{name}' of source '{modality.source}'"
            problems.append(
                f"{where} has no name and holds {cells}. Name it, or leave it out by `all_but: ['{name}']`."
            )
        else:
            text = f"modality '{modality.name}': column '{name}' has no name and holds {kind}; it is left out."
            notes.append(Note(text, "modality {}: a column without a name is left out", (modality.name,)))
    return [name for name in columns if name not in nameless]


def is_later_reading(name: str) -> bool:
    """Says whether a step is the second, third, ... reading of a modality; it may be absent for all patients."""
    return "@" in name and not name.endswith("@1")


def with_values(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows that have a value in any column; the table itself if all have."""
    has_value = np.zeros(len(frame), dtype=bool)
    for block in column_blocks(len(frame), frame.shape[1]):
        has_value |= frame.iloc[:, block].notna().to_numpy().any(axis=1)
        if has_value.all():
            return frame
    return frame.loc[has_value]


def _select(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Returns some columns, without a copy where only a few are left out."""
    chosen = set(columns)
    left_out = [name for name in table.columns if name not in chosen]
    if len(left_out) > FEW or columns != [name for name in table.columns if name in chosen]:
        return table[columns]
    frame = table.copy(deep=False)
    for name in left_out:
        del frame[name]
    return frame


def _readings(
    modality: ModalitySpec, table: pd.DataFrame, frame: pd.DataFrame, date_format: str | None, problems: list[str],
    notes: list[Note],
) -> dict[str, pd.DataFrame]:  # fmt: skip
    if modality.repeats is None:
        return {modality.name: frame}
    where, spec = f"modality '{modality.name}'", modality.repeats
    if spec.by not in table:
        nearest = did_you_mean(spec.by, map(str, table.columns))
        problems.append(f"{where}: source '{modality.source}' has no column '{spec.by}' to order readings by.{nearest}")
        return {}
    by = table[spec.by]
    is_empty = by.isna() if pd.api.types.is_numeric_dtype(by.dtype) else by.isna() | (by.astype(str).str.strip() == "")
    without = shown(list(table.index[is_empty].unique()))
    if without:
        problems.append(f"{where}: '{spec.by}' is empty for patient(s) {without}; every reading needs a time.")
        return {}
    try:
        ranks, how = order_of_readings(by, spec.order, date_format)
    except DataError as error:
        problems.append(f"{where}, '{spec.by}': {error}")
        return {}
    if how is not None:
        notes.append(Note(f"{where}: readings are ordered by '{spec.by}' {how}."))
    repeated = pd.DataFrame({"patient": table.index, "by": ranks}).duplicated().to_numpy()
    if repeated.any() and not modality.takes_several_rows:
        same = f"patient(s) {shown(list(table.index[repeated].unique()))} have several rows with the same '{spec.by}'"
        problems.append(f"{where}: {same}; kind '{modality.kind}' takes one row per reading.")
        return {}
    number, n_left_out = _numbers(pd.Series(ranks, index=by.index), spec)
    if n_left_out:
        text = f"{where}: {n_left_out} readings before the latest {spec.most} of a patient are not used."
        notes.append(Note(text, "modality {}: {} early readings are not used", (modality.name, n_left_out)))
    return {name: frame.loc[number == k] for k, name in enumerate(modality.step_names)}


def _numbers(by: pd.Series[Any], spec: RepeatSpec) -> tuple[np.ndarray[Any, np.dtype[np.int64]], int]:
    """Numbers each row's reading ``(n,)`` from the first of the latest ``most``, 0; counts earlier (negative) ones."""
    ordered = pd.Series(pd.factorize(by.to_numpy(), sort=True)[0], index=by.index)
    rank = ordered.groupby(level=0).rank("dense").astype(np.int64) - 1
    n_readings = rank.groupby(level=0).transform("max") + 1
    number = (rank - (n_readings - spec.most).clip(lower=0)).to_numpy()
    left_out = pd.DataFrame({"patient": by.index, "number": number})[number < 0].drop_duplicates()
    return number, len(left_out)


def source_folder(study: Study, name: str, given: Given) -> Path:
    """Returns the folder of a source's relative paths: that of its file; for a query or pattern the study's."""
    given = study.cohort.sources[name] if given is None else given
    if isinstance(given, SourceSpec):
        return study.folder if given.path is None else (study.folder / given.path).parent
    return Path(given).parent if isinstance(given, str | Path) else Path()


def modality_columns(
    study: Study, modality: ModalitySpec, available: list[str], labelled: bool, problems: list[str]
) -> list[str]:
    """Returns the input columns of a modality; unknown columns and targets among them are problems."""
    where, at_source = f"modality '{modality.name}'", set(available)
    ordering = {modality.repeats.by} if modality.repeats else set()
    if modality.window is not None and modality.window.time not in modality.time_columns:
        ordering |= {str(modality.window.time)}
    ordering |= index_columns(study.index, study.tasks[0].source).get(modality.source, set())
    if study.index is not None:  # the order of columns of a file depends on what later rows hold
        available = sorted(available)
    if isinstance(modality.columns, AllBut):
        left_out = [*modality.columns.all_but, *ordering]
        asked = left_out if labelled else []  # without labels the target columns to leave out need not exist
        spared = set(left_out)
        columns = [name for name in available if name not in spared]
    elif modality.columns == "all":
        asked, columns = [], [name for name in available if name not in ordering]
    else:
        asked = list(modality.columns)
        flags = [flag_column(name) for name in asked if flag_column(name) in at_source]
        columns = [*asked, *(name for name in flags if name not in asked)]
    unknown = [name for name in asked if name not in at_source and name != study.cohort.patient]
    lacks = f"{where}: source '{modality.source}' has no column"
    problems += [f"{lacks} '{name}'.{did_you_mean(name, available)}" for name in unknown]
    if study.cohort.patient in asked and not isinstance(modality.columns, AllBut):
        problems.append(f"{where}: the patient key '{study.cohort.patient}' cannot be an input.")
    if labelled:
        problems += _leaks(study, modality, columns)
    columns = [name for name in columns if name in at_source]
    if not columns and not unknown:
        problems.append(f"{where}: no column of source '{modality.source}' is left for it.")
    return columns


def _leaks(study: Study, modality: ModalitySpec, columns: list[str]) -> list[str]:
    # a target may be an input for other tasks, but not for its own
    seeing = [task for task in study.tasks if task.name not in modality.exclude_for]
    targets = {name: f"a target of task '{task.name}'" for task in seeing for name in task.target_columns}
    own = {name for task in study.tasks for name in task.target_columns} - set(targets)
    banned = {name: role for name, role in label_columns(study, modality.source).items() if name not in own} | targets
    if not isinstance(modality.columns, AllBut | str) and study.cohort.group not in targets:
        banned.pop(study.cohort.group or "", None)  # who names the grouping key as an input means it
    leaking = [name for name in columns if name in banned]
    if not leaking:
        return []
    listed = shown([f"'{name}' ({banned[name]})" for name in leaking])
    repair = f"Leave them out, for example `columns: {{all_but: [{', '.join(leaking)}]}}`, or name the tasks"
    inputs = f"modality '{modality.name}': its inputs include {listed}"
    return [f"{inputs}. {repair} that must not see the modality in `exclude_for`."]


def task_tables(study: Study, tables: Tables, problems: list[str]) -> Tables:
    """Returns for each task its target columns, as its source has them."""
    targets: Tables = {}
    for name, table in tables.items():
        for column, role in label_columns(study, name).items():
            if column not in table.columns:
                nearest = did_you_mean(column, table.columns)
                problems.append(f"source '{name}' has no column '{column}', {role}.{nearest}")
    for task in study.tasks:
        if task.source in tables and set(task.target_columns) <= set(tables[task.source].columns):
            targets[task.name] = tables[task.source][task.target_columns]
    return targets
