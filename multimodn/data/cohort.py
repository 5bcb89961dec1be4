"""A cohort: patients, what each modality says about those who have it, and their targets."""

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
from multimodn.data.load_cohort import read_cohort
from multimodn.data.modality_frames import is_later_reading, with_values
from multimodn.data.sources import from_frame
from multimodn.errors import DataError, DataWarning, raise_all, shown
from multimodn.study.study import Study


@dataclass(frozen=True, eq=False, repr=False)
class Cohort(CohortTables):
    """Patients and their data, joined on the patient, never on the position of a row; see `CohortTables`."""

    @classmethod
    def load(
        cls,
        study: Study,
        *,
        labelled: bool = True,
        sources: Mapping[str, str | Path | pd.DataFrame | None] | None = None,
    ) -> Cohort:
        """Reads the sources of a study.

        Args:
            study: Names the sources, modalities and tasks.
            labelled: Whether to read targets, groups and split; to predict, none of them is needed.
            sources: Takes the place of sources of the study, such as the tables of new patients: a path
                (from the working directory), a DataFrame with the key as a column or index, or, to predict,
                None for a source that nobody has. Of a study of several registries all are then new patients, of no
                registry, who have nothing of the other sources.

        Raises:
            DataError: Listing every problem found in all sources.

        Warns:
            DataWarning: Once, listing all notes.
        """
        tables, known = read_cohort(study, labelled, sources)
        hidden = {name: spec.exclude_for for name, spec in study.steps.items()}
        return cls(**vars(tables))._checked(known if labelled else None, hidden)

    @classmethod
    def from_frames(
        cls,
        modalities: Mapping[str, pd.DataFrame],
        targets: Mapping[str, pd.DataFrame | pd.Series[Any]] | None = None,
        patients: Sequence[Any] | pd.Index | None = None,
        groups: pd.Series[Any] | None = None,
        several_rows: Collection[str] = (),
        files: Mapping[str, list[str]] | None = None,
    ) -> Cohort:
        """Builds a cohort from DataFrames indexed by patient; they are not changed.

        Args:
            modalities: One table a modality.
            targets: For each task its target columns.
            patients: Their order, and who belongs to the cohort; default: everyone, targets first.
            groups: The group of each patient.
            several_rows: Modalities in which a patient may have several rows, such as slides.
            files: For some modalities the columns that name files; relative paths start in the working directory.

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
        known = union_of_patients([table.index for table in labels.values()]) if labels else None
        labels = {name: table.reindex(chosen) for name, table in labels.items()}
        if groups is not None:
            groups = from_frame(groups.to_frame("group"), "")["group"].reindex(chosen)
        return cls(chosen, frames, labels, groups, files=dict(files or {}))._checked(known)

    def _checked(self, known: pd.Index | None, hidden: Mapping[str, Collection[str]] | None = None) -> Cohort:
        """Refuses an empty cohort; of one with labels, whoever trains on it is told what to know about it.

        Args:
            known: The patients of the targets' sources; None: there are no labels.
            hidden: For each modality the tasks that will not see it.
        """
        if not len(self):
            raise DataError("The cohort is empty: no source has a patient.")
        notes = self.notes
        if known is not None:
            empty = [name for name, frame in self.modalities.items() if frame.empty]
            nobody = [f"modality '{name}': nobody has it." for name in empty if not is_later_reading(name)]
            raise_all(nobody, DataError, "The data cannot be used")
            notes += checks.orphan_notes(self.patients, known, self.modalities)
            for name, frame in self.modalities.items():
                if name in empty:
                    notes.append(f"modality '{name}': nobody has so many readings.")
                    continue
                if not is_later_reading(name):  # few have it, so that a column may well be constant
                    notes += checks.column_notes(name, frame.drop(columns=self.files.get(name, []), errors="ignore"))
                seeing = {t: table for t, table in self.targets.items() if t not in (hidden or {}).get(name, ())}
                notes += checks.leak_notes(name, frame, seeing)
            for name, table in self.targets.items():
                notes += checks.class_notes(name, table)
        if notes:
            listed = "\n".join(f"  - {note}" for note in notes)
            warnings.warn(f"Worth knowing about these data:\n{listed}", DataWarning, stacklevel=3)
        return self

    @property
    def presence(self) -> pd.DataFrame:
        """Bool, patients x modalities: who has what."""
        return pd.DataFrame(
            {name: self.patients.isin(frame.index) for name, frame in self.modalities.items()},
            index=self.patients,
        )

    def subset(self, patients: Any) -> Cohort:
        """Returns the cohort of some patients.

        Args:
            patients: Identifiers, in the order wanted, or one truth value for each patient.

        Raises:
            DataError: If a patient is unknown or named twice, or the truth values are not as many.
        """
        asked = np.asarray(patients)
        if asked.dtype == bool:
            if len(asked) != len(self):
                raise DataError(f"Expected one truth value for each of {len(self)} patients, found {len(asked)}.")
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
        """Returns a SHA-256 over all values and labels that no order of rows or columns changes.

        A file counts with what it holds, not with its path.
        """
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
    found = checks.key_problems(what.strip("'"), answer, several_rows=several_rows)
    problems += [text.replace("source ", "table ", 1) for text in found]
    return answer
