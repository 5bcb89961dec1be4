"""What a search maximises: the relative reduction of the prior's loss on held-out patients."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from multimodn.base.task import Task, main_metric
from multimodn.data.cohort import Cohort
from multimodn.errors import DataWarning
from multimodn.evaluate.crossval.contracts import development_split
from multimodn.model.multimodn import MultiModN
from multimodn.study.study import Study
from multimodn.training.fit import TrainerFlags


@dataclass(frozen=True)
class TaskScore:
    """Scores of a task on the labelled held-out patients of a fold."""

    loss: float  # sum of the task's loss, its negative log-likelihood
    prior: float  # the same of the prior, which predicts the training distribution for all patients
    n: int  # labelled patients
    metric: float  # the task's main metric, NaN = undefined


FoldScore = Mapping[str, TaskScore]  # of a fold by task; a task without a labelled patient is not in it


@dataclass(frozen=True)
class PatientLosses:
    """Losses of a task, one a patient in the cohort's order; NaN = the patient has no label."""

    loss: list[float]  # the task's loss, its negative log-likelihood
    prior: list[float]  # the same of the prior


CheckScore = Mapping[str, PatientLosses]  # of one training by task; a task without a labelled patient is not in it


def score_fold(study: Study, training: Cohort, held_out: Cohort) -> dict[str, TaskScore]:
    """Trains a study on some patients and scores others; unfit settings or labels raise a StudyError or DataError."""
    scores = {}
    for name, task, labelled, predicted, target in _predicted(study, training, held_out):
        loss, prior = (float(task(each, target).sum()) for each in (predicted, _prior(task, predicted)))
        found = task.link_metrics(task.link(predicted), task.link_target(target))
        scores[name] = TaskScore(loss, prior, int(labelled.sum()), float(found.get(main_metric(task), np.nan)))
    return scores


def score_patients(study: Study, training: Cohort, checked: Cohort) -> dict[str, PatientLosses]:
    """Trains a study on some patients and returns the loss of each of others; see `score_fold`."""
    scores = {}
    for name, task, labelled, predicted, target in _predicted(study, training, checked):
        losses = np.full((2, len(labelled)), np.nan)
        for row, each in zip(losses, (predicted, _prior(task, predicted)), strict=True):
            row[labelled.numpy()] = task(each, target).detach().numpy()
        scores[name] = PatientLosses(*losses.tolist())
    return scores


def _predicted(
    study: Study, training: Cohort, held_out: Cohort
) -> Iterator[tuple[str, Task, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Trains, and yields for each task its name, itself, who is labelled, and their outputs and targets."""
    with warnings.catch_warnings(), threadpool_limits(1):  # threads of small problems wait for each other
        warnings.simplefilter("ignore", DataWarning)  # the cohort's notes were shown when it was loaded
        model = MultiModN(study)
        model.fit(training, split=development_split(study, training), flags=TrainerFlags(progress=False))
        patients = model.prepare(held_out, labelled=True)
        outputs = model.trained.outputs(patients)
    for name, task in model.trained.tasks.items():
        labelled = patients.labelled[name]
        if labelled.any():
            yield name, task, labelled, outputs[name][labelled].double(), patients.targets[name][labelled]


def _prior(task: Task, predicted: torch.Tensor) -> torch.Tensor:
    return task.prior().double().expand_as(predicted)


def skills(folds: Sequence[FoldScore]) -> dict[str, float]:
    """Returns for each task 1 - loss / loss of the prior, both pooled over the held-out patients of all folds.

    1 is a perfect prediction of classes, 0 is no better than the prior. Without a unit, tasks of different kinds can be
    averaged.
    """
    tasks = dict.fromkeys(name for fold in folds for name in fold)
    pooled = {name: [fold[name] for fold in folds if name in fold] for name in tasks}
    return {name: 1 - sum(one.loss for one in part) / sum(one.prior for one in part) for name, part in pooled.items()}


def skill(folds: Sequence[FoldScore]) -> float:
    """Returns the mean of `skills` over tasks: what a search maximises."""
    return float(np.mean(list(skills(folds).values())))


def metrics(folds: Sequence[FoldScore]) -> dict[str, float]:
    """Returns for each task its main metric, averaged over the folds in which it is defined."""
    means = {}
    for name in dict.fromkeys(name for fold in folds for name in fold):
        values = np.array([fold[name].metric for fold in folds if name in fold])
        means[name] = float(np.nanmean(values)) if not np.isnan(values).all() else np.nan
    return means


def summed(score: CheckScore) -> dict[str, TaskScore]:
    """Adds the losses of one training up over its patients; the metrics are NaN, as they are not computed."""
    n = {name: int((~np.isnan(each.loss)).sum()) for name, each in score.items()}
    return {
        name: TaskScore(float(np.nansum(each.loss)), float(np.nansum(each.prior)), n[name], np.nan)
        for name, each in score.items()
    }


def patient_gains(best: Sequence[CheckScore], default: Sequence[CheckScore]) -> NDArray[np.float64]:
    """Divides the difference in skill of two settings among the patients, ``(n,)``; it is the sum.

    Each sequence holds the scores of several trainings on the same patients.
    """
    shares = []
    for name in dict.fromkeys(name for score in best for name in score):
        parts = []
        for scores in (default, best):
            loss = np.nansum([score[name].loss for score in scores], axis=0)
            parts.append(loss / np.nansum([score[name].prior for score in scores]))
        shares.append(parts[0] - parts[1])
    gains: NDArray[np.float64] = np.mean(shares, axis=0)
    return gains
