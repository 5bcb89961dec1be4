"""A cohort: patients, the data of each modality, and the targets of each task."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from multimodn.data import checks
from multimodn.data.cohort_tables import CohortTables, union_of_patients
from multimodn.data.files import with_absolute_paths
from multimodn.data.hashing import add_table, with_contents
from multimodn.data.leaks import follow_up_notes, leak_notes
from multimodn.data.modality_frames import is_later_reading, modality_frames, task_tables, with_values
from multimodn.data.registries import load_registries
from multimodn.data.sources import Given, from_frame
from multimodn.data.tables import load_tables
from multimodn.data.tidy_targets import tidy_targets
from multimodn.data.time.index import read_index
from multimodn.errors import DataError, DataWarning, raise_all, shown
from multimodn.study.study import Study


@dataclass(frozen=True, eq=False, repr=False)
class Cohort(CohortTables):
    """Patients and their data, joined on the patient, never on the position of a row; see `CohortTables`."""

    @classmethod
    def load(
        cls, study: Study, *, labelled: bool = True,
        sources: Mapping[str, str | Path | pd.DataFrame | None] | None = None,
    ) -> Cohort:  # fmt: skip
        """Reads the sources of a study.

        Args:
            study: Names the sources, modalities and tasks.
            labelled: Whether to read targets, groups and split; predictions need none of them.
            sources: Replaces sources of the study, such as by tables of new patients: a path (relative to the working
                directory), a DataFrame with the key as column or index, or None: no patient has it. All others are read
                as the study says; `multimodn.data.new_patients.new_cohort` reads the given ones alone. In a study of
                several registries all patients are then new and have nothing of the other sources.

        Raises:
            DataError: Listing every problem found in all sources.

        Warns:
            DataWarning: Once, listing all notes.
        """
        if study.cohorts and sources is None:
            joined, with_targets = load_registries(study, labelled)
        else:
            problems: list[str] = []
            notes: list[checks.Note] = []
            given: dict[str, Given] = dict.fromkeys(study.cohort.sources) if study.cohorts else {}
            given |= sources or {}
            tables = load_tables(study, labelled, given, problems, notes)
            index = read_index(study, tables, labelled, problems)
            frames = modality_frames(study, tables, given, labelled, problems, notes, index)
            targets = task_tables(study, tables, problems) if labelled else {}
            raise_all(problems, DataError, f"The data of study '{study.name}' cannot be used")
            targets = tidy_targets(study, targets, notes)
            joined, with_targets = CohortTables.of_tables(
                study, tables, frames, targets, notes, labelled=labelled, index=index
            )
        cohort = cls(**vars(joined))
        _check(cohort, with_targets if labelled else None, {name: m.exclude_for for name, m in study.steps.items()})
        return cohort

    @classmethod
    def from_frames(
        cls, modalities: Mapping[str, pd.DataFrame],
        targets: Mapping[str, pd.DataFrame | pd.Series[Any]] | None = None,
        patients: Sequence[Any] | pd.Index | None = None, groups: pd.Series[Any] | None = None,
        several_rows: Collection[str] = (), files: Mapping[str, list[str]] | None = None,
    ) -> Cohort:  # fmt: skip
        """Builds a cohort from DataFrames indexed by patient; they are not changed.

        Args:
            modalities: One table for each modality.
            targets: For each task its target columns.
            patients: Who belongs to the cohort, in this order; default: all, those with targets first.
            groups: The group of each patient.
            several_rows: Modalities in which a patient may have several rows, such as slides.
            files: The columns of modalities that name files; paths are relative to the working directory.

        Raises:
            DataError: Listing every problem found.
        """
        problems: list[str] = []
        frames, labels = {}, {}
        for name, table in modalities.items():
            table = with_absolute_paths(table, (files or {}).get(name, []), Path())
            frames[name] = _indexed(f"modality '{name}'", table, problems, several_rows=name in several_rows)
        for name, target in (targets or {}).items():
            table = target.to_frame(target.name or name) if isinstance(target, pd.Series) else target
            labels[name] = _indexed(f"task '{name}'", table, problems)
        raise_all(problems, DataError, "The tables cannot be used")
        everyone = union_of_patients([table.index for table in [*labels.values(), *frames.values()]])
        chosen = everyone if patients is None else from_frame(pd.DataFrame(index=pd.Index(patients)), "").index
        for name, table in frames.items():
            frames[name] = with_values(table if patients is None else table.loc[table.index.isin(chosen)])
            problems += checks.infinite_problems(name, frames[name])
        raise_all(problems, DataError, "The tables cannot be used")
        with_targets = union_of_patients([table.index for table in labels.values()]) if labels else None
        labels = {name: table.reindex(chosen) for name, table in labels.items()}
        if groups is not None:
            groups = from_frame(groups.to_frame("group"), "")["group"].reindex(chosen)
        cohort = cls(chosen, frames, labels, groups, files=dict(files or {}))
        _check(cohort, with_targets)
        return cohort

    @property
    def presence(self) -> pd.DataFrame:
        """Presence of modalities: bool, patients x modalities."""
        has = {name: self.patients.isin(frame.index) for name, frame in self.modalities.items()}
        return pd.DataFrame(has, index=self.patients)

    def subset(self, patients: Any) -> Cohort:
        """Returns the cohort of some patients.

        Args:
            patients: Identifiers in the order wanted, or one boolean for each patient.

        Raises:
            DataError: If a patient is unknown or named twice, or the number of booleans is wrong.
        """
        asked = np.asarray(patients)
        if asked.dtype == bool:
            if len(asked) != len(self):
                raise DataError(f"Expected one boolean for each of {len(self)} patients, found {len(asked)}.")
            chosen = self.patients[asked]
        else:
            chosen = pd.Index(asked.astype(object), name="patient").astype(self.patients.dtype)
            unknown = chosen[~chosen.isin(self.patients)]
            if len(unknown):
                raise DataError(f"{len(unknown)} patient(s) are not in the cohort: {shown(list(unknown))}.")
            if not chosen.is_unique:
                raise DataError(f"Patient(s) named twice: {shown(list(chosen[chosen.duplicated()].unique()))}.")
        return replace(
            self,
            patients=chosen,
            modalities={name: frame.loc[frame.index.isin(chosen)] for name, frame in self.modalities.items()},
            targets={name: table.reindex(chosen) for name, table in self.targets.items()},
            groups=None if self.groups is None else self.groups.reindex(chosen),
            split=None if self.split is None else self.split.reindex(chosen),
            registry=None if self.registry is None else self.registry.reindex(chosen),
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {len(frame)}x{frame.shape[1]}" for name, frame in self.modalities.items())
        labels = ", ".join(f"{name} {int(table.notna().all(axis=1).sum())}" for name, table in self.targets.items())
        return f"Cohort({len(self)} patients; modalities: {counts}; labels: {labels or 'none'})"

    def hash(self) -> str:
        """Returns a SHA-256 of all values, labels and contents of files, whatever the order of rows and columns."""
        digest = hashlib.sha256()
        add_table(digest, "patients", pd.DataFrame(index=self.patients))
        for name in sorted(self.modalities):
            add_table(digest, f"modality {name}", with_contents(self.modalities[name], self.files.get(name, [])))
        for name in sorted(self.targets):
            add_table(digest, f"task {name}", self.targets[name])
        for name, series in (("groups", self.groups), ("split", self.split), ("registry", self.registry)):
            if series is not None:
                add_table(digest, name, series.to_frame(name))
        return digest.hexdigest()


def _indexed(what: str, frame: pd.DataFrame, problems: list[str], *, several_rows: bool = False) -> pd.DataFrame:
    try:
        answer = from_frame(frame, "")
    except DataError as error:
        problems.append(f"{what}: {error}")
        return frame
    key_problems = checks.key_problems(what.strip("'"), answer, several_rows=several_rows)
    problems += [text.replace("source ", "table ", 1) for text in key_problems]
    return answer


def _check(cohort: Cohort, with_targets: pd.Index | None, hidden: Mapping[str, Collection[str]] | None = None) -> None:
    """Refuses an empty cohort, and warns once of all notes on one with targets; ``hidden``: tasks by modality."""
    if not len(cohort):
        raise DataError("The cohort is empty: no source has a patient.")
    notes = cohort.notes
    if with_targets is not None:
        empty = [name for name, frame in cohort.modalities.items() if frame.empty]
        absent = [f"modality '{name}': no patient has it." for name in empty if not is_later_reading(name)]
        raise_all(absent, DataError, "The data cannot be used")
        notes += checks.orphan_notes(with_targets, cohort.modalities)
        for name, frame in cohort.modalities.items():
            if name in empty:
                notes.append(checks.Note(f"modality '{name}': no patient has so many readings."))
                continue
            if not is_later_reading(name):  # few have it, so that a column may well be constant
                notes += checks.column_notes(name, frame.drop(columns=cohort.files.get(name, []), errors="ignore"))
            seeing = {task: table for task, table in cohort.targets.items() if task not in (hidden or {}).get(name, ())}
            notes += leak_notes(name, frame, seeing)
            if not is_later_reading(name):
                notes += follow_up_notes(name, frame)
        for name, table in cohort.targets.items():
            notes += checks.class_notes(name, table)
    if notes:
        listed = "\n".join(f"  - {note}" for note in notes)
        warnings.warn(f"Notes on the data:\n{listed}", DataWarning, stacklevel=3)
