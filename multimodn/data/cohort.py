"""A cohort: patients, what each modality says about those who have it, and their targets."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from multimodn.data import checks
from multimodn.data.loading import Tables, load_tables, modality_columns, task_tables
from multimodn.data.sources import from_frame
from multimodn.errors import DataError, DataWarning, raise_all, shown
from multimodn.study import ColumnSplit, Study

FEW = 16  # columns that are cheaper to delete than the others to copy


@dataclass(frozen=True, eq=False, repr=False)
class Cohort:
    """Patients and their data, joined on the patient, never on the position of a row.

    Attributes:
        patients: Patient identifiers as text.
        modalities: For each modality a row for each patient who has it, and for nobody else: a patient
            without a row in the source, or with nothing but empty cells in it, does not have the modality.
        targets: For each task its target columns, one row for each of `patients`; empty = no label.
        groups: For each patient the group that no split may divide, such as a site or a family.
        split: For each patient the part that a column of the study names.
        notes: What the checks found worth knowing.
    """

    patients: pd.Index
    modalities: dict[str, pd.DataFrame]
    targets: dict[str, pd.DataFrame] = field(default_factory=dict)
    groups: pd.Series[Any] | None = None
    split: pd.Series[Any] | None = None
    notes: list[str] = field(default_factory=list)

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
                None for a source that nobody has.

        Raises:
            DataError: Listing every problem found in all sources.

        Warns:
            DataWarning: Once, listing all notes.
        """
        problems: list[str] = []
        tables = load_tables(study, labelled, dict(sources or {}), problems)
        frames = _modality_frames(study, tables, labelled, problems)
        targets = task_tables(study, tables, problems) if labelled else {}
        raise_all(problems, DataError, f"The data of study '{study.name}' cannot be used")
        first = [tables[name] for name in dict.fromkeys(task.source for task in study.tasks) if name in tables]
        known = _union([table.index for table in first])
        patients = _union([known, *(table.index for table in tables.values())])
        targets = {name: table.reindex(patients) for name, table in targets.items()}
        groups = split = None
        if labelled and study.cohort.group is not None:
            groups = tables[study.tasks[0].source][study.cohort.group].reindex(patients)
        if labelled and isinstance(study.split, ColumnSplit):
            split = tables[study.split.source or study.tasks[0].source][study.split.column].reindex(patients)
        tables.clear()
        return cls._checked(patients, frames, targets, groups, split, known if labelled else None)

    @classmethod
    def from_frames(
        cls,
        modalities: Mapping[str, pd.DataFrame],
        targets: Mapping[str, pd.DataFrame | pd.Series[Any]] | None = None,
        patients: Sequence[Any] | pd.Index | None = None,
        groups: pd.Series[Any] | None = None,
    ) -> Cohort:
        """Builds a cohort from DataFrames indexed by patient; they are not changed.

        Args:
            modalities: One table a modality.
            targets: For each task its target columns.
            patients: Their order, and who belongs to the cohort; default: everyone, targets first.
            groups: The group of each patient.

        Raises:
            DataError: Listing every problem found.
        """
        problems: list[str] = []
        frames, labels = {}, {}
        for name, table in modalities.items():
            frames[name] = _indexed(f"modality '{name}'", table, problems)
        for name, target in (targets or {}).items():
            table = target.to_frame(target.name or name) if isinstance(target, pd.Series) else target
            labels[name] = _indexed(f"task '{name}'", table, problems)
        raise_all(problems, DataError, "The tables cannot be used")
        everyone = _union([table.index for table in [*labels.values(), *frames.values()]])
        chosen = everyone if patients is None else from_frame(pd.DataFrame(index=pd.Index(patients)), "").index
        for name, table in frames.items():
            frames[name] = _with_values(table if patients is None else table.loc[table.index.isin(chosen)])
            problems += checks.infinite_problems(name, frames[name])
        raise_all(problems, DataError, "The tables cannot be used")
        known = _union([table.index for table in labels.values()]) if labels else None
        labels = {name: table.reindex(chosen) for name, table in labels.items()}
        if groups is not None:
            groups = from_frame(groups.to_frame("group"), "")["group"].reindex(chosen)
        return cls._checked(chosen, frames, labels, groups, None, known)

    @classmethod
    def _checked(
        cls,
        patients: pd.Index,
        frames: dict[str, pd.DataFrame],
        targets: dict[str, pd.DataFrame],
        groups: pd.Series[Any] | None,
        split: pd.Series[Any] | None,
        known: pd.Index | None,
    ) -> Cohort:
        """Refuses an empty cohort; of one with labels, whoever trains on it is told what to know about it."""
        if not len(patients):
            raise DataError("The cohort is empty: no source has a patient.")
        notes: list[str] = []
        if known is not None:
            nobody = [f"modality '{name}': nobody has it." for name, frame in frames.items() if frame.empty]
            raise_all(nobody, DataError, "The data cannot be used")
            notes += checks.orphan_notes(patients, known, frames)
            for name, frame in frames.items():
                notes += checks.column_notes(name, frame) + checks.leak_notes(name, frame, targets)
            for name, table in targets.items():
                notes += checks.class_notes(name, table)
        if notes:
            listed = "\n".join(f"  - {note}" for note in notes)
            warnings.warn(f"Worth knowing about these data:\n{listed}", DataWarning, stacklevel=3)
        return cls(patients, frames, targets, groups, split, notes)

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
        return Cohort(
            chosen,
            {name: frame.loc[frame.index.isin(chosen)] for name, frame in self.modalities.items()},
            {name: table.reindex(chosen) for name, table in self.targets.items()},
            None if self.groups is None else self.groups.reindex(chosen),
            None if self.split is None else self.split.reindex(chosen),
            self.notes,
        )

    def __len__(self) -> int:
        return len(self.patients)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {len(frame)}x{frame.shape[1]}" for name, frame in self.modalities.items())
        labels = ", ".join(f"{name} {int(table.notna().all(axis=1).sum())}" for name, table in self.targets.items())
        return f"Cohort({len(self)} patients; modalities: {counts}; labels: {labels or 'none'})"

    def hash(self) -> str:
        """Returns a SHA-256 over all values and labels that no order of rows or columns changes."""
        digest = hashlib.sha256()
        _digest(digest, "patients", pd.DataFrame(index=self.patients))
        for name in sorted(self.modalities):
            _digest(digest, f"modality {name}", self.modalities[name])
        for name in sorted(self.targets):
            _digest(digest, f"task {name}", self.targets[name])
        for name, series in (("groups", self.groups), ("split", self.split)):
            if series is not None:
                _digest(digest, name, series.to_frame(name))
        return digest.hexdigest()


