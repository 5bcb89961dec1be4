"""From the sources of a study to the columns of its modalities and tasks; every problem is collected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from multimodn.data import checks
from multimodn.data.sources import from_frame, read_source
from multimodn.errors import DataError, StudyError, did_you_mean, shown
from multimodn.study import AllBut, ColumnSplit, ModalitySpec, SourceSpec, Study

Tables = dict[str, pd.DataFrame]
Given = SourceSpec | str | Path | pd.DataFrame | None
"""What a source may be replaced by; None: nobody has it."""


def load_tables(
    study: Study,
    labelled: bool,
    replaced: Mapping[str, str | Path | pd.DataFrame | None],
    problems: list[str],
) -> Tables:
    """Reads each source that is needed, once; see `Cohort.load`.

    Raises:
        StudyError: If ``replaced`` names a source that the study does not have.
    """
    for name in replaced:
        if name not in study.cohort.sources:
            raise StudyError(f"Unknown source '{name}'.{did_you_mean(name, study.cohort.sources)}")
    tables: Tables = {}
    for name in _needed(study, labelled):
        given = replaced.get(name, study.cohort.sources[name])
        if given is None and not labelled:
            continue
        try:
            table = _read(study, name, given)
        except DataError as error:
            problems.append(f"source '{name}': {error}")
            continue
        found = checks.key_problems(name, table, several_rows=has_several_rows(study, name))
        problems += found
        if not found:
            tables[name] = table
    return tables


def has_several_rows(study: Study, source: str) -> bool:
    """Says whether a patient may have several rows of a source: everything that reads it has to know what they mean."""
    if any(task.source == source for task in study.tasks):
        return False
    if isinstance(study.split, ColumnSplit) and study.split.source == source:
        return False
    readers = [modality for modality in study.modalities if modality.source == source]
    return all(modality.has_several_rows for modality in readers)


def source_folder(study: Study, name: str, given: Given) -> Path:
    """Returns where the relative paths in a source start: the folder of its file; of a query or pattern the study's."""
    given = study.cohort.sources[name] if given is None else given
    if isinstance(given, SourceSpec):
        return study.folder if given.path is None else (study.folder / given.path).parent
    return Path(given).parent if isinstance(given, str | Path) else Path()


def _needed(study: Study, labelled: bool) -> list[str]:
    names = [task.source for task in study.tasks] if labelled else []
    if labelled and isinstance(study.split, ColumnSplit) and study.split.source is not None:
        names.append(study.split.source)
    return list(dict.fromkeys([*names, *(modality.source for modality in study.modalities)]))


def _read(study: Study, name: str, given: Given) -> pd.DataFrame:
    if isinstance(given, pd.DataFrame):
        return from_frame(given, study.cohort.patient)
    if given is None:
        raise DataError("it is None, which only a prediction can do without.")
    exact = label_columns(study, name)
    if isinstance(given, SourceSpec):
        return read_source(given, study.folder, study.cohort.patient, exact)
    return read_source(SourceSpec(path=str(given)), Path(), study.cohort.patient, exact)


def label_columns(study: Study, source: str) -> dict[str, str]:
    """Returns the columns of a source that are no inputs, and what each of them is."""
    columns: dict[str, str] = {}
    first = study.tasks[0].source
    if study.cohort.group is not None and source == first:
        columns[study.cohort.group] = "the grouping key"
    if isinstance(study.split, ColumnSplit) and source == (study.split.source or first):
        columns[study.split.column] = "the split"
    for task in study.tasks:
        if task.source == source:
            columns |= dict.fromkeys(task.target_columns, f"a target of task '{task.name}'")
    return columns


def modality_columns(
    study: Study, modality: ModalitySpec, available: list[str], labelled: bool, problems: list[str]
) -> list[str]:
    """Returns the input columns of a modality; unknown columns and targets among them are problems."""
    where = f"modality '{modality.name}'"
    ordering = {modality.repeats.by} if modality.repeats else set()
    if isinstance(modality.columns, AllBut):
        left_out = [*modality.columns.all_but, *ordering]
        # Where nobody is labelled, the target columns that were left out need not be there to be left out.
        asked = left_out if labelled else []
        columns = [name for name in available if name not in set(left_out)]
    elif modality.columns == "all":
        asked, columns = [], [name for name in available if name not in ordering]
    else:
        asked = columns = list(modality.columns)
    known = set(available)
    unknown = [name for name in asked if name not in known and name != study.cohort.patient]
    problems += [
        f"{where}: source '{modality.source}' has no column '{name}'.{did_you_mean(name, available)}"
        for name in unknown
    ]
    if study.cohort.patient in asked and not isinstance(modality.columns, AllBut):
        problems.append(f"{where}: the patient key '{study.cohort.patient}' cannot be an input.")
    if labelled:
        problems += _leaks(study, modality, columns)
    columns = [name for name in columns if name in known]
    if not columns and not unknown:
        problems.append(f"{where}: no column of source '{modality.source}' is left for it.")
    return columns


def _leaks(study: Study, modality: ModalitySpec, columns: list[str]) -> list[str]:
    # a target may be an input for other tasks: its own must not see the modality
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
    repair = f"columns: {{all_but: [{', '.join(leaking)}]}}"
    return [
        f"modality '{modality.name}': its inputs include {listed}. Leave out, for example `{repair}`, or name the "
        f"tasks that must not see them in `exclude_for`."
    ]


def task_tables(study: Study, tables: Tables, problems: list[str]) -> Tables:
    """Returns for each task its target columns, as its source has them."""
    targets: Tables = {}
    for name, table in tables.items():
        problems += [
            f"source '{name}' has no column '{column}', {role}.{did_you_mean(column, table.columns)}"
            for column, role in label_columns(study, name).items()
            if column not in table.columns
        ]
    for task in study.tasks:
        if task.source in tables and set(task.target_columns) <= set(tables[task.source].columns):
            targets[task.name] = tables[task.source][task.target_columns]
    return targets
