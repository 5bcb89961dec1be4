"""Two tables of an external validation: what recalibration would change, and the difference from the internal test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from multimodn.base.batches import PatientTensors
from multimodn.base.task import Task
from multimodn.evaluate.performance.performance import FEWEST_EACH, calibration_of, calibration_summary, is_enough
from multimodn.external.result import AS_IT_IS
from multimodn.metrics.predictions import RANKED, is_perfect
from multimodn.metrics.tasks import field_metrics, weighted_metrics
from multimodn.model.multimodn import MultiModN
from multimodn.statistics.bootstrap import Floats, draws

COMPARISON = ["task", "metric", "external", "internal", "difference", "low", "high", "n_external", "n_internal"]
LEFT_OUT = ("ece",)  # metrics that fewer patients raise, so that they cannot be compared between cohorts
MOST_UNDEFINED = 0.2
SHIFTED, REFITTED = "intercept", "intercept and slope"


def calibration_table(model: MultiModN, patients: PatientTensors) -> pd.DataFrame:
    """Tells how calibrated predictions are, and what an update on these patients would make of them.

    Returns:
        The columns of `calibration_summary` after ``update``: ``none``; ``intercept``, all predictions shifted by one
        number on the link scale so that their mean is right (recalibration in the large); ``intercept and slope``,
        stretched too. Then ``shift`` and ``stretch``, the update itself: link scale times stretch plus shift, to be
        used only on other patients than those it was fitted on, as here. No update of survival.

    References:
        Steyerberg (2019), Clinical prediction models, chapter 20, https://doi.org/10.1007/978-3-030-16399-0
    """
    before = calibration_summary(model, patients).assign(update=AS_IT_IS, shift=0.0, stretch=1.0)
    parts = [before]
    for task, link, truth in _links(model, patients):
        if task.link_scale == "log-risk":
            continue
        for update in (SHIFTED, REFITTED):
            fitted = [_fit(task.link_scale, link[:, j], truth[:, j], update) for j in range(link.shape[1])]
            after = np.stack([link[:, j] * stretch + shift for j, (shift, stretch) in enumerate(fitted)], axis=1)
            numbers = pd.DataFrame(fitted, columns=["shift", "stretch"]).assign(output=task.link_names)
            found = calibration_of(task, after, truth).merge(numbers, on="output").assign(update=update)
            parts.append(found[found["shift"].notna()])
    joined = pd.concat([part for part in parts if len(part)], ignore_index=True)
    order = [task for task in model.trained.tasks if task in set(joined["task"])]
    joined["task"] = pd.Categorical(joined["task"], order)
    joined = joined.sort_values("task", kind="stable").astype({"task": object}).reset_index(drop=True)
    first = ["task", "output", "update"]
    return joined[[*first, *(name for name in joined.columns if name not in first)]]


def comparison_table(
    model: MultiModN, external: PatientTensors, internal: PatientTensors, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Compares the scores of two cohorts that share no patient.

    Returns:
        One row for each task and metric: ``task``, ``metric``, ``external``, ``internal``, ``difference``, ``low``,
        ``high`` (95 %, percentiles of differences of independent bootstraps of both; NaN: too few patients),
        ``n_external``, ``n_internal``.
    """
    lines = []
    for name, task in model.trained.tasks.items():
        ours, n_ours = _resampled(model, external, task, n_resamples, seed)
        theirs, n_theirs = _resampled(model, internal, task, n_resamples, seed + 1)
        for metric, (value, values) in ours.items():
            if metric not in LEFT_OUT and metric in theirs:
                other, others = theirs[metric]
                difference = (value - other, *_interval(values, others))
                lines.append((name, metric, value, other, *difference, n_ours, n_theirs))
    return pd.DataFrame(lines, columns=COMPARISON)


