"""What a card tells of patients, outcomes and predictors, before it is put into words."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.encoder import Encoder
from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.data.splits import PARTS
from multimodn.errors import DataError, DataWarning, raise_all
from multimodn.model.multimodn import MultiModN
from multimodn.study.study import TaskSpec

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TaskFacts:
    """The labels of a task."""

    spec: TaskSpec
    task: Task  # fitted
    known: Bools  # which patients of the cohort have a label ``(N,)``
    truth: Floats  # `Task.link_target` of all patients ``(N, ...)``; NaN without a label
    stratum: NDArray[np.int64]  # `Task.strata` of all patients ``(N,)``; -1 without a label
    has_labels: bool  # whether there are several labels, each of which may be so or not

    @property
    def is_survival(self) -> bool:
        """Whether times to an event are predicted."""
        return self.task.link_scale == "log-risk"

    @property
    def is_number(self) -> bool:
        """Whether a number is predicted."""
        return self.task.link_scale == "units"

    def outcomes(self, rows: Bools) -> dict[str, int]:
        """Counts outcomes among some patients ``(N,)``: each class, each label that is set, or events; none of numbers.

        Classes add up to the labelled patients, labels need not.
        """
        rows = rows & self.known
        if self.is_survival:
            return {"events": int((self.truth[rows, 1] > 0).sum())}
        if self.is_number:
            return {}
        if self.has_labels:
            return {name: int((self.truth[rows, k] > 0).sum()) for k, name in enumerate(self.task.link_names)}
        counted = np.bincount(self.stratum[rows], minlength=self.task.n_strata)
        return dict(zip(self.task.stratum_names, counted.tolist(), strict=True))

    def rarest(self, rows: Bools) -> int:
        """Counts what a model can learn from: events, the rarest class (of labels, or its lack), or all numbers."""
        n, found = int((rows & self.known).sum()), self.outcomes(rows)
        if self.is_survival or not found:
            return found.get("events", n)
        return min(min(k, n - k) if self.has_labels else k for k in found.values())


@dataclass(frozen=True)
class Predictor:
    """A modality, or a reading of one."""

    name: str  # of its step
    kind: str
    columns: tuple[str, ...]  # names of the columns that are read
    n_inputs: int  # numbers that enter its network for each patient, or the width of its embedding
    is_embedding: bool  # whether they are the latter, as its kind has no columns to count
    empty: float  # share of empty cells among the patients who have it and were trained on
    hidden_from: tuple[str, ...]  # tasks that must not see it


@dataclass(frozen=True, eq=False)
class CardFacts:
    """Patients, labels and predictors of a trained model."""

    model: MultiModN
    cohort: Cohort  # all patients
    parts: dict[str, Bools]  # for each part of the split who belongs to it ``(N,)``
    learned: Bools  # whose data set the weights ``(N,)``: several members train on the validation patients too
    presence: pd.DataFrame  # who has which modality ``(N, M)``, in the order of the model's steps
    tasks: dict[str, TaskFacts]
    predictors: list[Predictor]  # in the order of the model's steps

    @property
    def test(self) -> Bools:
        """Who is only tested on ``(N,)``."""
        return self.parts["test"]

    @property
    def n_test(self) -> int:
        """How many they are."""
        return int(self.test.sum())

    @property
    def n_members(self) -> int:
        """Networks of the ensemble."""
        return self.model.trained.n_members

    def seen_by(self, task: str) -> list[Predictor]:
        """Returns the predictors that a task may see."""
        return [one for one in self.predictors if task not in one.hidden_from]

    def n_inputs(self, task: str) -> int:
        """Counts the numbers that may enter the networks for a task."""
        return sum(one.n_inputs for one in self.seen_by(task))


def read_facts(model: MultiModN, cohort: Cohort) -> CardFacts:
    """Gathers the facts.

    Raises:
        NotFittedError: Before training.
        DataError: If the cohort lacks targets, modalities or patients of the split; every problem is listed.
    """
    fitted, split = model.trained.ensemble, model.split
    _check(model, cohort)
    members = {part: pd.Index([] if split is None else getattr(split, part), dtype=object) for part in PARTS}
    where = {part: cohort.patients.isin(ids) for part, ids in members.items()}
    learned = where["train"] | where["validation"] if len(fitted.members) > 1 else where["train"]
    specs = {spec.name: spec for spec in model.study.tasks}
    tasks = {name: _task(specs[name], task, cohort) for name, task in fitted.tasks.items()}
    presence = cohort.presence[model.order]
    return CardFacts(model, cohort, where, learned, presence, tasks, _predictors(model, cohort, learned))


def _check(model: MultiModN, cohort: Cohort) -> None:
    split = model.split
    named = pd.Index([] if split is None else [p for part in PARTS for p in getattr(split, part)], dtype=object)
    n_lacking = int((~named.isin(cohort.patients)).sum())
    tasks = [name for name in model.trained.tasks if name not in cohort.targets]
    modalities = [name for name in model.order if name not in cohort.modalities]
    problems = [f"{n_lacking} patient(s) of the split are not in the cohort; give all of them."] if n_lacking else []
    problems += [f"task '{name}': the cohort has no targets for it." for name in tasks]
    problems += [f"modality '{name}': the cohort does not hold it." for name in modalities]
    raise_all(problems, DataError, "No card can be written from this cohort")


def _task(spec: TaskSpec, task: Task, cohort: Cohort) -> TaskFacts:
    target, labelled = task.prepare(cohort.targets[spec.name])
    truth = task.link_target(target).double()
    truth[~labelled] = torch.nan
    stratum = torch.where(labelled, task.strata(target), -1)
    has_labels = task.link_scale == "log-odds" and len(spec.target_columns) > 1
    return TaskFacts(spec, task, labelled.numpy(), truth.numpy(), stratum.numpy(), has_labels)


def _predictors(model: MultiModN, cohort: Cohort, learned: Bools) -> list[Predictor]:
    widths, predictors = _widths(model, cohort, learned), []
    for name in model.order:
        spec, frame, width = model.study.steps[name], cohort.modalities[name], widths.get(name)
        rows = frame[frame.index.isin(cohort.patients[learned])]
        empty = float(rows.isna().to_numpy().mean()) if rows.size else np.nan
        encoder = model.trained.ensemble.first.encoders[name]
        n_inputs = int(encoder.embedding_size) if width is None else width  # type: ignore[arg-type]
        columns = tuple(map(str, getattr(encoder, "columns", frame.columns)))
        predictors.append(Predictor(name, spec.kind, columns, n_inputs, width is None, empty, tuple(spec.exclude_for)))
    return predictors


def _widths(model: MultiModN, cohort: Cohort, learned: Bools) -> dict[str, int]:
    """Widths of the rows that encoders of columns prepare; one patient shows each, and no file is read."""
    ids = cohort.patients[learned] if learned.any() else cohort.patients
    frames = {}  # of kinds that read one row of values of a patient, rather than files or several rows
    for name in model.order:
        encoder = model.trained.ensemble.first.encoders[name]
        if isinstance(encoder, Encoder) and not encoder.several_rows and not model.study.steps[name].file_columns:
            frames[name] = cohort.modalities[name]
    having = {name: ids[ids.isin(frame.index)] for name, frame in frames.items()}
    some = list(dict.fromkeys(has[0] for has in having.values() if len(has)))
    if not some:
        return {}
    few = replace(cohort.subset(some), modalities={n: f.loc[f.index.isin(some)] for n, f in frames.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        values = model.prepare(few).values
    return {
        name: each.shape[1]
        for name, each in values.items()
        if isinstance(each, Tensor) and each.dim() == 2 and len(each) and name in frames
    }
