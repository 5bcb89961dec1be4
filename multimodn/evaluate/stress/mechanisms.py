"""Mechanisms that remove modalities, or empty cells of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, DataWarning, StudyError, did_you_mean, shown
from multimodn.evaluate.stress.cell_blanking import filled_cells, with_empty_cells
from multimodn.missingness.patterns import Bools
from multimodn.study.study import ModalitySpec

Kind = Literal["complete", "natural", "mcar", "mar", "mnar", "flipped", "self"]


@dataclass(frozen=True)
class Mechanism:
    """A reason for which modalities, or cells of them, go missing, drawn for each patient and each independently.

    Attributes:
        kind: ``natural`` blanks nothing; ``complete`` leaves out the patients who lack an affected modality or cell;
            ``mcar`` blanks at random; ``mnar`` blanks in patients with the event (positive class, event, upper half of
            values), ``flipped`` in those without; ``mar`` where the first number that stays observed is above its
            median; ``self`` where the modality's own first principal component, or the column's own number, is.
        strength: Chance that an affected patient loses a modality, or a cell, in [0, 1].
        modalities: Those that may be blanked; default: all if no column is named, else none.
        columns: Modality and column, or variable of a series, of cells that may be emptied; their patients keep the
            modality.

    Raises:
        StudyError: If the strength lies outside [0, 1].
    """

    kind: Kind
    strength: float = 0.0
    modalities: tuple[str, ...] | None = None
    columns: tuple[tuple[str, str], ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise StudyError(f"Unknown mechanism '{self.kind}'.{did_you_mean(self.kind, get_args(Kind))}")
        if not 0.0 <= self.strength <= 1.0:
            raise StudyError(f"Mechanism '{self.kind}': strength {self.strength:g} lies outside [0, 1].")

    def __str__(self) -> str:
        return self.kind if self.kind in ("complete", "natural") else f"{self.kind}:{self.strength:g}"

    def apply(
        self,
        cohort: Cohort,
        outcome: pd.Series[Any] | None = None,
        seed: int = 0,
        specs: Mapping[str, ModalitySpec] | None = None,
    ) -> Cohort:
        """Returns the cohort as this mechanism would have left it; the given one is not changed.

        A patient who would lose every modality keeps one of those drawn for blanking, one who would lose every cell of
        a modality keeps them; a warning counts them.

        Args:
            cohort: The patients.
            outcome: For ``mnar`` and ``flipped``: whether each patient has the event, indexed by patient; empty =
                unknown, such patients lose nothing. See `high_outcome`.
            seed: Seed of the draw.
            specs: What a study says of its modalities (`Study.steps`); needed for `columns`.

        Raises:
            StudyError: If a modality or column is unknown, or the mechanism has nothing to depend on.
        """
        names, presence = list(cohort.modalities), cohort.presence
        affected = self._affected(names)
        if self.kind == "natural":
            return cohort
        if self.kind == "complete":
            whole = self.has_all(cohort, specs)
            if not whole.any():
                wanted = [*affected, *(f"{column} of {name}" for name, column in self.columns)]
                raise DataError(f"Mechanism 'complete': no patient has all of {', '.join(wanted)}.")
            return cohort.subset(whole)
        at_risk = None if self.kind == "self" else self._at_risk(cohort, affected, outcome)
        chance = self._chance(cohort, affected, at_risk)
        generator = np.random.default_rng(seed)
        drawn = generator.random((len(cohort), len(cohort.modalities)))
        blanked = presence.to_numpy() & (drawn < chance)
        _keep_one(presence, blanked, drawn, str(self))
        kept = pd.DataFrame(~blanked, index=presence.index, columns=presence.columns)
        frames = {name: frame[kept.loc[frame.index, name].to_numpy()] for name, frame in cohort.modalities.items()}
        cohort = replace(cohort, modalities=frames)
        if not self.columns:
            return cohort
        drawn = generator.random((len(cohort), len(self.columns)))
        lost = {
            (name, column): drawn[:, k] < self.strength * self._column_at_risk(cohort, name, column, at_risk)
            for k, (name, column) in enumerate(self.columns)
        }
        return with_empty_cells(cohort, lost, specs or {}, str(self))

    def has_all(self, cohort: Cohort, specs: Mapping[str, ModalitySpec] | None = None) -> Bools:
        """Returns whether each patient has every modality and cell that may be blanked ``(n,)``; see `apply`."""
        presence = cohort.presence[self._affected(list(cohort.modalities))].to_numpy(np.bool_)
        filled = filled_cells(cohort, self.columns, specs or {}, str(self))
        return np.asarray(np.hstack([presence, filled]).all(axis=1))

    def _affected(self, names: list[str]) -> list[str]:
        """The modalities that may be blanked."""
        everything = () if self.columns else names
        affected = list(everything if self.modalities is None else self.modalities)
        if unknown := [name for name in affected if name not in names]:
            raise StudyError(f"Mechanism '{self}': unknown modality '{unknown[0]}'.{did_you_mean(unknown[0], names)}")
        return affected

    def _chance(self, cohort: Cohort, affected: list[str], at_risk: Bools | None) -> NDArray[np.float64]:
        """The chance of losing each modality, ``(n, M)``; by its own values if nothing else says who is at risk."""
        chance = np.zeros((len(cohort), len(cohort.modalities)))
        for name in affected:
            column = list(cohort.modalities).index(name)
            if at_risk is None:
                high = _upper_half(_first_component(cohort.modalities[name]))
                chance[:, column] = self.strength * high.reindex(cohort.patients, fill_value=False)
            else:
                chance[:, column] = self.strength * at_risk
        return chance

    def _at_risk(self, cohort: Cohort, affected: list[str], outcome: pd.Series[Any] | None) -> Bools:
        """Whether each patient may lose modalities and cells, ``(n,)``."""
        if self.kind == "mcar":
            return np.ones(len(cohort), dtype=np.bool_)
        outcome = self._mar(cohort, affected) if self.kind == "mar" else outcome
        if outcome is None:
            raise StudyError(f"Mechanism '{self}' depends on an outcome; name the task.")
        wanted: Bools = (outcome.reindex(cohort.patients) == (0.0 if self.kind == "flipped" else 1.0)).to_numpy()
        return wanted

    def _column_at_risk(self, cohort: Cohort, modality: str, column: str, at_risk: Bools | None) -> Bools:
        """Whether each patient may lose a cell, ``(n,)``."""
        if at_risk is not None:
            return at_risk
        numbers = cohort.modalities.get(modality, pd.DataFrame()).select_dtypes("number")
        if column not in numbers:
            raise StudyError(f"Mechanism 'self' needs numbers in a column of a table: '{column}' of '{modality}'.")
        high: Bools = _upper_half(numbers[column]).reindex(cohort.patients, fill_value=False).to_numpy(np.bool_)
        return high

    def _mar(self, cohort: Cohort, affected: list[str]) -> pd.Series[Any]:
        for name, frame in cohort.modalities.items():
            emptied = [column for modality, column in self.columns if modality == name]
            numbers = frame.select_dtypes("number").drop(columns=emptied, errors="ignore")
            if name not in affected and numbers.shape[1] and frame.index.is_unique:
                return _upper_half(numbers.iloc[:, 0]).reindex(cohort.patients, fill_value=False).astype(float)
        raise StudyError(f"Mechanism '{self}': every modality with a numeric column is blanked. Name fewer modalities.")


def high_outcome(task: Task, targets: pd.DataFrame) -> pd.Series[Any]:
    """Returns whether each patient has the event: 1.0 or 0.0, NaN = no label.

    An event is the positive class, the first known label positive, an event of survival, or the upper half of the
    classes or of the values.
    """
    target, is_labelled = task.prepare(targets)
    high = (task.strata(target) >= task.n_strata / 2).double().masked_fill(~is_labelled, np.nan)
    return pd.Series(high.numpy(), index=targets.index)


def _upper_half(numbers: pd.Series[Any]) -> pd.Series[Any]:
    return numbers > numbers.median()


def _first_component(frame: pd.DataFrame) -> pd.Series[Any]:
    """The first principal component of a modality's numeric columns, standardised, empty cells at the mean."""
    numbers = frame.select_dtypes("number").to_numpy(dtype=np.float64)
    if not numbers.size:
        raise StudyError("Mechanism 'self' needs a numeric column in every modality that it blanks.")
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an empty column has no mean
        centred = numbers - np.nanmean(numbers, axis=0)
        scaled = np.nan_to_num(centred / np.nanstd(centred, axis=0), posinf=0.0, neginf=0.0)
    direction = np.linalg.svd(scaled, full_matrices=False)[2][0]
    direction *= np.sign(direction[np.abs(direction).argmax()])  # the sign of a component is arbitrary
    return pd.Series(scaled @ direction, index=frame.index)


def _keep_one(presence: pd.DataFrame, blanked: Bools, drawn: NDArray[np.float64], mechanism: str) -> None:
    """Gives patients who lost all their modalities one back, the one that was drawn last, in place."""
    has = presence.to_numpy()
    emptied = np.flatnonzero(has.any(axis=1) & ~(has & ~blanked).any(axis=1))
    if not len(emptied):
        return
    blanked[emptied, np.where(has, drawn, -1.0)[emptied].argmax(axis=1)] = False
    who = f"{len(emptied)} patient(s) without any modality; each keeps one: {shown(list(presence.index[emptied]))}"
    warnings.warn(f"Mechanism '{mechanism}' would leave {who}.", DataWarning, stacklevel=3)
