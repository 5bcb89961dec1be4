"""The cells of cross-validation and stress test: one arm, one repeat, one fold.

Cells are trained here or in other processes and kept in a folder, from which an interrupted run goes on.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
import random
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.data.splits import Ids
from multimodn.errors import DataWarning, StudyError, shown
from multimodn.evaluate.crossval.out_of_fold import PREDICTIONS
from multimodn.files import make_folder, replacing, write_text
from multimodn.study.folder import check_unchanged, check_unused
from multimodn.study.study import Study
from multimodn.training.build import fit_tasks

PLAN = "crossval.json"

Prepared = TypeVar("Prepared")


@dataclass(frozen=True)
class Fold:
    """Who is trained on and who is tested."""

    repeat: int  # number of the repeat
    fold: int  # number of the fold in it
    train: Ids  # training patients
    test: Ids  # test patients
    seed: int  # what the arms are given


@dataclass(frozen=True)
class CellJob:
    """One arm on one fold."""

    arm: int  # its place among the arms
    fold: Fold
    file: Path | None = None  # where the finished cell is kept; None: nowhere


class CellTrainer(ABC, Generic[Prepared]):
    """Trains one cell after another; what the arms of a fold share is prepared once."""

    _last: tuple[tuple[int, int], Prepared] | None = None

    @abstractmethod
    def prepare(self, fold: Fold) -> Prepared:
        """Returns what all arms of a fold are handed."""

    @abstractmethod
    def train(self, job: CellJob, prepared: Prepared) -> pd.DataFrame:
        """Trains and tests one arm on one fold."""

    @abstractmethod
    def read(self, job: CellJob, file: Path) -> pd.DataFrame:
        """Reads a finished cell.

        Raises:
            StudyError: If the file does not hold it.
        """

    @abstractmethod
    def write(self, frame: pd.DataFrame, file: Path) -> None:
        """Writes a finished cell."""

    def run(self, job: CellJob) -> pd.DataFrame:
        """Trains one cell, and writes it if it has a file."""
        key = job.fold.repeat, job.fold.fold
        if self._last is None or self._last[0] != key:
            self._last = key, self.prepare(job.fold)
        frame = self.train(job, self._last[1])
        if job.file is not None:
            with replacing(job.file) as temporary:
                self.write(frame, temporary)
        return frame


def make_jobs(folds: Sequence[Fold], arms: Sequence[str], folder: Path | None, suffix: str) -> list[CellJob]:
    """Lists the cells, all arms of a fold one after another; ``arms`` are names for files."""
    return [
        CellJob(k, fold, None if folder is None else folder / f"{arm}-{fold.repeat}-{fold.fold}{suffix}")
        for fold in folds
        for k, arm in enumerate(arms)
    ]


def run_cells(
    trainer: CellTrainer[Any],
    jobs: Sequence[CellJob],
    on_cell: Callable[[CellJob, pd.DataFrame], None] | None = None,
    n_jobs: int = 1,
) -> list[pd.DataFrame]:
    """Reads the cells that are finished, trains the others, and returns all in the order of the jobs.

    Processes are started afresh (loky) instead of forked, as a forked torch can hang; arms are sent by cloudpickle, so
    that closures and functions of a script may be arms. ``on_cell`` is called with each cell as it is read or done, to
    show progress; ``n_jobs`` processes have one thread each, -1 = one a core.

    Raises:
        StudyError: If a file does not hold its cell, an arm cannot be sent to another process, or a process is killed.
    """
    done = {i: trainer.read(job, job.file) for i, job in enumerate(jobs) if job.file is not None and job.file.exists()}
    remaining = {i: job for i, job in enumerate(jobs) if i not in done}
    for i, frame in itertools.chain(list(done.items()), _trained(trainer, remaining, n_jobs)):
        done[i] = frame
        if on_cell is not None:
            on_cell(jobs[i], frame)
    return [done[i] for i in range(len(jobs))]


def _trained(trainer: CellTrainer[Any], jobs: Mapping[int, CellJob], n_jobs: int) -> Iterator[tuple[int, pd.DataFrame]]:
    if n_jobs == 1 or len(jobs) < 2:
        yield from ((i, trainer.run(job)) for i, job in jobs.items())
        return
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    payload = _packed(trainer)
    key = hashlib.sha256(payload.data).hexdigest()
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        parallel = Parallel(return_as="generator_unordered", batch_size=1)
        work = (delayed(_run_in_worker)(payload, key, i, job) for i, job in jobs.items())
        try:
            yield from parallel(work)
        except TerminatedWorkerError as error:
            raise StudyError(
                "A process of the cross-validation was killed, for instance because memory ran out. Run again with "
                "fewer processes; with a folder it continues after the last finished cell."
            ) from error


def _packed(trainer: CellTrainer[Any]) -> NDArray[np.uint8]:
    """Everything that workers share, as bytes in an array, which joblib hands over as one file in memory."""
    from joblib import wrap_non_picklable_objects

    try:
        packed = pickle.dumps(wrap_non_picklable_objects(trainer, keep_wrapper=False))
    except Exception as error:  # whatever an object in an arm's closure raises
        raise StudyError(f"An arm cannot be sent to another process: {error}. Use n_jobs=1.") from error
    return np.frombuffer(packed, dtype=np.uint8)


_SHARED: dict[str, CellTrainer[Any]] = {}


def _run_in_worker(payload: NDArray[np.uint8], key: str, number: int, job: CellJob) -> tuple[int, pd.DataFrame]:
    if key not in _SHARED:
        _SHARED.clear()
        _SHARED[key] = pickle.loads(payload.data)
    return number, _SHARED[key].run(job)


class CrossValidation(CellTrainer[tuple[Cohort, Cohort, list[Task]]]):
    """Cells of link-scale predictions; an arm sees the test patients without their targets."""

    def __init__(self, study: Study, cohort: Cohort, arms: Sequence[Any]) -> None:
        self.study, self.cohort, self.arms = study, cohort, tuple(arms)

    def prepare(self, fold: Fold) -> tuple[Cohort, Cohort, list[Task]]:
        """Returns the training patients, the test patients without their targets, and the fold's tasks."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            training = self.cohort.subset(fold.train)
            test = replace(self.cohort.subset(fold.test), targets={}, split=None)
            return training, test, fit_tasks(self.study, training)

    def train(self, job: CellJob, prepared: tuple[Cohort, Cohort, list[Task]]) -> pd.DataFrame:
        """Trains and predicts one cell, on one thread and from seeded global generators."""
        training, test, tasks = prepared
        with seeded_single_thread(job.fold.seed):
            predictions = self.arms[job.arm](self.study, training, test, job.fold.seed)
        parts = [_long(arm, task, links, job.fold) for arm, links in predictions.items() for task in tasks]
        return pd.concat(parts, ignore_index=True)

    def read(self, job: CellJob, file: Path) -> pd.DataFrame:
        """Reads a finished cell, and checks that its patients are those of the fold."""
        try:
            frame = pd.read_parquet(file)
        except (OSError, ValueError) as error:
            raise StudyError(f"{file} cannot be read: {error}. Remove it, and run again.") from error
        if list(frame) != PREDICTIONS or set(frame["patient"]) != set(map(str, job.fold.test)):
            raise StudyError(f"{file} does not hold the test patients of its fold. Remove it, and run again.")
        return frame

    def write(self, frame: pd.DataFrame, file: Path) -> None:
        """Writes Parquet."""
        frame.to_parquet(file, index=False)


