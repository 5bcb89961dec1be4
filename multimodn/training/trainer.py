"""What the training of one member needs, and Lightning's trainer for it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from multimodn.base.batches import BatchLoader, PatientTensors
from multimodn.base.task import Task
from multimodn.fusion import SequentialFusion
from multimodn.missingness.label_shift import LabelShift
from multimodn.study.study import TrainingSpec
from multimodn.training.loggers import loggers

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer
    from pytorch_lightning.loggers import Logger


@dataclass(frozen=True)
class TrainerFlags:
    """Lightning's flags for the machine; they change a model by rounding only."""

    accelerator: str = "auto"
    devices: int | str = 1
    strategy: str = "auto"
    progress: bool = True


@dataclass(frozen=True)
class MemberFit:
    """Data and settings for the training of one member."""

    patients: PatientTensors  # all that any member needs
    train: Tensor  # training rows
    validation: Tensor  # rows for early stopping; if there are none, all epochs are run
    spec: TrainingSpec
    seed: int
    folder: Path  # of its checkpoints
    neutral: bool = True  # whether losses are corrected for label shift between subsets of the modalities
    flags: TrainerFlags = field(default_factory=TrainerFlags)
    label: str = "training"  # its name in the progress bar
    resumable: bool = True  # whether every epoch is kept, so that a later call can continue; else only the best one is

    def training_batches(self) -> BatchLoader:
        """Returns the training batches, shuffled anew in every epoch."""
        size = self.spec.batch_size
        return BatchLoader(self.patients, self.train, size, shuffle=True, seed=self.seed, alternate=True)

    def validation_batches(self) -> BatchLoader:
        """Returns the batches for early stopping."""
        return BatchLoader(self.patients, self.validation, max(self.spec.batch_size, 1024))

    def label_shift(self, model: SequentialFusion) -> LabelShift | None:
        """Returns the label shift of the training rows, if losses are corrected for it."""
        if not self.neutral or self.patients.strata is None:
            return None
        tasks = [cast(Task, task) for task in model.tasks.values()]
        return LabelShift.of_rows(self.patients, self.train, tasks, model.seen)

    def loggers(self) -> list[Logger]:
        """Builds the loggers of its losses."""
        return loggers(self.spec.loggers, self.folder, self.label, self.spec.model_dump() | {"seed": self.seed})


def make_trainer(
    flags: TrainerFlags, epochs: int, callbacks: Sequence[Callback], logs: Sequence[Logger] = ()
) -> Trainer:
    """Builds a trainer that only trains: batches, losses and random numbers are the business of the module."""
    from pytorch_lightning import Trainer
    from pytorch_lightning.callbacks import ModelCheckpoint

    is_kept = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # no hints between progress bars
    return Trainer(
        accelerator=flags.accelerator, devices=flags.devices, strategy=flags.strategy,
        max_epochs=epochs, callbacks=list(callbacks), logger=list(logs) or False, enable_checkpointing=is_kept,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        log_every_n_steps=1_000_000,  # losses are logged once an epoch, by the module
        use_distributed_sampler=False,  # `BatchLoader` distributes the rows
    )  # fmt: skip


def fit_or_interrupt(trainer: Trainer, module: LightningModule, stopping: Any, last: Path) -> None:
    """Trains, after the checkpoint ``last`` if there is one.

    After Ctrl-C Lightning would end the process and ignore the signal from then on, which is undone.
    """
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
