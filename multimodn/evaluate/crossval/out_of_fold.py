"""What cross-validation leaves: every patient's prediction by models that never saw the patient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.errors import DataError, StudyError, did_you_mean
from multimodn.files import make_folder, replacing
from multimodn.statistics.bootstrap import Floats

SCORES = ["arm", "task", "metric", "repeat", "fold", "value"]
PREDICTIONS = ["arm", "repeat", "fold", "patient", "task", "output", "link"]
TARGETS = ["task", "scale", "metric", "patient", "output", "value"]


@dataclass(frozen=True)
class Cell:
    """The labelled test patients of one arm, repeat, fold and task."""

    repeat: int  # number of the repeat
    fold: int  # number of the fold in it
    patients: NDArray[np.int64]  # positions ``(n,)`` among `Answers.patients`
    link: Floats  # link-scale predictions ``(n, L)``
    truth: Floats  # what they are predictions of, as `multimodn.base.task.Task.link_target`


@dataclass(frozen=True)
class Answers:
    """One arm's predictions for the labelled patients of a task."""

    scale: str  # `multimodn.base.task.Task.link_scale`
    metric: str  # the task's main metric
    patients: pd.Index  # the task's labelled patients, the same for every arm
    outputs: list[str]  # names of the link-scale columns
    cells: list[Cell]  # by repeat and fold


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Scores and predictions of repeated cross-validation.

    Attributes:
        scores: ``arm, task, metric, repeat, fold, value``: each test fold's metrics.
        predictions: ``arm, repeat, fold, patient, task, output, link``: on the link scale, of every tested patient,
            labelled or not; ``output`` is one of the task's `link_names`.
        targets: ``task, scale, metric, patient, output, value``: what the link-scale columns predict, of labelled
            patients; 0 or 1 for log-odds, the value for units, ``time`` and ``event`` for log-risk. ``metric`` is the
            task's main metric.
    """

    scores: pd.DataFrame
    predictions: pd.DataFrame
    targets: pd.DataFrame

    @property
    def arms(self) -> list[str]:
        """The arms, in the order in which they were asked for."""
        return list(dict.fromkeys(self.scores["arm"]))

    @property
    def tasks(self) -> list[str]:
        """The tasks, in the study's order."""
        return list(dict.fromkeys(self.targets["task"]))

    def save(self, folder: Path) -> None:
        """Writes ``scores.parquet``, ``predictions.parquet`` and ``targets.parquet``."""
        make_folder(folder)
        for part in fields(self):
            with replacing(folder / f"{part.name}.parquet") as temporary:
                getattr(self, part.name).to_parquet(temporary, index=False)

    @classmethod
    def load(cls, folder: Path) -> OutOfFold:
        """Reads what `save` wrote.

        Raises:
            DataError: If a file is missing or has other columns.
        """
        frames = {}
        for name, columns in (("scores", SCORES), ("predictions", PREDICTIONS), ("targets", TARGETS)):
            file = folder / f"{name}.parquet"
            if not file.exists():
                raise DataError(f"{folder} holds no {file.name}: out-of-fold predictions were not saved there.")
            frames[name] = pd.read_parquet(file)
            if list(frames[name]) != columns:
                raise DataError(f"{file} has the columns {list(frames[name])}, expected {columns}.")
        return cls(**frames)

    def answers(self, arm: str, task: str) -> Answers:
        """Lines one arm's predictions of a task up with its targets.

        Raises:
            StudyError: If there is no such arm or task.
        """
        for what, name, valid in (("arm", arm, self.arms), ("task", task, self.tasks)):
            if name not in valid:
                raise StudyError(f"Unknown {what} '{name}'.{did_you_mean(name, valid)}")
        targets = self.targets[self.targets["task"] == task]
        truth = _wide(targets, ["patient"], "value")
        mine = self.predictions[(self.predictions["arm"] == arm) & (self.predictions["task"] == task)]
        mine = mine[mine["patient"].isin(truth.index)]
        outputs = list(dict.fromkeys(mine["output"]))
        link = _wide(mine, ["repeat", "fold", "patient"], "link")[outputs]
        scale, metric = str(targets["scale"].iloc[0]), str(targets["metric"].iloc[0])
        wanted = ["time", "event"] if scale == "log-risk" else outputs
        patients = pd.Index(truth.index)
        positions = patients.get_indexer(link.index.get_level_values("patient"))
        cells = _cells(link, truth[wanted].to_numpy(np.float64)[positions], positions)
        return Answers(scale, metric, patients, outputs, list(cells))


def _wide(frame: pd.DataFrame, index: Sequence[str], value: str) -> pd.DataFrame:
    return frame.set_index([*index, "output"])[value].unstack("output", sort=False)


def _cells(link: pd.DataFrame, truth: Floats, positions: NDArray[np.int64]) -> Iterator[Cell]:
    """Splits rows by repeat and fold; a fold whose training patients lacked a class has no column for it."""
    values, is_column = link.to_numpy(np.float64), truth.shape[1] == link.shape[1]
    for key, rows in link.groupby(level=["repeat", "fold"], sort=True).indices.items():
        has = ~np.isnan(values[rows]).all(0)
        of_truth = truth[rows][:, has] if is_column else truth[rows]
        repeat, fold = cast("tuple[int, int]", key)
        yield Cell(int(repeat), int(fold), positions[rows], values[rows][:, has], of_truth)
