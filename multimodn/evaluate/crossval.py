"""Repeated cross-validation by patient: every arm on the same folds, differences paired."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from multimodn.data.cohort import Cohort
from multimodn.data.splits import Split, folds
from multimodn.errors import DataWarning
from multimodn.study import Study

if TYPE_CHECKING:
    from multimodn.base import Task

Predictions = dict[str, NDArray[np.float64]]
"""For each task the link-scale predictions of the test patients, ``(n, L)``."""

Arms = Callable[[Study, Cohort, Cohort, int], dict[str, Predictions]]
"""Trains one or several arms on one cohort and predicts another; the last argument is a seed."""


def ours(study: Study, training: Cohort, test: Cohort, seed: int) -> dict[str, Predictions]:
    """Returns the arm ``ours``: this package, with the study as it stands."""
    from multimodn.evaluate.arms import as_arm, fit_ours

    return as_arm(fit_ours)(study, training, test, seed)


def development_split(study: Study, training: Cohort) -> Split:
    """Says who trains and who stops the training; nobody is left to test.

    An ensemble stops on its own folds; a single network needs a fifth of the patients to stop on.
    """
    everyone, nobody = training.patients.to_numpy(dtype=object), np.array([], dtype=object)
    if study.training.members > 1:
        return Split(everyone, nobody, nobody)
    stratify = getattr(study.split, "stratify", None)
    train, validation = next(folds(training, 5, seed=study.training.seed, stratify=stratify))
    return Split(train, validation, nobody)


def cross_validate(
    study: Study,
    cohort: Cohort,
    arms: Sequence[Arms],
    n_folds: int = 5,
    repeats: int = 2,
    seed: int = 0,
    on_cell: Callable[[str, int, int], None] | None = None,
) -> pd.DataFrame:
    """Scores arms by repeated cross-validation, stratified by the study's ``split.stratify``.

    Args:
        study: Tasks, modalities, training.
        cohort: All patients; groups stay on one side.
        arms: What to compare, such as `ours` and those of `multimodn.evaluate.baselines`.
        n_folds: Parts of a repeat.
        repeats: How often patients are dealt anew.
        seed: The first deal; repeat r uses ``seed + r``, for the folds as for the arms.
        on_cell: Called with arm, repeat and fold when one is done, to show progress.

    Returns:
        ``arm, task, metric, repeat, fold, value``.
    """
    from threadpoolctl import threadpool_limits

    from multimodn.training.build import fit_tasks

    stratify = getattr(study.split, "stratify", None)
    rows = []
    for number, (train, test) in enumerate(folds(cohort, n_folds, repeats, seed, stratify)):
        repeat, fold = divmod(number, n_folds)
        training, held_out = cohort.subset(train), cohort.subset(test)
        with warnings.catch_warnings(), threadpool_limits(1):  # threads of small problems wait for each other
            warnings.simplefilter("ignore", DataWarning)  # the cohort's notes were shown when it was loaded
            tasks = fit_tasks(study, training)
            for run in arms:
                for arm, predictions in run(study, training, held_out, seed + repeat).items():
                    found = _scores(tasks, held_out, predictions)
                    rows += [(arm, *key, repeat, fold, value) for key, value in found.items()]
                    if on_cell is not None:
                        on_cell(arm, repeat, fold)
    return pd.DataFrame(rows, columns=["arm", "task", "metric", "repeat", "fold", "value"])


def _scores(tasks: Sequence[Task], test: Cohort, predictions: Predictions) -> dict[tuple[str, str], float]:
    scores = {}
    for task in tasks:
        target, known = task.prepare(test.targets[task.name])
        link = torch.from_numpy(predictions[task.name])[known]
        for metric, value in task.link_metrics(link, task.link_target(target[known])).items():
            scores[task.name, metric] = value
    return scores


def summary(scores: pd.DataFrame, n_bootstrap: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Averages over folds: ``arm, task, metric, mean, low, high`` with a 95 % bootstrap interval over folds.

    Folds share training patients, so that the interval is somewhat too narrow.
    """
    keys = ["arm", "task", "metric"]
    rows = [(*key, *_interval(part["value"], n_bootstrap, seed)) for key, part in scores.groupby(keys, sort=False)]
    return pd.DataFrame(rows, columns=[*keys, "mean", "low", "high"])


def paired(scores: pd.DataFrame, arm: str, reference: str, n_bootstrap: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Compares two arms fold by fold: ``task, metric, difference, low, high``, 95 % bootstrap interval over folds."""
    wide = scores.pivot(index=["task", "metric", "repeat", "fold"], columns="arm", values="value")
    difference = (wide[arm] - wide[reference]).dropna()
    groups: Any = difference.groupby(level=["task", "metric"], sort=False)
    rows = [(*key, *_interval(part, n_bootstrap, seed)) for key, part in groups]
    return pd.DataFrame(rows, columns=["task", "metric", "difference", "low", "high"])


def _interval(values: pd.Series[float], n_bootstrap: int, seed: int) -> tuple[float, float, float]:
    known = values.dropna().to_numpy(dtype=np.float64)
    if not len(known):
        return float("nan"), float("nan"), float("nan")
    drawn = np.random.default_rng(seed).choice(known, size=(n_bootstrap, len(known))).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(known.mean()), float(low), float(high)