def open_folder(folder: Path, fingerprint: Mapping[str, str | int]) -> None:
    """Makes a folder for cells, or makes sure that those in it belong to the same cross-validation.

    Raises:
        StudyError: If they do not, or the folder holds something else.
    """
    plan = folder / PLAN
    if plan.exists():
        check_unchanged(folder, "cross-validation", json.loads(plan.read_text()), fingerprint)
        return
    check_unused(folder, "cross-validation")
    make_folder(folder)
    write_text(plan, json.dumps(dict(fingerprint), indent=1))


def fold_hash(folds: Sequence[Fold]) -> str:
    """Returns a SHA-256 over the patients of folds, as they are ordered."""
    digest = hashlib.sha256()
    for fold in folds:
        for part in (fold.train, fold.test):
            digest.update("\0".join(map(str, part)).encode() + b"\0\0")
    return digest.hexdigest()


def _long(arm: str, task: Task, links: Mapping[str, NDArray[np.float64]], fold: Fold) -> pd.DataFrame:
    """One arm's predictions of a task, patients in order, the columns of each side by side.

    Raises:
        StudyError: If the arm did not answer a finite number for each patient and column.
    """
    where = f"Arm '{arm}', repeat {fold.repeat}, fold {fold.fold}"
    if task.name not in links:
        raise StudyError(f"{where}: no answer for task '{task.name}', found {shown(sorted(links)) or 'none'}.")
    link, n, names = np.asarray(links[task.name], dtype=np.float64), len(fold.test), task.link_names
    if link.shape != (n, len(names)):
        raise StudyError(f"{where}: task '{task.name}' has shape {link.shape}, expected {(n, len(names))}.")
    wrong = fold.test[~np.isfinite(link).all(1)]
    if len(wrong):
        raise StudyError(f"{where}: task '{task.name}' has no finite prediction for {shown(list(wrong))}.")
    patients = pd.Series(np.repeat(fold.test, len(names))).astype("str")
    columns = {"arm": arm, "repeat": fold.repeat, "fold": fold.fold, "patient": patients, "task": task.name}
    columns |= {"output": np.tile(np.array(names, dtype=object), n), "link": link.ravel()}
    return pd.DataFrame(columns).astype(dict.fromkeys(("arm", "task", "output"), "str"))


@contextmanager
def seeded_single_thread(seed: int) -> Iterator[None]:
    """Holds to one thread, as threads of small problems wait for each other, and seeds the global generators.

    Notes on the data are left out: they were shown when the cohort was loaded.
    """
    threads, state, numpy_state = torch.get_num_threads(), random.getstate(), np.random.get_state()
    try:
        with threadpool_limits(1), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            torch.set_num_threads(1)
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(state)
        np.random.set_state(numpy_state)
