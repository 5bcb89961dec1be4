"""What a report is about, gathered and without the names of patients; sections only word and draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd

from multimodn.findings.findings import Findings, findings_of
from multimodn.findings.frames import ComparisonFrame
from multimodn.findings.names import named_patterns, pattern_words

Answer = Literal[
    "performance", "calibration", "calibration_by_pattern", "predicted", "slopes", "decision", "coverage", "baselines",
    "conflicts", "gains", "trajectory", "contributions", "summary", "by_class", "by_group", "interactions", "synergy",
    "orders", "value", "next", "training", "patient_outputs", "patient_trajectory", "patient_contributions",
    "patient_next", "patient_attributions", "patient_maps", "patient_sets",
]  # fmt: skip
"""Frames, as the methods of `MultiModN` and the functions of `multimodn.evaluate` return them."""


@dataclass(frozen=True)
class Wishes:
    """What a reader asks of a report.

    Attributes:
        sources: Files in the place of the study's sources.
        everyone: All patients, those trained on too.
        patients: Who is shown one by one, under their names; default: a few by a rule.
        slides: Folder with the slides on which attention is drawn.
        by_name: Whether all patients are shown under their names.
        n_resamples: Bootstrap resamples behind intervals.
        arms: Simple models that are trained to be compared with; empty: none; default: those of
            `multimodn.evaluate.baselines.compare.default_arms`, or what the run folder knows of them.
        task_gains: Whether a model of each task alone is trained, to see what the task gains from the others.
        seed: Of whatever is drawn at random.
    """

    sources: Mapping[str, Path] = field(default_factory=dict)
    everyone: bool = False
    patients: Sequence[str] = ()
    slides: Path | None = None
    by_name: bool = False
    n_resamples: int = 500
    arms: Sequence[str] | None = None
    task_gains: bool = False
    seed: int = 0


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
    """Provenance of a model.

    Attributes:
        name: The study's name.
        study: The study file's text.
        trained: Date of the model's files.
        versions: Of the packages that trained it.
        data_hash: SHA-256 of the values and labels trained and tested on.
        split_hash: SHA-256 of who was in which part.
        seed: Of the training.
        n_members: Networks of the ensemble.
        missingness: The study's word.
        sources: For each source of the study what it reads.
        documents: Names of files of the run folder that tell more, such as its model card.
    """

    name: str
    study: str
    trained: str
    versions: Mapping[str, str]
    data_hash: str
    split_hash: str
    seed: int
    n_members: int
    missingness: str
    sources: Mapping[str, str]
    documents: Sequence[str] = ()


@dataclass(frozen=True)
class ChosenPatient:
    """A patient who is shown alone.

    Attributes:
        label: A letter, or the patient's name where that may be shown.
        why: Why this one.
        part: ``train``, ``validation``, ``test``, or empty.
        has: Modalities, in the model's order.
        lacks: Those that the patient lacks.
        output: The link-scale column of the main task that is explained.
        modality: The one whose parts are attributed to; empty = none can be.
    """

    label: str
    why: str
    part: str
    has: tuple[str, ...]
    lacks: tuple[str, ...]
    output: str
    modality: str


@dataclass(frozen=True)
class SlideMap:
    """A heat map of attention on a slide of a patient: label, number of the slide, and the image's bytes."""

    label: str
    number: int
    png: bytes


@dataclass(frozen=True)
class ReportContent:
    """All that a report is about.

    Attributes:
        run: Provenance of the model.
        tasks: In the study's order; the first is the main one.
        modalities: In the order of the steps.
        who: Whom the numbers are about, such as ``test patients``.
        n_shown: How many they are.
        n_explained: How many of them are explained.
        is_trained_on: Whether the model was trained on some of them.
        is_by_name: Whether patients bear their names.
        presence: Bool, all patients x modalities.
        parts: For each part of the split, and in all, ``patients`` and the labels of each task.
        outcomes: ``task``, ``outcome``, ``patients`` over all patients.
        answers: Frames.
        lacking: For an answer that is not there the reason, a sentence.
        patients: Those who are shown alone.
        rule: How they were chosen.
        maps: Heat maps.
    """

    run: RunInfo
    tasks: Sequence[TaskInfo]
    modalities: Sequence[ModalityInfo]
    who: str
    n_shown: int
    n_explained: int
    is_trained_on: bool
    is_by_name: bool
    presence: pd.DataFrame
    parts: pd.DataFrame
    outcomes: pd.DataFrame
    answers: Mapping[Answer, pd.DataFrame]
    lacking: Mapping[Answer, str]
    patients: Sequence[ChosenPatient] = ()
    rule: str = ""
    maps: Sequence[SlideMap] = ()

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
        hidden = {
            task.name: [one.name for one in self.modalities if task.name in one.hidden_from] for task in self.tasks
        }
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
        "patient_trajectory",
        "patient_contributions",
        "patient_next",
        "patient_attributions",
        "patient_sets",
    ),
    "slides": ("patient_maps",),
    "training curves": ("training",),
}
