"""The LightningModule of members that train side by side; each stops, and keeps its best weights, for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from multimodn.study.study import TrainingSpec
from multimodn.training.module import epoch_seed
from multimodn.training.stacked.batches import StackedBatch, StackedLoader
from multimodn.training.stacked.network import StackedFusion


class StackedModule(LightningModule):
    """Trains E members as `FusionModule` trains each of them, in the same steps.

    A member whose validation loss has not improved for ``spec.patience`` epochs stands still; training ends when all
    do. Everything that a resumed run needs is in the checkpoint: weights, those of each member's best epoch, counts.

    Args:
        network: The members.
        spec: How to train.
        training: Training batches.
        validation: Batches for early stopping.
        seeds: Of each member.
        logs: The loggers of each member.
    """

    best_loss: Tensor  # lowest validation loss of each member, (E,)
    n_worse: Tensor  # epochs since then, (E,)
    n_epochs: Tensor  # epochs that each member was trained, (E,)

    def __init__(
        self, network: StackedFusion, spec: TrainingSpec, training: StackedLoader, validation: StackedLoader,
        seeds: Sequence[int], logs: Sequence[Sequence[Logger]],
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.spec, self.seeds, self.logs = network, spec, list(seeds), logs
        self.training_batches, self.validation_batches = training, validation
        self.tasks = list(network.first[0].tasks)
        self.register_buffer("best_loss", torch.full((network.n,), torch.inf))
        self.register_buffer("n_worse", torch.zeros(network.n, dtype=torch.long))
        self.register_buffer("n_epochs", torch.zeros(network.n, dtype=torch.long))
        for k, (penalised, free) in enumerate(zip(network.penalised, network.free, strict=True)):
            self.register_buffer(f"best_penalised_{k}", penalised.detach().clone())
            self.register_buffer(f"best_free_{k}", free.detach().clone())
        self._has_rows = [True] * network.n
        self._stands = [False] * network.n
        self._sums, self._counts = torch.zeros(()), torch.zeros(())
        self._training_losses = (self._sums, self._counts)

    def best(self, k: int) -> tuple[Tensor, Tensor]:
        """Returns the weights of the best epoch of member k; see `StackedFusion.unpack`."""
        return self.get_buffer(f"best_penalised_{k}"), self.get_buffer(f"best_free_{k}")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with the penalty of `FusionModule.configure_optimizers`."""
        loaders = self.training_batches.loaders
        groups: dict[float, list[nn.Parameter]] = {0.0: list(self.network.free)}
        for loader, penalised in zip(loaders, self.network.penalised, strict=True):
            groups.setdefault(self.spec.penalty / (len(loader.rows) * len(self.tasks)), []).append(penalised)
        settings: list[dict[str, Any]] = [{"params": own, "weight_decay": decay} for decay, own in groups.items()]
        optimizer = torch.optim.Adam(settings, lr=self.spec.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.spec.epochs)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def train_dataloader(self) -> StackedLoader:
        """Returns the training batches."""
        return self.training_batches

    def val_dataloader(self) -> StackedLoader:
        """Returns the batches for early stopping; their paths are the same in every epoch."""
        self.validation_batches.start_epoch(0, self.seeds)
        return self.validation_batches

    def on_train_epoch_start(self) -> None:
        """Seeds by the epoch, so that a resumed run draws the same numbers as an uninterrupted one."""
        torch.manual_seed(epoch_seed(self.spec.seed, self.current_epoch) + 1)  # not the draws of the first orders
        seeds = [epoch_seed(seed, self.current_epoch) for seed in self.seeds]
        self.training_batches.start_epoch(self.current_epoch, seeds)
        self._stands = (self.n_worse >= self.spec.patience).tolist()
        self._clear()

    def training_step(self, batch: StackedBatch, _: int) -> Tensor:
        """Returns the sum of the members' losses."""
        losses = self._losses(batch)
        self._has_rows = [len(rows) > 0 for rows in batch.rows]
        return losses.mean(0).sum()

    def on_after_backward(self) -> None:
        """Leaves alone the members that stand still, and those without a batch at this step."""
        for k, (has_rows, stands) in enumerate(zip(self._has_rows, self._stands, strict=True)):
            if stands or not has_rows:
                self.network.penalised[k].grad = self.network.free[k].grad = None

    def validation_step(self, batch: StackedBatch, _: int) -> None:
        """Adds up the losses on the same paths in every epoch."""
        self._losses(batch)

    def on_validation_epoch_start(self) -> None:
        """Closes the training half of the epoch, which Lightning interleaves with validation."""
        self._training_losses = self._means(), self._counts
        self._clear()

    def on_validation_epoch_end(self) -> None:
        """Keeps the weights of the members that improved, and ends training when none is left."""
        of_tasks = self._means()
        losses = _over_tasks(of_tasks, self._counts)
        is_training = torch.tensor([not stands for stands in self._stands], device=losses.device)
        is_better = is_training & ((losses < self.best_loss) | (self.n_epochs == 0))
        self.best_loss.copy_(torch.where(is_better, losses, self.best_loss))
        self.n_worse.copy_(torch.where(is_better, 0, self.n_worse + is_training))
        self.n_epochs += is_training
        self.n_worse.masked_fill_(is_training & ~losses.isfinite(), self.spec.patience)
        for k in is_better.nonzero().flatten().tolist():
            for kept, now in zip(self.best(k), (self.network.penalised[k], self.network.free[k]), strict=True):
                kept.copy_(now.detach())
        self._write({"validation": (of_tasks, self._counts), "train": self._training_losses})
        self.log("validation_loss", losses[is_training].mean(), logger=False)
        if (self.n_worse >= self.spec.patience).all():
            self.trainer.should_stop = True

    def _losses(self, batch: StackedBatch) -> Tensor:
        losses = self.network.losses(batch)
        counts = torch.stack([batch.labelled[name].view(self.network.n, -1).sum(1) for name in self.tasks])
        self._sums = self._sums + losses.detach() * counts
        self._counts = self._counts + counts
        return losses

    def _means(self) -> Tensor:
        """The mean loss of each task and member since `_clear`, ``(T, E)``."""
        return self._sums / self._counts.clamp(min=1)

    def _clear(self) -> None:
        self._sums, self._counts = torch.zeros((), device=self.device), torch.zeros((), device=self.device)

    def _write(self, stages: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Writes the losses of an epoch, given with label counts, to the loggers of each member that was trained."""
        for stage, (losses, counts) in stages.items():
            means, known = losses.tolist(), (counts > 0).tolist()
            joint = _over_tasks(losses, counts).tolist()
            for k, loggers in enumerate(self.logs):
                if self._stands[k]:
                    continue
                own = {f"{stage}_loss_{t}": means[i][k] for i, t in enumerate(self.tasks) if known[i][k]}
                for logger in loggers:
                    values = {"epoch": self.current_epoch, f"{stage}_loss": joint[k], **own}
                    logger.log_metrics(values, step=self.global_step - 1)
                    logger.save()


def _over_tasks(losses: Tensor, counts: Tensor) -> Tensor:
    """Averages losses ``(T, E)`` over the tasks that have labels, ``(E,)``."""
    known = counts > 0
    return torch.where(known, losses, 0.0).sum(0) / known.sum(0)
