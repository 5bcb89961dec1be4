"""The LightningModule: one step, one optimiser, and epochs that a resumed run repeats exactly."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, cast

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from multimodn.base.batches import Batch, BatchLoader
from multimodn.base.task import Task
from multimodn.fusion import SequentialFusion, random_paths
from multimodn.fusion.paths import steps_taken
from multimodn.missingness.cells import with_cells
from multimodn.missingness.label_shift import LabelShift
from multimodn.study.study import TrainingSpec
from multimodn.training.balancing import AGGREGATED, Aggregated, Uncertainty


def epoch_seed(seed: int, epoch: int) -> int:
    """Returns the seed of all that an epoch draws, on the first of at most 1,009 devices."""
    return (seed * 100_003 + epoch) * 1_009


class FusionModule(LightningModule):
    """Trains a `SequentialFusion` on random paths.

    The loss of a batch is the mean over tasks of each task's loss, averaged over the states of its labelled rows;
    `multimodn.training.balancing` has other ways to combine tasks. Validation uses the same paths in every epoch, so
    that its loss depends on the model only, and is always the plain mean.

    Where batches alternate between registries, a step is weighted by the number of its patients, and a task without
    labels in the registry adds nothing: over an epoch each task's likelihood is summed over its labelled patients,
    with the same penalty as in training without the other registries.
    """

    def __init__(
        self, model: SequentialFusion, spec: TrainingSpec, loader: BatchLoader, seed: int,
        shift: LabelShift | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shift = shift  # makes the losses neutral to missingness; None: plain skipping
        self.model, self.spec, self.loader, self.seed = model, spec, loader, seed
        self.seen = model.seen  # bool (T, M)
        tasks = [cast(Task, task) for task in model.tasks.values()]
        self.uncertainty = Uncertainty(tasks) if spec.balance == "uncertainty" else None
        self.aggregated = Aggregated(model, spec.balance) if spec.balance in AGGREGATED else None
        self._last: tuple[Batch, dict[str, Tensor]] | None = None
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with an L2 penalty in the loss, not decoupled, so that it is a prior on the weights.

        On the product of the weights of encoder, gain and decoder it penalises the whole modality, so that a modality
        of noise shrinks to zero. Biases and the initial state, which hold the prior, are not penalised. As the loss is
        a mean over rows and tasks, the penalty is divided by both, so that the number of tasks does not change it.
        """
        penalised = [p for p in self.model.parameters() if p.dim() > 1]
        free = [p for p in self.model.parameters() if p.dim() <= 1]
        decay = self.spec.penalty / (len(self.loader.rows) * len(self.model.tasks))
        groups: list[dict[str, Any]] = [{"params": penalised, "weight_decay": decay}, {"params": free}]
        if self.uncertainty is not None:
            groups.append({"params": list(self.uncertainty.parameters())})
        optimizer = torch.optim.Adam(groups, lr=self.spec.learning_rate, foreach=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.spec.epochs)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def train_dataloader(self) -> BatchLoader:
        """Returns this process's share of the training patients."""
        self.loader.rank, self.loader.n_processes = self.global_rank, self.trainer.world_size
        return self.loader

    def on_train_epoch_start(self) -> None:
        """Seeds by the epoch, so that a resumed run draws the same numbers as an uninterrupted one."""
        torch.manual_seed(epoch_seed(self.seed, self.current_epoch) + self.global_rank)
        self.loader.epoch = self.current_epoch

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Returns the combined loss of the tasks on a random path for each row."""
        with self.aggregated.watching() if self.aggregated is not None else nullcontext():
            losses = self._losses(batch, random_paths(batch.presence))
        self._add(batch, losses)
        self._last = (batch, losses) if self.aggregated is not None else None
        if self.uncertainty is not None:
            joined: Tensor = self.uncertainty(losses, batch.labelled)
        else:
            joined = torch.stack(list(losses.values())).mean()
        return joined * self._share(batch) if self.loader.alternate else joined

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Propagates ``loss`` back, or the loss of each task where their gradients are combined."""
        if self.aggregated is None or self._last is None:
            super().backward(loss, *args, **kwargs)
            return
        batch, losses = self._last
        self._last = None
        self.aggregated.backward(losses, batch.labelled, self._share(batch) if self.loader.alternate else 1.0)

    def _share(self, batch: Batch) -> float:
        return len(batch) / self.loader.batch_size

    def validation_step(self, batch: Batch, _: int) -> None:
        """Adds up the losses on the same paths in every epoch."""
        paths = random_paths(batch.presence.cpu(), torch.Generator().manual_seed(self.seed))
        self._add(batch, self._losses(batch, paths.to(batch.presence.device)))

    def _losses(self, batch: Batch, paths: Tensor) -> dict[str, Tensor]:
        if self.shift is None or batch.strata is None:
            return self.model.losses(batch, paths)
        taken = steps_taken(paths, batch.presence.shape[1])
        corrections = self.shift.corrections(taken, batch.strata, batch.weights)
        corrections = with_cells(corrections, batch.cells, taken, batch.strata, self.shift.tasks, self.seen)
        return self.model.losses(batch, paths, corrections.tilts, corrections.weights)

    def _add(self, batch: Batch, losses: dict[str, Tensor]) -> None:
        for name, loss in losses.items():
            count = batch.labelled[name].sum()
            self._sums[name] = self._sums.get(name, 0.0) + loss.detach() * count
            self._counts[name] = self._counts.get(name, 0) + count

    def _log_means(self, stage: str) -> None:
        # a task without a label in this part of the data is not in the mean
        means = {name: total / self._counts[name] for name, total in self._sums.items() if self._counts[name]}
        self._sums, self._counts = {}, {}
        if means:
            self.log(f"{stage}_loss", torch.stack(list(means.values())).mean(), sync_dist=True)
            self.log_dict({f"{stage}_loss_{name}": mean for name, mean in means.items()}, sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        """Closes the training half of the epoch, which Lightning interleaves with validation."""
        self._train_sums, self._train_counts = self._sums, self._counts
        self._sums, self._counts = {}, {}

    def on_validation_epoch_end(self) -> None:
        """Logs the validation losses and hands the training sums back."""
        self._log_means("validation")
        self._sums, self._counts = self._train_sums, self._train_counts

    def on_train_epoch_end(self) -> None:
        """Logs the training losses."""
        self._log_means("train")
