"""The cells of a cross-validation: one arm, one repeat, one fold; trained here or elsewhere, kept in a folder."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.data.splits import Ids
from multimodn.errors import DataWarning, StudyError, shown
from multimodn.evaluate.crossval.arms import arm_key
from multimodn.evaluate.crossval.out_of_fold import PREDICTIONS, write_parquet
from multimodn.files import write_text
from multimodn.study.study import Study

PLAN = "crossval.json"


@dataclass(frozen=True)
class Fold:
    """Who is trained on and who is tested.

    Attributes:
        repeat: Number of the repeat.
        fold: Number of the fold in it.
        train: Training patients.
        test: Test patients.
        seed: What the arms are given.
    """

    repeat: int
    fold: int
    train: Ids
    test: Ids
    seed: int


@dataclass(frozen=True)
class Job:
    """One arm on one fold.

    Attributes:
        arm: Its place among the arms.
        fold: The fold.
        file: Where the finished cell is kept; None: nowhere.
    """

    arm: int
    fold: Fold
    file: Path | None = None


def make_jobs(folds: Sequence[Fold], arms: Sequence[Any], folder: Path | None) -> list[Job]:
    """Lists the cells, all arms of a fold one after another."""
    keys = [arm_key(run) for run in arms]
    return [
        Job(k, fold, None if folder is None else folder / f"{keys[k]}-{fold.repeat}-{fold.fold}.parquet")
        for fold in folds
        for k in range(len(arms))
    ]


def open_folder(folder: Path, fingerprint: Mapping[str, str | int]) -> None:
    """Makes a folder for cells, or makes sure that those in it belong to the same cross-validation.

    Raises:
        StudyError: If they do not, or the folder holds something else.
    """
    plan = folder / PLAN
    if plan.exists():
        found = json.loads(plan.read_text())
        changed = [name for name, value in fingerprint.items() if found.get(name) != value]
        if changed:
            raise StudyError(
                f"{folder} holds a cross-validation that cannot be gone on with: {' and '.join(changed)} changed since "
                f"it started. Choose another folder, or remove it."
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise StudyError(f"{folder} is not empty and holds no cross-validation; choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(plan, json.dumps(dict(fingerprint), indent=1))


def fold_hash(folds: Sequence[Fold]) -> str:
    """Returns a SHA-256 over the patients of folds, as they are ordered."""
    digest = hashlib.sha256()
    for fold in folds:
        for part in (fold.train, fold.test):
            digest.update("\0".join(map(str, part)).encode() + b"\0\0")
    return digest.hexdigest()


def finished(jobs: Sequence[Job]) -> dict[int, pd.DataFrame]:
    """Reads back the cells that are done.

    Raises:
        StudyError: If a file does not hold its cell.
    """
    found = {}
    for i, job in enumerate(jobs):
        if job.file is None or not job.file.exists():
            continue
        try:
            frame = pd.read_parquet(job.file)
        except (OSError, ValueError) as error:
            raise StudyError(f"{job.file} cannot be read: {error}. Remove it, and run again.") from error
        if list(frame) != PREDICTIONS or set(frame["patient"]) != set(map(str, job.fold.test)):
            raise StudyError(f"{job.file} does not hold the test patients of its fold. Remove it, and run again.")
        found[i] = frame
    return found


def run_jobs(
    study: Study, cohort: Cohort, arms: Sequence[Any], jobs: Mapping[int, Job], n_jobs: int
) -> Iterator[tuple[int, pd.DataFrame]]:
    """Trains the cells, and yields each as it is done, with its number.

    Processes are started afresh (loky) instead of forked, as a forked torch can hang; arms are sent by cloudpickle,
    so that closures and functions of a script may be arms.

    Args:
        study: Tasks, modalities, training.
        cohort: All patients.
        arms: By `Job.arm`.
        jobs: By number.
        n_jobs: Processes; -1 = one a core.

    Raises:
        StudyError: If an arm cannot be sent to another process, or a process is killed.
    """
    if n_jobs == 1 or len(jobs) < 2:
        patients = _Patients(study, cohort)
        for i, job in jobs.items():
            yield i, run_job(patients, arms[job.arm], job)
        return
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    payload = _packed(study, cohort, arms)
    key = hashlib.sha256(payload.data).hexdigest()
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        parallel = Parallel(return_as="generator_unordered", batch_size=1)
        work = (delayed(_run_in_worker)(payload, key, i, job) for i, job in jobs.items())
        try:
            yield from parallel(work)
        except TerminatedWorkerError as error:
            raise StudyError(
                "A process of the cross-validation was killed, for instance for want of memory. Run again with fewer "
                "processes; with a folder it goes on after the last finished cell."
            ) from error


class _Patients:
    """The patients of one fold after another; all arms of a fold are handed the same tables."""

    def __init__(self, study: Study, cohort: Cohort) -> None:
        self.study, self.cohort = study, cohort
        self.last: tuple[tuple[int, int], Cohort, Cohort, list[Task]] | None = None

    def of(self, fold: Fold) -> tuple[Cohort, Cohort, list[Task]]:
        """Returns the training patients, the test patients without their targets, and the fold's tasks."""
        from multimodn.training.build import fit_tasks

        key = (fold.repeat, fold.fold)
        if self.last is None or self.last[0] != key:
            training = self.cohort.subset(fold.train)
            test = replace(self.cohort.subset(fold.test), targets={}, split=None)
            self.last = (key, training, test, fit_tasks(self.study, training))
        return self.last[1:]


def run_job(patients: _Patients, run: Any, job: Job) -> pd.DataFrame:
    """Trains and predicts one cell, on one thread and from seeded global generators; writes it if it has a file.

    The arm sees the test patients without their targets.
    """
    with alone(job.fold.seed):
        training, test, tasks = patients.of(job.fold)
        found = run(patients.study, training, test, job.fold.seed)
    parts = [_long(arm, task, links, job.fold) for arm, links in found.items() for task in tasks]
    frame = pd.concat(parts, ignore_index=True)
    if job.file is not None:
        write_parquet(job.file, frame)
    return frame


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
def alone(seed: int) -> Iterator[None]:
    """One thread, as threads of small problems wait for each other, and global generators that start from the seed.

    Notes on the data are left out: they were shown when the cohort was loaded.
    """
    from threadpoolctl import threadpool_limits

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


def _packed(study: Study, cohort: Cohort, arms: Sequence[Any]) -> NDArray[np.uint8]:
    """Everything that workers share, as bytes in an array, which joblib hands over as one file in memory."""
    from joblib import wrap_non_picklable_objects

    try:
        packed = pickle.dumps(wrap_non_picklable_objects((study, cohort, tuple(arms)), keep_wrapper=False))
    except Exception as error:  # whatever an object in an arm's closure says
        raise StudyError(f"An arm cannot be sent to another process: {error}. Use n_jobs=1.") from error
    return np.frombuffer(packed, dtype=np.uint8)


_SHARED: dict[str, Any] = {}


def _run_in_worker(payload: NDArray[np.uint8], key: str, number: int, job: Job) -> tuple[int, pd.DataFrame]:
    if key not in _SHARED:
        _SHARED.clear()
        study, cohort, arms = pickle.loads(payload.data)
        _SHARED[key] = _Patients(study, cohort), arms
    patients, arms = _SHARED[key]
    return number, run_job(patients, arms[job.arm], job)