def _modality_frames(study: Study, tables: Tables, labelled: bool, problems: list[str]) -> dict[str, pd.DataFrame]:
    frames = {}
    for modality in study.modalities:
        if modality.source not in tables:
            continue
        table = tables[modality.source]
        columns = modality_columns(study, modality, list(table.columns), labelled, problems)
        frame = _with_values(_select(table, columns))
        problems += checks.infinite_problems(modality.name, frame)
        frames[modality.name] = frame
    return frames


def _select(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Returns some columns; where only a few are left out, without copying the others."""
    chosen = set(columns)
    left_out = [name for name in table.columns if name not in chosen]
    if len(left_out) > FEW or columns != [name for name in table.columns if name in chosen]:
        return table[columns]
    frame = table.copy(deep=False)
    for name in left_out:
        del frame[name]
    return frame


def _with_values(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows that hold a value in any column, and the table itself if all do."""
    has_value = np.zeros(len(frame), dtype=bool)
    for name in frame.columns:
        has_value |= np.asarray(frame[name].notna())
        if has_value.all():
            return frame
    return frame.loc[has_value]


def _indexed(what: str, frame: pd.DataFrame, problems: list[str]) -> pd.DataFrame:
    try:
        answer = from_frame(frame, "")
    except DataError as error:
        problems.append(f"{what}: {error}")
        return frame
    problems += [text.replace("source ", "table ", 1) for text in checks.key_problems(what.strip("'"), answer)]
    return answer


def _union(parts: Sequence[pd.Index]) -> pd.Index:
    """Joins identifiers in the order in which they are first seen."""
    if not parts:
        return pd.Index([], dtype=object, name="patient")
    joined = parts[0].append(list(parts[1:]))
    return joined[~joined.duplicated()].rename("patient")


def _digest(digest: Any, name: str, frame: pd.DataFrame) -> None:
    keys = frame.index.to_numpy(dtype=object).astype(str)
    order = np.argsort(keys, kind="stable")
    _digest_texts(digest, name, keys[order].tolist())
    for column in sorted(frame.columns, key=str):
        values = frame[column]
        if pd.api.types.is_numeric_dtype(values.dtype):
            numbers = values.to_numpy(dtype=float, na_value=np.nan)[order]
            numbers[np.isnan(numbers)] = np.nan  # one bit pattern for all of them
            digest.update(f"\0{column}\0number\0".encode() + numbers.tobytes())
        else:
            texts = values.to_numpy(dtype=object)[order]
            empty = pd.isna(texts)
            digest.update(empty.tobytes())
            _digest_texts(digest, str(column), np.where(empty, "", texts).tolist())


def _digest_texts(digest: Any, name: str, texts: list[Any]) -> None:
    lengths = np.fromiter((len(text) for text in map(str, texts)), dtype=np.int64, count=len(texts))
    digest.update(f"\0{name}\0text\0".encode() + lengths.tobytes() + "".join(map(str, texts)).encode())
