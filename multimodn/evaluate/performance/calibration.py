"""Whether predictions mean what they say: observed against predicted, in bins of equally many patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.task import Task
from multimodn.errors import DataError, StudyError
from multimodn.evaluate.performance.patient_groups import pattern_groups, pooled
from multimodn.findings.names import middle
from multimodn.metrics.calibration import OutputPredictions, bin_row, bins, calibration_errors, calibration_line
from multimodn.metrics.predictions import predicted, survival_curves
from multimodn.model.multimodn import MultiModN
from multimodn.statistics.bootstrap import Floats

By = Literal["overall", "pattern"]
Groups = tuple[NDArray[np.int64], Sequence[str]]
CURVE = ["predicted", "observed", "low", "high", "n"]
NUMBERS = [f"{name}{end}" for name in ("slope", "intercept") for end in ("", "_low", "_high")] + ["ece", "ece_chance"]


def calibration_curve(
    model: MultiModN, patients: PatientTensors, task: str | None = None, n_bins: int = 10, by: By = "overall"
) -> pd.DataFrame:
    """Compares what was predicted with what happened, in bins of equally many patients.

    Classes and labels: the mean probability against the share of patients with the outcome, with Wilson's interval; of
    ordinal tasks for each split, such as ``>stage i``. Numbers: the mean prediction against the mean, with Student's
    interval. Survival: the mean chance of no event up to the middle time that the task knows, against Kaplan and
    Meier's estimate in the bin, with Greenwood's interval on the scale of log(-log).

    Args:
        model: A trained model.
        patients: Labelled patients who were not trained on, from `MultiModN.prepare`.
        task: Its name; default: all.
        n_bins: Bins, at most; each holds ten patients or more. Equal predictions are in one bin.
        by: ``overall``, or ``pattern``: a curve for the patients with the same modalities, of those that the task sees;
            patterns of too few patients are pooled as in `multimodn.evaluate.performance.performance.performance`.

    Returns:
        One row for each task, output and bin: ``task``, ``output`` (see above), with ``by="pattern"`` ``pattern``, then
        ``predicted``, ``observed`` (NaN: nobody was followed so long), ``low``, ``high`` (95 %, NaN: unknown), ``n``.

    Raises:
        NotFittedError: Before training.
        StudyError: If the task, or ``by``, is unknown.
        DataError: If the patients have no targets.

    References:
        Wilson (1927), https://doi.org/10.1080/01621459.1927.10502953; Kalbfleisch and Prentice (2002), The statistical
        analysis of failure time data, section 1.4, https://doi.org/10.1002/9781118032985
    """
    rows = [
        {"task": column.task, "output": column.output, "pattern": pattern, **bin_row(column, members)}
        for pattern, column in _asked(model, patients, task, by)
        for members in bins(column, n_bins)
    ]
    return pd.DataFrame(rows, columns=["task", "output", *(["pattern"] if by == "pattern" else []), *CURVE])


def calibration_summary(
    model: MultiModN, patients: PatientTensors, task: str | None = None, n_bins: int = 10, by: By = "overall"
) -> pd.DataFrame:
    """Sums a calibration curve up in three numbers.

    ``slope``: of the outcome on the prediction (log-odds for classes), 1 where calibrated; below 1 predictions are too
    extreme. ``intercept``: how much higher outcomes are than predicted on average (log-odds, or units), 0 where
    calibrated. For survival both are those of the event by the middle time that the task knows, patients weighted by
    the inverse chance of not being censored, which is estimated from these patients. ``ece``: the mean absolute
    difference of the curve, weighted by the patients of its bins. It is above 0 by chance alone, the more so the
    smaller the bins: ``ece_chance`` says how much it would be on average if the probabilities were right.

    Args:
        model: A trained model.
        patients: Labelled patients who were not trained on, from `MultiModN.prepare`.
        task: Its name; default: all.
        n_bins: See `calibration_curve`.
        by: See `calibration_curve`.

    Returns:
        One row for each task and output: ``task``, ``output``, with ``by="pattern"`` ``pattern``, then ``slope``,
        ``slope_low``, ``slope_high``, ``intercept``, ``intercept_low``, ``intercept_high`` (95 %, from the standard
        error; of survival from a robust one that takes the weights as known), ``ece``, ``ece_chance`` (NaN but for
        probabilities of classes), ``n``. A slope is NaN where all predictions are the same, slope and intercept with
        fewer than five patients of either outcome.

    Raises:
        NotFittedError: Before training.
        StudyError: If the task, or ``by``, is unknown.
        DataError: If the patients have no targets.

    References:
        Slope and intercept: Cox (1958), https://doi.org/10.1093/biomet/45.3-4.562; Van Calster et al. (2016),
        https://doi.org/10.1016/j.jclinepi.2015.12.005; weights of survival: see
        `multimodn.metrics.survival.by_time_weights`. Bins of equal size: Nixon et al. (2019),
        https://arxiv.org/abs/1904.01685
    """
    rows = [
        {"task": column.task, "output": column.output, "pattern": pattern, **_summed(column, n_bins)}
        for pattern, column in _asked(model, patients, task, by)
    ]
    return pd.DataFrame(rows, columns=["task", "output", *(["pattern"] if by == "pattern" else []), *NUMBERS, "n"])


def calibration_of(
    task: Task,
    link: NDArray[np.floating] | Tensor,
    truth: NDArray[np.floating] | Tensor,
    n_bins: int = 10,
    *,
    groups: Sequence[str] | None = None,
    repeats: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Sums up the calibration of predictions of any make, such as those out of the folds of a cross-validation.

    Args:
        task: What is predicted.
        link: Predictions on the link scale ``(n, L)`` of n labelled rows.
        truth: What `Task.link_target` says of them.
        n_bins: See `calibration_curve`.
        groups: A name for each row, such as the presence pattern; groups of too few are pooled. Default: one group.
        repeats: The repeat of the cross-validation that each row comes from, each with the same patients. Every number
            is computed in each repeat and averaged, the ends of intervals too: repeats are no new patients, and
            do not make an interval shorter. Default: one repeat.

    Returns:
        As `calibration_summary`: ``task``, ``output``, ``pattern`` if there are groups, numbers, and ``n``, patients of
        a repeat. Of survival only a slope is known, as a log-risk is no chance at a time: that of the log-risk in a Cox
        model. It is 1 where a prediction with proportional hazards is calibrated, such as that of a Cox model; of
        `multimodn.tasks.SurvivalTask`, whose hazards are not proportional, it may be off, see `calibration_summary`.

    Raises:
        DataError: If lengths or widths do not fit.
    """
    given, told = (np.asarray(torch.as_tensor(each).detach().cpu(), dtype=np.float64) for each in (link, truth))
    n = len(told)
    names = ["all"] * n if groups is None else [str(group) for group in groups]
    repeat = np.zeros(n, dtype=np.int64) if repeats is None else np.asarray(repeats)
    lengths = {"link": len(given), "truth": n, "groups": len(names), "repeats": len(repeat)}
    if len(set(lengths.values())) > 1 or given.shape[1:] != (len(task.link_names),):
        raise DataError(
            f"Task '{task.name}': predictions do not fit together: rows {lengths}, link scale of shape {given.shape}, "
            f"expected (rows, {len(task.link_names)})."
        )
    parts = [("all", np.arange(n))] if groups is None else _over_repeats(task, told, names, repeat)
    rows = []
    for column in _columns(task, given, told):
        for name, members in parts:
            each = [column.of(members[repeat[members] == one]) for one in np.unique(repeat[members])]
            found = [_summed(part, n_bins) for part in each if len(part.rows)]
            if found:
                rows.append({"task": task.name, "output": column.output, "pattern": name, **_averaged(found)})
    return pd.DataFrame(rows, columns=["task", "output", *([] if groups is None else ["pattern"]), *NUMBERS, "n"])


