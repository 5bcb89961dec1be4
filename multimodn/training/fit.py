"""Trains the members of an ensemble, resumable after the last finished epoch."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.data.cohort import Cohort
from multimodn.data.splits import Ids, Split, folds
from multimodn.errors import StudyError
from multimodn.files import write_text
from multimodn.fusion import SequentialFusion
from multimodn.study.study import Study, TrainingSpec
from multimodn.training.balancing import AGGREGATED, check_installed
from multimodn.training.trainer import MemberFit as MemberFit
from multimodn.training.trainer import TrainerFlags as TrainerFlags
from multimodn.training.trainer import fit_or_interrupt, make_trainer

if TYPE_CHECKING:
    from rich.progress import Progress

# Weights x rows of a batch up to which one thread trains. On a busy machine of two processors a second one took six
# times the CPU seconds up to three times this size, and longer by the clock up to twenty times (one run).
SMALL_STEP = 1_000_000_000


def member_rows(study: Study, cohort: Cohort, split: Split) -> list[tuple[Tensor, Tensor]]:
    """Returns the training and validation rows of ``cohort`` for each member.

    One member uses those of the split. Several share both: each leaves out another fold for early stopping.
    """
    pairs: Iterable[tuple[Ids, Ids]] = [(split.train, split.validation)]
    n_members = study.training.n_members(len(cohort))
    if n_members > 1:
        stratify = getattr(study.split, "stratify", None)
        pairs = folds(cohort, n_members, seed=study.training.seed, stratify=stratify)

    def rows(ids: Ids) -> Tensor:
        return torch.from_numpy(cohort.patients.get_indexer(pd.Index(ids)))

    return [(rows(train), rows(validation)) for train, validation in pairs]


def fit_members(
    study: Study, models: Sequence[SequentialFusion], patients: PatientTensors, rows: Sequence[tuple[Tensor, Tensor]],
    folder: Path | None = None, flags: TrainerFlags | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Trains untrained members, in place, and restores the weights of the best epoch of each.

    ``rows``: for each member its training and validation rows. ``folder``: checkpoints, after the last of which a later
    call continues; None: nothing is kept. Returns for each member the checkpoint and the validation loss of its best
    epoch, and the number of epochs.
    """
    from multimodn.training.progress import progress_bar
    from multimodn.training.stacked.fit import fit_side_by_side

    flags, spec = flags or TrainerFlags(), study.training
    check_installed(spec)
    bar = progress_bar() if flags.progress else None
    jobs: list[MemberFit] = []
    with bar or nullcontext(), tempfile.TemporaryDirectory() as scratch, _one_thread_if_small(models, patients, spec):
        for k, (train, validation) in enumerate(rows):
            place = (folder or Path(scratch)) / f"member{k}"
            label = f"member {k + 1} of {len(models)}" if len(models) > 1 else "training"
            neutral, keep = study.missingness == "neutral", folder is not None
            jobs.append(MemberFit(patients, train, validation, spec, spec.seed + k, place, neutral, flags, label, keep))
        fit_side_by_side(models, jobs, bar)
        return [fit_member(model, job, bar) for model, job in zip(models, jobs, strict=True)]


def has_finished_epoch(folder: Path) -> bool:
    """Says whether there is a checkpoint to continue from in a ``folder`` of `fit_members`."""
    return any(folder.rglob("*.ckpt"))


@contextmanager
def _one_thread_if_small(
    models: Sequence[SequentialFusion], patients: PatientTensors, spec: TrainingSpec
) -> Iterator[None]:
    """Lets torch use one thread where all modalities are rows of numbers and a step is small; restores it afterwards.

    Threads of many short operations wait for each other most of the time.
    """
    before, n_weights = torch.get_num_threads(), sum(p.numel() for p in models[0].parameters())
    are_rows = all(isinstance(values, Tensor) and values.dim() == 2 for values in patients.values.values())
    is_small = are_rows and n_weights * min(spec.batch_size, len(patients)) <= SMALL_STEP
    torch.set_num_threads(1 if is_small else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit_member(model: SequentialFusion, job: MemberFit, bar: Progress | None = None) -> dict[str, Any]:
    """Trains one network with early stopping; see `fit_members`."""
    finished = job.folder / "finished.json"
    if not finished.exists():
        _run_trainer(model, job, bar)
    result: dict[str, Any] = json.loads(finished.read_text())
    state = torch.load(job.folder / result["checkpoint"], weights_only=True, map_location="cpu")["state_dict"]
    own = "model."  # learned weights of tasks are not part of the network
    model.load_state_dict({name.removeprefix(own): tensor for name, tensor in state.items() if name.startswith(own)})
    model.eval()
    return result


def _run_trainer(model: SequentialFusion, job: MemberFit, bar: Progress | None) -> None:
    from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

    from multimodn.training.module import FusionModule
    from multimodn.training.progress import EpochProgress

    folder, spec, flags = job.folder, job.spec, job.flags
    folder.mkdir(parents=True, exist_ok=True)
    watched = "validation_loss" if len(job.validation) else None
    # `save_last` would keep the last epoch that was the best so far, not the last one
    each = best = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    callbacks: list[Any] = [each]
    if watched:
        lean = not job.resumable
        best = ModelCheckpoint(folder, "best", monitor=watched, save_weights_only=lean, enable_version_counter=False)
        callbacks = [best] if lean else [best, each]
        callbacks.append(EarlyStopping(watched, patience=spec.patience, check_finite=True))
    if bar is not None:
        callbacks.append(EpochProgress(bar, job.label))
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")  # advice for row-wise data loaders
        trainer = make_trainer(flags, spec.epochs, callbacks, job.loggers())
        if trainer.world_size > 1 and spec.balance in AGGREGATED:
            raise StudyError(f"training.balance: '{spec.balance}' runs on one device; choose sum or uncertainty.")
        module = FusionModule(model, spec, job.training_batches(), job.seed, job.label_shift(model))
        fit_or_interrupt(trainer, module, job.validation_batches() if watched else None, folder / "last.ckpt")
    score = best.best_model_score
    loss = None if score is None or not watched else float(score)
    result = {"checkpoint": Path(best.best_model_path).name, "validation_loss": loss, "epochs": trainer.current_epoch}
    if trainer.is_global_zero:
        write_text(folder / "finished.json", json.dumps(result))
    trainer.strategy.barrier()  # the other processes read the result of the first
