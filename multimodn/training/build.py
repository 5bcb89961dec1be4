"""From a study and training patients to an untrained network, and from any patients to its tensors."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from multimodn.base import Encoder, Task, load_kind
from multimodn.data.batches import PatientTensors
from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, did_you_mean, raise_all
from multimodn.fusion import SequentialFusion
from multimodn.study import Study

N_SCALE_ROWS = 512
"""Training rows on which the state update scales its first weights."""


def build_model(study: Study, training: Cohort, seed: int) -> SequentialFusion:
    """Fits encoders and tasks on training patients and joins them to an untrained network.

    Args:
        study: What to build.
        training: The training patients, and nobody else.
        seed: Seed of the initial weights.

    Raises:
        DataError: If a modality or a label cannot be used; every problem is listed.
    """
    problems: list[str] = []
    encoders: dict[str, Encoder] = {}
    tasks: list[Task] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for modality in study.modalities:
            try:
                encoder = load_kind("encoders", modality.kind)
                encoders[modality.name] = encoder.fit(training.modalities[modality.name], modality.options)
            except DataError as error:
                problems.append(f"modality '{modality.name}': {error}")
        try:
            tasks = fit_tasks(study, training)
        except DataError as error:
            problems.append(str(error))
        raise_all(problems, DataError, "The training data cannot be used")
        spec, informative = study.training, study.missingness == "informative"
        model = SequentialFusion(encoders, tasks, spec.state_size, spec.update, study.order, informative)
        with torch.no_grad():
            for m, (name, encoder) in enumerate(encoders.items()):
                some = encoder.prepare(training.modalities[name].head(N_SCALE_ROWS))
                model.update.fit_scale(m, encoder.eval()(some))
                encoder.train()
        return model


def fit_tasks(study: Study, training: Cohort) -> list[Task]:
    """Fits the study's tasks on training patients.

    Raises:
        DataError: If labels cannot carry a task; every problem is listed.
    """
    problems: list[str] = []
    tasks: list[Task] = []
    for spec in study.tasks:
        try:
            task = load_kind("tasks", spec.kind)
            tasks.append(task.fit(spec.name, training.targets[spec.name], spec.options))
        except DataError as error:
            problems.append(str(error))
    raise_all(problems, DataError, "The labels cannot be used")
    return tasks


def prepare(model: SequentialFusion, cohort: Cohort, *, labelled: bool) -> PatientTensors:
    """Parses a cohort once into the tensors that every member, order and explanation slices.

    Args:
        model: Fitted encoders and tasks.
        cohort: Any patients. A modality that it does not hold is absent for all of them.
        labelled: Whether to read targets too.

    Raises:
        DataError: If a cell or label cannot be read, or the cohort has a modality that the model does not know.
    """
    problems = [
        f"modality '{name}' is unknown to the model.{did_you_mean(name, model.modalities)}"
        for name in cohort.modalities
        if name not in model.modalities
    ]
    values: dict[str, Any] = {}
    positions = []
    for name in model.modalities:
        frame = cohort.modalities.get(name)
        if frame is None or frame.empty:
            values[name] = torch.empty(0)
            positions.append(np.full(len(cohort), -1))
            continue
        try:
            values[name] = cast(Encoder, model.encoders[name]).prepare(frame)
        except DataError as error:
            problems.append(f"modality '{name}': {error}")
        positions.append(frame.index.get_indexer(cohort.patients))
    targets, labels = _prepare_targets(model, cohort, problems) if labelled else ({}, {})
    raise_all(problems, DataError, "The data do not fit the model")
    position = torch.from_numpy(np.stack(positions, axis=1))
    strata = [
        torch.where(labels[name], cast(Task, task).strata(targets[name]), -1)
        for name, task in model.tasks.items()
        if labelled
    ]
    return PatientTensors(
        cohort.patients, values, position, targets, labels, torch.stack(strata, dim=1) if strata else None
    )


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
