"""The training section of a study. Import it from `multimodn.study.study`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from multimodn.study.yaml_file import Spec

SMALL = 5_000  # patients below which one network varies so much that an ensemble over folds is worth its time
ENSEMBLE = 5  # networks of such an ensemble
FEWEST = 20  # patients below which a fold of the ensemble would hold out fewer than four


def advised_members(n_patients: int) -> int:
    """Returns how many networks to train for a cohort of so many patients."""
    return ENSEMBLE if FEWEST <= n_patients < SMALL else 1


class TrainingSpec(Spec):
    """How to train.

    Attributes:
        epochs: Maximum number of epochs; the learning rate falls to zero over them by half a cosine.
        batch_size: Patients in a batch.
        learning_rate: Initial learning rate of Adam.
        penalty: Strength of the L2 penalty on weights against the log-likelihood of each task, summed over the training
            patients, like 1 / C of logistic regression in scikit-learn. The number of tasks does not change it.
        patience: Epochs without a better mean validation loss before training stops.
        members: Networks in the ensemble, each with another fold held out; their mean is the prediction. Default: as
            `advised_members` says for the patients of training and validation.
        state_size: Width of the patient state.
        update: How an embedding changes the state.
        balance: How the losses of several tasks are combined. ``sum``: their mean. ``uncertainty``: weighted by learned
            variances (Kendall, Gal and Cipolla 2018, https://arxiv.org/abs/1705.07115). With the extra ``multitask``,
            gradients without conflict: ``upgrad`` (Quinton and Rey 2024, https://arxiv.org/abs/2406.16232) and
            ``pcgrad`` (Yu et al. 2020, https://arxiv.org/abs/2001.06782).
        experts: Simple models of one modality each, beside the network, that are stacked with it; empty: the network
            alone. ``ridge``: penalised linear models; ``trees``: boosted trees (extra ``trees``);
            ``joint``: boosted trees over the columns of all modalities read so far. Trees are boosted from 1,000
            patients.
        calibrate: Whether predictions are calibrated on held-out patients; their ranking hardly changes.
        loggers: Where losses are logged: ``csv`` files beside the checkpoints, ``tensorboard`` and ``mlflow`` (extras).
        seed: Seed of initial weights, orders and shuffling.
    """

    epochs: int = Field(default=60, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0, le=1)
    penalty: float = Field(default=0.3, ge=0)
    patience: int = Field(default=20, ge=1)
    members: Annotated[int, Field(ge=1, le=100)] | None = None
    state_size: int = Field(default=32, ge=1)
    update: Literal["residual", "product", "gated", "linear", "attention"] = "residual"
    balance: Literal["sum", "uncertainty", "upgrad", "pcgrad"] = "sum"
    experts: list[Literal["ridge", "trees", "joint"]] = Field(default=["ridge", "trees", "joint"])
    calibrate: bool = True
    loggers: list[Literal["csv", "tensorboard", "mlflow"]] = Field(default=["csv"])
    seed: int = Field(default=0, ge=0)

    def n_members(self, n_patients: int) -> int:
        """Returns how many networks are trained on so many patients of training and validation."""
        return advised_members(n_patients) if self.members is None else self.members
