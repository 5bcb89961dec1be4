"""Several registries as one cohort: each task has labels where it was recorded.

Registries may differ in patients, files, key, modalities and labelled tasks, but not in the meaning of a column. A
modality has the same columns in all of them; otherwise an empty cell would reveal to the model where a patient comes
from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pandas as pd

from multimodn.data.checks import Note
from multimodn.data.cohort_tables import CohortTables
from multimodn.data.modality_frames import is_later_reading, modality_frames, task_tables
from multimodn.data.sources import Tables
from multimodn.data.tables import load_tables
from multimodn.data.tidy_targets import tidy_targets
from multimodn.data.time.index import Index, read_index
from multimodn.errors import DataError, raise_all, shown
from multimodn.study.checks import registry_sources
from multimodn.study.study import AllBut, CohortSpec, ColumnSplit, ModalitySpec, Study, TaskSpec

C = TypeVar("C", bound=CohortTables)

SEPARATOR = "/"  # between the name of a registry, which cannot contain it, and the identifier of a patient


@dataclass(frozen=True)
class _Registry:
    """The data of one registry; ``study`` has its own sources, modalities and tasks."""

    study: Study
    tables: Tables
    frames: Tables
    targets: Tables
    problems: list[str] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    index: Index | None = None


def load_registries(study: Study, labelled: bool) -> tuple[CohortTables, pd.Index]:
    """Reads all registries of a study as one cohort; returns the patients of the targets' sources too."""
    if labelled and isinstance(study.split, ColumnSplit) and study.split.source is not None:
        source = study.split.source
        lacking = [name for name, spec in study.cohorts.items() if spec.sources.get(source, spec) is None]
        if lacking:
            raise DataError(f"The split is read from source '{source}', which is null in {shown(lacking)}.")
    read = {name: _read(study, name, labelled) for name in study.cohorts}
    problems = [f"registry '{name}': {text}" for name, registry in read.items() for text in registry.problems]
    if labelled and not problems:
        recorded = {task for registry in read.values() for task in registry.targets}
        problems = [
            f"task '{task.name}': no registry has its column(s) {shown(task.target_columns)} in source '{task.source}'."
            for task in study.tasks
            if task.name not in recorded
        ]
    raise_all(problems, DataError, f"The data of study '{study.name}' cannot be used")
    parts, with_targets = {}, []
    for name, one in read.items():
        targets = tidy_targets(one.study, one.targets, one.notes)
        contents = (one.study, one.tables, one.frames, targets, one.notes)
        parts[name], patients = CohortTables.of_tables(*contents, labelled=labelled, index=one.index)
        with_targets.append(_prefixed(name, patients))
    cohort = join_registries(parts, strict=labelled)
    if labelled:
        cohort.notes.extend(map(Note, _unlabelled_modalities(study, cohort)))
    return cohort, with_targets[0].append(with_targets[1:])


def registry_study(study: Study, name: str) -> Study:
    """Returns the study of one registry: its key, its sources, and the modalities and tasks that it may have."""
    spec = study.cohorts[name]
    sources = registry_sources(study.cohort, spec)
    cohort = CohortSpec(patient=spec.patient or study.cohort.patient, group=study.cohort.group, sources=sources)
    modalities = [modality for modality in study.modalities if modality.source in sources]
    tasks = [t for t in study.tasks if t.source in sources and (spec.tasks is None or t.name in spec.tasks)]
    return study.model_copy(update={"cohort": cohort, "cohorts": {}, "modalities": modalities, "tasks": tasks})


def own_identifiers(patients: pd.Index) -> pd.Index:
    """Returns identifiers without the name of a registry before them."""
    return pd.Index([str(patient).partition(SEPARATOR)[2] or str(patient) for patient in patients], dtype=object)


