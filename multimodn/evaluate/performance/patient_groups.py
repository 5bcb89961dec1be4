"""Which labelled patients of a task are scored together: all, after each step, by presence pattern, by subgroup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.task import Task
from multimodn.findings.names import pattern_name
from multimodn.statistics.bootstrap import Floats

FEWEST = 10  # labelled patients below whom a metric has no interval and a pattern no row of its own
FEWEST_EACH = 5
"""The same for the patients with and without the outcome (one class of several; an event), both of whom it takes."""


@dataclass(frozen=True)
class PatientGroup:
    """Some labelled patients of a task, and the state after which they are scored."""

    by: str  # ``overall``, ``step``, ``pattern`` or ``subgroup``
    group: str  # its name
    step: int  # number of the step, -1 = all that a patient has
    outputs: Tensor  # raw outputs of all n labelled patients of the task
    rows: NDArray[np.int64]  # which of them belong to the part
    # those that the patients have, or that may have been read; None where that is not what they share
    modalities: tuple[str, ...] | None = None


def steps_of(outputs: Tensor, order: Sequence[tuple[str, bool]]) -> Iterator[PatientGroup]:
    """All labelled patients, with all that they have and after each step; ``order``: names, and whether they count."""
    everybody = np.arange(outputs.shape[1])
    yield PatientGroup("overall", "all", -1, outputs[-1], everybody)
    for k in range(len(order) + 1):
        if not k or order[k - 1][1]:
            read = tuple(name for name, is_seen in order[:k] if is_seen)
            yield PatientGroup("step", pattern_name(read), len(read), outputs[k], everybody, read)


def patterns_of(
    task: Task, outputs: Tensor, target: Tensor, presence: NDArray[np.bool_], seen: NDArray[np.bool_], names: list[str]
) -> Iterator[PatientGroup]:
    """Patients by what they have of what the task sees, the most frequent pattern first."""
    truth = task.link_target(target).double().cpu().numpy()
    codes, patterns = pattern_groups(presence & seen, names)
    for name, rows in pooled(task, truth, codes, list(patterns)):
        yield PatientGroup("pattern", name, -1, outputs, rows, patterns.get(name))


def pattern_groups(
    presence: NDArray[np.bool_], names: list[str]
) -> tuple[NDArray[np.int64], dict[str, tuple[str, ...]]]:
    """Returns a code for the modalities that each patient has; and, in the order of the codes, their name and they."""
    rows, codes = np.unique(presence, axis=0, return_inverse=True)
    patterns = [tuple(name for name, one in zip(names, has, strict=True) if one) for has in rows]
    return codes.ravel(), {pattern_name(pattern): pattern for pattern in patterns}


def pooled(
    task: Task, truth: Floats, codes: NDArray[np.int64], names: Sequence[str]
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yields patterns with their patients, the most frequent first; those that are not `enough` are one, the last.

    ``truth`` is that of labelled patients (`Task.link_target`), ``codes`` are their patterns, ``names`` has one for
    each.
    """
    others: list[NDArray[np.int64]] = []
    for code in np.argsort(-np.bincount(codes, minlength=len(names)), kind="stable"):
        rows = np.flatnonzero(codes == code)
        if enough(task, truth[rows]):
            yield names[code], rows
        elif len(rows):
            others.append(rows)
    if others:
        yield f"other patterns ({len(others)})", np.sort(np.concatenate(others))


def groups_of(outputs: Tensor, groups: pd.DataFrame) -> Iterator[PatientGroup]:
    """Patients by each column of groups, as `multimodn.evaluate.performance.subgroups.read_subgroups` makes them."""
    for column in groups.columns:
        codes = groups[column].cat.codes.to_numpy()
        for code, name in enumerate(groups[column].cat.categories):
            rows = np.flatnonzero(codes == code)
            if len(rows):
                yield PatientGroup("subgroup", str(name), -1, outputs, rows)


def is_enough(task: Task, target: Tensor) -> bool:
    """Says whether labelled patients are enough for an interval: `FEWEST`, and `FEWEST_EACH` of either outcome.

    Of a task with several classes or labels, one that is so frequent and so rare will do.
    """
    return enough(task, task.link_target(target).double().cpu().numpy())


def enough(task: Task, truth: Floats) -> bool:
    """Says the same as `is_enough` of what `Task.link_target` answers."""
    if len(truth) < FEWEST:
        return False
    if task.link_scale == "units":
        return True
    if task.link_scale == "log-risk":
        return bool((truth[:, 1] > 0).sum() >= FEWEST_EACH)
    fewer = np.minimum((truth > 0).sum(0), (truth <= 0).sum(0))  # NaN is neither
    return bool((fewer >= FEWEST_EACH).any())
