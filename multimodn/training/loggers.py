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
from multimodn.files import CHECKPOINTS, LOG

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger, MLFlowLogger

# the package that each logger needs; its extra has the name of the logger
MODULES = {"csv": None, "tensorboard": "tensorboard", "mlflow": "mlflow"}
MLFLOW_STORE = "mlflow"  # name of MLflow's file store, beside the folders of the members


def check_loggers(names: Sequence[str]) -> None:
    """Checks that loggers exist and that what they need is installed, without importing it."""
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

    ``csv`` writes ``folder/log/version_K/metrics.csv``, which reports read; it is always the first. ``tensorboard``
    writes ``folder/tensorboard/``. ``mlflow`` writes a file store beside ``folder``: the networks of an ensemble are
    the runs of one experiment; no server is used, whatever the environment. A resumed run has a new log.
    ``hyperparameters`` are logged with the hashes of the run folder, if ``folder`` (checkpoints) is in one.
    """
    from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

    check_loggers(names)
    built: list[Logger] = [CSVLogger(folder, name="log")]
    if "tensorboard" in names:
        built.append(TensorBoardLogger(folder, name="tensorboard", default_hp_metric=False))
    if "mlflow" in names:
        built.append(_mlflow(folder.parent / MLFLOW_STORE, label))
    logged, log = dict(hyperparameters or {}), folder.parent.parent / LOG
    if folder.parent.name == CHECKPOINTS and log.exists():  # in a run folder
        hashes = json.loads(log.read_text())["fingerprint"]
        logged |= {f"{part}_hash": value for part, value in hashes.items()}
    if logged:
        for logger in built:
            logger.log_hyperparams(logged)
    return built


def _mlflow(store: Path, label: str) -> MLFlowLogger:
    # On import MLflow reports to a server of its makers, and calls its file store obsolete; its database needs
    # SQLAlchemy and Alembic, which its small client does not install.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    from pytorch_lightning.loggers import MLFlowLogger

    logging.getLogger("pytorch_lightning.loggers.mlflow").setLevel(logging.ERROR)  # "not built. Creating it."
    return MLFlowLogger("multimodn", label, tracking_uri=store.absolute().as_uri())
