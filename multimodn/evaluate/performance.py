"""How well a model predicts: overall, after each step, by presence pattern and by subgroup, with intervals.

Intervals are 95 % percentile intervals of a bootstrap over patients. All rows of a task see the same resamples, a group
being the members of it that were drawn, so that what differs between rows is not the luck of the draw.

References:
    Efron and Tibshirani (1993), An introduction to the bootstrap, chapter 13, https://doi.org/10.1201/9780429246593
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base import Task
from multimodn.data.batches import PatientTensors
from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, shown
from multimodn.estimator import MultiModN
from multimodn.evaluate._performance_calibration import calibration_curve, calibration_summary
from multimodn.evaluate._performance_scores import Score, vectorised
from multimodn.evaluate.subgroups import read_subgroups
from multimodn.missingness.patterns import pattern_codes, pattern_name
from multimodn.resampling import Floats, draws

__all__ = ["calibration_curve", "calibration_summary", "is_enough", "main_metric", "performance"]

FEWEST = 10
"""Labelled patients below whom a metric has no interval and a pattern no row of its own."""
FEWEST_EACH = 5
"""The same for the patients with and without the outcome (one class of several; an event), both of whom it takes."""
MOST_UNDEFINED = 0.2
"""Share of resamples in which a metric may be undefined; they are left out."""
COLUMNS = ["task", "metric", "by", "group", "step", "value", "low", "high", "n"]


def main_metric(task: Task) -> str:
    """Names the metric that sums a task up, of those in `Task.link_metrics`.

    ``auroc`` where the link scale is log-odds: of ordinal tasks the mean over the splits into low and high, of others
    with several classes or labels the mean over these; ``r2`` for numbers, ``cindex`` for survival.
    """
    return {"log-odds": "auroc", "units": "r2", "log-risk": "cindex"}[task.link_scale]


@dataclass(frozen=True)
class _Part:
    """Some labelled patients of a task, and the state after which they are scored.

    Attributes:
        by: ``overall``, ``step``, ``pattern`` or ``subgroup``.
        group: Its name.
        step: Number of the step, -1 = all that a patient has.
        outputs: Raw outputs of all n labelled patients of the task.
        rows: Which of them belong to the part.
    """

    by: str
    group: str
    step: int
    outputs: Tensor
    rows: NDArray[np.int64]


def performance(
    model: MultiModN,
    patients: PatientTensors,
    cohort: Cohort | None = None,
    *,
    n_resamples: int = 500,
    n_calls: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Scores the predictions of labelled patients by every metric of each task.

    Metrics that can be computed for many resamples at once (`vectorised`: AUROC, Brier score, log loss, kappa, errors
    of numbers, concordance) have intervals in every row. Others are called ``n_calls`` times, and have intervals
    overall; a task's `main_metric` has them everywhere.

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
        resamples. ``frame.attrs`` holds ``main_metric`` of each task, ``n_resamples`` and ``tertiles`` (whose).

    Raises:
        NotFittedError: Before training.
        DataError: If the patients have no targets, or a subgroup's column does not exist.
    """
    if not patients.labelled:
        raise DataError("These patients have no targets: prepare them with prepare(cohort, labelled=True).")
    fitted = model._model()
    outputs = model._run(patients, fitted.trajectory, dim=1)  # (M + 1, N, K)
    groups, whose = _subgroups(model, patients, cohort)
    lines: list[dict[str, Any]] = []
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
            *_steps(given, [(fitted.first.modalities[m], bool(seen[m])) for m in fitted.first.order]),
            *_patterns(task, given[-1], target, patients.presence.numpy()[known], seen, fitted.first.modalities),
            *_groups(given[-1], groups[known]),
        ]
        found = _scored(task, parts, target, n_resamples, n_calls, seed)
        lines += [{"task": name, **line} for line in found]
    frame = pd.DataFrame(lines, columns=COLUMNS)
    main = {name: main_metric(task) for name, task in fitted.tasks.items()}
    frame.attrs |= {"main_metric": main, "n_resamples": n_resamples, "tertiles": whose}
    return frame


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


