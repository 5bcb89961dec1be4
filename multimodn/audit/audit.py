"""The audit: whether what is missing in a cohort depends on the outcome, before anything is trained.

`audit` computes, `sentences` words, `write_audit` writes and draws.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from multimodn.audit.figure import DARK, LIGHT, draw
from multimodn.audit.findings import Audit, Dependence, Hole, PatternCount, TaskAudit, is_high
from multimodn.audit.independence import ALPHA, Bools, Counts, holm, independence, matters, presence_auroc
from multimodn.audit.pattern_counts import Patterns
from multimodn.audit.pattern_shifts import find_shifts
from multimodn.audit.sentences import LIMIT, shift_verdict, task_verdict
from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.data.splits import Split
from multimodn.errors import DataError, StudyError, did_you_mean, raise_all
from multimodn.files import replacing, write_text
from multimodn.study.study import Study
from multimodn.training.build import fit_tasks

MOST_MODALITIES = 8
"""With more modalities than this, holes are looked for among the patterns that occur, not among all subsets."""

MOST_PATTERNS = 2000  # of these; the largest ones


def audit(study: Study, cohort: Cohort, split: Split | None = None, *, seed: int = 0) -> Audit:
    """Asks of each task whether missing modalities tell its outcome, and what that means for training.

    All labelled patients are looked at, those of the test part as well: they are no less subject to the mechanism, and
    no model is fitted. The outcome is seen through `Task.strata`, fitted on all of them.

    Args:
        study: Names the tasks.
        cohort: The patients with their targets.
        split: Compares the patterns of its parts if given.
        seed: Seed of folds, bootstrap and random tables.

    Returns:
        The findings; ``alarms`` names every task and modality whose presence depends on the outcome: p < `ALPHA` after
        Holm's correction for all pairs, and an effect that `matters`.

    Raises:
        DataError: If study and cohort differ in modalities, the cohort lacks the targets of a task, a label cannot be
            read, or the split names patients that the cohort does not have; every problem is listed.
    """
    _check(study, cohort)
    patterns = Patterns.of(cohort)
    n_tests = len(study.tasks) * len(patterns.names)
    tasks = _corrected([_task_audit(task, cohort, patterns, n_tests, seed) for task in fit_tasks(study, cohort)])
    tasks = [replace(task, verdict=task_verdict(task, n_tests)) for task in tasks]
    shifts = find_shifts(cohort, split, patterns, seed)
    return Audit(study.name, len(cohort), patterns.names, tuple(tasks), shifts, shift_verdict(shifts), LIMIT)


def _check(study: Study, cohort: Cohort) -> None:
    problems = [
        f"task '{task.name}': the cohort has no targets for it. Load it with labels, or name them in "
        f"`Cohort.from_frames(..., targets=...)`.{did_you_mean(task.name, cohort.targets)}"
        for task in study.tasks
        if task.name not in cohort.targets
    ]
    problems += [
        f"modality '{name}': the cohort does not hold it.{did_you_mean(name, cohort.modalities)}"
        for name in study.steps
        if name not in cohort.modalities
    ]
    named = list(study.steps)
    problems += [
        f"modality '{name}': the study does not name it.{did_you_mean(name, named)}"
        for name in cohort.modalities
        if name not in named
    ]
    raise_all(problems, DataError, f"Study '{study.name}' cannot be audited")


def _task_audit(task: Task, cohort: Cohort, patterns: Patterns, n_tests: int, seed: int) -> TaskAudit:
    """Everything about a task except what needs the other tasks: corrected p, alarms and verdict."""
    target, labels = task.prepare(cohort.targets[task.name])
    known = labels.numpy()
    stratum, pattern = task.strata(target).numpy()[known], patterns.of_patient[known]
    n_strata, n_patterns = task.n_strata, len(patterns.codes)
    flat = np.bincount(pattern * n_strata + stratum, minlength=n_patterns * n_strata)
    counts = flat.reshape(n_patterns, n_strata)
    labelled = counts.sum(axis=1)
    rows = zip(patterns.codes, patterns.counts, labelled, counts, strict=True)
    return TaskAudit(
        task=task.name,
        n=len(cohort),
        labelled=int(known.sum()),
        strata=_ints(counts.sum(axis=0)),
        patterns=tuple(
            PatternCount(patterns.name(code), patterns.members(code), int(n), int(n_known), _ints(strata))
            for code, n, n_known, strata in rows
        ),
        auroc=presence_auroc(pattern, patterns.presence, _high_strata(stratum, n_strata), seed),
        modalities=_dependences(task.name, patterns, counts, n_tests, seed),
        holes=_holes(patterns, counts),
        unlabelled=tuple(patterns.name(code) for code in patterns.codes[labelled == 0]),
    )


def _high_strata(stratum: Counts, n_strata: int) -> Bools:
    """Says of each row whether its stratum is in the upper half ``(n,)``."""
    high: Bools = np.array([is_high(k, n_strata) for k in range(n_strata)])[stratum]
    return high


def _dependences(task: str, patterns: Patterns, counts: Counts, n_tests: int, seed: int) -> tuple[Dependence, ...]:
    """Tests each modality; nothing is corrected yet."""
    everyone, n_strata = counts.sum(axis=0), counts.shape[1]
    high = _high_strata(np.arange(n_strata), n_strata)
    found = []
    for name, has in zip(patterns.names, patterns.presence.T, strict=True):
        present = counts[has].sum(axis=0)
        table = np.stack([everyone - present, present], axis=1)
        result = independence(table, n_tests=n_tests, seed=seed)
        shares = [float(present[half].sum() / n) if (n := everyone[half].sum()) else None for half in (~high, high)]
        found.append(
            Dependence(
                task, name, _ints(present), shares[0], shares[1], result.test, result.p, 1.0, result.cramers_v, False
            )
        )
    return tuple(found)


def _corrected(tasks: Sequence[TaskAudit]) -> list[TaskAudit]:
    """Corrects p over all pairs that could be tested, and raises the alarms."""
    tested = [found for task in tasks for found in task.modalities if found.test != "none"]
    corrected = dict(zip([(found.task, found.modality) for found in tested], holm([f.p for f in tested]), strict=True))
    return [
        replace(task, modalities=tuple(_judged(f, corrected.get((f.task, f.modality), 1.0)) for f in task.modalities))
        for task in tasks
    ]


def _judged(found: Dependence, p_corrected: float) -> Dependence:
    low, high = found.present_low, found.present_high
    difference = high - low if low is not None and high is not None else 0.0
    alarm = p_corrected < ALPHA and matters(found.cramers_v, difference)
    return replace(found, p_corrected=p_corrected, alarm=alarm)


def _holes(patterns: Patterns, counts: Counts) -> tuple[Hole, ...]:
    """Subsets that a patient can visit and strata that the cohort has, without a labelled patient with both.

    Args:
        patterns: The patterns ``(P,)``.
        counts: Labelled patients by pattern and stratum ``(P, n_strata)``.
    """
    few = len(patterns.names) <= MOST_MODALITIES
    subsets = np.arange(1, 1 << len(patterns.names)) if few else patterns.codes[patterns.codes > 0][:MOST_PATTERNS]
    within = (patterns.codes[None, :] & subsets[:, None]) == subsets[:, None]
    within, subsets = within[within.any(axis=1)], subsets[within.any(axis=1)]
    examples, visitors = within.astype(np.int64) @ counts, within.astype(np.int64) @ patterns.counts
    holes = []
    for stratum in np.flatnonzero(counts.sum(axis=0)):
        at = np.flatnonzero(examples[:, stratum] == 0)
        codes = subsets[at]
        contains = (codes[:, None] & codes[None, :]) == codes[None, :]
        smallest = contains.sum(axis=1) == 1  # itself
        known = examples[at].sum(axis=1)
        is_pattern = np.isin(codes, patterns.codes)
        holes += [
            Hole(patterns.name(code), int(stratum), int(n), int(n_known), bool(own), bool(least))
            for code, n, n_known, own, least in zip(codes, visitors[at], known, is_pattern, smallest, strict=True)
        ]
    return tuple(sorted(holes, key=lambda hole: (-hole.n, hole.subset, hole.stratum)))


def _ints(numbers: Counts) -> tuple[int, ...]:
    return tuple(int(number) for number in numbers)


def write_audit(found: Audit, folder: Path) -> list[Path]:
    """Writes ``audit.json``, ``audit.png`` and ``audit-dark.png``, each under another name first.

    Args:
        found: What to write.
        folder: Made if it does not exist; files of an earlier audit are replaced.

    Returns:
        The files.

    Raises:
        StudyError: If the folder is a file, or cannot be written.
    """
    files = [folder / name for name in ("audit.json", "audit.png", "audit-dark.png")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(files[0], json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n")
        for file, palette in zip(files[1:], (LIGHT, DARK), strict=True):
            with replacing(file) as temporary:
                draw(found, temporary, palette)
    except OSError as error:
        raise StudyError(f"Cannot write the audit to {folder}: {error.strerror}. Name another folder.") from None
    return files
