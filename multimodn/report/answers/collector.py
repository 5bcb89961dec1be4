"""The state of collecting: what was asked of the model, and what it answered."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from multimodn.base.batches import PatientTensors
from multimodn.data.cohort import Cohort
from multimodn.errors import DataWarning
from multimodn.model import tables
from multimodn.model.multimodn import MultiModN
from multimodn.report.answers.choose_patients import labels_for, relabelled
from multimodn.report.answers.run import modality_facts, outcome_counts, part_counts, run_facts, task_facts
from multimodn.report.content import ANSWERS_OF, Answer, ChosenPatient, ReportContent, SlideMap, Wishes


@dataclass
class PatientAnswers:
    """What was asked about single patients, under their own names."""

    about: dict[str, ChosenPatient] = field(default_factory=dict)
    frames: dict[Answer, pd.DataFrame] = field(default_factory=dict)
    lacking: dict[Answer, str] = field(default_factory=dict)
    drawn: list[tuple[str, int, bytes]] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """The patients, in the order in which they are shown."""
        return list(self.about)


@dataclass
class Collector:
    """What is known so far."""

    model: MultiModN
    run: Path
    wishes: Wishes
    cohort: Cohort  # all patients of the sources
    shown: Cohort  # the patients that numbers are about
    who: str  # they in words
    patients: PatientTensors  # of them
    is_labelled: bool  # whether targets were read
    answers: dict[Answer, pd.DataFrame] = field(default_factory=dict)  # frames so far, patients under their own names
    lacking: dict[Answer, str] = field(default_factory=dict)  # why an answer is not there
    alone: PatientAnswers = field(default_factory=PatientAnswers)  # what was asked about single patients
    rule: str = ""
    n_explained: int = 0
    on_step: Callable[[str], None] = lambda name: None  # called with what a long step is about to do

    def failed(self, step: str) -> None:
        """Says of all answers of a step that are not there that they could not be computed."""
        for name in ANSWERS_OF[step]:
            if name not in self.answers:
                self.lacking.setdefault(name, "It could not be computed; the command that wrote this page says why.")

    @property
    def trained_on(self) -> pd.Index[Any]:
        """Patients whom training has seen."""
        split = self.model.split
        patients: pd.Index[Any] = pd.Index([] if split is None else [*split.train, *split.validation], dtype=object)
        return patients

    def some(self, most: int) -> PatientTensors:
        """Returns the shown patients, or as many of them drawn at random."""
        if len(self.shown) <= most:
            return self.patients
        drawn = np.random.default_rng(self.wishes.seed).permutation(len(self.shown))[:most]
        return self.patients.subset(torch.from_numpy(np.sort(drawn)))

    def labels(self, chosen: Sequence[str]) -> dict[str, str]:
        """Returns the labels of all patients, of whom some are shown alone."""
        everyone = [str(patient) for patient in self.cohort.patients]
        named = everyone if self.wishes.by_name else map(str, self.wishes.patients)
        return labels_for(everyone, chosen, named, self.wishes.seed)

    def findings(self) -> ReportContent:
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
        classes = tables.classes(self.model.trained.tasks, everybody) if self.is_labelled else self.cohort.presence[[]]
        return ReportContent(
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
            [replace(one, label=labels[patient]) for patient, one in self.alone.about.items()],
            self.rule,
            [SlideMap(labels[patient], number, png) for patient, number, png in self.alone.drawn],
        )
