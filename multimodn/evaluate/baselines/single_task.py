"""What a task gains from the others: one model of all tasks beside a model of each task alone, on the same patients."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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

COLUMNS = ["task", "metric", "joint", "single", "gain", "low", "high", "n"]
MOST_UNDEFINED = 0.2
"""Share of resamples in which a metric may be undefined; they are left out."""


@dataclass(frozen=True)
class Compared:
    """What two models say of the labelled test patients of one split.

    Attributes:
        task: The task.
        rows: Their numbers in the cohort ``(n,)``.
        target: Their targets ``(n, ...)``.
        links: Predictions of the one and of the other model on the link scale, ``(n, L)`` each.
    """

    task: Task
    rows: NDArray[np.int64]
    target: Tensor
    links: tuple[Tensor, Tensor]


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
    """Trains a model of each task alone, and compares the model of all tasks with it on the same test patients.

    Both are trained with the same settings and seeds. The penalty weighs against the likelihood of each task, however
    many are trained together (`multimodn.training.module`), so that the same ``penalty`` is the same prior for both. Of
    several registries a single task is trained on those that have its labels, for as many steps as all together.

    Args:
        study: Tasks, modalities, training.
        cohort: All patients, with labels.
        split: Who trains and who tests; default: the study's. Not with ``n_folds``.
        joint: The model of all tasks, if it was trained on this split already.
        tasks: Tasks that are looked at; default: all.
        n_folds: Repeated cross-validation instead of one split; metrics are averaged over folds.
        repeats: How often patients are dealt into folds.
        n_resamples: Bootstrap resamples of patients; a tenth where a metric is not the area under the ROC curve.
        seed: The first deal, and the resamples.
        on_cell: Called with the task and the number of the split when a single model is tested, to show progress.

    Returns:
        ``task``, ``metric`` (its `main_metric`), ``joint`` and ``single`` (its values), ``gain`` (their difference),
        ``low``, ``high`` (95 % percentile interval of the gain over patients, the same resamples for both; NaN for too
        few patients) and ``n``, the labelled test patients. The interval holds for the models as they were trained: on
        small cohorts another draw of training patients moves a gain by as much again, which several ``repeats`` show.

    Raises:
        StudyError: If a task is unknown, or both ``n_folds`` and a split or model are given.
        DataError: If nobody is left to test.
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
            raise DataError("The split leaves nobody to test on.")
        whole = joint or trained(study, cohort, part)
        for name in chosen:
            alone = trained(*single_task(study, cohort, part, name))
            found = compared(cohort, part, name, (whole, alone))
            if found is not None:
                cells[name].append(found)
            if on_cell is not None:
                on_cell(name, k)
    lines = [_line(name, found, len(cohort), n_resamples, seed) for name, found in cells.items() if found]
    return pd.DataFrame(lines, columns=COLUMNS)


def single_task(study: Study, cohort: Cohort, split: Split, task: str) -> tuple[Study, Cohort, Split]:
    """Returns the study of one task, with the patients and the split that it is trained on.

    Patients of registries that do not record the task are left out, and training has more epochs in proportion, so that
    it takes as many steps.
    """
    spec = study.training
    own = [each for each in study.tasks if each.name == task]
    if cohort.registry is not None:
        known = cohort.targets[task].notna().all(axis=1)
        kept = set(cohort.patients[cohort.registry.isin(cohort.registry[known].unique())])
        train, validation = (np.array([p for p in ids if p in kept], object) for ids in (split.train, split.validation))
        n_all, n_own = len(split.train) + len(split.validation), len(train) + len(validation)
        more = n_all / max(n_own, 1)
        longer = {"epochs": round(spec.epochs * more), "patience": round(spec.patience * more)}
        spec, split = spec.model_copy(update=longer), replace(split, train=train, validation=validation)
    return study.model_copy(update={"tasks": own, "training": spec}), cohort, split


def trained(study: Study, cohort: Cohort, split: Split) -> MultiModN:
    """Trains a study without a progress bar; the test patients are not looked at."""
    from multimodn.training.fit import TrainerFlags

    seen = cohort.subset(np.concatenate([split.train, split.validation]))
    own = replace(split, test=np.array([], dtype=object))
    return MultiModN(study).fit(seen, split=own, flags=TrainerFlags(progress=False))


def compared(cohort: Cohort, split: Split, task: str, models: tuple[MultiModN, MultiModN]) -> Compared | None:
    """Predicts the test patients who have a label of a task with two models; None if there is nobody.

    Args:
        cohort: All patients.
        split: Its test patients are predicted.
        task: The task, which both models have.
        models: The two.
    """
    rows = cohort.patients.get_indexer(pd.Index(split.test, dtype=object))
    known = cohort.targets[task].iloc[rows].notna().all(axis=1).to_numpy()
    if not known.any():
        return None
    test = cohort.subset(cohort.patients[rows[known]])
    own = models[0].trained.tasks[task]
    target, labelled = own.prepare(test.targets[task])
    found = [model.link(_inputs(model, test))[task][labelled].double() for model in models]
    return Compared(own, rows[known][labelled.numpy()], target[labelled], (found[0], found[1]))


def paired_gain(
    cells: Sequence[Compared], n_patients: int, n_resamples: int = 1000, seed: int = 0
) -> dict[str, float | int]:
    """Averages the main metric of two models over splits, and gives the difference an interval over patients.

    Args:
        cells: Splits of one task; a patient who is in several is drawn into all of them or into none.
        n_patients: Patients of the cohort.
        n_resamples: See `task_gains`.
        seed: Seed of the resamples.

    Returns:
        ``joint``, ``single``, ``gain``, ``low``, ``high``, ``n``; ``joint`` is the first model.
    """
    once = np.ones((1, n_patients))
    values = [float(np.mean([_scores(cell, cell.links[k], once)[0] for cell in cells])) for k in range(2)]
    patients = np.unique(np.concatenate([cell.rows for cell in cells]))
    low = high = float("nan")
    if all(is_enough(cell.task, cell.target) for cell in cells):
        n_drawn = n_resamples if cells[0].task.link_scale == "log-odds" else max(n_resamples // 10, 1)
        gains = []
        for block in draws(len(patients), n_drawn, seed):
            weights = np.zeros((len(block), n_patients))
            weights[:, patients] = block
            gains.append(
                np.mean([_scores(c, c.links[0], weights) - _scores(c, c.links[1], weights) for c in cells], axis=0)
            )
        drawn = np.concatenate(gains)
        if np.isnan(drawn).mean() <= MOST_UNDEFINED:
            low, high = (float(end) for end in np.nanquantile(drawn, [0.025, 0.975]))
    one, other = values
    return {"joint": one, "single": other, "gain": one - other, "low": low, "high": high, "n": len(patients)}


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
    """Leaves out what a model of fewer modalities does not know."""
    known = model.trained.modalities
    frames = {name: frame for name, frame in cohort.modalities.items() if name in known}
    return cohort if len(frames) == len(cohort.modalities) else replace(cohort, modalities=frames, targets={})


def _line(name: str, cells: Sequence[Compared], n_patients: int, n_resamples: int, seed: int) -> Mapping[str, Any]:
    found = paired_gain(cells, n_patients, n_resamples, seed)
    return {"task": name, "metric": main_metric(cells[0].task), **found}


def _scores(cell: Compared, link: Tensor, weights: Floats) -> Floats:
    """The main metric under weights of all patients ``(R, N)``: how often each was drawn."""
    return main_score(cell.task.link_scale, link, cell.task.link_target(cell.target))(weights[:, cell.rows])