def _over_repeats(
    task: Task, truth: Floats, names: Sequence[str], repeat: NDArray[np.int64]
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Pools groups by the patients of the first repeat, and yields their rows in all."""
    kinds, codes = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    once = np.flatnonzero(repeat == repeat[0]) if len(repeat) else np.arange(0)
    for name, members in pooled(task, truth[once], codes[once], [str(kind) for kind in kinds]):
        yield name, np.flatnonzero(np.isin(codes, codes[once[members]]))


def _averaged(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means of what is known of several repeats."""
    frame = pd.DataFrame(list(found))
    means = {str(name): float(value) for name, value in frame.mean().items()}
    return means | {"n": round(means["n"])}


def _summed(column: OutputPredictions, n_bins: int) -> dict[str, float]:
    return {**calibration_line(column), **calibration_errors(column, n_bins), "n": len(column.truth)}


def _asked(
    model: MultiModN, patients: PatientTensors, task: str | None, by: str
) -> Iterator[tuple[str, OutputPredictions]]:
    patients.check_labelled()
    if by not in ("overall", "pattern"):
        raise StudyError(f"Calibration cannot be told by '{by}'; expected overall or pattern.")
    fitted, asked = model.trained.ensemble, model.trained.select_tasks(task)
    outputs = model.trained.outputs(patients)
    for t, (name, one) in enumerate(fitted.tasks.items()):
        known = patients.labelled[name]
        if name not in asked or not known.any():
            continue
        columns = list(_of_task(one, outputs[name][known], patients.targets[name][known]))
        if by == "overall":
            yield from (("all", column) for column in columns)
            continue
        presence = (patients.presence[known] & fitted.first.seen[t]).numpy()
        yield from _by_pattern(one, columns, patients.targets[name][known], presence, fitted.first.modalities)


def _by_pattern(
    task: Task, columns: Sequence[OutputPredictions], target: Tensor, presence: NDArray[np.bool_], names: list[str]
) -> Iterator[tuple[str, OutputPredictions]]:
    truth = task.link_target(target).double().numpy()
    codes, patterns = pattern_groups(presence, names)
    parts = list(pooled(task, truth, codes, list(patterns)))
    for column in columns:
        of_patterns = [(name, column.of(rows)) for name, rows in parts]
        yield from ((name, part) for name, part in of_patterns if len(part.rows))


def _of_task(task: Task, outputs: Tensor, target: Tensor) -> Iterator[OutputPredictions]:
    """What a trained model predicts of a task, its chance of survival up to the middle time included."""
    given = predicted(task, outputs, target)
    if task.link_scale != "log-risk":
        yield from _columns(task, given.link, given.truth)
        return
    times, survival, names = survival_curves(task, outputs.double())
    if not names:
        return
    k, rows = middle(len(times)), np.arange(len(given.truth))
    yield OutputPredictions(
        task.name, names[k], task.link_scale, survival[:, k], given.link[:, 0], given.truth, rows, float(times[k])
    )


def _columns(task: Task, link: Floats, truth: Floats) -> Iterator[OutputPredictions]:
    """What is predicted on the link scale."""
    if task.link_scale == "log-risk":
        unknown, rows = np.full(len(link), np.nan), np.arange(len(link))
        yield OutputPredictions(task.name, task.link_names[0], task.link_scale, unknown, link[:, 0], truth, rows)
        return
    for j, output in enumerate(task.link_names):
        known = np.flatnonzero(~np.isnan(truth[:, j]))
        if len(known):
            given = link[known, j]
            values = given if task.link_scale == "units" else expit(given)
            yield OutputPredictions(task.name, output, task.link_scale, values, given, truth[known, j], known)