def with_intervals(
    model: MultiModN, patients: PatientTensors, scores: pd.DataFrame, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Adds ``low`` and ``high`` to the scores of `MultiModN.evaluate`: 95 %, percentiles of a bootstrap over patients.

    NaN with few patients, and for what cannot be computed for many resamples at once.
    """
    ends = {
        (name, metric): _interval(values, np.zeros(1))
        for name, task in model.trained.tasks.items()
        for metric, (_, values) in _resampled(model, patients, task, n_resamples, seed)[0].items()
        if metric not in LEFT_OUT
    }
    found = [ends.get(key, (np.nan, np.nan)) for key in zip(scores["task"], scores["metric"], strict=True)]
    frame = scores.assign(low=[low for low, _ in found], high=[high for _, high in found])
    return frame[["task", "metric", "value", "low", "high", "n"]]


def compared_with_scores(scores: pd.DataFrame, external: pd.DataFrame) -> pd.DataFrame:
    """Compares with kept scores (``task, metric, value, n``) of the internal test, whose patients are not there."""
    ours = external[external["by"] == "overall"]
    both = ours.merge(scores, on=["task", "metric"], suffixes=("", "_internal"))
    both = both[~both["metric"].isin(LEFT_OUT)]
    both = both.rename(columns={"value": "external", "value_internal": "internal", "n": "n_external"})
    return both.assign(difference=both["external"] - both["internal"], low=np.nan, high=np.nan)[COMPARISON]


def _links(model: MultiModN, patients: PatientTensors) -> Iterator[tuple[Task, Floats, Floats]]:
    outputs = model.trained.outputs(patients)
    for name, task in model.trained.tasks.items():
        known = patients.labelled[name]
        if known.any():
            link = task.link(outputs[name][known]).double().numpy()
            yield task, link, task.link_target(patients.targets[name][known]).double().numpy()


def _fit(scale: str, link: Floats, truth: Floats, update: str) -> tuple[float, float]:
    """Returns shift and stretch of an update; NaN where the outcomes are too few."""
    from scipy.optimize import brentq
    from scipy.special import expit
    from sklearn.linear_model import LogisticRegression

    known = ~np.isnan(truth)
    x, y = link[known], truth[known]
    varies = len(x) > 2 and x.std() > 1e-6
    if update == REFITTED and not varies:
        return np.nan, np.nan
    if scale == "units":
        if update == SHIFTED:
            return (float((y - x).mean()), 1.0) if len(x) else (np.nan, np.nan)
        stretch, shift = np.polyfit(x, y, 1)
        return float(shift), float(stretch)
    if min(y.sum(), (1 - y).sum()) < FEWEST_EACH:
        return np.nan, np.nan
    if update == SHIFTED:  # the mean probability becomes the share of outcomes
        most = float(np.abs(x).max()) + 20
        return float(brentq(lambda shift: float(expit(x + shift).mean() - y.mean()), -most, most)), 1.0
    fitted = LogisticRegression(C=1e9, tol=1e-8, max_iter=1000).fit(x[:, None], y > 0)
    return float(fitted.intercept_[0]), float(fitted.coef_[0, 0])


def _resampled(
    model: MultiModN, patients: PatientTensors, task: Task, n_resamples: int, seed: int
) -> tuple[dict[str, tuple[float, Floats | None]], int]:
    """Metrics of a task's labelled patients and, where they can be computed at once, of their resamples."""
    known = patients.labelled[task.name]
    if not known.any():
        return {}, 0
    outputs = model.trained.outputs(patients)[task.name][known]
    target = patients.targets[task.name][known]
    with torch.inference_mode():
        found = field_metrics(task, outputs, target)
    scores = weighted_metrics(task, outputs, target, found) if is_enough(task, target) else {}
    blocks = list(draws(len(target), n_resamples, seed)) if scores else []
    drawn = {metric: np.concatenate([score(block) for block in blocks]) for metric, score in scores.items()}
    drawn = {metric: values for metric, values in drawn.items() if not (metric in RANKED and is_perfect(values))}
    return {metric: (float(value), drawn.get(metric)) for metric, value in found.items()}, len(target)


def _interval(values: Floats | None, others: Floats | None) -> tuple[float, float]:
    if values is None or others is None:
        return np.nan, np.nan
    difference: NDArray[np.float64] = values - others
    is_undefined = np.isnan(difference).mean() > MOST_UNDEFINED
    low, high = (np.nan, np.nan) if is_undefined else np.nanquantile(difference, [0.025, 0.975])
    return float(low), float(high)


def outcome_flow(model: MultiModN, patients: PatientTensors, present: Sequence[str]) -> pd.DataFrame:
    """Counts labelled patients and those of each outcome, task by task, after all patients and modalities."""
    network = model.trained.ensemble.first
    has = patients.presence.sum(0).tolist()
    lines: list[tuple[str, str, str, int]] = [("patients", "", "all", len(patients))]
    for name, n in zip(network.modalities, has, strict=True):
        lines.append(("modality", name, "has it" if name in present else "not in this study", int(n)))
    assert patients.strata is not None
    for t, (name, task) in enumerate(model.trained.tasks.items()):
        strata = patients.strata[:, t].numpy()
        lines.append(("task", name, "labelled", int((strata >= 0).sum())))
        if (strata >= 0).any():
            lines += [("task", name, text, int((strata == k).sum())) for k, text in enumerate(task.stratum_names)]
    return pd.DataFrame(lines, columns=["what", "name", "who", "n"])
