"""The tables of a cohort, joined on the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pandas as pd

from multimodn.data.checks import Note
from multimodn.data.time.index import Index
from multimodn.study.split import ColumnSplit
from multimodn.study.study import Study


@dataclass(frozen=True, eq=False, repr=False)
class CohortTables:
    """Patients and their data, joined on the patient, never on the position of a row.

    Attributes:
        patients: Patient identifiers as text.
        modalities: For each modality the rows of the patients who have it: a patient without a row in the source, or
            with empty cells only, does not have it. Some kinds take several rows per patient; a repeated modality has
            a frame for each reading.
        targets: For each task its target columns, one row for each of `patients`; empty = no label.
        groups: The group of each patient, such as a site or a family, that no split may divide.
        split: The part of each patient, from a column that the study names.
        notes: Notes on the data.
        files: For some modalities the columns that name files, as absolute paths.
        registry: The registry of each patient, where a study has several.
    """

    patients: pd.Index
    modalities: dict[str, pd.DataFrame]
    targets: dict[str, pd.DataFrame] = field(default_factory=dict)
    groups: pd.Series[Any] | None = None
    split: pd.Series[Any] | None = None
    notes: list[Note] = field(default_factory=list)
    files: dict[str, list[str]] = field(default_factory=dict)
    registry: pd.Series[Any] | None = None

    def __len__(self) -> int:
        return len(self.patients)

    @classmethod
    def of_tables(
        cls, study: Study, tables: dict[str, pd.DataFrame], frames: dict[str, pd.DataFrame],
        targets: dict[str, pd.DataFrame], notes: list[Note], *, labelled: bool,
        index: Index | None = None,
    ) -> tuple[Self, pd.Index]:  # fmt: skip
        """Joins the sources ``tables`` without checks; returns the cohort and the patients of the targets' sources.

        With an ``index`` its moments of prediction are the rows of the cohort.
        """
        if index is not None:
            tables.update({name: index.named(name, table) for name, table in tables.items()})
            sources = {task.name: task.source for task in study.tasks}
            targets = {name: index.named(sources[name], table) for name, table in targets.items()}
        first = [tables[name] for name in dict.fromkeys(task.source for task in study.tasks) if name in tables]
        with_targets = union_of_patients([table.index for table in first])
        patients = union_of_patients([with_targets, *(table.index for table in tables.values())])
        targets = {name: table.reindex(patients) for name, table in targets.items()}
        groups = split = None
        if labelled and study.cohort.group is not None:
            groups = tables[study.tasks[0].source][study.cohort.group].reindex(patients)
        elif labelled and index is not None:
            groups = index.groups(patients)
        if labelled and isinstance(study.split, ColumnSplit):
            split = tables[study.split.source or study.tasks[0].source][study.split.column].reindex(patients)
        tables.clear()  # so that no table is in memory twice
        files = {name: spec.file_columns for name, spec in study.steps.items() if name in frames and spec.file_columns}
        return cls(patients, frames, targets, groups, split, notes, files), with_targets


def union_of_patients(parts: Sequence[pd.Index]) -> pd.Index:
    """Joins identifiers in the order in which they are first seen."""
    if not parts:
        return pd.Index([], dtype=object, name="patient")
    joined = parts[0].append(list(parts[1:]))
    return joined[~joined.duplicated()].rename("patient")
