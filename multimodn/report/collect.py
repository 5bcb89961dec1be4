"""Asks a trained model for all that a report tells; what cannot be had is left out with a reason."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from multimodn import frames
from multimodn.data.batches import PatientTensors
from multimodn.data.cohort import Cohort
from multimodn.errors import DataWarning, MultiModNError
from multimodn.estimator import MultiModN
from multimodn.report.choose import labels_for, relabelled
from multimodn.report.collect_answers import ANSWERS_OF, STEPS
from multimodn.report.collect_patients import PatientAnswers, check_wanted
from multimodn.report.collect_run import modality_facts, outcome_counts, part_counts, run_facts, task_facts
from multimodn.report.findings import Answer, Findings, Wishes


def collect(
    model: MultiModN,
    run: Path,
    wishes: Wishes,
    on_step: Callable[[str], None] = lambda name: None,
    on_problem: Callable[[str], None] = lambda text: None,
) -> Findings:
    """Asks for everything.

    Args:
        model: A trained model.
        run: Its run folder.
        wishes: What the reader asks for.
        on_step: Called with the name of each step before it starts.
        on_problem: Called with what went wrong where an answer could not be had; it may name patients.

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


@dataclass
class Collector:
    """What is known so far.

    Attributes:
        model: The model.
        run: Its folder.
        wishes: What is asked for.
        cohort: All patients of the sources.
        shown: The patients that numbers are about.
        who: Words for them.
        patients: They as tensors.
        is_labelled: Whether targets were read.
        answers: Frames so far, patients under their own names.
        lacking: Reasons.
        alone: What was asked about single patients.
        on_step: Called with what a long step is about to do.
    """

    model: MultiModN
    run: Path
    wishes: Wishes
    cohort: Cohort
    shown: Cohort
    who: str
    patients: PatientTensors
    is_labelled: bool
    answers: dict[Answer, pd.DataFrame] = field(default_factory=dict)
    lacking: dict[Answer, str] = field(default_factory=dict)
    alone: PatientAnswers = field(default_factory=PatientAnswers)
    rule: str = ""
    n_explained: int = 0
    on_step: Callable[[str], None] = lambda name: None

    def failed(self, step: str) -> None:
        """Says of all answers of a step that are not there that they could not be computed."""
        for name in ANSWERS_OF[step]:
            if name not in self.answers:
                self.lacking.setdefault(name, "It could not be computed; the command that wrote this page says why.")

    @property
    def trained_on(self) -> pd.Index[Any]:
        """Patients whom training has seen."""
        split = self.model.split
        found: pd.Index[Any] = pd.Index([] if split is None else [*split.train, *split.validation], dtype=object)
        return found

    def some(self, most: int) -> PatientTensors:
        """Returns the shown patients, or as many of them drawn at random."""
        if len(self.shown) <= most:
            return self.patients
        drawn = np.random.default_rng(self.wishes.seed).permutation(len(self.shown))[:most]
        return self.patients.subset(torch.from_numpy(np.sort(drawn)))

    def labels(self, chosen: Sequence[str]) -> dict[str, str]:
        """Returns the labels of all patients, of whom some are shown alone."""
        if self.wishes.by_name:
            return {str(patient): str(patient) for patient in self.cohort.patients}
        everyone = [str(patient) for patient in self.cohort.patients]
        return labels_for(everyone, chosen, map(str, self.wishes.patients), self.wishes.seed)

    def findings(self) -> Findings:
        """Hides who the patients are, and gathers everything."""
        tasks = task_facts(self.model)
        labels = self.labels(self.alone.ids)
        answers = {
            name: relabelled(frame, labels) if frame.index.name == "patient" else frame
            for name, frame in (self.answers | self.alone.frames).items()
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            everybody = self.model.prepare(self.cohort, labelled=self.is_labelled)
        classes = frames.classes(self.model._model().tasks, everybody) if self.is_labelled else self.cohort.presence[[]]
        return Findings(
            run_facts(self.model, self.run),
            tasks,
            modality_facts(self.model, self.cohort),
            self.who,
            len(self.shown),
            self.n_explained,
            bool(self.shown.patients.isin(self.trained_on).any()),
            self.wishes.by_name,
            self.cohort.presence.reindex(columns=self.model.order, fill_value=False),
            part_counts(self.model, self.cohort, classes),
            outcome_counts(classes),
            answers,
            self.lacking | self.alone.lacking,
            self.alone.chosen(labels),
            self.rule,
            self.alone.maps(labels),
        )


def _start(model: MultiModN, run: Path, wishes: Wishes) -> Collector:
    """Reads the patients and decides whom the numbers are about."""
    given = dict(wishes.sources)
    outcomes = {task.source for task in model.study.tasks}
    is_labelled = not given or outcomes <= set(given)
    cohort = Cohort.load(model.study, labelled=is_labelled, sources=given or None)
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
