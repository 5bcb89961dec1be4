"""Asks a trained model for all that a report tells; what cannot be had is left out with a reason."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from multimodn.data.cohort import Cohort
from multimodn.data.new_patients import new_cohort
from multimodn.errors import DataWarning, MultiModNError
from multimodn.model.multimodn import MultiModN
from multimodn.report.answers.collector import Collector
from multimodn.report.answers.model import STEPS
from multimodn.report.answers.patients import check_wanted
from multimodn.report.content import ReportContent, Wishes


def collect(
    model: MultiModN,
    run: Path,
    wishes: Wishes,
    on_step: Callable[[str], None] = lambda name: None,
    on_problem: Callable[[str], None] = lambda text: None,
) -> ReportContent:
    """Asks for everything; arguments as of `multimodn.report.write.write_report`. A problem may name patients.

    Raises:
        StudyError: If a source is unknown, or too many patients are to be shown one by one.
        DataError: If the sources cannot be read, or a patient is unknown.
    """
    on_step("patients")
    asked = _start(model, run, wishes)
    asked.on_step = on_step
    for name, ask in STEPS:
        on_step(name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # told when the cohort was read
                ask(asked)
        except MultiModNError as error:
            asked.failed(name)
            on_problem(f"{name}: {error}")
    return asked.findings()


def _start(model: MultiModN, run: Path, wishes: Wishes) -> Collector:
    """Reads the patients and decides whom the numbers are about."""
    given = dict(wishes.sources)
    is_labelled = not given or {task.source for task in model.study.tasks} <= set(given)
    cohort = new_cohort(model.study, given, labelled=is_labelled) if given else Cohort.load(model.study)
    check_wanted(cohort, wishes.patients)
    test = pd.Index([] if model.split is None else model.split.test, dtype=object)
    known = cohort.patients[cohort.patients.isin(test)]
    if given or wishes.everyone or not len(known):
        shown, who = cohort, "patients of the given files" if given else "patients"
    else:
        shown, who = cohort.subset(known), "test patients"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        patients = model.prepare(shown, labelled=is_labelled)
    return Collector(model, run, wishes, cohort, shown, who, patients, is_labelled)
