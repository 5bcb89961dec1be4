"""The audit: whether missing modalities and empty cells depend on the outcome, before anything is trained.

`audit` computes, `sentences` words, `write_audit` writes and draws.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from multimodn.audit.empty_cells import audit_cells, read_empty_cells
from multimodn.audit.figure import audit_chart
from multimodn.audit.findings import AbsentStrata, Audit, Dependence, Hole, LateRows, PatternCount, TaskAudit, is_high
from multimodn.audit.independence import ALPHA, Bools, Counts, independence, matters, presence_auroc
from multimodn.audit.pattern_counts import Patterns
from multimodn.audit.pattern_shifts import find_shifts
from multimodn.audit.sentences import LIMIT, half_names, shift_verdict, task_verdict
from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.data.splits import Split
from multimodn.data.time.known import TimeCut
from multimodn.errors import DataError, StudyError, did_you_mean, raise_all
from multimodn.files import make_folder, write_text
from multimodn.missingness.label_shift import comparable_outcomes
from multimodn.statistics.multiple_testing import holm
from multimodn.study.study import Study
from multimodn.training.build import fit_tasks

MOST_MODALITIES = 8  # with more, holes are looked for among the patterns that occur, not among all subsets
MOST_PATTERNS = 2000  # of these; the largest ones


def audit(study: Study, cohort: Cohort, split: Split | None = None, *, seed: int = 0) -> Audit:
    """Tests for each task whether missing modalities, and empty cells of those that are there, depend on its outcome.

    All labelled patients count, those of the test part too: no model is fitted. The outcome is that of `Task.strata`,
    fitted on all of them.

    Args:
        study: Names the tasks.
        cohort: The patients with their targets.
        split: Compares the patterns of its parts if given.
        seed: Seed of folds, bootstrap and random tables.

    Returns:
        The findings; ``alarms`` are the tasks and modalities whose presence depends on the outcome: p < `ALPHA` after
        Holm's correction for all pairs, and an effect that `matters`. ``cell_alarms`` are the same for the columns of
        tables and the variables of series, corrected among themselves.

    Raises:
        DataError: If study and cohort differ in modalities, the cohort lacks the targets of a task, a label or a
            modality's frame cannot be read, or the split names patients that the cohort does not have; every problem
            is listed.
    """
    _check(study, cohort)
    patterns, cells = Patterns.of(cohort), read_empty_cells(study, cohort)
    n_tests = len(study.tasks) * len(patterns.names)
    fitted = fit_tasks(study, cohort)
    strata = {task.name: _strata(task, cohort) for task in fitted}
    tasks = _corrected([_task_audit(task, strata[task.name], patterns, n_tests, seed) for task in fitted])
    of_cells = audit_cells(cells, {task.name: (strata[task.name], task.n_strata) for task in fitted}, seed)
    tasks = [replace(task, cells=of_cells[task.task]) for task in tasks]
    n_cell_tests = sum(each.n_tests for task in tasks for each in task.cells)
    tasks = [replace(task, verdict=task_verdict(task, n_tests, n_cell_tests)) for task in tasks]
    shifts = find_shifts(cohort, split, patterns, seed)
    late = tuple(
        LateRows(cut.modality, cut.column, cut.n, cut.n_after + cut.n_same_day, cut.n_before)
        for cut in cohort.notes
        if isinstance(cut, TimeCut)
    )
    return Audit(study.name, len(cohort), patterns.names, tuple(tasks), shifts, shift_verdict(shifts), LIMIT, late)


def _check(study: Study, cohort: Cohort) -> None:
    problems = [
        f"task '{task.name}': the cohort has no targets for it. Load it with labels, or name them in "
        f"`Cohort.from_frames(..., targets=...)`.{did_you_mean(task.name, cohort.targets)}"
        for task in study.tasks
        if task.name not in cohort.targets
    ]
    for wanted, valid, what in (
        (study.steps, cohort.modalities, "the cohort does not hold it"),
        (cohort.modalities, study.steps, "the study does not name it"),
    ):
        lacking = [name for name in wanted if name not in valid]
        problems += [f"modality '{name}': {what}.{did_you_mean(name, valid)}" for name in lacking]
    raise_all(problems, DataError, f"Study '{study.name}' cannot be audited")


def _strata(task: Task, cohort: Cohort) -> Counts:
    """The outcome stratum of each patient ``(n,)``, -1 = no label."""
    target, is_labelled = task.prepare(cohort.targets[task.name])
    strata: Counts = task.strata(target).masked_fill(~is_labelled, -1).numpy()
    return strata


def _task_audit(task: Task, strata: Counts, patterns: Patterns, n_tests: int, seed: int) -> TaskAudit:
    """Everything about a task except what needs the other tasks: corrected p, alarms, cells and verdict."""
    rows = strata >= 0
    stratum, pattern = strata[rows], patterns.of_patient[rows]
    n_strata, n_patterns = task.n_strata, len(patterns.codes)
    flat = np.bincount(pattern * n_strata + stratum, minlength=n_patterns * n_strata)
    counts = flat.reshape(n_patterns, n_strata)
    labelled = counts.sum(axis=1)
    return TaskAudit(
        task=task.name,
        n=len(rows),
        labelled=int(rows.sum()),
        outcomes=tuple(map(str, task.stratum_names)),
        halves=half_names(task, _ints(counts.sum(axis=0))),
        strata=_ints(counts.sum(axis=0)),
        patterns=tuple(
            PatternCount(patterns.name(code), patterns.members(code), int(n), int(n_labelled), _ints(strata))
            for code, n, n_labelled, strata in zip(patterns.codes, patterns.counts, labelled, counts, strict=True)
        ),
        auroc=presence_auroc(pattern, patterns.presence, _high_strata(stratum, n_strata), seed),
        modalities=_dependences(task.name, patterns, counts, n_tests, seed),
        holes=_holes(patterns, counts),
        unlabelled=tuple(patterns.name(code) for code in patterns.codes[labelled == 0]),
        absent=_absent(task, patterns, counts),
    )


def _high_strata(stratum: Counts, n_strata: int) -> Bools:
    """Returns whether the stratum of each row is in the upper half ``(n,)``."""
    high: Bools = np.array([is_high(k, n_strata) for k in range(n_strata)])[stratum]
    return high


def _dependences(task: str, patterns: Patterns, counts: Counts, n_tests: int, seed: int) -> tuple[Dependence, ...]:
    """Tests each modality; nothing is corrected yet."""
    everyone, n_strata = counts.sum(axis=0), counts.shape[1]
    high = _high_strata(np.arange(n_strata), n_strata)
    tests = []
    for name, has in zip(patterns.names, patterns.presence.T, strict=True):
        present = counts[has].sum(axis=0)
        table = np.stack([everyone - present, present], axis=1)
        result = independence(table, n_tests=n_tests, seed=seed)
        low, up = (float(present[half].sum() / n) if (n := everyone[half].sum()) else None for half in (~high, high))
        v = result.cramers_v
        tests.append(Dependence(task, name, _ints(present), low, up, result.test, result.p, 1.0, v, alarm=False))
    return tuple(tests)


def _corrected(tasks: Sequence[TaskAudit]) -> list[TaskAudit]:
    """Corrects p over all pairs that could be tested, and raises the alarms."""
    tested = [one for task in tasks for one in task.modalities if one.test != "none"]
    adjusted = holm(np.array([one.p for one in tested])).tolist()
    corrected = {(one.task, one.modality): p for one, p in zip(tested, adjusted, strict=True)}

    def judged(one: Dependence) -> Dependence:
        p, low, high = corrected.get((one.task, one.modality), 1.0), one.present_low, one.present_high
        difference = high - low if low is not None and high is not None else 0.0
        return replace(one, p_corrected=p, alarm=p < ALPHA and matters(one.cramers_v, difference))

    return [replace(task, modalities=tuple(map(judged, task.modalities))) for task in tasks]


def _holes(patterns: Patterns, counts: Counts) -> tuple[Hole, ...]:
    """Subsets that a patient can visit and strata that the cohort has, without a labelled patient with both.

    ``counts``: labelled patients by pattern and stratum ``(P, n_strata)``.
    """
    few = len(patterns.names) <= MOST_MODALITIES
    subsets = np.arange(1, 1 << len(patterns.names)) if few else patterns.codes[patterns.codes > 0][:MOST_PATTERNS]
    within = (patterns.codes[None, :] & subsets[:, None]) == subsets[:, None]
    within, subsets = within[within.any(axis=1)], subsets[within.any(axis=1)]
    examples, visitors = within.astype(np.int64) @ counts, within.astype(np.int64) @ patterns.counts
    holes = []
    for stratum in np.flatnonzero(counts.sum(axis=0)):
        empty = np.flatnonzero(examples[:, stratum] == 0)
        codes = subsets[empty]
        contains = (codes[:, None] & codes[None, :]) == codes[None, :]
        smallest = contains.sum(axis=1) == 1  # itself
        labelled, is_pattern = examples[empty].sum(axis=1), np.isin(codes, patterns.codes)
        names, numbers = map(patterns.name, codes), (visitors[empty], labelled, is_pattern, smallest)
        columns = zip(names, *(column.tolist() for column in numbers), strict=True)
        holes += [Hole(name, int(stratum), *rest) for name, *rest in columns]
    return tuple(sorted(holes, key=lambda hole: (-hole.n, hole.subset, hole.stratum)))


def _absent(task: Task, patterns: Patterns, counts: Counts) -> tuple[AbsentStrata, ...]:
    """Finds for each modality that labelled patients have the strata that none of them has."""
    everyone, found = counts.sum(axis=0), []
    for name, has in zip(patterns.names, patterns.presence.T, strict=True):
        present = counts[has].sum(axis=0)
        absent = np.flatnonzero((present == 0) & (everyone > 0))
        if len(absent) and present.any():
            usable = bool(comparable_outcomes(task, torch.from_numpy(present), torch.from_numpy(everyone)))
            is_left_out = not usable and not task.has_strata_likelihood
            found.append(AbsentStrata(name, int(present.sum()), _ints(absent), is_left_out))
    return tuple(found)


def _ints(numbers: Counts) -> tuple[int, ...]:
    return tuple(int(number) for number in numbers)


def write_audit(result: Audit, folder: Path) -> list[Path]:
    """Writes ``audit.json``, ``audit.png`` and ``audit-dark.png``, each whole or not at all; returns the files.

    The folder is made if it does not exist; files of an earlier audit are replaced.

    Raises:
        StudyError: If the folder is a file, or cannot be written.
    """
    file = folder / "audit.json"
    try:
        make_folder(folder)
        write_text(file, json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n")
        return [file, *audit_chart(result).save_png(folder, is_titled=True)]
    except OSError as error:
        raise StudyError(f"Cannot write the audit to {folder}: {error.strerror}. Name another folder.") from None
