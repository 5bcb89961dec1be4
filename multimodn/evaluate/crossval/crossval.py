"""Repeated cross-validation by patient: every arm on the same folds, differences paired."""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from multimodn.base.task import Task, main_metric
from multimodn.data.cohort import Cohort
from multimodn.data.splits import Ids, check_patients, fold_pairs, named_folds
from multimodn.errors import DataWarning, StudyError
from multimodn.evaluate.crossval.arms import arm_key
from multimodn.evaluate.crossval.cells import (
    CellJob,
    CrossValidation,
    Fold,
    fold_hash,
    make_jobs,
    open_folder,
    run_cells,
)
from multimodn.evaluate.crossval.contracts import Arms, OnCell
from multimodn.evaluate.crossval.out_of_fold import SCORES, TARGETS, OutOfFold
from multimodn.evaluate.crossval.site_and_time_folds import By, Column, dealt_folds
from multimodn.statistics.resampled_t import corrected_resampled_t
from multimodn.study.study import Study
from multimodn.training.build import fit_tasks


def cross_validate(
    study: Study,
    cohort: Cohort,
    arms: Sequence[Arms],
    n_folds: int | None = None,
    repeats: int = 2,
    seed: int = 0,
    on_cell: OnCell | None = None,
    *,
    by: By | Literal["split"] | None = None,
    column: Column | None = None,
    folder: str | Path | None = None,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Scores arms by repeated cross-validation: the scores of `cross_predict`, which has the arguments.

    Returns:
        ``arm, task, metric, repeat, fold, value``.
    """
    found = cross_predict(
        study, cohort, arms, n_folds, repeats, seed, on_cell, by=by, column=column, folder=folder, n_jobs=n_jobs
    )
    return found.scores


def cross_predict(
    study: Study,
    cohort: Cohort,
    arms: Sequence[Arms],
    n_folds: int | None = None,
    repeats: int = 2,
    seed: int = 0,
    on_cell: OnCell | None = None,
    *,
    by: By | Literal["split"] | None = None,
    column: Column | None = None,
    folder: str | Path | None = None,
    n_jobs: int = 1,
) -> OutOfFold:
    """Predicts every test patient of repeated cross-validation by every arm, all arms on the same folds.

    An arm sees the test patients without their targets. Everything that is fitted (scales, classes, components) is
    fitted by the arm, on the training patients of the fold.

    Args:
        study: Tasks, modalities, training; folds are stratified by its ``split.stratify``.
        cohort: All patients; groups stay on one side.
        arms: What to compare, such as `ours` and those of `multimodn.evaluate.baselines.ridge`.
        n_folds: Test parts of a repeat; default: those that the study's split names, or 5.
        repeats: How often patients are dealt anew; by time and by given folds the parts stay the same, and arms get
            another seed.
        seed: The first deal; repeat r uses ``seed + r``, for the folds as for the arms.
        on_cell: Called with arm, repeat and fold when one is done, to show progress.
        by: ``random``; ``site``: each fold holds out whole sites; ``time``: each fold tests patients who are later
            than all that it trains on, see `multimodn.evaluate.crossval.site_and_time_folds`; ``split``: each fold that
            the study's split names (`multimodn.data.splits.named_folds`) is tested once a repeat. Default: ``split`` if
            it names any, else ``random``.
        column: Each patient's site or time: ``modality.column``, a Series indexed by patient, or values in order.
        folder: Where each finished cell is kept. A second call goes on after the last one; more arms and more repeats
            may be asked for. Cells of an arm whose own code changed are trained again; the code below it is not
            watched: after changing that, use another folder.
        n_jobs: Processes, each with one thread; -1 = one a core. The results are the same to the last bit.

    Raises:
        StudyError: If the folder belongs to another study, cohort or protocol, two arms have one name, or an arm does
            not answer a finite number for each patient.
        DataError: If the patients cannot be dealt so, or labels cannot carry a task.
    """
    if n_jobs == 0 or n_jobs < -1:
        raise StudyError(f"n_jobs is {n_jobs}, expected a number of processes, or -1 for one a core.")
    rule, dealt = _dealt(study, cohort, n_folds, repeats, seed, by, column)
    n_folds = max(1, len(dealt) // max(1, repeats))
    parts = [Fold(k // n_folds, k % n_folds, *pair, seed + k // n_folds) for k, pair in enumerate(dealt)]
    place = None if folder is None else Path(folder)
    if place is not None:
        open_folder(place, _fingerprint(study, cohort, parts[:n_folds], rule, seed))
    jobs = make_jobs(parts, [arm_key(run) for run in arms], place, ".parquet")

    def report(job: CellJob, frame: pd.DataFrame) -> None:
        if on_cell is not None:
            for arm in frame["arm"].unique():
                on_cell(arm, job.fold.repeat, job.fold.fold)

    predictions = _collected(study, cohort, jobs, run_cells(CrossValidation(study, cohort, arms), jobs, report, n_jobs))
    if place is not None:
        predictions.save(place)
    return predictions


def _dealt(
    study: Study, cohort: Cohort, n_folds: int | None, repeats: int, seed: int, by: str | None, column: Column | None
) -> tuple[str, list[tuple[Ids, Ids]]]:
    """Returns what the patients were dealt by, and the training and test patients of each repeat and fold."""
    named = named_folds(study, cohort) if by == "split" or (by is None and column is None) else None
    if by == "split" and (named is None or column is not None):
        why = "the study's split names no folds" if named is None else "no column is asked for"
        raise StudyError(f"Cross-validation by 'split': {why}. Write `split: {{column: fold}}` into the study.")
    if named is None:
        rule, stratify = cast("By", by or "random"), getattr(study.split, "stratify", None)
        return rule, list(dealt_folds(cohort, n_folds or 5, repeats, seed, stratify, by=rule, column=column))
    if n_folds not in (None, len(named)):
        raise StudyError(
            f"The study's split names {len(named)} folds, and n_folds is {n_folds}. Leave n_folds out, or deal the "
            f"patients anew: by='random'."
        )
    check_patients(cohort)
    return "split", [part for _ in range(repeats) for part in fold_pairs(named)]


def _fingerprint(study: Study, cohort: Cohort, folds: list[Fold], by: str, seed: int) -> dict[str, str | int]:
    """What a folder's cells depend on; repeats may be added, as each is dealt by its own seed."""
    return {
        "study": hashlib.sha256(study.to_yaml().encode()).hexdigest(),
        "data": cohort.hash(),
        "n_folds": len(folds),
        "seed": seed,
        "by": by,
        "folds": fold_hash(folds),
    }


def _collected(study: Study, cohort: Cohort, jobs: Sequence[CellJob], frames: Sequence[pd.DataFrame]) -> OutOfFold:
    """Scores the cells, and lines their predictions up with the targets."""
    owner: dict[str, int] = {}
    labels = replace(cohort, modalities={})
    scores: list[tuple[object, ...]] = []
    targets: list[pd.DataFrame] = []
    for fold, some in itertools.groupby(zip(jobs, frames, strict=True), key=lambda pair: pair[0].fold):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            tasks = fit_tasks(study, labels.subset(fold.train))
        known = {task.name: _Known.of(task, cohort, fold.test) for task in tasks}
        targets += [each.frame() for each in known.values()]
        for job, frame in some:
            for arm in frame["arm"].unique():
                if owner.setdefault(arm, job.arm) != job.arm:
                    raise StudyError(f"Two arms are called '{arm}'; give each a name of its own.")
            for key, rows in frame.groupby(["arm", "task"], sort=False).indices.items():
                arm, name = cast("tuple[str, str]", key)
                link = frame["link"].to_numpy()[rows].reshape(len(fold.test), -1)
                found = known[name].scores(link)
                scores += [(arm, name, metric, fold.repeat, fold.fold, value) for metric, value in found.items()]
    every = pd.concat(targets, ignore_index=True).drop_duplicates(["task", "patient", "output"], ignore_index=True)
    order = {task.name: k for k, task in enumerate(study.tasks)}
    every = every.sort_values("task", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    return OutOfFold(pd.DataFrame(scores, columns=SCORES), pd.concat(frames, ignore_index=True), every[TARGETS])


@dataclass(frozen=True)
class _Known:
    """The labels of a fold's test patients."""

    task: Task
    patients: Ids  # labelled test patients
    labelled: torch.Tensor  # which of the test patients these are
    truth: torch.Tensor  # `Task.link_target` of the labelled

    @classmethod
    def of(cls, task: Task, cohort: Cohort, test: Ids) -> _Known:
        target, labelled = task.prepare(cohort.targets[task.name].loc[list(test)])
        return cls(task, test[labelled.numpy()], labelled, task.link_target(target[labelled]))

    def scores(self, link: NDArray[np.float64]) -> dict[str, float]:
        return self.task.link_metrics(torch.from_numpy(link)[self.labelled], self.truth)

    def frame(self) -> pd.DataFrame:
        outputs = ["time", "event"] if self.task.link_scale == "log-risk" else self.task.link_names
        patients = pd.Series(np.repeat(self.patients, len(outputs))).astype("str")
        columns = {"task": self.task.name, "scale": self.task.link_scale, "metric": main_metric(self.task)}
        filled = pd.DataFrame({"patient": patients, "output": outputs * len(self.patients)}).assign(**columns)
        filled["value"] = self.truth.double().numpy().ravel()
        return filled.astype(dict.fromkeys(("task", "scale", "metric", "output"), "str"))


def summary(scores: pd.DataFrame, n_bootstrap: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Averages over folds: ``arm, task, metric, mean, low, high`` with a 95 % bootstrap interval over folds.

    Folds share training patients, so that the interval is somewhat too narrow;
    `multimodn.evaluate.crossval.comparison.averages` resamples patients.
    """
    keys = ["arm", "task", "metric"]
    rows = [(*key, *_interval(part["value"], n_bootstrap, seed)) for key, part in scores.groupby(keys, sort=False)]
    return pd.DataFrame(rows, columns=[*keys, "mean", "low", "high"])


def paired(scores: pd.DataFrame, arm: str, reference: str) -> pd.DataFrame:
    """Compares two arms fold by fold: ``task, metric, difference, low, high``.

    The interval is the corrected resampled t (`multimodn.statistics.resampled_t`), with K - 1 patients trained on for
    each tested, K being the folds of a repeat; a bootstrap over folds, which share patients, would be too narrow.
    """
    wide = scores.pivot(index=["task", "metric", "repeat", "fold"], columns="arm", values="value")
    difference = (wide[arm] - wide[reference]).dropna()
    rows = []
    for key, part in cast("Any", difference.groupby(level=["task", "metric"], sort=False)):
        n_folds = part.index.get_level_values("fold").nunique()
        values = part.to_numpy(dtype=np.float64)
        found = corrected_resampled_t(values, 1 / max(1, n_folds - 1))
        rows.append((*key, float(values.mean()), found.low, found.high))
    return pd.DataFrame(rows, columns=["task", "metric", "difference", "low", "high"])


def _interval(values: pd.Series[float], n_bootstrap: int, seed: int) -> tuple[float, float, float]:
    known = values.dropna().to_numpy(dtype=np.float64)
    if not len(known):
        return float("nan"), float("nan"), float("nan")
    drawn = np.random.default_rng(seed).choice(known, size=(n_bootstrap, len(known))).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(known.mean()), float(low), float(high)
