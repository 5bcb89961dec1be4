"""Builds an untrained network from a study and training patients, and prepares tensors of any patients."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.encoder import Encoder
from multimodn.base.kinds import load_kind
from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, DataWarning, UnreadableError, did_you_mean, raise_all, shown
from multimodn.fusion import SequentialFusion
from multimodn.study.study import ModalitySpec, Study

Made = TypeVar("Made")

N_SCALE_ROWS = 512  # training patients from which the state update scales its initial weights
SCALE_BATCH = 64


def build_model(study: Study, training: Cohort, seed: int) -> SequentialFusion:
    """Fits encoders and tasks on training patients only and joins them to a network with initial weights."""
    problems, encoders, tasks = list[str](), dict[str, Encoder](), list[Task]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for modality in study.modalities:
            try:
                encoder = _fit_encoder(modality, training)
                encoders |= dict.fromkeys(modality.step_names, encoder)
            except DataError as error:
                problems.append(f"modality '{modality.name}': {error}")
        try:
            tasks = fit_tasks(study, training)
        except DataError as error:
            problems.append(str(error))
        raise_all(problems, DataError, "The training data cannot be used")
        model = join(study, encoders, tasks)
        if model.update.fits_scale:
            _fit_scale(study, model, training)
        return model


def join(study: Study, encoders: dict[str, Encoder], tasks: list[Task]) -> SequentialFusion:
    """Joins the encoders of a study's steps and its tasks to a network with initial weights."""
    excluded = {
        task.name: [name for name, modality in study.steps.items() if task.name in modality.exclude_for]
        for task in study.tasks
    }
    spec, informative = study.training, study.missingness == "informative"
    return SequentialFusion(encoders, tasks, spec.state_size, spec.update, study.order, informative, excluded)


def _fit_encoder(modality: ModalitySpec, training: Cohort) -> Encoder:
    frames = [training.modalities[name] for name in modality.step_names]
    frame = frames[0] if len(frames) == 1 else pd.concat(frames)
    kind: type[Encoder] = load_kind("encoders", modality.kind)
    on_error = getattr(modality.options, "on_error", "raise")
    encoder, _ = _readable(modality.name, frame, on_error, lambda rows: kind.fit(rows, modality.options))
    return encoder


def _readable(
    name: str, frame: pd.DataFrame, on_error: str, make: Callable[[pd.DataFrame], Made]
) -> tuple[Made, pd.DataFrame]:
    """Returns the result of ``make`` and its rows, without unreadable ones where the study allows it."""
    try:
        return make(frame), frame
    except UnreadableError as error:
        if on_error != "absent":
            raise
        lost = list(error.patients)
        reasons = shown([f"'{patient}': {problem}" for patient, problem in error.patients.items()], 3)
        message = f"modality '{name}': {len(lost)} patient(s) are treated as without it: {reasons}"
        warnings.warn(message, DataWarning, stacklevel=2)
        frame = frame[~frame.index.isin(lost)]
        return make(frame), frame


def _fit_scale(study: Study, model: SequentialFusion, training: Cohort) -> None:
    steps = list(study.steps)
    with torch.no_grad():
        for g in range(max(model.group) + 1):
            name = steps[model.group.index(g)]
            encoder = cast(Encoder, model.encoders[name]).eval()
            frame = training.modalities[name]
            some = frame[frame.index.isin(frame.index.unique()[:N_SCALE_ROWS])]
            values, _ = _readable(name, some, encoder.on_error, encoder.prepare)
            parts = torch.split(torch.arange(len(values)), SCALE_BATCH)
            model.update.fit_scale(g, torch.cat([encoder(values[rows]) for rows in parts]))
            encoder.train()


def fit_tasks(study: Study, training: Cohort) -> list[Task]:
    """Fits the study's tasks on training patients."""
    problems, tasks = list[str](), list[Task]()
    for spec in study.tasks:
        try:
            tasks.append(load_kind("tasks", spec.kind).fit(spec.name, training.targets[spec.name], spec.options))
        except DataError as error:
            problems.append(str(error))
    raise_all(problems, DataError, "The labels cannot be used")
    return tasks


def prepare(model: SequentialFusion, cohort: Cohort, *, labelled: bool) -> PatientTensors:
    """Prepares the tensors of a cohort, with targets if ``labelled``, which members, orders and explanations slice.

    A modality that the cohort does not hold is absent for all its patients; one that the model lacks is an error.
    """
    unknown = [name for name in cohort.modalities if name not in model.modalities]
    hints = [did_you_mean(name, model.modalities) for name in unknown]
    problems = [f"modality '{name}' is unknown to the model.{hint}" for name, hint in zip(unknown, hints, strict=True)]
    values: dict[str, Any] = {}
    positions = []
    for name in model.modalities:
        frame = cohort.modalities.get(name)
        if frame is None or frame.empty:
            values[name] = torch.empty(0)
            positions.append(np.full(len(cohort), -1))
            continue
        encoder = cast(Encoder, model.encoders[name])
        try:
            values[name], frame = _readable(name, frame, encoder.on_error, encoder.prepare)
        except DataError as error:
            problems.append(f"modality '{name}': {error}")
        positions.append(frame.index.unique().get_indexer(cohort.patients))
    targets, labels = _prepare_targets(model, cohort, problems) if labelled else ({}, {})
    raise_all(problems, DataError, "The data do not fit the model")
    position = torch.from_numpy(np.stack(positions, axis=1))
    tasks = {name: cast(Task, task) for name, task in model.tasks.items() if labelled}
    strata = [torch.where(labels[name], task.strata(targets[name]), -1) for name, task in tasks.items()]
    registry = None if cohort.registry is None else torch.from_numpy(pd.factorize(cohort.registry)[0])
    joined = torch.stack(strata, dim=1) if strata else None
    return PatientTensors(cohort.patients, values, position, targets, labels, joined, registry=registry)


def _prepare_targets(
    model: SequentialFusion, cohort: Cohort, problems: list[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    targets, labels = {}, {}
    for name, task in model.tasks.items():
        if name not in cohort.targets:
            problems.append(f"task '{name}': the cohort has no targets for it.")
            continue
        try:
            targets[name], labels[name] = cast(Task, task).prepare(cohort.targets[name])
        except DataError as error:
            problems.append(f"task '{name}': {error}")
    return targets, labels
