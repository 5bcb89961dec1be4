"""What a report is about, gathered and without the names of patients; sections only word and draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd

from multimodn.findings.experts import ExpertUse
from multimodn.findings.findings import Findings, findings_of
from multimodn.findings.frames import ComparisonFrame
from multimodn.findings.names import named_patterns, pattern_words

Answer = Literal[
    "performance", "calibration", "calibration_by_pattern", "predicted", "slopes", "decision", "coverage", "baselines",
    "conflicts", "gains", "trajectory", "contributions", "summary", "by_class", "by_group", "interactions", "synergy",
    "orders", "value", "next", "training", "patient_outputs", "patient_trajectory", "patient_contributions",
    "patient_next", "patient_attributions", "patient_maps", "patient_sets",
]  # frames, as the methods of `MultiModN` and the functions of `multimodn.evaluate` return them  # fmt: skip


@dataclass(frozen=True)
class Wishes:
    """What a reader asks of a report.

    ``arms`` are the simple models that are trained to be compared with; empty: none; default: those of
    `multimodn.evaluate.baselines.compare.default_arms`, or what the run folder knows of them.
    """

    sources: Mapping[str, Path] = field(default_factory=dict)  # files in the place of the study's sources
    everyone: bool = False  # all patients, those trained on too
    patients: Sequence[str] = ()  # who is shown one by one, under their names; default: a few by a rule
    slides: Path | None = None  # folder with the slides on which attention is drawn
    by_name: bool = False  # whether all patients are shown under their names
    n_resamples: int = 500  # bootstrap resamples behind intervals
    arms: Sequence[str] | None = None
    task_gains: bool = False  # whether a model of each task alone is trained, to see what it gains from the others
    seed: int = 0  # of whatever is drawn at random


@dataclass(frozen=True)
class TaskInfo:
    """A task: its name and kind, its link scale, the columns of the link scale, and the metric that sums it up."""

    name: str
    kind: str
    scale: str
    outputs: tuple[str, ...]
    metric: str


@dataclass(frozen=True)
class ModalityInfo:
    """A modality, or a reading of one: its name and kind, its columns, and the tasks that it is hidden from."""

    name: str
    kind: str
    n_columns: int
    hidden_from: tuple[str, ...]


@dataclass(frozen=True)
class RunInfo:
    """Provenance of a model."""

    name: str  # the study's name
    study: str  # the study file's text
    trained: str  # date of the model's files
    versions: Mapping[str, str]  # of the packages that trained it
    data_hash: str  # SHA-256 of the values and labels trained and tested on
    split_hash: str  # SHA-256 of who was in which part
    seed: int  # of the training
    n_members: int  # networks of the ensemble
    missingness: str  # the study's word
    sources: Mapping[str, str]  # for each source of the study what it reads
    documents: Sequence[str] = ()  # names of files of the run folder that tell more, such as its model card
    experts: ExpertUse = field(default_factory=ExpertUse)  # the experts of the model


@dataclass(frozen=True)
class ChosenPatient:
    """A patient who is shown alone."""

    label: str  # a letter, or the patient's name where that may be shown
    why: str  # why this one
    part: str  # ``train``, ``validation``, ``test``, or empty
    has: tuple[str, ...]  # Modalities, in the model's order
    lacks: tuple[str, ...]  # those that the patient lacks
    output: str  # the link-scale column of the main task that is explained
    modality: str  # the one whose parts are attributed to; empty = none can be


@dataclass(frozen=True)
class SlideMap:
    """A heat map of attention on a slide of a patient: label, number of the slide, and the image's bytes."""

    label: str
    number: int
    png: bytes


@dataclass(frozen=True)
class ReportContent:
    """All that a report is about."""

    run: RunInfo  # provenance of the model
    tasks: Sequence[TaskInfo]  # in the study's order; the first is the main one
    modalities: Sequence[ModalityInfo]  # in the order of the steps
    who: str  # whom the numbers are about, such as ``test patients``
    n_shown: int  # how many they are
    n_explained: int  # how many of them are explained
    is_trained_on: bool  # whether the model was trained on some of them
    is_by_name: bool  # whether patients bear their names
    presence: pd.DataFrame  # Bool, all patients x modalities
    parts: pd.DataFrame  # for each part of the split, and in all, ``patients`` and the labels of each task
    outcomes: pd.DataFrame  # ``task``, ``outcome``, ``patients`` over all patients
    answers: Mapping[Answer, pd.DataFrame]  # frames
    lacking: Mapping[Answer, str]  # for an answer that is not there the reason, a sentence
    patients: Sequence[ChosenPatient] = ()  # those who are shown alone
    rule: str = ""  # how they were chosen
    maps: Sequence[SlideMap] = ()  # heat maps

    def get(self, name: Answer) -> pd.DataFrame | None:
        """Returns an answer, None if it could not be had or is empty."""
        frame = self.answers.get(name)
        return None if frame is None or frame.empty else frame

    @cached_property
    def findings(self) -> Findings:
        """What the sentences of the report are about."""
        frames = (self.get(name) for name in ("performance", "slopes", "coverage", "baselines", "summary"))
        return findings_of(*frames)

    @cached_property
    def patterns(self) -> dict[str, tuple[str, ...]]:
        """The modalities of each presence pattern that a task may see, by the pattern's name."""
        tasks = [task.name for task in self.tasks]
        hidden = {task: [one.name for one in self.modalities if task in one.hidden_from] for task in tasks}
        return named_patterns(self.presence, hidden)

    def pattern_words(self, pattern: str) -> str:
        """Names a presence pattern briefly; a name that is none, such as of pooled patterns, stays as it is."""
        return pattern_words(self.patterns[pattern], self.names) if pattern in self.patterns else pattern

    @property
    def comparison(self) -> ComparisonFrame | None:
        """The comparison with simple models."""
        frame = self.get("baselines")
        return None if frame is None else ComparisonFrame.of(frame)

    def why_not(self, name: Answer) -> str:
        """Says why an answer is not there."""
        return self.lacking.get(name, "There is nothing to show: no patient has the data that this needs.")

    @property
    def names(self) -> list[str]:
        """Modality names in the order of the steps."""
        return [modality.name for modality in self.modalities]

    @property
    def main_task(self) -> TaskInfo:
        """The study's first task, by which patients are chosen."""
        return self.tasks[0]


ANSWERS_OF: dict[str, tuple[Answer, ...]] = {
    "performance": ("performance", "calibration", "predicted", "slopes", "calibration_by_pattern", "decision"),
    "sets": ("coverage",),
    "simple models": ("baselines",),
    "tasks together": ("conflicts",),
    "gains of tasks": ("gains",),
    "trajectories": ("trajectory",),
    "contributions": ("contributions", "summary", "by_class", "by_group"),
    "interactions": ("interactions", "synergy"),
    "orders": ("orders",),
    "value of modalities": ("value",),
    "what to measure next": ("next",),
    "single patients": (
        "patient_trajectory", "patient_contributions", "patient_next", "patient_attributions", "patient_sets",
    ),
    "slides": ("patient_maps",),
    "training curves": ("training",),
}  # fmt: skip