def join_registries(parts: Mapping[str, C], *, strict: bool = True) -> C:
    """Joins cohorts of different patients, which may lack modalities and tasks, to one.

    Patients are named ``registry/identifier``: the same identifier in two registries is taken for two people, with a
    note. A group in two registries is one group. ``strict``: refuses modalities with different columns, and columns
    of numbers in one registry and text in another, as training needs.
    """
    frames = _by_name({name: part.modalities for name, part in parts.items()})
    targets = _by_name({name: part.targets for name, part in parts.items()})
    problems: list[str] = []
    if strict:
        problems += [text for what, tables in frames.items() for text in _other_columns(what, tables)]
        problems += [text for what, tables in frames.items() for text in _other_types(f"modality '{what}'", tables)]
        problems += [text for what, tables in targets.items() for text in _other_types(f"task '{what}'", tables)]
    raise_all(problems, DataError, "The registries do not fit each other")
    ids = [_prefixed(name, part.patients) for name, part in parts.items()]
    patients = ids[0].append(ids[1:])
    registry = [name for name, part in parts.items() for _ in range(len(part))]
    notes = [replace(note, text=f"registry '{name}': {note}") for name, part in parts.items() for note in part.notes]
    return replace(
        next(iter(parts.values())),
        patients=patients,
        modalities={what: _stacked(tables) for what, tables in frames.items()},
        targets={what: _stacked(tables).reindex(patients) for what, tables in targets.items()},
        groups=_series({name: part.groups for name, part in parts.items()}, patients),
        split=_series({name: part.split for name, part in parts.items()}, patients),
        notes=[*notes, *map(Note, _shared_identifiers(parts))],
        files={what: columns for part in parts.values() for what, columns in part.files.items()},
        registry=pd.Series(registry, patients, dtype=object, name="registry"),
    )


def _read(study: Study, name: str, labelled: bool) -> _Registry:
    one = registry_study(study, name)
    problems: list[str] = []
    notes: list[Note] = []
    tables = load_tables(one, labelled, {}, problems, notes)
    own = _own_tasks(one, tables, problems, are_given=study.cohorts[name].tasks is not None) if labelled else one.tasks
    narrow = one.model_copy(update={"tasks": own})
    targets = task_tables(narrow, tables, problems) if own and labelled else {}
    # inputs must not contain targets of other registries either, which this one's tables may have too
    others = [task for task in study.tasks if task not in own]
    modalities = [_without_absent_targets(modality, others, tables) for modality in one.modalities]
    whole = one.model_copy(update={"tasks": [*own, *others], "modalities": modalities})
    index = read_index(one, tables, labelled, problems)
    frames = modality_frames(whole, tables, {}, labelled, problems, notes, index)
    return _Registry(narrow, tables, frames, targets, problems, notes, index)


def _own_tasks(one: Study, tables: Tables, problems: list[str], *, are_given: bool) -> list[TaskSpec]:
    """Returns the tasks with labels in a registry: those that the study gives it, else those whose columns it has."""
    own = []
    for task in one.tasks:
        if task.source not in tables:  # already a problem
            continue
        has = [name for name in task.target_columns if name in tables[task.source].columns]
        if are_given or len(has) == len(task.target_columns):
            own.append(task)
        elif has:
            lacking = shown([name for name in task.target_columns if name not in has])
            part = f"source '{task.source}' has {shown(has)} of task '{task.name}', but not {lacking}"
            problems.append(f"{part}. List the registry's tasks in its `tasks`.")
    if not own and not problems:
        columns = [name for task in one.tasks for name in task.target_columns]
        problems.append(f"it has the target columns of no task: {shown(columns)}.")
    return own


def _without_absent_targets(modality: ModalitySpec, others: Sequence[TaskSpec], tables: Tables) -> ModalitySpec:
    """Removes from ``all_but`` targets that this registry does not have."""
    if not isinstance(modality.columns, AllBut) or modality.source not in tables:
        return modality
    elsewhere = {name for task in others if task.source == modality.source for name in task.target_columns}
    absent = elsewhere - set(tables[modality.source].columns)
    kept = [name for name in modality.columns.all_but if name not in absent]
    return modality.model_copy(update={"columns": AllBut(all_but=kept)})


