"""Fits the members of an ensemble side by side, where that is possible."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from multimodn.files import replacing, write_text
from multimodn.fusion import SequentialFusion, random_paths
from multimodn.training.stacked.batches import StackedLoader, stack
from multimodn.training.stacked.network import NotStackable, StackedFusion, copy_of
from multimodn.training.trainer import MemberFit, fit_or_interrupt, make_trainer

if TYPE_CHECKING:
    from rich.progress import Progress

    from multimodn.missingness.label_shift import LabelShift

log = logging.getLogger(__name__)

FOLDER = "ensemble"  # of the checkpoints of all members, beside the folders of the members
N_PROBED = 256  # rows of each member on which the outputs of both ways are compared


def fit_side_by_side(models: Sequence[SequentialFusion], jobs: Sequence[MemberFit], bar: Progress | None) -> bool:
    """Trains all members in the same steps and leaves in the folder of each what `fit_member` leaves there.

    Networks of this size cost by the operation, not by the number: five members in one step take little longer than
    one. Returns False, with nothing done, where members can only be trained one after another: those with other parts
    than linear maps, on several devices, with registries in turn, or with a balance of tasks other than the sum.
    """
    if not _is_asked_for(jobs):
        return False
    shifts = [job.label_shift(model) for model, job in zip(models, jobs, strict=True)]
    try:
        network = StackedFusion(models, jobs[0].patients)
        _check_agreement(network, models, jobs)
    except NotStackable as reason:
        log.info("Members are trained one after another: %s.", reason)
        return False
    _run_trainer(network, models, jobs, shifts, bar)
    return True


def _is_asked_for(jobs: Sequence[MemberFit]) -> bool:
    first = jobs[0]
    started_alone = any(list(job.folder.glob("*.ckpt")) for job in jobs) and not (_folder(jobs) / "last.ckpt").exists()
    return (
        len(jobs) > 1
        and not started_alone
        and not all((job.folder / "finished.json").exists() for job in jobs)
        and first.spec.balance == "sum"
        and first.patients.registry is None
        and (first.flags.devices, first.flags.strategy) == (1, "auto")
        and all(_has_labels(job) for job in jobs)
    )


def _has_labels(job: MemberFit) -> bool:
    return any(bool(label[job.validation].any()) for label in job.patients.labelled.values())


def _folder(jobs: Sequence[MemberFit]) -> Path:
    return jobs[0].folder.parent / FOLDER


def _check_agreement(network: StackedFusion, models: Sequence[SequentialFusion], jobs: Sequence[MemberFit]) -> None:
    """Compares the outputs of the joined network and of its members, on training patients of each.

    Kinds of encoders that are not ours may do anything with a linear map. Weights are disturbed first, as some start at
    zero and would hide a difference.

    Raises:
        NotStackable: If they differ.
    """
    generator, patients = torch.Generator().manual_seed(0), jobs[0].patients
    rows = [job.train[:N_PROBED] for job in jobs]
    paths = [random_paths(patients.position[own] >= 0, generator) for own in rows]
    alone = copy_of(models[0])
    weights = [*network.penalised, *network.free]
    before = [own.detach().clone() for own in weights]
    with torch.no_grad():
        for own in weights:
            own += 0.1 * torch.randn(own.shape, generator=generator)
        with _without_dropout(network):
            try:
                found = network(stack(models[0], patients, rows, paths, [None] * len(jobs)))
            except (
                Exception
            ) as error:  # such as a kind that reads the weights of a linear map, which are other ones here
                raise NotStackable(f"side by side they fail ({error})") from error
        for k, (own_rows, path) in enumerate(zip(rows, paths, strict=True)):
            network.unpack((network.penalised[k], network.free[k]), alone)
            with _without_dropout(alone):
                expected = alone.read(alone.encode(patients.batch(own_rows)), path)
            for name, outputs in found.items():
                own = outputs.tensor_split(len(jobs), dim=1)[k][:, : len(path)]
                of_member = expected[name][: len(own)]
                if not torch.allclose(own, of_member, rtol=1e-3, atol=1e-4 * max(1.0, float(of_member.abs().max()))):
                    raise NotStackable("side by side the outputs are others than one after another")
        for own, original in zip(weights, before, strict=True):
            own.copy_(original)


@contextmanager
def _without_dropout(network: nn.Module) -> Iterator[None]:
    """Puts a network in training mode, in which layers may look at whole batches, but without dropout."""
    network.train()
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.eval()
    yield
    network.train()


def _run_trainer(
    network: StackedFusion, models: Sequence[SequentialFusion], jobs: Sequence[MemberFit],
    shifts: Sequence[LabelShift | None], bar: Progress | None,
) -> None:  # fmt: skip
    from pytorch_lightning.callbacks import ModelCheckpoint

    from multimodn.training.progress import EpochProgress
    from multimodn.training.stacked.module import StackedModule

    folder, spec, first = _folder(jobs), jobs[0].spec, models[0]
    callbacks: list[Any] = []
    if jobs[0].resumable:
        folder.mkdir(parents=True, exist_ok=True)
        callbacks.append(ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False))
    if bar is not None:
        callbacks.append(EpochProgress(bar, f"{len(jobs)} members"))
    training = StackedLoader(first, [job.training_batches() for job in jobs], shifts)
    stopping = StackedLoader(first, [job.validation_batches() for job in jobs], shifts, is_fixed=True)
    logs = [job.loggers() for job in jobs]
    module = StackedModule(network, spec, training, stopping, [job.seed for job in jobs], logs)
    status = "failed"
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")  # advice for row-wise data loaders
        trainer = make_trainer(jobs[0].flags, spec.epochs, callbacks, [])
        try:
            fit_or_interrupt(trainer, module, None, folder / "last.ckpt")
            status = "success"
        finally:
            for logger in (logger for own in logs for logger in own):
                logger.finalize(status)
    for k, (model, job) in enumerate(zip(models, jobs, strict=True)):
        network.unpack(module.best(k), model)
        job.folder.mkdir(parents=True, exist_ok=True)
        with replacing(job.folder / "best.ckpt") as path:
            torch.save({"state_dict": {f"model.{name}": value for name, value in model.state_dict().items()}}, path)
        result = {"checkpoint": "best.ckpt", "validation_loss": module.best_loss[k].item()}
        write_text(job.folder / "finished.json", json.dumps(result | {"epochs": int(module.n_epochs[k])}))
