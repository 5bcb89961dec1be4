"""Empty cells and absent modalities: filled so that a model cannot see them, or turned into columns so that it can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.data.cohort import Cohort
from multimodn.evaluate.baselines.design_matrix import Array, rows_of
from multimodn.study.study import ModalitySpec

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Filling:
    """The value of each column that stands for an empty cell: the training median of numbers, else the commonest level.

    Attributes:
        medians: For each modality the medians of its numeric columns.
        levels: For each modality the commonest levels of its other columns.
    """

    medians: dict[str, pd.Series[float]]
    levels: dict[str, pd.Series[Any]]

    @classmethod
    def fit(cls, modalities: Sequence[ModalitySpec], training: Cohort) -> Filling:
        """Learns the values from training rows; a column that is empty in all of them stays empty."""
        medians, levels = {}, {}
        for spec in modalities:
            frame = rows_of(training, spec.name)
            declared = set(getattr(spec.options, "categorical", []))
            is_number = [c not in declared and pd.api.types.is_numeric_dtype(t) for c, t in frame.dtypes.items()]
            numbers, others = frame.loc[:, is_number], frame.loc[:, np.logical_not(is_number)]
            medians[spec.name] = numbers.astype("float64").median()
            levels[spec.name] = pd.Series({c: _commonest(others[c]) for c in others}, dtype=object)
        return cls(medians, levels)

    def cells(self, cohort: Cohort) -> Cohort:
        """Returns the cohort without empty cells in the rows that there are."""
        frames = {name: self._filled(name, rows_of(cohort, name)) for name in self.medians}
        return replace(cohort, modalities=frames)

    def everything(self, cohort: Cohort) -> Cohort:
        """Returns the cohort in which every patient has every modality, without empty cells."""
        frames = {name: self._filled(name, rows_of(cohort, name).reindex(cohort.patients)) for name in self.medians}
        return replace(cohort, modalities=frames)

    def _filled(self, name: str, frame: pd.DataFrame) -> pd.DataFrame:
        medians, levels = self.medians[name], self.levels[name]
        order = list(frame.columns) if len(frame.columns) else [*medians.index, *levels.index]
        frame = frame.reindex(columns=order)
        numbers = frame[list(medians.index)].astype("float64").fillna(medians)
        others = frame[list(levels.index)].astype(object)
        others = others.where(others.notna(), levels.to_frame().T.loc[[0] * len(others)].set_axis(others.index))
        return pd.concat([numbers, others], axis=1)[order]


def fit_emptiness(modalities: Sequence[ModalitySpec], training: Cohort) -> Callable[[Cohort], Array]:
    """Learns what is empty for some training patients; returns the function to the columns that say it, ``(n, k)``.

    1 = empty, 0 = not, standardised by the training patients. All cells of an absent modality are empty. Columns that
    are empty for the same training patients, such as statistics of one measurement, count once.
    """
    indicators = _indicators(modalities, training, None)
    _, first = np.unique(indicators.to_numpy(), axis=1, return_index=True)
    kept = indicators.iloc[:, np.sort(first)]
    kept = kept.loc[:, kept.nunique() > 1]
    columns, mean, spread = kept.columns, kept.mean().to_numpy(), kept.std(ddof=0).to_numpy()

    def rows(cohort: Cohort) -> Array:
        found = _indicators(modalities, cohort, columns)
        return np.asarray((found.to_numpy() - mean) / spread, dtype=np.float64)

    return rows


def _indicators(modalities: Sequence[ModalitySpec], cohort: Cohort, columns: pd.Index | None) -> pd.DataFrame:
    """Returns 1 for an empty cell, 0 for another: a column a modality, then one for each of its columns."""
    parts = {}
    for spec in modalities:
        frame = rows_of(cohort, spec.name)
        absent = pd.DataFrame({"": ~cohort.patients.isin(frame.index)}, cohort.patients)
        empty = frame.isna().reindex(cohort.patients, fill_value=True)
        parts[spec.name] = pd.concat([absent, empty], axis=1)
    every = pd.concat(parts, axis=1)
    every = every if columns is None else every.reindex(columns=columns, fill_value=True)
    return every.astype("float64")


def _commonest(column: pd.Series[Any]) -> Any:
    """Returns the commonest level, the first of equals in order; NaN where all cells are empty."""
    found = column.mode()
    return found.iloc[0] if len(found) else np.nan