def _unlabelled_modalities(study: Study, cohort: CohortTables) -> Iterator[str]:
    """Notes modalities that no patient with a label of a task has, as where registries differ in both."""
    labelled = {name: table.index[table.notna().all(axis=1)] for name, table in cohort.targets.items()}
    for name, spec in study.steps.items():
        has = cohort.modalities[name].index if name in cohort.modalities else pd.Index([])
        apart = [task for task, ids in labelled.items() if len(has) and len(ids) and not has.isin(ids).any()]
        unlabelled = [task for task in apart if task not in spec.exclude_for]
        if unlabelled and not is_later_reading(name):
            yield (
                f"modality '{name}': no patient who has it has a label of {shown(unlabelled)}. Its effect on such "
                f"predictions is not learned from any outcome; `exclude_for: [{', '.join(unlabelled)}]` hides it."
            )


def _prefixed(name: str, ids: pd.Index) -> pd.Index:
    return (name + SEPARATOR + ids.astype(object)).astype(ids.dtype).rename("patient")


def _by_name(parts: Mapping[str, Mapping[str, pd.DataFrame]]) -> dict[str, dict[str, pd.DataFrame]]:
    """Turns tables by registry and name into tables by name and registry."""
    turned: dict[str, dict[str, pd.DataFrame]] = {}
    for registry, tables in parts.items():
        for name, table in tables.items():
            turned.setdefault(name, {})[registry] = table
    return turned


def _other_columns(what: str, tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    everywhere: list[Any] = list(dict.fromkeys(column for frame in tables.values() for column in frame.columns))
    for registry, frame in tables.items():
        lacking = [column for column in everywhere if column not in frame.columns]
        if lacking:
            yield (
                f"modality '{what}': registry '{registry}' lacks column(s) {shown(lacking)}. List in `columns` those "
                f"that all registries have; an empty cell would reveal to the model where a patient comes from."
            )


def _other_types(where: str, tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    kinds: dict[Any, dict[bool, str]] = {}
    for registry, frame in tables.items():
        for column in frame.columns:
            if frame[column].notna().any():
                kinds.setdefault(column, {}).setdefault(pd.api.types.is_numeric_dtype(frame[column].dtype), registry)
    for column, kind in kinds.items():
        if len(kind) == 2:
            yield f"{where}, column '{column}': registry '{kind[True]}' has numbers, '{kind[False]}' has text."


def _stacked(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Stacks the tables of registries; a column that is empty in one of them keeps its type of the others."""
    columns: list[Any] = list(dict.fromkeys(column for frame in tables.values() for column in frame.columns))
    filled = {name: [c for c in frame.columns if frame[c].notna().any()] for name, frame in tables.items()}
    frames = [frame[filled[name]].set_axis(_prefixed(name, frame.index)) for name, frame in tables.items()]
    frames = [frame for frame in frames if len(frame)] or frames[:1]
    return pd.concat(frames).reindex(columns=columns)


def _series(tables: Mapping[str, pd.Series[Any] | None], patients: pd.Index) -> pd.Series[Any] | None:
    given = {name: series.to_frame("value") for name, series in tables.items() if series is not None}
    return _stacked(given)["value"].reindex(patients) if given else None


def _shared_identifiers(parts: Mapping[str, CohortTables]) -> list[str]:
    names = list(parts)
    pairs = [(one, other) for k, other in enumerate(names) for one in names[:k]]
    shared = {(one, other): list(parts[one].patients.intersection(parts[other].patients)) for one, other in pairs}
    return [
        f"registries '{one}' and '{other}' share {len(both)} identifier(s), taken for different people: {shown(both)}. "
        f"If they are the same, give a `group` column that identifies them."
        for (one, other), both in shared.items()
        if both
    ]
