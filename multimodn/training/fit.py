"""From a cohort and a study to trained networks, member by member, resumable."""

from __future__ import annotations

import json
import logging
import signal
import tempfile
import threading
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multimodn.base import Encoder, Task, load_kind
from multimodn.data.batches import BatchLoader, PatientTensors
from multimodn.data.cohort import Cohort
from multimodn.data.splits import Split, folds
from multimodn.errors import DataError, did_you_mean, raise_all
from multimodn.fusion import SequentialFusion
from multimodn.study import Study, TrainingSpec


@dataclass(frozen=True)
class TrainerFlags:
    """Lightning's flags for the machine at hand; they change nothing that a model learns but rounding."""

    accelerator: str = "auto"
    devices: int | str = 1
    strategy: str = "auto"
    progress: bool = False


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
        training_spec = study.training
        return SequentialFusion(encoders, tasks, training_spec.state_size, training_spec.update, study.order)


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
    return PatientTensors(cohort.patients, values, position, targets, labels)


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


def member_rows(study: Study, cohort: Cohort, split: Split) -> list[tuple[Tensor, Tensor]]:
    """Says which patients each member trains on and which stop it, as row numbers of ``cohort``.

    One member uses the split's training and validation patients. Several share both: each leaves out one fold, which
    stops it, so that every patient trains all members but one.
    """
    n_members = study.training.members

    def rows(ids: Any) -> Tensor:
        return torch.from_numpy(cohort.patients.get_indexer(pd.Index(ids)))

    if n_members == 1:
        return [(rows(split.train), rows(split.validation))]
    stratify = getattr(study.split, "stratify", None)
    parts = folds(cohort, n_members, repeats=1, seed=study.training.seed, stratify=stratify)
    return [(rows(kept), rows(left_out)) for kept, left_out in parts]


def fit_members(
    study: Study,
    models: Sequence[SequentialFusion],
    patients: PatientTensors,
    rows: Sequence[tuple[Tensor, Tensor]],
    folder: Path | None = None,
    flags: TrainerFlags | None = None,
) -> list[dict[str, Any]]:
    """Trains each member, in place, and leaves it with the weights of its best epoch.

    Args:
        study: Its training section is obeyed.
        models: One untrained network a member.
        patients: All patients that any member needs.
        rows: For each member its training and validation rows.
        folder: Where checkpoints go; a later call with the same folder goes on after the last finished epoch.
            None: nothing is kept.
        flags: Lightning's flags.

    Returns:
        For each member: best epoch, best validation loss, epochs run.
    """
    from multimodn.training.progress import progress_bar

    flags = flags or TrainerFlags()
    bar = progress_bar() if flags.progress else None
    results = []
    with bar or nullcontext(), tempfile.TemporaryDirectory() as scratch:
        for k, (model, (train, validation)) in enumerate(zip(models, rows, strict=True)):
            place = (folder or Path(scratch)) / f"member{k}"
            label = f"member {k + 1} of {len(models)}" if len(models) > 1 else "training"
            seed = study.training.seed + k
            results.append(
                fit_member(model, patients, train, validation, study.training, seed, place, flags, (bar, label))
            )
    return results


def fit_member(
    model: SequentialFusion,
    patients: PatientTensors,
    train: Tensor,
    validation: Tensor,
    spec: TrainingSpec,
    seed: int,
    folder: Path,
    flags: TrainerFlags,
    shown: tuple[Any, str] = (None, ""),
) -> dict[str, Any]:
    """Trains one network until its validation loss no longer falls; see `fit_members`."""
    finished = folder / "finished.json"
    if not finished.exists():
        _run_trainer(model, patients, train, validation, spec, seed, folder, flags, shown)
    result: dict[str, Any] = json.loads(finished.read_text())
    state = torch.load(folder / result["checkpoint"], weights_only=True, map_location="cpu")["state_dict"]
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in state.items()})
    model.eval()
    return result


def _run_trainer(
    model: SequentialFusion,
    patients: PatientTensors,
    train: Tensor,
    validation: Tensor,
    spec: TrainingSpec,
    seed: int,
    folder: Path,
    flags: TrainerFlags,
    shown: tuple[Any, str],
) -> None:
    from pytorch_lightning import Trainer
    from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
    from pytorch_lightning.loggers import CSVLogger

    from multimodn.training.module import FusionModule
    from multimodn.training.progress import EpochProgress

    folder.mkdir(parents=True, exist_ok=True)
    watched = "validation_loss" if len(validation) else None
    # `save_last` would keep the last epoch that was the best so far, and lose those after it
    each = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    best = each
    callbacks: list[Any] = [each]
    if watched:
        best = ModelCheckpoint(folder, "best", monitor=watched, enable_version_counter=False)
        callbacks.insert(0, best)
        callbacks.append(EarlyStopping(watched, patience=spec.patience, check_finite=True))
    bar, label = shown
    if bar is not None:
        callbacks.append(EpochProgress(bar, label))
    last = folder / "last.ckpt"
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # no advertisements between progress bars
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")  # advice for row-wise data loaders
        trainer = Trainer(
            accelerator=flags.accelerator,
            devices=flags.devices,
            strategy=flags.strategy,
            max_epochs=spec.epochs,
            callbacks=callbacks,
            # each attempt has its own log: a resumed one would delete what the first wrote
            logger=CSVLogger(folder, name="log"),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1_000_000,  # losses are logged once an epoch, by the module
            use_distributed_sampler=False,  # `BatchLoader` deals the rows out
        )
        loader = BatchLoader(patients, train, spec.batch_size, shuffle=True, seed=seed)
        stopping = BatchLoader(patients, validation, max(spec.batch_size, 1024)) if watched else None
        module = FusionModule(model, spec, loader, seed)
        _fit_or_interrupt(trainer, module, stopping, last)
    score = best.best_model_score
    result = {
        "checkpoint": Path(best.best_model_path).name,
        "validation_loss": None if score is None or not watched else float(score),
        "epochs": trainer.current_epoch,
    }
    if trainer.is_global_zero:
        temporary = folder / "finished.json.partial"
        temporary.write_text(json.dumps(result))
        temporary.replace(folder / "finished.json")
    trainer.strategy.barrier()  # the other processes read what the first one wrote


def _fit_or_interrupt(trainer: Any, module: Any, stopping: BatchLoader | None, last: Path) -> None:
    """Trains; after Ctrl-C Lightning would end the process and ignore the signal from then on: neither is ours."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, val_dataloaders=stopping, ckpt_path=str(last) if last.exists() else None)
    except SystemExit:
        if not trainer.interrupted:
            raise
    if trainer.interrupted:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt
