"""What a search maximises: the relative reduction of the prior's loss on held-out patients."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from multimodn.base.task import main_metric
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


def score_fold(study: Study, training: Cohort, held_out: Cohort) -> dict[str, TaskScore]:
    """Trains a study on some patients and scores others; unfit settings or labels raise a StudyError or DataError."""
    with warnings.catch_warnings(), threadpool_limits(1):  # threads of small problems wait for each other
        warnings.simplefilter("ignore", DataWarning)  # the cohort's notes were shown when it was loaded
        model = MultiModN(study)
        model.fit(training, split=development_split(study, training), flags=TrainerFlags(progress=False))
        patients = model.prepare(held_out, labelled=True)
        outputs = model.trained.outputs(patients)
    scores = {}
    for name, task in model.trained.tasks.items():
        labelled = patients.labelled[name]
        if not labelled.any():
            continue
        predicted, target = outputs[name][labelled].double(), patients.targets[name][labelled]
        prior = task.prior().double().expand_as(predicted)
        loss, without = (float(task(each, target).sum()) for each in (predicted, prior))
        metrics = task.link_metrics(task.link(predicted), task.link_target(target))
        scores[name] = TaskScore(loss, without, int(labelled.sum()), float(metrics.get(main_metric(task), np.nan)))
    return scores


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
