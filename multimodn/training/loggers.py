"""Where losses are written while a network trains: CSV files always, TensorBoard and MLflow on request."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodn.errors import StudyError, did_you_mean

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger, MLFlowLogger

MODULES = {"csv": None, "tensorboard": "tensorboard", "mlflow": "mlflow"}
"""The package that each logger needs; its extra has the name of the logger."""

MLFLOW_STORE = "mlflow"
"""Name of MLflow's file store, beside the folders of the members."""


def check_loggers(names: Sequence[str]) -> None:
    """Checks that loggers exist and that what they need is installed, without importing it.

    Raises:
        StudyError: If a name is unknown, or the package of a logger is missing; the message says what to install.
    """
    for name in names:
        if name not in MODULES:
            raise StudyError(f"Unknown logger '{name}' in training.loggers.{did_you_mean(name, MODULES)}")
        package = MODULES[name]
        if package is not None and find_spec(package) is None:
            raise StudyError(
                f"training.loggers asks for {name}, which is not installed: pip install 'multimodn[{name}]', "
                f"or take it out of the study. CSV files are written in any case."
            )


def loggers(
    names: Sequence[str], folder: Path, label: str, hyperparameters: Mapping[str, Any] | None = None
) -> list[Logger]:
    """Builds the Lightning loggers of one network.

    ``csv`` writes ``folder/log/version_K/metrics.csv``, which reports read: it is always there, and first.
    ``tensorboard`` writes ``folder/tensorboard/``. ``mlflow`` writes a file store beside ``folder``, so that the
    networks of an ensemble are the runs of one experiment; no server is asked, whatever the environment says. Every
    attempt to train has a log of its own: a resumed one would overwrite the first.

    Args:
        names: Among ``csv``, ``tensorboard`` and ``mlflow``.
        folder: Where the checkpoints of this network go.
        label: What is trained, such as ``member 2 of 5``.
        hyperparameters: What each logger notes beside the losses; hashes of study, data and split are added where
            ``folder`` lies in a run folder.

    Raises:
        StudyError: If a name is unknown, or the package of a logger is missing; the message says what to install.
    """
    from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

    check_loggers(names)
    found: list[Logger] = [CSVLogger(folder, name="log")]
    if "tensorboard" in names:
        found.append(TensorBoardLogger(folder, name="tensorboard", default_hp_metric=False))
    if "mlflow" in names:
        found.append(_mlflow(folder.parent / MLFLOW_STORE, label))
    noted = {**(hyperparameters or {}), **_hashes(folder)}
    if noted:
        for logger in found:
            logger.log_hyperparams(noted)
    return found


def _mlflow(store: Path, label: str) -> MLFlowLogger:
    # MLflow looks up and reports to a server of its makers from the moment it is imported, and calls its file store
    # obsolete; the database that it proposes needs SQLAlchemy and Alembic, which its small client does not bring.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    from pytorch_lightning.loggers import MLFlowLogger

    logging.getLogger("pytorch_lightning.loggers.mlflow").setLevel(logging.ERROR)  # "not found. Creating it."
    return MLFlowLogger("multimodn", label, tracking_uri=store.absolute().as_uri())


def _hashes(folder: Path) -> dict[str, str]:
    """The fingerprint of the run folder that holds the checkpoints, if one does."""
    from multimodn.files import CHECKPOINTS, LOG

    log = folder.parent.parent / LOG
    if folder.parent.name != CHECKPOINTS or not log.exists():
        return {}
    return {f"{part}_hash": value for part, value in json.loads(log.read_text())["fingerprint"].items()}
