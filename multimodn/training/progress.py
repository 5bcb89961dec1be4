"""The progress bar of training."""

from __future__ import annotations

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class EpochProgress(Callback):
    """Shows epoch, losses and maximum remaining time, one bar for each member of an ensemble."""

    def __init__(self, progress: Progress, label: str) -> None:
        self.progress, self.label = progress, label
        self.bar: TaskID | None = None
        self.best = float("inf")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar."""
        total, done = trainer.max_epochs, trainer.current_epoch
        self.bar = self.progress.add_task(self.label, total=total, completed=done, losses="")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Moves the bar."""
        if self.bar is None:
            return
        loss = trainer.callback_metrics.get("validation_loss", trainer.callback_metrics.get("train_loss"))
        if loss is not None:
            self.best = min(self.best, float(loss))
            text = f"loss {float(loss):.4f}, best {self.best:.4f}"
            self.progress.update(self.bar, completed=trainer.current_epoch + 1, losses=text)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fills the bar, also when training stopped early."""
        if self.bar is not None:
            done = trainer.current_epoch
            self.progress.update(self.bar, total=done, completed=done)


def progress_bar() -> Progress:
    """Builds the bar that `EpochProgress` draws on; silent when the output is not a terminal."""
    texts = ("{task.description}", "epoch {task.completed}/{task.total}", "{task.fields[losses]}")
    label, epoch, losses = (TextColumn(text, markup=False) for text in texts)
    console = Console()
    columns = (label, BarColumn(), epoch, losses, TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def expert_bar(*, is_shown: bool) -> Progress:
    """Builds the bar of fitting experts, which counts modalities; silent when the output is not a terminal."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("modality {task.completed}/{task.total}"),
    )
    console = Console()
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not (is_shown and console.is_terminal))
