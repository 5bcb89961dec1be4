"""Tensors to tidy tables, indexed by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.task import Task
from multimodn.explain.contributions import Contributions
from multimodn.explain.interactions import Interactions
from multimodn.explain.order_sensitivity import Orders
from multimodn.fusion import Outputs
from multimodn.metrics.tasks import field_metrics


def predictions(tasks: Mapping[str, Task], patients: pd.Index, outputs: Outputs, n_modalities: Tensor) -> pd.DataFrame:
    """Lays out `Task.predict`: ``task``, ``output``, ``value``, ``n_modalities`` (given as ``(T, N)``)."""
    parts = [
        _block(patients, {"task": name, "output": output, "value": value, "n_modalities": n_modalities[t]})
        for t, (name, task) in enumerate(tasks.items())
        for output, value in task.predict(outputs[name]).items()
    ]
    return _sorted(parts, patients)


def trajectories(
    tasks: Mapping[str, Task], patients: pd.Index, outputs: Outputs, steps: Tensor, order: Sequence[str]
) -> pd.DataFrame:
    """Lays out the predictions after each step: ``task``, ``output``, ``step``, ``modality``, ``value``.

    ``outputs``: for each task ``(len(order) + 1, N, K)``; ``steps``: bool ``(T, N, len(order))``, columns as in
    ``order``: whether the patient takes the step for a task.
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


def deltas(
    tasks: Mapping[str, Task], patients: pd.Index, links: Outputs, steps: Tensor, order: Sequence[str]
) -> pd.DataFrame:
    """Lays out what each step changed: ``task``, ``output``, ``step``, ``modality``, ``delta``, ``value``.

    ``links``: for each task the predictions on the link scale ``(len(order) + 1, N, L)``; ``steps`` as in
    `trajectories`.
    """
    parts = []
    for t, (name, task) in enumerate(tasks.items()):
        taken = steps[t].numpy()
        step_number = taken.cumsum(1)
        for k, modality in enumerate(order):
            for j, output in enumerate(task.link_names):
                before, after = links[name][k, :, j], links[name][k + 1, :, j]
                columns = {"task": name, "output": output, "step": step_number[:, k], "modality": modality}
                parts.append(_block(patients, columns | {"delta": after - before, "value": after})[taken[:, k]])
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
                columns: dict[str, object] = {"task": name, "output": output, "modality": modality}
                columns |= {"contribution": shares.values[:, m, j], "standard_error": shares.errors[:, m, j]}
                columns |= {"prior": shares.prior[:, j], "prediction": shares.prediction[:, j]}
                parts.append(_block(patients.patients, columns)[presence[:, m]])
    return _sorted(parts, patients.patients)


def interactions(
    tasks: Mapping[str, Task], patients: pd.Index, found: Mapping[str, Interactions], modalities: Sequence[str]
) -> pd.DataFrame:
    """Lays out interactions of present modalities: ``task``, ``output``, ``modality``, ``other``, ``interaction``.

    A pair has one row, with all of its interaction; a modality with itself has one, with what is its own.
    """
    parts = []
    for name, task in tasks.items():
        has, values = found[name].presence, found[name].values
        for m, modality in enumerate(modalities):
            for other in range(m, len(modalities)):
                both = (has[:, m] & has[:, other]).numpy()
                for j, output in enumerate(task.link_names):
                    columns = {"task": name, "output": output, "modality": modality, "other": modalities[other]}
                    share = values[:, m, other, j] * (1 if other == m else 2)
                    parts.append(_block(patients, columns | {"interaction": share})[both])
    return _sorted(parts, patients)


def orders(tasks: Mapping[str, Task], patients: pd.Index, found: Mapping[str, Orders], n_orders: int) -> pd.DataFrame:
    """Lays out `Orders`: ``task``, ``output``, ``n_orders``, ``spread``, ``low``, ``high``, ``prediction``."""
    parts = []
    for name, task in tasks.items():
        for j, output in enumerate(task.link_names):
            values = {key: getattr(found[name], key)[:, j] for key in ("spread", "low", "high", "prediction")}
            parts.append(_block(patients, {"task": name, "output": output, "n_orders": n_orders} | values))
    return _sorted(parts, patients)


def classes(tasks: Mapping[str, Task], patients: PatientTensors) -> pd.DataFrame:
    """Names the outcome stratum of each labelled patient, patients x tasks, ordered as the strata; empty = no label."""
    assert patients.strata is not None
    columns = {
        name: pd.Categorical.from_codes(patients.strata[:, t].numpy(), categories=pd.Index(task.stratum_names))
        for t, (name, task) in enumerate(tasks.items())
    }
    return pd.DataFrame(columns, index=patients.patients)


def scores(tasks: Mapping[str, Task], patients: PatientTensors, outputs: Outputs) -> pd.DataFrame:
    """Lays out the metrics of labelled patients, those of report and card: ``task``, ``metric``, ``value``, ``n``."""
    rows = []
    for name, task in tasks.items():
        labelled = patients.labelled[name]
        given = outputs[name][labelled], patients.targets[name][labelled]
        values = field_metrics(task, *given) if labelled.any() else {}
        rows += [(name, metric, value, int(labelled.sum())) for metric, value in values.items()]
    return pd.DataFrame(rows, columns=["task", "metric", "value", "n"])


def _block(patients: pd.Index, columns: Mapping[str, object]) -> pd.DataFrame:
    arrays = {key: value.numpy() if isinstance(value, Tensor) else value for key, value in columns.items()}
    return pd.DataFrame(arrays, index=patients)


def _sorted(parts: Sequence[pd.DataFrame], patients: pd.Index) -> pd.DataFrame:
    """Joins blocks so that all rows of a patient stand together, in the order of ``patients``."""
    positions = np.concatenate([patients.get_indexer(part.index) for part in parts])
    joined = pd.concat(parts)
    return joined.iloc[np.argsort(positions, kind="stable")].rename_axis("patient")
