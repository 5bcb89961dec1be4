"""Tensors to tidy tables, indexed by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from multimodn.base import Task
from multimodn.data.batches import PatientTensors
from multimodn.explain.contributions import Contributions
from multimodn.fusion import Outputs


def predictions(tasks: Mapping[str, Task], patients: pd.Index, outputs: Outputs, n_modalities: Tensor) -> pd.DataFrame:
    """Lays out `Task.predict`: ``task``, ``output``, ``value``, ``n_modalities`` (given as ``(T, N)``)."""
    parts = [
        _block(patients, {"task": name, "output": output, "value": value, "n_modalities": n_modalities[t]})
        for t, (name, task) in enumerate(tasks.items())
        for output, value in task.predict(outputs[name]).items()
    ]
    return _sorted(parts, patients)


def trajectories(
    tasks: Mapping[str, Task],
    patients: pd.Index,
    outputs: Outputs,
    steps: Tensor,
    order: Sequence[str],
) -> pd.DataFrame:
    """Lays out the predictions after each step: ``task``, ``output``, ``step``, ``modality``, ``value``.

    Args:
        tasks: Tasks by name.
        patients: N patients.
        outputs: For each task ``(len(order) + 1, N, K)``.
        steps: Bool ``(T, N, len(order))``, columns as in ``order``: whether the patient takes the step for a task.
        order: Modality names.
    """
    parts = []
    for t, (name, task) in enumerate(tasks.items()):
        taken = steps[t].numpy()
        step_number = taken.cumsum(1)
        for k, modality in enumerate(["", *order]):
            here = np.ones(len(patients), bool) if k == 0 else taken[:, k - 1]
            step = np.zeros(len(patients), int) if k == 0 else step_number[:, k - 1]
            for output, value in task.predict(outputs[name][k]).items():
                columns = {"task": name, "output": output, "step": step, "modality": modality, "value": value}
                parts.append(_block(patients, columns)[here])
    return _sorted(parts, patients)


def contributions(
    tasks: Mapping[str, Task],
    patients: PatientTensors,
    found: Mapping[str, Contributions],
    modalities: Sequence[str],
    seen: Tensor,
) -> pd.DataFrame:
    """Lays out Shapley values of the modalities that a patient has and a task may see (``seen``, bool ``(T, M)``).

    Columns: ``task``, ``output``, ``modality``, ``contribution``, ``standard_error``, ``prior``, ``prediction``.
    """
    parts = []
    for t, (name, task) in enumerate(tasks.items()):
        presence = (patients.presence & seen[t]).numpy()
        for j, output in enumerate(task.link_names):
            shares = found[name]
            for m, modality in enumerate(modalities):
                columns = {
                    "task": name,
                    "output": output,
                    "modality": modality,
                    "contribution": shares.values[:, m, j],
                    "standard_error": shares.errors[:, m, j],
                    "prior": shares.prior[:, j],
                    "prediction": shares.prediction[:, j],
                }
                parts.append(_block(patients.patients, columns)[presence[:, m]])
    return _sorted(parts, patients.patients)


def scores(tasks: Mapping[str, Task], patients: PatientTensors, outputs: Outputs) -> pd.DataFrame:
    """Lays out `Task.metrics` of labelled patients: ``task``, ``metric``, ``value``, ``n``."""
    rows = []
    for name, task in tasks.items():
        known = patients.labelled[name]
        found = task.metrics(outputs[name][known], patients.targets[name][known]) if known.any() else {}
        rows += [(name, metric, value, int(known.sum())) for metric, value in found.items()]
    return pd.DataFrame(rows, columns=["task", "metric", "value", "n"])


def _block(patients: pd.Index, columns: Mapping[str, object]) -> pd.DataFrame:
    arrays = {key: value.numpy() if isinstance(value, Tensor) else value for key, value in columns.items()}
    return pd.DataFrame(arrays, index=patients)


def _sorted(parts: Sequence[pd.DataFrame], patients: pd.Index) -> pd.DataFrame:
    """Joins blocks so that all rows of a patient stand together, in the order of ``patients``."""
    positions = np.concatenate([patients.get_indexer(part.index) for part in parts])
    joined = pd.concat(parts)
    return joined.iloc[np.argsort(positions, kind="stable")].rename_axis("patient")
