"""How well a model predicts: overall, after each step, by presence pattern and by subgroup, with intervals.

Intervals are 95 % percentile intervals of a bootstrap over patients. All rows of a task see the same resamples, a group
being the members of it that were drawn, so that what differs between rows is not the luck of the draw.

References:
    Efron and Tibshirani (1993), An introduction to the bootstrap, chapter 13, https://doi.org/10.1201/9780429246593
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.task import Task, main_metric
from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, shown
from multimodn.evaluate.performance.calibration import calibration_curve, calibration_of, calibration_summary
from multimodn.evaluate.performance.patient_groups import (
    FEWEST_EACH,
    PatientGroup,
    groups_of,
    is_enough,
    patterns_of,
    steps_of,
)
from multimodn.evaluate.performance.subgroups import read_subgroups
from multimodn.findings.frames import PerformanceFrame
from multimodn.metrics.predictions import RANKED, Score, is_perfect
from multimodn.metrics.tasks import field_metrics, weighted_metrics
from multimodn.model.multimodn import MultiModN
from multimodn.statistics.bootstrap import Floats, draws

__all__ = [
    "FEWEST_EACH",
    "calibration_curve",
    "calibration_of",
    "calibration_summary",
    "is_enough",
    "main_metric",
    "performance",
]

MOST_UNDEFINED = 0.2  # share of resamples in which a metric may be undefined; they are left out
RAISED = ("ece",)  # metrics that are mean distances, to which the luck of a resample adds
COLUMNS = ["task", "metric", "by", "group", "step", "value", "low", "high", "n"]


def performance(
    model: MultiModN,
    patients: PatientTensors,
    cohort: Cohort | None = None,
    *,
    n_resamples: int = 500,
    n_calls: int = 100,
    seed: int = 0,
) -> PerformanceFrame:
    """Scores the predictions of labelled patients by every metric of each task and every one that the field expects.

    These are those of `metrics.tasks.field_metrics`. All of ours are computed for many resamples at once
    and have intervals in every row, but for some in large cohorts (`MOST_AT_ONCE`). These, and what
    a third party's task computes in its own way, are called ``n_calls`` times, and have intervals overall; a task's
    `main_metric` has them everywhere.

    Args:
        model: A trained model.
        patients: Labelled patients who were not trained on, from `MultiModN.prepare`.
        cohort: Tables that hold them, from which the study's `subgroups` are read. If the training patients of the
            model's split are in it too, numbers are cut at their tertiles, else at those of the patients in it.
        n_resamples: Bootstrap resamples of patients.
        n_calls: Resamples for metrics that are called once for each.
        seed: Seed of the resamples.

    Returns:
        One row for each task, part and metric: ``task``, ``metric``, ``by``, ``group``, ``step``, ``value`` (NaN =
        undefined), ``low``, ``high``, ``n``. Parts (``by``):

        - ``overall``: all labelled patients, ``step`` -1.
        - ``step``: the same patients after each step of the model's order that the task sees, from 0, the prior;
          ``group`` lists the modalities that may have been read. Who lacks a step's modality keeps the prediction.
        - ``pattern``: patients with the same modalities, of those that the task sees; patterns with fewer than
          `FEWEST` labelled patients or `FEWEST_EACH` of an outcome are one group, ``other patterns (k)``.
        - ``subgroup``: by each column that the study names.

        ``low`` and ``high`` are NaN for as few patients, and where the metric is undefined in more than a fifth of the
        resamples, or says in each of them that patients are ranked or classified perfectly. A calibration error is
        raised by resampling itself; its interval is moved back by that much. See `PerformanceFrame` for its fields.

    Raises:
        NotFittedError: Before training.
        DataError: If the patients have no targets, or a subgroup's column does not exist.
    """
    patients.check_labelled()
    fitted = model.trained.ensemble
    outputs = model.trained.step_outputs(patients)  # (M + 1, N, K)
    groups, whose = _subgroups(model, patients, cohort)
    lines: list[dict[str, Any]] = []
    patterns: dict[str, tuple[str, ...]] = {}
    for t, (name, task) in enumerate(fitted.tasks.items()):
        known = patients.labelled[name].numpy()
        if not known.any():
            continue
        seen = fitted.first.seen[t].numpy()
        target = patients.targets[name][torch.from_numpy(known)]
        given = outputs[name][:, torch.from_numpy(known)]
        if fitted.first.presence_effect is None:  # the prior of all to the last bit: rows of a product may differ in it
            given[0] = given[0, :1]
        parts = [
            *steps_of(given, [(fitted.first.modalities[m], bool(seen[m])) for m in fitted.first.order]),
            *patterns_of(task, given[-1], target, patients.presence.numpy()[known], seen, fitted.first.modalities),
            *groups_of(given[-1], groups[known]),
        ]
        patterns |= {part.group: part.modalities for part in parts if part.modalities is not None}
        found = _scored(task, parts, target, n_resamples, n_calls, seed)
        lines += [{"task": name, **line} for line in found]
    frame = pd.DataFrame(lines, columns=COLUMNS)
    main = {name: main_metric(task) for name, task in fitted.tasks.items()}
    return PerformanceFrame.of(frame, patterns=patterns, main_metric=main, n_resamples=n_resamples, tertiles=whose)


def _subgroups(model: MultiModN, patients: PatientTensors, cohort: Cohort | None) -> tuple[pd.DataFrame, str]:
    """The groups of the patients by each column, and at whose tertiles numbers are cut."""
    columns = model.study.subgroups
    if not columns or cohort is None:
        return pd.DataFrame(index=patients.patients), ""
    lacking = patients.patients.difference(cohort.patients)
    if len(lacking):
        raise DataError(
            f"{len(lacking)} patient(s) are not in the cohort from which subgroups are read: {shown(list(lacking))}."
        )
    training = None
    if model.split is not None and len(model.split.train):
        named = pd.Index(model.split.train)
        training = named if cohort.patients.isin(named).any() else None
    found = read_subgroups(cohort, columns, training)
    return found.reindex(patients.patients), "these patients" if training is None else "training patients"


def _scored(
    task: Task, parts: Sequence[PatientGroup], target: Tensor, n_resamples: int, n_calls: int, seed: int
) -> list[dict[str, Any]]:
    """Scores parts of the labelled patients of a task, a line for each metric."""
    found = [field_metrics(task, part.outputs[part.rows], target[part.rows]) for part in parts]
    resampled = _resampled(task, parts, found, target, n_resamples, n_calls, seed)
    lines = []
    for k, part in enumerate(parts):
        where = {"by": part.by, "group": part.group, "step": part.step, "n": len(part.rows)}
        for metric, value in found[k].items():
            drawn = resampled.get((k, metric))
            if drawn is not None and metric in RANKED and is_perfect(drawn):
                drawn = None
            low, high = _interval(drawn, value if metric in RAISED else None)
            lines.append({"metric": metric, **where, "value": value, "low": low, "high": high})
    return lines


def _resampled(
    task: Task,
    parts: Sequence[PatientGroup],
    found: Sequence[Mapping[str, float]],
    target: Tensor,
    n_resamples: int,
    n_calls: int,
    seed: int,
) -> dict[tuple[int, str], Floats]:
    """Metrics of the resamples by part and name."""
    scores: dict[tuple[int, str], Score] = {}
    called: dict[int, list[str]] = {}
    for k, part in enumerate(parts):
        if not is_enough(task, target[part.rows]):
            continue
        fast = weighted_metrics(task, part.outputs[part.rows], target[part.rows], found[k])
        scores |= {(k, metric): score for metric, score in fast.items()}
        slow = [metric for metric in found[k] if metric not in fast]
        wanted = slow if part.by == "overall" else [metric for metric in slow if metric == main_metric(task)]
        if wanted:
            called[k] = wanted
    drawn: dict[tuple[int, str], list[Floats]] = {key: [] for key in scores}
    for block in draws(len(target), n_resamples, seed):
        for (k, metric), score in scores.items():
            drawn[k, metric].append(score(block[:, parts[k].rows]))
    every = {key: np.concatenate(values) for key, values in drawn.items()}
    for k, wanted in called.items():
        rows = parts[k].rows
        times = [one[rows].astype(np.int64) for block in draws(len(target), n_calls, seed) for one in block]
        again = [np.repeat(rows, n) for n in times]
        values = [field_metrics(task, parts[k].outputs[chosen], target[chosen], wanted) for chosen in again]
        every |= {(k, metric): np.array([one.get(metric, np.nan) for one in values]) for metric in wanted}
    return every


def _interval(values: Floats | None, centre: float | None) -> tuple[float, float]:
    """Percentiles of the resamples; with ``centre``, moved so that their mean is there, but not below 0."""
    if values is None or np.isnan(values).mean() > MOST_UNDEFINED:
        return np.nan, np.nan
    low, high = np.nanquantile(values, [0.025, 0.975])
    if centre is not None:
        moved = centre - np.nanmean(values)
        low, high = max(low + moved, 0.0), high + moved
    return float(low), float(high)
