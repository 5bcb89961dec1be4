"""Gains by multitask learning: one model of all tasks against a model of each task, on the same patients."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.task import Task, main_metric
from multimodn.data.cohort import Cohort
from multimodn.data.splits import Split, folds, make_split
from multimodn.errors import DataError, StudyError, did_you_mean
from multimodn.evaluate.crossval.contracts import development_split
from multimodn.evaluate.performance.performance import is_enough
from multimodn.metrics.tasks import main_score
from multimodn.model.multimodn import MultiModN
from multimodn.statistics.bootstrap import Floats, draws
from multimodn.study.study import Study
from multimodn.training.fit import TrainerFlags

COLUMNS = ["task", "metric", "joint", "single", "gain", "low", "high", "n"]
MOST_UNDEFINED = 0.2  # largest share of resamples in which a metric is undefined; these are left out


@dataclass(frozen=True)
class Compared:
    """Predictions of two models for the labelled test patients of one split."""

    task: Task
    rows: NDArray[np.int64]  # rows of the patients in the cohort ``(n,)``
    target: Tensor  # their targets ``(n, ...)``
    links: tuple[Tensor, Tensor]  # predictions of each model on the link scale, ``(n, L)``


def task_gains(
    study: Study,
    cohort: Cohort,
    split: Split | None = None,
    *,
    joint: MultiModN | None = None,
    tasks: Collection[str] | None = None,
    n_folds: int | None = None,
    repeats: int = 1,
    n_resamples: int = 1000,
    seed: int = 0,
    on_cell: Callable[[str, int], None] | None = None,
) -> pd.DataFrame:
    """Trains a model of each task, and compares the model of all tasks with it on the same test patients.

    Both have the same settings and seeds. The penalty is relative to the likelihood of each task, however many are
    trained together (`multimodn.training.module`), so that the same ``penalty`` is the same prior for both. If there
    are several registries, a single task is trained on those that record it, for as many steps as the joint model.

    Args:
        study: Tasks, modalities, training.
        cohort: All patients, with labels.
        split: Training, validation and test patients; default: the study's. Not with ``n_folds``.
        joint: The model of all tasks, if it is already trained on this split.
        tasks: Names of the compared tasks; default: all.
        n_folds: Repeated cross-validation instead of one split; metrics are averaged over folds.
        repeats: Number of repeats.
        n_resamples: Bootstrap resamples of patients; a tenth for metrics other than the AUROC.
        seed: Seed of folds and resamples.
        on_cell: Called with the task and the number of the split when a single model is tested, to show progress.

    Returns:
        ``task``, ``metric`` (its `main_metric`), ``joint`` and ``single`` (its values), ``gain`` (their difference),
        ``low``, ``high`` (95 % percentile interval of the gain over patients, the same resamples for both; NaN for too
        few patients) and ``n``, the labelled test patients. The interval is conditional on the trained models: in small
        cohorts other training patients change a gain by as much again, which several ``repeats`` show.

    Raises:
        StudyError: If a task is unknown, or both ``n_folds`` and a split or model are given.
        DataError: If there are no test patients.
    """
    names = [task.name for task in study.tasks]
    chosen = names if tasks is None else list(tasks)
    if unknown := [name for name in chosen if name not in names]:
        raise StudyError(f"Unknown task '{unknown[0]}'.{did_you_mean(unknown[0], names)}")
    if n_folds is not None and (split is not None or joint is not None):
        raise StudyError("Give either a split, with the model trained on it, or n_folds.")
    cells: dict[str, list[Compared]] = {name: [] for name in chosen}
    for k, part in enumerate(_splits(study, cohort, split, n_folds, repeats, seed)):
        if not len(part.test):
            raise DataError("The split has no test patients.")
        whole = joint or trained(study, cohort, part)
        for name in chosen:
            single = trained(*single_task(study, cohort, part, name))
            cell = compared(cohort, part, name, (whole, single))
            if cell is not None:
                cells[name].append(cell)
            if on_cell is not None:
                on_cell(name, k)
    rows = [
        {"task": name, "metric": main_metric(of_task[0].task), **paired_gain(of_task, len(cohort), n_resamples, seed)}
        for name, of_task in cells.items()
        if of_task
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def single_task(study: Study, cohort: Cohort, split: Split, task: str) -> tuple[Study, Cohort, Split]:
    """Returns the study of one task, with its patients and split.

    Patients of registries that do not record the task are left out, and there are more epochs in proportion, for the
    same number of steps.
    """
    spec = study.training
    own = [each for each in study.tasks if each.name == task]
    if cohort.registry is not None:
        labelled = cohort.targets[task].notna().all(axis=1)
        kept = set(cohort.patients[cohort.registry.isin(cohort.registry[labelled].unique())])
        train, validation = (np.array([p for p in ids if p in kept], object) for ids in (split.train, split.validation))
        n_all, n_own = len(split.train) + len(split.validation), len(train) + len(validation)
        more = n_all / max(n_own, 1)
        longer = {"epochs": round(spec.epochs * more), "patience": round(spec.patience * more)}
        spec, split = spec.model_copy(update=longer), replace(split, train=train, validation=validation)
    return study.model_copy(update={"tasks": own, "training": spec}), cohort, split


def trained(study: Study, cohort: Cohort, split: Split) -> MultiModN:
    """Trains a study on the training and validation patients alone, without a progress bar."""
    seen = cohort.subset(np.concatenate([split.train, split.validation]))
    own = replace(split, test=np.array([], dtype=object))
    return MultiModN(study).fit(seen, split=own, flags=TrainerFlags(progress=False))


def compared(cohort: Cohort, split: Split, task: str, models: tuple[MultiModN, MultiModN]) -> Compared | None:
    """Predicts the labelled test patients of a task with two models that have it; None if there are none."""
    rows = cohort.patients.get_indexer(pd.Index(split.test, dtype=object))
    rows = rows[cohort.targets[task].iloc[rows].notna().all(axis=1).to_numpy()]
    if not len(rows):
        return None
    test = cohort.subset(cohort.patients[rows])
    own = models[0].trained.tasks[task]
    target, labelled = own.prepare(test.targets[task])
    joint, single = (model.link(_inputs(model, test))[task][labelled].double() for model in models)
    return Compared(own, rows[labelled.numpy()], target[labelled], (joint, single))


def paired_gain(
    cells: Sequence[Compared], n_patients: int, n_resamples: int = 1000, seed: int = 0
) -> dict[str, float | int]:
    """Averages the main metric of two models over splits of a task, with an interval of the difference over patients.

    A patient in several splits is drawn in all or none. Returns ``joint`` (the first model), ``single``, ``gain``,
    ``low``, ``high`` and ``n``.
    """
    once = np.ones((1, n_patients))
    joint, single = (float(np.mean([_scores(cell, cell.links[k], once)[0] for cell in cells])) for k in range(2))
    patients = np.unique(np.concatenate([cell.rows for cell in cells]))
    low = high = float("nan")
    if all(is_enough(cell.task, cell.target) for cell in cells):
        n_drawn = n_resamples if cells[0].task.link_scale == "log-odds" else max(n_resamples // 10, 1)
        gains = []
        for block in draws(len(patients), n_drawn, seed):
            weights = np.zeros((len(block), n_patients))
            weights[:, patients] = block
            differences = [_scores(c, c.links[0], weights) - _scores(c, c.links[1], weights) for c in cells]
            gains.append(np.mean(differences, axis=0))
        drawn = np.concatenate(gains)
        if np.isnan(drawn).mean() <= MOST_UNDEFINED:
            low, high = (float(end) for end in np.nanquantile(drawn, [0.025, 0.975]))
    return {"joint": joint, "single": single, "gain": joint - single, "low": low, "high": high, "n": len(patients)}


def _splits(
    study: Study, cohort: Cohort, split: Split | None, n_folds: int | None, repeats: int, seed: int
) -> Iterator[Split]:
    if n_folds is None:
        yield make_split(study, cohort) if split is None else split
        return
    for train, test in folds(cohort, n_folds, repeats, seed, getattr(study.split, "stratify", None)):
        part = development_split(study, cohort.subset(train))
        yield replace(part, test=test)


def _inputs(model: MultiModN, cohort: Cohort) -> Cohort:
    """Leaves out the modalities that the model does not have."""
    names = model.trained.modalities
    frames = {name: frame for name, frame in cohort.modalities.items() if name in names}
    return cohort if len(frames) == len(cohort.modalities) else replace(cohort, modalities=frames, targets={})


def _scores(cell: Compared, link: Tensor, weights: Floats) -> Floats:
    """Returns the main metric under weights of all patients ``(R, N)``: how often each was drawn."""
    return main_score(cell.task.link_scale, link, cell.task.link_target(cell.target))(weights[:, cell.rows])
