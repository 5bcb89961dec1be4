"""Mechanisms that remove modalities from test patients."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, DataWarning, StudyError, did_you_mean, shown
from multimodn.missingness.patterns import Bools

Kind = Literal["complete", "natural", "mcar", "mar", "mnar", "flipped", "self"]


@dataclass(frozen=True)
class Mechanism:
    """A reason for which modalities go missing, drawn for each patient and modality independently.

    Attributes:
        kind: ``natural`` blanks nothing; ``complete`` leaves out the patients who lack an affected modality; ``mcar``
            blanks at random; ``mnar`` blanks in patients with the event (positive class, event, upper half of values),
            ``flipped`` in those without; ``mar`` where the first number that stays observed is above its median;
            ``self`` where the modality's own first principal component is.
        strength: Chance that an affected patient loses a modality, in [0, 1].
        modalities: Those that may be blanked; default: all.

    Raises:
        StudyError: If the strength lies outside [0, 1].
    """

    kind: Kind
    strength: float = 0.0
    modalities: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise StudyError(f"Unknown mechanism '{self.kind}'.{did_you_mean(self.kind, get_args(Kind))}")
        if not 0.0 <= self.strength <= 1.0:
            raise StudyError(f"Mechanism '{self.kind}': strength {self.strength:g} lies outside [0, 1].")

    def __str__(self) -> str:
        return self.kind if self.kind in ("complete", "natural") else f"{self.kind}:{self.strength:g}"

    def apply(self, cohort: Cohort, outcome: pd.Series[Any] | None = None, seed: int = 0) -> Cohort:
        """Returns the cohort as this mechanism would have left it; the given one is not changed.

        A patient who would lose every modality keeps one of those drawn for blanking, and a warning counts them.

        Args:
            cohort: The patients.
            outcome: For ``mnar`` and ``flipped``: whether each patient has the event, indexed by patient; empty =
                unknown, such patients lose nothing. See `high_outcome`.
            seed: Seed of the draw.

        Raises:
            StudyError: If a modality is unknown, or the mechanism has nothing to depend on.
        """
        names, presence = list(cohort.modalities), cohort.presence
        affected = names if self.modalities is None else list(self.modalities)
        if unknown := [name for name in affected if name not in names]:
            raise StudyError(f"Mechanism '{self}': unknown modality '{unknown[0]}'.{did_you_mean(unknown[0], names)}")
        if self.kind == "natural":
            return cohort
        if self.kind == "complete":
            whole = presence[affected].all(axis=1)
            if not whole.any():
                raise DataError(f"Mechanism 'complete': no patient has all of {', '.join(affected)}.")
            return cohort.subset(presence.index[whole])
        chance = self._chance(cohort, affected, outcome)
        drawn = np.random.default_rng(seed).random((len(cohort), len(cohort.modalities)))
        blanked = presence.to_numpy() & (drawn < chance)
        _keep_one(presence, blanked, drawn, str(self))
        kept = pd.DataFrame(~blanked, index=presence.index, columns=presence.columns)
        frames = {name: frame[kept.loc[frame.index, name].to_numpy()] for name, frame in cohort.modalities.items()}
        return replace(cohort, modalities=frames)

    def _chance(self, cohort: Cohort, affected: list[str], outcome: pd.Series[Any] | None) -> NDArray[np.float64]:
        """The chance of losing each modality, ``(n, M)``."""
        chance = np.zeros((len(cohort), len(cohort.modalities)))
        columns = [list(cohort.modalities).index(name) for name in affected]
        if self.kind == "mcar":
            chance[:, columns] = self.strength
        elif self.kind == "self":
            for name, column in zip(affected, columns, strict=True):
                high = _upper_half(_first_component(cohort.modalities[name]))
                chance[:, column] = self.strength * high.reindex(cohort.patients, fill_value=False)
        else:
            outcome = self._mar(cohort, affected) if self.kind == "mar" else outcome
            if outcome is None:
                raise StudyError(f"Mechanism '{self}' depends on an outcome; name the task.")
            wanted = outcome.reindex(cohort.patients) == (0.0 if self.kind == "flipped" else 1.0)
            chance[:, columns] = self.strength * wanted.to_numpy()[:, None]
        return chance

    def _mar(self, cohort: Cohort, affected: list[str]) -> pd.Series[Any]:
        for name, frame in cohort.modalities.items():
            numbers = frame.select_dtypes("number")
            if name not in affected and numbers.shape[1]:
                return _upper_half(numbers.iloc[:, 0]).reindex(cohort.patients, fill_value=False).astype(float)
        raise StudyError(f"Mechanism '{self}': every modality with a numeric column is blanked. Name fewer modalities.")


def high_outcome(task: Task, targets: pd.DataFrame) -> pd.Series[Any]:
    """Returns whether each patient has the event: 1.0 or 0.0, NaN = no label.

    An event is the positive class, the first label positive, an event of survival, or the upper half of the classes or
    of the values.
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
