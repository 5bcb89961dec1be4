"""Comparison of a trained model with baselines, on the same patients, with paired bootstrap intervals.

The baselines are trained on the training and validation patients of the model's split, and choose their settings and
the best single modality on these patients alone. All predict the test patients, who are resampled together. An interval
covers the sampling of test patients, not that of training patients.

References:
    Efron and Tibshirani (1993), An introduction to the bootstrap, https://doi.org/10.1201/9780429246593
    Holm (1979), A simple sequentially rejective multiple test procedure, https://www.jstor.org/stable/4615733
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.task import Task, main_metric
from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, DataWarning, shown
from multimodn.evaluate.baselines import train
from multimodn.evaluate.baselines.design_matrix import tabular_study
from multimodn.evaluate.baselines.tuned import installed_trees
from multimodn.evaluate.crossval.bootstrap import interval, two_sided
from multimodn.evaluate.performance.patient_groups import PatientGroup, groups_of, is_enough, patterns_of
from multimodn.evaluate.performance.subgroups import read_subgroups
from multimodn.findings.findings import comparisons_of
from multimodn.findings.frames import ComparisonFrame
from multimodn.findings.sentences import comparison
from multimodn.metrics.predictions import is_perfect
from multimodn.metrics.tasks import main_score
from multimodn.statistics.bootstrap import Floats, draws
from multimodn.statistics.multiple_testing import holm

if TYPE_CHECKING:
    from multimodn.model.multimodn import MultiModN

__all__ = ["COLUMNS", "OURS", "RIDGES", "compare_with_baselines", "default_arms", "sentences"]

OURS = "ours"
RIDGES = ("late_ridge", "best_single", "early_concat")  # baselines that need scikit-learn alone, and little time
COLUMNS = [
    *("task", "arm", "metric", "by", "group", "value", "low", "high"),
    *("difference", "difference_low", "difference_high", "p_value", "p_adjusted", "n"),
]
ENDS = ("low", "high", "difference_low", "difference_high", "p_value")


@dataclass(frozen=True)
class _TestPredictions:
    """Link-scale predictions and targets of the labelled test patients of one task, ``(n, L)``.

    Targets differ between ours and the baselines, as their tasks may have been fitted on other patients.
    """

    link: Floats
    truth: Floats


@dataclass(frozen=True)
class _Test:
    """The test patients: as tensors, their subgroups, and predictions of all arms by arm and task."""

    patients: PatientTensors
    groups: pd.DataFrame
    links: Mapping[str, Mapping[str, Floats]]
    simple: Mapping[str, tuple[Task, Tensor, Tensor]]


def default_arms() -> tuple[str, ...]:
    """Returns `RIDGES`, and boosted trees if a library for them is installed."""
    trees = installed_trees()
    return RIDGES if trees is None else (*RIDGES, trees)


def compare_with_baselines(
    model: MultiModN,
    cohort: Cohort | None = None,
    *,
    patients: PatientTensors | None = None,
    arms: Sequence[str] | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
    on_arm: Callable[[str], None] | None = None,
) -> ComparisonFrame:
    """Trains baselines as the model was trained and compares them on its test patients.

    Args:
        model: A trained model with test patients.
        cohort: All patients of its split; default: those of the study's sources.
        patients: The test patients from `MultiModN.prepare`, labelled, which saves reading their files again.
        arms: ``best_single`` (for each task the ridge model of the best modality in inner folds of the training
            patients), ``late_ridge_mean``, and those of `multimodn.evaluate.baselines.tuned.TUNED`; default:
            `default_arms`.
        n_resamples: Bootstrap resamples of the test patients, the same for all arms and groups.
        seed: Seed of the baselines and of the resamples.
        on_arm: Called with the name of each arm before it is trained.

    Returns:
        A row for each task, arm and group of patients: ``task``, ``arm`` (``ours`` first), ``metric``
        (`multimodn.evaluate.performance.performance.main_metric`, higher is better), ``by`` (``overall``, ``pattern``,
        ``subgroup``), ``group``, ``value``, ``low``, ``high``; ``difference`` (ours minus the arm), ``difference_low``,
        ``difference_high``, ``p_value`` (two-sided, of the paired bootstrap), ``p_adjusted`` (by Holm: overall over all
        tasks and arms, in groups over all tasks, arms and groups); ``n`` labelled test patients. Intervals are 95 %
        percentiles; NaN where patients or outcomes are too few, as in `evaluate.performance.performance`, or
        all resamples perfect; groups that are too small have no rows. See `ComparisonFrame` for its fields.

    Raises:
        NotFittedError: If the model is not trained.
        DataError: If there are no test patients, or the cohort lacks patients of the split.
        StudyError: If an arm is unknown, or the study has neither tables nor embeddings.
        MissingExtraError: If an arm needs a library that is not installed.
    """
    from threadpoolctl import threadpool_limits

    fitted, wanted = model.trained.ensemble, train.checked_arms(default_arms() if arms is None else arms)
    cohort = Cohort.load(model.study) if cohort is None else cohort
    training_ids, test_ids = _split_of(model, cohort)
    tabular = tabular_study(model.study, cohort)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", DataWarning)  # given when the data were loaded and the model was trained
        patients = model.prepare(cohort.subset(test_ids), labelled=True) if patients is None else patients
        _check_held_out(patients, training_ids)
        training, test = (tabular.cohort.subset(ids) for ids in (training_ids, patients.patients))
        trained = train.train_arms(wanted, tabular, training, seed, on_arm)
        outputs = model.trained.outputs(patients)
        ours = {name: _array(task.link(outputs[name].double())) for name, task in model.trained.tasks.items()}
        links = {OURS: ours} | {arm: predict(test) for arm, predict in trained.fitted.items()}
        targets = train.targets_of_baselines(tabular, training, test)
    groups = pd.DataFrame(index=patients.patients)
    if model.study.subgroups:
        groups = read_subgroups(cohort, model.study.subgroups, pd.Index(training_ids)).reindex(patients.patients)
    tested = _Test(patients, groups, links, targets)
    patterns: dict[str, tuple[str, ...]] = {}
    rows = [row for name in fitted.tasks for row in _of_task(model, name, tested, n_resamples, seed, patterns)]
    return ComparisonFrame.of(
        _adjusted(pd.DataFrame(rows, columns=COLUMNS)),
        best_single=trained.best,
        failed=trained.failed,
        left_out=tabular.left_out,
        n_resamples=n_resamples,
        n_training=len(training),
        seen={name: _seen(model, name) for name in fitted.tasks},
        patterns=patterns,
    )


def sentences(frame: pd.DataFrame) -> list[str]:
    """Says for each task whether fusion helped; see `multimodn.findings.sentences.comparison`.

    Raises:
        DataError: If the frame has no rows or lacks columns; give that of `compare_with_baselines`.
    """
    lacking = [name for name in ("task", "arm", "by", "difference", "p_adjusted") if name not in frame]
    if lacking or frame.empty:
        fault = f"lacks {', '.join(lacking)}" if lacking else "has no rows"
        raise DataError(f"No verdict: the frame {fault}. Give the one of compare_with_baselines, with all its columns.")
    return [comparison(one) for one in comparisons_of(frame)]


def _split_of(model: MultiModN, cohort: Cohort) -> tuple[list[str], list[str]]:
    """The patients that the model was trained on, and those of its test."""
    split = model.split
    if split is None or not len(split.test):
        raise DataError("The model's split has no test patients to compare on. Train with `split: {test: 0.2}`.")
    training, test = [*split.train, *split.validation], list(split.test)
    unknown = [patient for patient in [*training, *test] if patient not in cohort.patients]
    if unknown:
        raise DataError(
            f"{len(unknown)} patient(s) of the model's split are not in the cohort: {shown(unknown)}. Give the cohort "
            "that the model was trained on."
        )
    return training, test


def _check_held_out(patients: PatientTensors, training: Sequence[str]) -> None:
    patients.check_labelled()
    both = patients.patients[patients.patients.isin(training)]
    if len(both):
        raise DataError(f"{len(both)} patient(s) were trained on: {shown(list(both))}. Give test patients only.")


def _seen(model: MultiModN, name: str) -> list[str]:
    first = model.trained.ensemble.first
    return [m for m in first.modalities if name not in model.study.steps[m].exclude_for]


def _of_task(
    model: MultiModN, name: str, test: _Test, n_resamples: int, seed: int, patterns: dict[str, tuple[str, ...]]
) -> Iterator[dict[str, Any]]:
    """Scores all arms of a task, over all labelled test patients and in groups, whose patterns go into ``patterns``."""
    first = model.trained.ensemble.first
    task: Task = model.trained.tasks[name]
    target, labelled = test.patients.targets[name], test.patients.labelled[name]
    if name in test.simple:
        labelled = labelled & test.simple[name][2]
    rows = labelled.numpy()
    if not rows.any():
        return
    target = target[labelled]
    compared = {OURS: _TestPredictions(test.links[OURS][name][rows], _array(task.link_target(target)))}
    if name in test.simple:
        simple, its_target, _ = test.simple[name]
        truth = _array(simple.link_target(its_target[labelled]))
        compared |= {a: _TestPredictions(links[name][rows], truth) for a, links in test.links.items() if a != OURS}
    everyone = PatientGroup("overall", "all", -1, target, np.arange(int(rows.sum())))
    seen = np.isin(first.modalities, _seen(model, name))
    presence = test.patients.presence.numpy()[rows]
    patterns_and_subgroups = (
        *patterns_of(task, target, target, presence, seen, first.modalities),
        *groups_of(target, test.groups[rows]),
    )
    some = [group for group in patterns_and_subgroups if len(group.rows) < len(everyone.rows)]
    groups = [group for group in some if is_enough(task, target[group.rows])]
    patterns |= {group.group: group.modalities for group in groups if group.modalities is not None}
    unknown = {} if is_enough(task, target) else dict.fromkeys(ENDS, np.nan)
    for row in _rows(task.link_scale, compared, [everyone, *groups], n_resamples, seed):
        yield {"task": name, "metric": main_metric(task), **row, **unknown}


def _array(values: Tensor) -> Floats:
    array: Floats = values.double().numpy()
    return array


def _rows(
    scale: str, arms: Mapping[str, _TestPredictions], groups: Sequence[PatientGroup], n_resamples: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Scores the arms of a task in all groups on the same resamples."""
    scores = [
        {arm: main_score(scale, each.link[g.rows], each.truth[g.rows]) for arm, each in arms.items()} for g in groups
    ]
    drawn: list[dict[str, list[Floats]]] = [{arm: [] for arm in arms} for _ in groups]
    for block in draws(len(groups[0].rows), n_resamples, seed):
        for group, of_group, blocks in zip(groups, scores, drawn, strict=True):
            for arm, score in of_group.items():
                blocks[arm].append(score(block[:, group.rows]))
    for group, of_group, blocks in zip(groups, scores, drawn, strict=True):
        values = {arm: float(score(np.ones((1, len(group.rows))))[0]) for arm, score in of_group.items()}
        resampled = {arm: np.concatenate(each) for arm, each in blocks.items()}
        for arm in arms:
            # where every resample is perfect, that is no information about other patients
            low, high = (np.nan, np.nan) if is_perfect(resampled[arm]) else interval(resampled[arm])
            row = {"arm": arm, "by": group.by, "group": group.group, "n": len(group.rows)}
            row |= {"value": values[arm], "low": low, "high": high}
            yield row | ({} if arm == OURS else _difference(values, resampled, arm))


def _difference(values: Mapping[str, float], resampled: Mapping[str, Floats], arm: str) -> dict[str, float]:
    difference = {"difference": values[OURS] - values[arm]}
    if is_perfect(resampled[OURS]) and is_perfect(resampled[arm]):
        return difference
    differences = resampled[OURS] - resampled[arm]
    low, high = interval(differences)
    return difference | {"difference_low": low, "difference_high": high, "p_value": two_sided(differences)}


def _adjusted(frame: pd.DataFrame) -> pd.DataFrame:
    """Adjusts the p-values of all overall comparisons, and separately those of all comparisons in groups."""
    p_values, is_overall = frame["p_value"].to_numpy(np.float64), (frame["by"] == "overall").to_numpy()
    adjusted = np.full(len(frame), np.nan)
    for rows in (is_overall, ~is_overall):
        adjusted[rows] = holm(p_values[rows])
    return frame.assign(p_adjusted=adjusted)
