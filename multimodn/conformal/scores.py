"""Nonconformity scores: how far an outcome is from a prediction, for every kind of task.

References:
    Sadinle, Lei and Wasserman (2019), Least ambiguous set-valued classifiers, https://doi.org/10.1080/01621459.2017.1395341
    Graf, Schmoor, Sauerbrei and Schumacher (1999),
    https://doi.org/10.1002/(SICI)1097-0258(19990915/30)18:17/18<2529::AID-SIM274>3.0.CO;2-5 (weights for censoring)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from multimodn.base.task import Task
from multimodn.errors import DataError
from multimodn.metrics.survival import kaplan_meier

Kind = Literal["classes", "numbers", "survival"]

LEAST_UNCENSORED = 0.05
"""Bounds end where a smaller share is still observed: larger weights than its inverse would rest on single patients."""


@dataclass(frozen=True)
class Unit:
    """One predicted quantity: a task, or one label of a multilabel task."""

    task: str
    kind: Kind  # ``classes`` have sets, ``numbers`` intervals, ``survival`` lower bounds
    names: tuple[str, ...]  # the classes, or one name for a number or a bound
    label: int = -1  # number of the label of a multilabel task; -1 for other tasks
    ordered: bool = False  # whether the classes are ordinal, so that a set has no gaps

    @property
    def output(self) -> str:
        """Name of the label of a multilabel task, else empty."""
        return self.names[0].rpartition("=")[0] if self.label >= 0 else ""


def units_of(tasks: Mapping[str, Task]) -> list[Unit]:
    """Lists the units of tasks; a task whose outputs have no known meaning is left out."""
    units: list[Unit] = []
    for name, task in tasks.items():
        if task.link_scale == "units":
            units.append(Unit(name, "numbers", (name,)))
        elif task.link_scale == "log-risk":
            if hasattr(task, "survival") and hasattr(task, "edges"):
                units.append(Unit(name, "survival", ("survival",)))
        elif task.has_strata_likelihood:
            ordered = len(task.link_names) < task.n_strata
            units.append(Unit(name, "classes", tuple(task.stratum_names), ordered=ordered))
        else:
            texts = getattr(task, "classes", [["0", "1"]] * len(task.link_names))
            for label, (column, pair) in enumerate(zip(task.link_names, texts, strict=True)):
                units.append(Unit(name, "classes", tuple(f"{column}={text}" for text in pair), label))
    return units


def read_outputs(unit: Unit, task: Any, outputs: Tensor) -> Tensor:
    """Reads raw outputs ``(..., K)``, in double precision.

    Class probabilities ``(..., C)``; mean and standard deviation ``(..., 2)``; or the cumulative hazard at the edges of
    the task ``(..., J)``.
    """
    outputs = outputs.double()
    if unit.kind == "numbers":
        mean = task.link(outputs)[..., 0]
        return torch.stack([mean, task.predict(outputs).get("sd", torch.ones_like(mean))], dim=-1)
    if unit.kind == "survival":
        hazard: Tensor = -task.survival(outputs).clamp(min=1e-300).log()
        return hazard
    if unit.label < 0:
        probabilities: Tensor = task.log_strata(outputs).exp()
        return probabilities
    probability = task.link(outputs)[..., unit.label].sigmoid()
    return torch.stack([1 - probability, probability], dim=-1)


@dataclass(frozen=True)
class Truth:
    """Outcomes of N patients."""

    value: Tensor  # the class, the number, or the time of event or censoring, ``(N,)``
    known: Tensor  # whether there is a label, bool ``(N,)``
    # weight of the score, ``(N,)``: 1; for survival the inverse probability of being uncensored at the time of the
    # event, and 0 for a patient who is censored or has the event after the horizon
    weight: Tensor
    horizon: float = float("inf")  # latest time of a survival bound


def truth(unit: Unit, task: Any, target: Tensor, known: Tensor) -> Truth:
    """Reads the targets of labelled patients; see `Truth`."""
    if unit.kind == "survival":
        time, event = target[:, 0].double(), (target[:, 1] > 0) & known
        probability = np.ones(len(time))
        rows = known.numpy()
        times, once = time[known].numpy(), np.ones((1, int(known.sum())))
        probability[rows] = kaplan_meier(times, event[known].numpy(), once, times, "left", of_censoring=True)[0]
        enough = time[torch.from_numpy((probability >= LEAST_UNCENSORED) & rows)]
        horizon = min(float(task.edges[-1]), float(enough.max()) if len(enough) else 0.0)
        inverse = 1 / torch.from_numpy(probability).clamp(min=1e-9)
        return Truth(time, known, torch.where(event & (time <= horizon), inverse, 0.0), horizon)
    if unit.kind == "numbers":
        value = task.link_target(target)[:, 0].double()
    elif unit.label < 0:
        value = task.strata(target)
    else:
        labels = task.link_target(target)[:, unit.label]
        known, value = known & ~labels.isnan(), labels.nan_to_num().long()
    return Truth(value, known, torch.ones(len(known), dtype=torch.float64))


def nonconformity_scores(unit: Unit, task: Any, predicted: Tensor, value: Tensor) -> Tensor:
    """Scores outcomes ``(N,)`` against predictions ``(..., N, W)`` of `read_outputs`; returns ``(..., N)``.

    One minus the probability of the class (the smallest sets on average); the distance from the mean in predicted
    standard deviations; for survival the cumulative hazard at the time, which is low for an unexpectedly early event.
    """
    if unit.kind == "classes":
        chosen = value.expand(predicted.shape[:-1]).unsqueeze(-1)
        return 1 - predicted.gather(-1, chosen).squeeze(-1)
    if unit.kind == "numbers":
        return (value - predicted[..., 0]).abs() / predicted[..., 1]
    return hazard_at(predicted, task.edges.double(), value)


def hazard_at(hazard: Tensor, edges: Tensor, times: Tensor) -> Tensor:
    """Interpolates cumulative hazards ``(..., N, J)`` at times ``(N,)``; linear between edges, flat after the last."""
    j = torch.searchsorted(edges, times).clamp(max=len(edges) - 1)
    after = hazard.gather(-1, j.expand(hazard.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    before = hazard.gather(-1, (j - 1).clamp(min=0).expand(hazard.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    before = torch.where(j > 0, before, 0.0)
    start = torch.where(j > 0, edges[(j - 1).clamp(min=0)], 0.0)
    share = ((times - start) / (edges[j] - start)).clamp(0, 1)
    return before + share * (after - before)


def time_at(hazard: Tensor, edges: Tensor, level: Tensor) -> Tensor:
    """Returns the times at which cumulative hazards ``(B, J)`` reach each of n levels, ``(B, n)``; infinite = never."""
    levels = level.expand(len(hazard), -1).contiguous()
    j = torch.searchsorted(hazard.contiguous(), levels)
    inside = j.clamp(max=len(edges) - 1)
    first = inside == 0
    before = torch.where(first, 0.0, hazard.gather(1, (inside - 1).clamp(min=0)))
    start = torch.where(first, 0.0, edges[(inside - 1).clamp(min=0)])
    share = (levels - before) / (hazard.gather(1, inside) - before).clamp(min=1e-300)
    times = start + share.clamp(0, 1) * (edges[inside] - start)
    return torch.where(j < len(edges), times, torch.inf)


def n_left_out(level: float, n: int) -> int:
    """Returns floor((1 - level) (n + 1)), safe against rounding: the number of scores that a set may leave out.

    Raises:
        DataError: If the level does not lie between 0 and 1.
    """
    if not 0 < level < 1:
        raise DataError(f"level {level:g}: expected a share between 0 and 1, such as 0.9.")
    return int(np.floor((1 - level) * (n + 1) + 1e-9))
