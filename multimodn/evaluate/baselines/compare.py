"""Whether fusion helped: a trained model against strong simple ones, on the same patients, with paired intervals.

The baselines are trained on the training and validation patients of the model's own split, and choose their settings,
and the best single modality, among these patients alone. Then all predict the test patients, who are resampled
together. An interval covers which patients were there to be tested, not that others could have been trained on.

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
RIDGES = ("late_ridge", "best_single", "early_concat")
"""Baselines that need nothing but scikit-learn, and little time."""
COLUMNS = [
    *("task", "arm", "metric", "by", "group", "value", "low", "high"),
    *("difference", "difference_low", "difference_high", "p_value", "p_adjusted", "n"),
]
ENDS = ("low", "high", "difference_low", "difference_high", "p_value")


@dataclass(frozen=True)
class _Answer:
    """Predictions of the labelled test patients of one task, ``(n, L)``, and what they are predictions of.

    Each has its own truth: ours and the baselines' tasks may have been fitted on other patients.
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
    from multimodn.evaluate.baselines.tuned import installed_trees

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
        arms: ``best_single`` (of each task the ridge model of that modality which does best in inner folds of the
            training patients), ``late_ridge_mean``, and those of `multimodn.evaluate.baselines.tuned.TUNED`; default:
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

    from multimodn.evaluate.baselines import train
    from multimodn.evaluate.baselines.ridge import tabular_study

    fitted, wanted = model.trained.ensemble, train.checked_arms(default_arms() if arms is None else arms)
    cohort = Cohort.load(model.study) if cohort is None else cohort
    training_ids, test_ids = _split_of(model, cohort)
    tabular = tabular_study(model.study, cohort)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", DataWarning)  # told when the data were loaded and the model was trained
        patients = model.prepare(cohort.subset(test_ids), labelled=True) if patients is None else patients
        _check_held_out(patients, training_ids)
        training, test = (tabular.cohort.subset(ids) for ids in (training_ids, patients.patients))
        trained = train.train_arms(wanted, tabular, training, seed, on_arm)
        outputs = model.trained.outputs(patients)
        ours = {name: _array(task.link(outputs[name].double())) for name, task in model.trained.tasks.items()}
        links = {OURS: ours} | {arm: predict(test) for arm, predict in trained.fitted.items()}
        targets = train.targets_of_baselines(tabular, training, test)
    found = _Test(patients, _subgroups(model, cohort, patients, training_ids), links, targets)
    patterns: dict[str, tuple[str, ...]] = {}
    lines = [line for name in fitted.tasks for line in _of_task(model, name, found, n_resamples, seed, patterns)]
    return ComparisonFrame.of(
        _adjusted(pd.DataFrame(lines, columns=COLUMNS)),
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

    Args:
        frame: What `compare_with_baselines` returned.

    Raises:
        DataError: If the frame has no rows or lacks columns.
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


def _subgroups(model: MultiModN, cohort: Cohort, patients: PatientTensors, training: Sequence[str]) -> pd.DataFrame:
    if not model.study.subgroups:
        return pd.DataFrame(index=patients.patients)
    return read_subgroups(cohort, model.study.subgroups, pd.Index(training)).reindex(patients.patients)


def _seen(model: MultiModN, name: str) -> list[str]:
    first = model.trained.ensemble.first
    return [m for m in first.modalities if name not in model.study.steps[m].exclude_for]


def _of_task(
    model: MultiModN, name: str, test: _Test, n_resamples: int, seed: int, patterns: dict[str, tuple[str, ...]]
) -> Iterator[dict[str, Any]]:
    """Scores all arms of a task, over all labelled test patients and in groups, whose patterns go into ``patterns``."""
    first = model.trained.ensemble.first
    task: Task = model.trained.tasks[name]
    target, known = test.patients.targets[name], test.patients.labelled[name]
    if name in test.simple:
        known = known & test.simple[name][2]
    rows = known.numpy()
    if not rows.any():
        return
    compared = {OURS: _Answer(test.links[OURS][name][rows], _array(task.link_target(target[known])))}
    if name in test.simple:
        train, its_target, _ = test.simple[name]
        truth = _array(train.link_target(its_target[known]))
        compared |= {a: _Answer(links[name][rows], truth) for a, links in test.links.items() if a != OURS}
    everyone = PatientGroup("overall", "all", -1, target[known], np.arange(int(rows.sum())))
    seen = np.isin(first.modalities, _seen(model, name))
    groups = [
        *patterns_of(
            task, everyone.outputs, target[known], test.patients.presence.numpy()[rows], seen, first.modalities
        ),
        *groups_of(everyone.outputs, test.groups[rows]),
    ]
    groups = [
        part for part in groups if len(part.rows) < len(everyone.rows) and is_enough(task, target[known][part.rows])
    ]
    patterns |= {part.group: part.modalities for part in groups if part.modalities is not None}
    unknown = {} if is_enough(task, target[known]) else dict.fromkeys(ENDS, np.nan)
    yield from (
        {"task": name, "metric": main_metric(task), **line, **unknown}
        for line in _lines(task.link_scale, compared, [everyone, *groups], n_resamples, seed)
    )


def _array(values: Tensor) -> Floats:
    found: Floats = values.double().numpy()
    return found


def _lines(
    scale: str, arms: Mapping[str, _Answer], parts: Sequence[PatientGroup], n_resamples: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Scores the arms of a task in all parts on the same resamples."""
    scores = [
        {arm: main_score(scale, each.link[p.rows], each.truth[p.rows]) for arm, each in arms.items()} for p in parts
    ]
    drawn: list[dict[str, list[Floats]]] = [{arm: [] for arm in arms} for _ in parts]
    for block in draws(len(parts[0].rows), n_resamples, seed):
        for part, of_part, blocks in zip(parts, scores, drawn, strict=True):
            for arm, score in of_part.items():
                blocks[arm].append(score(block[:, part.rows]))
    for part, of_part, blocks in zip(parts, scores, drawn, strict=True):
        values = {arm: float(score(np.ones((1, len(part.rows))))[0]) for arm, score in of_part.items()}
        resampled = {arm: np.concatenate(each) for arm, each in blocks.items()}
        for arm in arms:
            low, high = _interval(resampled[arm])
            line = {"arm": arm, "by": part.by, "group": part.group, "n": len(part.rows)}
            line |= {"value": values[arm], "low": low, "high": high}
            yield line | ({} if arm == OURS else _difference(values, resampled, arm))


def _interval(drawn: Floats) -> tuple[float, float]:
    """None where every resample is perfect: how far from it others would be, a bootstrap cannot tell."""
    return (np.nan, np.nan) if is_perfect(drawn) else interval(drawn)


def _difference(values: Mapping[str, float], resampled: Mapping[str, Floats], arm: str) -> dict[str, float]:
    apart = resampled[OURS] - resampled[arm]
    found = {"difference": values[OURS] - values[arm]}
    if is_perfect(resampled[OURS]) and is_perfect(resampled[arm]):
        return found
    low, high = interval(apart)
    return found | {"difference_low": low, "difference_high": high, "p_value": two_sided(apart)}


def _adjusted(frame: pd.DataFrame) -> pd.DataFrame:
    """Adjusts the p-values of all comparisons over all patients, and apart from these of all in groups."""
    p_values, is_overall = frame["p_value"].to_numpy(np.float64), (frame["by"] == "overall").to_numpy()
    adjusted = np.full(len(frame), np.nan)
    for rows in (is_overall, ~is_overall):
        adjusted[rows] = holm(p_values[rows])
    return frame.assign(p_adjusted=adjusted)
