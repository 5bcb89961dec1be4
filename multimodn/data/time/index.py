"""Each patient's moment of prediction, and the rows of the cohort that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.data.time.moments import Moments, read_moments
from multimodn.errors import shown
from multimodn.study.study import Study
from multimodn.study.time import UNITS

LANDMARK = "@"  # between a patient and the number of a moment

Places: TypeAlias = NDArray[np.intp]
Days: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Index:
    """Moments of prediction. Where a patient has several (landmarks), each is a row of the cohort, ``patient@k``.

    Attributes:
        read: What the moments are, and those of the rows of their source; of one moment for all, that one.
        unit: Days in the unit of numbers.
        source: The source that they are read from; None: all patients have the same.
        what: Where they are read, for messages.
        patients: The patient of each moment.
        names: The row of the cohort of each moment, ``(n,)``.
        days: The moments, ``(n,)``.
        place: The row of each moment in the source, ``(n,)``.
    """

    read: Moments
    unit: float
    source: str | None
    what: str
    patients: pd.Index
    names: pd.Index
    days: Days
    place: Places

    @property
    def has_landmarks(self) -> bool:
        """Whether rows of the cohort are moments of patients, rather than patients."""
        return not self.patients.is_unique

    def rows(self, source: str, patients: pd.Index) -> tuple[Places, pd.Index, Days]:
        """Returns what rows the cohort has of those of a source, in their order.

        A row is there once for each moment of its patient; those of the index's own source once, at their own. Rows of
        patients without a moment are left out.

        Args:
            source: The source.
            patients: The patient of each of its rows.

        Returns:
            Numbers of rows, their names in the cohort, and their moments, ``(n,)`` each.
        """
        if self.source is None:
            return np.arange(len(patients)), patients, np.full(len(patients), self.days[0])
        if source == self.source:
            order = np.argsort(self.place, kind="stable")
            return self.place[order], self.names[order], self.days[order]
        if self.has_landmarks:
            moment = self.patients.get_indexer_for(patients)
            n_moments = pd.Series(1, self.patients).groupby(level=0).sum()
            row = np.repeat(np.arange(len(patients)), n_moments.reindex(patients).fillna(1).to_numpy(np.int64))
        else:
            moment, row = self.patients.get_indexer(patients), np.arange(len(patients))
        found = moment >= 0
        moment, row = moment[found], row[found]
        return row, self.names[moment], self.days[moment]

    def named(self, source: str, table: pd.DataFrame) -> pd.DataFrame:
        """Returns a table of a source with the rows, and the names of rows, that the cohort has of it."""
        if self.source is None:
            return table
        row, names, _ = self.rows(source, table.index)
        if len(row) == len(table) and names.equals(table.index):
            return table
        return table.iloc[row].set_axis(names, axis=0)

    def groups(self, rows: pd.Index) -> pd.Series[Any] | None:
        """Returns the patient of each row of the cohort, where there are landmarks."""
        if not self.has_landmarks:
            return None
        return pd.Series(self.patients.to_numpy(dtype=object), self.names, name="group").reindex(rows)


def read_index(study: Study, tables: Mapping[str, pd.DataFrame], labelled: bool, problems: list[str]) -> Index | None:
    """Returns the moments of prediction of a study; None if it has none, or they cannot be read.

    Problems are added to ``problems``: cells that cannot be read, patients with a moment twice, and patients with
    targets, or, for predictions, any, who have none.
    """
    spec = study.index
    if spec is None:
        return None
    unit, nobody = UNITS[spec.unit], pd.Index([], dtype=object)
    if spec.at is not None:
        days = np.array([spec.at * unit])
        return Index(Moments(days, "number"), unit, None, "`at` of `index`", nobody, nobody, days, np.zeros(1, np.intp))
    source, column = spec.source or study.tasks[0].source, str(spec.time)
    what = f"column '{column}' of source '{source}'"
    if source not in tables:
        if not any(problem.startswith(f"source '{source}'") for problem in problems):
            problems.append(
                f"the moments of prediction (`index`) are read from source '{source}', which is not given; give it "
                f"too, with '{study.cohort.patient}' and '{column}'."
            )
        return None
    if column not in tables[source]:
        problems.append(f"source '{source}' has no column '{column}', the moment of prediction (`index`).")
        return None
    found: list[str] = []
    read = read_moments(tables[source][column], found, study.cohort.sources[source].date_format)
    days = read.days if read.kind != "number" else read.days * unit
    place = np.flatnonzero(~np.isnan(days))
    patients = tables[source].index[place]
    found = found or _problems(study, tables, labelled, patients, days[place])
    problems += [f"{what}, the moment of prediction (`index`): {text}" for text in found]
    if found:
        return None
    order, names = _named(patients, days[place])
    place = place[order]
    return Index(read, unit, source, what, patients[order], names, days[place], place)


def _named(patients: pd.Index, days: Days) -> tuple[Places, pd.Index]:
    """Returns the order of moments, and the name of each: the patient's, or ``patient@k`` in the order of time."""
    if patients.is_unique:
        return np.arange(len(patients)), patients
    order = np.lexsort((days, pd.factorize(patients)[0]))
    patients = patients[order]
    number = (pd.Series(0, patients).groupby(level=0).cumcount() + 1).tolist()
    names = [f"{patient}{LANDMARK}{k}" for patient, k in zip(patients, number, strict=True)]
    return order, pd.Index(names, dtype=object, name="patient")


def _problems(
    study: Study, tables: Mapping[str, pd.DataFrame], labelled: bool, patients: pd.Index, days: Days
) -> list[str]:
    problems = []
    twice = pd.DataFrame({"patient": patients, "moment": days}).duplicated().to_numpy()
    if twice.any():
        problems.append(f"the same moment is there twice for patient(s) {shown(list(patients[twice].unique()))}.")
    needed = [task.source for task in study.tasks] if labelled else [spec.source for spec in study.modalities]
    everyone = [tables[name].index.unique() for name in dict.fromkeys(needed) if name in tables]
    without = list(dict.fromkeys(patient for ids in everyone for patient in ids.difference(patients)))
    if without:
        n = len({patient for ids in everyone for patient in ids})
        repair = "Give it, or leave them out of the targets." if labelled else "Give it."
        problems.append(f"{len(without)} of {n} patients have none: {shown(without)}. {repair}")
    return problems
