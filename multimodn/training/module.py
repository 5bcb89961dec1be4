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
from multimodn.missingness.label_shift import LabelShift
from multimodn.study.study import TrainingSpec
from multimodn.training.balancing import AGGREGATED, Aggregated, Uncertainty


class FusionModule(LightningModule):
    """Trains a `SequentialFusion` on random paths.

    The loss of a batch is the mean over tasks of each task's loss, averaged over the states that its labelled rows
    pass; `multimodn.training.balancing` has other ways to join tasks. Validation follows the same paths in every epoch,
    so that its loss moves with the model alone, and is always the plain mean.

    Where batches alternate between registries, a step counts by the number of its patients, and a task that the
    registry has no labels for adds nothing to it: over an epoch each task's likelihood is summed over its labelled
    patients, against the same penalty as if it had been trained alone.

    Args:
        model: The network.
        spec: The study's training section.
        loader: The training patients.
        seed: Seed of this member of the ensemble.
        shift: Keeps the losses neutral to which modalities are missing; None: plain skipping.
    """

    def __init__(
        self,
        model: SequentialFusion,
        spec: TrainingSpec,
        loader: BatchLoader,
        seed: int,
        shift: LabelShift | None = None,
    ) -> None:
        super().__init__()
        self.shift = shift
        self.model, self.spec, self.loader, self.seed = model, spec, loader, seed
        tasks = [cast(Task, task) for task in model.tasks.values()]
        self.uncertainty = Uncertainty(tasks) if spec.balance == "uncertainty" else None
        self.aggregated = Aggregated(model, spec.balance) if spec.balance in AGGREGATED else None
        self._last: tuple[Batch, dict[str, Tensor]] | None = None
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with an L2 penalty, in the loss and not decoupled, so that it is a prior on the weights.

        On the product of an encoder's, a gain's and a decoder's weights it acts as a penalty on the whole modality,
        which lets one that is mere noise shrink away. Biases and the initial state are free: they hold the prior. The
        loss is a mean over rows and tasks, so the penalty is divided by both: it weighs against each task's likelihood
        alike, however many tasks are trained together.
        """
        penalised = [p for p in self.model.parameters() if p.dim() > 1]
        free = [p for p in self.model.parameters() if p.dim() <= 1]
        groups: list[dict[str, Any]] = [
            {"params": penalised, "weight_decay": self.spec.penalty / (len(self.loader.rows) * len(self.model.tasks))},
            {"params": free},
        ]
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
        """Ties randomness to the epoch's number: what a resumed run draws is what the killed one would have."""
        torch.manual_seed((self.seed * 100_003 + self.current_epoch) * 1_009 + self.global_rank)
        self.loader.epoch = self.current_epoch

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Returns the mean loss over tasks, or what takes its place, on a random path for each row."""
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
        """Goes back through ``loss``, or through the losses of tasks one by one where their gradients are joined."""
        if self.aggregated is None or self._last is None:
            super().backward(loss, *args, **kwargs)
            return
        batch, losses = self._last
        self._last = None
        self.aggregated.backward(losses, batch.labelled, self._share(batch) if self.loader.alternate else 1.0)

    def _share(self, batch: Batch) -> float:
        return len(batch) / self.loader.batch_size

    def validation_step(self, batch: Batch, _: int) -> None:
        """Adds up the losses on paths that are the same in every epoch."""
        paths = random_paths(batch.presence.cpu(), torch.Generator().manual_seed(self.seed))
        self._add(batch, self._losses(batch, paths.to(batch.presence.device)))

    def _losses(self, batch: Batch, paths: Tensor) -> dict[str, Tensor]:
        if self.shift is None or batch.strata is None:
            return self.model.losses(batch, paths)
        taken = steps_taken(paths, batch.presence.shape[1])
        found = self.shift.corrections(taken, batch.strata, batch.weights)
        return self.model.losses(batch, paths, found.tilts, found.weights)

    def _add(self, batch: Batch, losses: dict[str, Tensor]) -> None:
        for name, loss in losses.items():
            count = batch.labelled[name].sum()
            self._sums[name] = self._sums.get(name, 0.0) + loss.detach() * count
            self._counts[name] = self._counts.get(name, 0) + count

    def _log_means(self, stage: str) -> None:
        # a task without a label in this part of the data has no loss and takes no part in the mean
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
