"""Nested cross-validation: what is chosen (a network or a ridge, a penalty) is chosen by inner folds only.

An arm that is `nested` may be cross-validated like any other, and its score is that of the whole procedure, choosing
included. The scores by which the inner folds choose are themselves too good, the best of several.

References:
    Varma and Simon (2006), https://doi.org/10.1186/1471-2105-7-91
    Cawley and Talbot (2010), https://www.jmlr.org/papers/v11/cawley10a.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from multimodn.base.task import Task, main_metric
from multimodn.data.cohort import Cohort
from multimodn.data.splits import folds
from multimodn.errors import DataError, StudyError, shown
from multimodn.evaluate.crossval.cells import seeded_single_thread
from multimodn.evaluate.crossval.contracts import Fitted, Predictions, Trainer
from multimodn.metrics.predictions import defined_mean
from multimodn.metrics.ties import likeliest
from multimodn.study.study import Study
from multimodn.training.build import fit_tasks


@dataclass(frozen=True, eq=False)
class Choice:
    """Which candidate did best on inner folds."""

    best: str  # the candidate with the highest mean over tasks
    by_task: dict[str, str]  # for each task the candidate with the highest score
    # ``candidate, task, metric, value``: the main metric of inner test folds, averaged
    scores: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Chosen:
    """A fitted arm that was chosen among candidates; it predicts a cohort like any `Fitted`."""

    choice: Choice  # how it was chosen
    by_task: dict[str, str]  # for each task the candidate that predicts it
    fitted: dict[str, Fitted]  # those candidates, trained on all training patients

    def __call__(self, cohort: Cohort) -> Predictions:
        """Returns for each task the link-scale predictions ``(n, L)`` of its candidate."""
        links = {name: predict(cohort) for name, predict in self.fitted.items()}
        return {task: links[name][task] for task, name in self.by_task.items()}


def choose(candidates: Mapping[str, Trainer], study: Study, training: Cohort, seed: int, n_folds: int = 3) -> Choice:
    """Chooses among candidates, each of which trains one arm, by cross-validation of the training patients.

    The inner folds are the same for all candidates, and for all arms that ask with the same patients and seed; they are
    stratified by the study's ``split.stratify``, and its groups stay together. Candidates are compared, for each task,
    by its main metric in each inner fold, averaged over the folds in which it is defined; the first of equals wins.
    Predictions of different folds are not ranked against each other: models that are shrunk towards their training
    prior have a lower prior where more events are held out, so that pooled they look worse than chance. A task whose
    metric is undefined for a candidate does not count in anybody's mean.

    Raises:
        StudyError: If there is no candidate, or one does not train exactly one arm, or does not answer a task.
        DataError: If inner folds cannot be dealt, or leave a task without one of its classes.
    """
    if not candidates:
        raise StudyError("There is no candidate to choose from.")
    tasks = fit_tasks(study, training)
    by_fold: dict[tuple[str, str], list[float]] = {(name, task.name): [] for name in candidates for task in tasks}
    stratify = getattr(study.split, "stratify", None)
    for train, held_out in folds(training, n_folds, seed=seed, stratify=stratify):
        inner, tested = training.subset(train), training.subset(held_out)
        test = replace(tested, targets={}, split=None)
        for name, trainer in candidates.items():
            with seeded_single_thread(seed):
                predictions = _single(name, trainer(study, inner, seed))(test)
            for task in tasks:
                link = _fitting(name, task, predictions, len(test))
                by_fold[name, task.name].append(_score(task, tested, link))
    metric_of = {task.name: main_metric(task) for task in tasks}
    rows = [(*key, metric_of[key[1]], float(defined_mean(np.array(found)))) for key, found in by_fold.items()]
    scores = pd.DataFrame(rows, columns=["candidate", "task", "metric", "value"])
    table = scores.pivot(index="task", columns="candidate", values="value")
    table = table.reindex(index=[task.name for task in tasks], columns=list(candidates))
    by_task = {str(task): _first_highest(row) for task, row in table.iterrows()}
    return Choice(_first_highest(table[table.notna().all(axis=1)].mean()), by_task, scores)


def nested(arm: str, candidates: Mapping[str, Trainer], n_folds: int = 3, per_task: bool = False) -> Trainer:
    """Makes a trainer of several, by name: it chooses by inner folds, then trains the chosen on all training patients.

    Each candidate trains exactly one arm; with ``per_task`` each task is predicted by its own best. The trainer has one
    arm, whose fitted model is a `Chosen`; see `choose` for what it raises.
    """
    candidates = dict(candidates)

    def trainer(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
        choice = choose(candidates, study, training, seed, n_folds)
        by_task = choice.by_task if per_task else dict.fromkeys(choice.by_task, choice.best)
        used = dict.fromkeys(by_task.values())
        fitted = {name: _single(name, candidates[name](study, training, seed)) for name in used}
        return {arm: Chosen(choice, by_task, fitted)}

    return trainer


def _single(name: str, fitted: Mapping[str, Fitted]) -> Fitted:
    if len(fitted) != 1:
        raise StudyError(
            f"Candidate '{name}' must train exactly one arm, found {shown(sorted(fitted)) or 'none'}. "
            f"Wrap it in a function that returns the one wanted."
        )
    return next(iter(fitted.values()))


def _fitting(name: str, task: Task, predictions: Predictions, n: int) -> NDArray[np.float64]:
    if task.name not in predictions:
        raise StudyError(f"Candidate '{name}': no answer for task '{task.name}'.")
    link, shape = predictions[task.name], (n, len(task.link_names))
    if link.shape != shape:
        raise DataError(
            f"Candidate '{name}': task '{task.name}' has shape {link.shape} in an inner fold, expected {shape}. "
            f"If a class is too rare for every fold to train on, use fewer inner folds, or merge it with another."
        )
    if not np.isfinite(link).all():
        raise StudyError(f"Candidate '{name}': task '{task.name}' has predictions that are not finite.")
    return link


def _score(task: Task, tested: Cohort, link: NDArray[np.float64]) -> float:
    """The task's main metric on the labelled patients of a fold; NaN if it is undefined there."""
    target, known = task.prepare(tested.targets[task.name])
    if not known.any():
        return float("nan")
    metrics = task.link_metrics(torch.from_numpy(link)[known], task.link_target(target[known]))
    return metrics.get(main_metric(task), float("nan"))


def _first_highest(values: pd.Series[float]) -> str:
    """The name of the highest, the first of those that are equal within numerical error; NaN is the lowest."""
    numbers = np.asarray(values.fillna(-1e300), dtype=np.float64)
    return str(values.index[likeliest(numbers[None])[0]])