def _steps(outputs: Tensor, order: Sequence[tuple[str, bool]]) -> Iterator[_Part]:
    """All labelled patients, with all that they have and after each step; ``order``: names, and whether they count."""
    everybody = np.arange(outputs.shape[1])
    yield _Part("overall", "all", -1, outputs[-1], everybody)
    read: list[str] = []
    yield _Part("step", "(none)", 0, outputs[0], everybody)
    for k, (name, is_seen) in enumerate(order, 1):
        if is_seen:
            read.append(name)
            yield _Part("step", "+".join(read), len(read), outputs[k], everybody)


def _patterns(
    task: Task, outputs: Tensor, target: Tensor, presence: NDArray[np.bool_], seen: NDArray[np.bool_], names: list[str]
) -> Iterator[_Part]:
    """Patients by what they have of what the task sees, the most frequent pattern first."""
    _, codes = np.unique(presence & seen, axis=0, return_inverse=True)
    others: list[NDArray[np.int64]] = []
    for code in np.argsort(-np.bincount(codes.ravel()), kind="stable"):
        rows = np.flatnonzero(codes.ravel() == code)
        if not is_enough(task, target[rows]):
            others.append(rows)
            continue
        has = (presence & seen)[rows[0]]
        yield _Part("pattern", _named(has, names), -1, outputs, rows)
    if others:
        yield _Part("pattern", f"other patterns ({len(others)})", -1, outputs, np.sort(np.concatenate(others)))


def _named(has: NDArray[np.bool_], names: list[str]) -> str:
    if len(names) <= 62:
        return pattern_name(int(pattern_codes(has[None])[0]), names)
    return "+".join(name for name, one in zip(names, has, strict=True) if one) or "(none)"


def _groups(outputs: Tensor, groups: pd.DataFrame) -> Iterator[_Part]:
    for column in groups.columns:
        codes = groups[column].cat.codes.to_numpy()
        for code, name in enumerate(groups[column].cat.categories):
            rows = np.flatnonzero(codes == code)
            if len(rows):
                yield _Part("subgroup", str(name), -1, outputs, rows)


def is_enough(task: Task, target: Tensor) -> bool:
    """Says whether labelled patients are enough for an interval: `FEWEST`, and `FEWEST_EACH` of either outcome.

    Of a task with several classes or labels, one that is so frequent and so rare will do.
    """
    if len(target) < FEWEST:
        return False
    if task.link_scale == "units":
        return True
    truth = task.link_target(target)
    truth = truth[:, 1:] if task.link_scale == "log-risk" else truth
    fewer = torch.minimum((truth > 0).sum(0), (truth <= 0).sum(0))  # NaN is neither
    events = (truth > 0).sum(0)
    return bool(((events if task.link_scale == "log-risk" else fewer) >= FEWEST_EACH).any())


def _scored(
    task: Task, parts: Sequence[_Part], target: Tensor, n_resamples: int, n_calls: int, seed: int
) -> list[dict[str, Any]]:
    """Scores parts of the labelled patients of a task, a line for each metric."""
    found = [_metrics(task, part.outputs[part.rows], target[part.rows]) for part in parts]
    resampled = _resampled(task, parts, found, target, n_resamples, n_calls, seed)
    lines = []
    for k, part in enumerate(parts):
        where = {"by": part.by, "group": part.group, "step": part.step, "n": len(part.rows)}
        for metric, value in found[k].items():
            low, high = _interval(resampled.get((k, metric)))
            lines.append({"metric": metric, **where, "value": value, "low": low, "high": high})
    return lines


def _metrics(task: Task, outputs: Tensor, target: Tensor) -> dict[str, float]:
    return task.metrics(outputs, target) or task.link_metrics(task.link(outputs), task.link_target(target))


def _resampled(
    task: Task,
    parts: Sequence[_Part],
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
        fast = vectorised(task, part.outputs[part.rows], target[part.rows], found[k])
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
        values = [_metrics(task, parts[k].outputs[chosen], target[chosen]) for chosen in again]
        every |= {(k, metric): np.array([one.get(metric, np.nan) for one in values]) for metric in wanted}
    return every


def _interval(values: Floats | None) -> tuple[float, float]:
    if values is None or np.isnan(values).mean() > MOST_UNDEFINED:
        return np.nan, np.nan
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)
