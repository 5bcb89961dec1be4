"""AUROC with intervals over patients, for arms that predicted the same patients in the same folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.metrics.classification import auroc

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Predicted:
    """One task's predictions of one arm in one fold.

    Attributes:
        rows: Number of each labelled test patient in the cohort, ``(n,)``.
        link: Log-odds, ``(n, L)``: a class, or a split of ordered classes, a column.
        target: 0 or 1 for each of them, ``(n, L)``.
    """

    rows: NDArray[np.int64]
    link: Floats
    target: Floats


Key = tuple[str, str, int, int]
"""Arm, task, repeat and fold."""


class Bootstrap:
    """Scores under B resamples of the cohort's patients, the first of which is the cohort as it is.

    One patient has one weight in all repeats, folds, tasks and arms, so that differences between arms are paired.

    Args:
        predicted: Everything that was predicted.
        n_patients: Number of patients in the cohort.
        n_resamples: B.
        seed: Seed of the resamples.
    """

    def __init__(
        self, predicted: Mapping[Key, Predicted], n_patients: int, n_resamples: int = 2000, seed: int = 0
    ) -> None:
        drawn = np.random.default_rng(seed).multinomial(n_patients, np.full(n_patients, 1 / n_patients), n_resamples)
        self.weights = np.vstack([np.ones(n_patients), drawn]).astype(np.float64)
        self.predicted = predicted
        self._scores: dict[tuple[str, str], Floats] = {}

    def auroc(self, arm: str, task: str) -> Floats:
        """Returns the AUROC of an arm, averaged over columns, folds and repeats, ``(B + 1,)``."""
        if (arm, task) not in self._scores:
            found = [p for key, p in self.predicted.items() if key[:2] == (arm, task)]
            self._scores[arm, task] = np.nanmean([self._columns(part) for part in found], axis=0)
        return self._scores[arm, task]

    def _columns(self, part: Predicted) -> Floats:
        weights = self.weights[:, part.rows]
        columns = zip(part.target.T > 0, part.link.T, strict=True)
        defined = [auroc(s, y)(weights) for y, s in columns if 0 < y.sum() < len(y)]
        if not defined:
            return np.full(len(self.weights), np.nan)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.nanmean(defined, axis=0))

    def mean(self, arm: str, tasks: Sequence[str]) -> Floats:
        """Returns the mean AUROC over tasks, ``(B + 1,)``."""
        return np.asarray(np.mean([self.auroc(arm, task) for task in tasks], axis=0))


def interval(scores: Floats) -> tuple[float, float, float]:
    """Returns the score of the cohort itself and the 95 % interval of its resamples."""
    low, high = np.nanquantile(scores[1:], [0.025, 0.975])
    return float(scores[0]), float(low), float(high)


def shown(scores: Floats, digits: int = 3) -> str:
    """Writes a score with its interval."""
    value, low, high = interval(scores)
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def tidy(predicted: Mapping[Key, Predicted]) -> pd.DataFrame:
    """Lays out the AUROC of every fold: ``arm, task, metric, repeat, fold, value``."""
    rows = []
    for (arm, task, repeat, fold), part in predicted.items():
        once = np.ones((1, len(part.rows)))
        columns = zip(part.target.T > 0, part.link.T, strict=True)
        found = [auroc(s, y)(once)[0] for y, s in columns if 0 < y.sum() < len(y)]
        rows.append((arm, task, "auroc", repeat, fold, float(np.mean(found)) if found else np.nan))
    return pd.DataFrame(rows, columns=["arm", "task", "metric", "repeat", "fold", "value"])
