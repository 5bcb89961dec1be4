"""A trained model: its networks, and the numbers that predictions, explanations and reports are computed from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from multimodn.base.batches import Batch, PatientTensors
from multimodn.base.task import Task
from multimodn.conformal.calibration_scores import Conformal
from multimodn.data.cohort import Cohort
from multimodn.data.splits import Split, make_split
from multimodn.errors import DataWarning, StudyError, did_you_mean
from multimodn.explain.acquisition.next_modality import Acquisition
from multimodn.fusion import Ensemble, Outputs
from multimodn.fusion.paths import order_numbers
from multimodn.study.study import Study
from multimodn.training.build import prepare
from multimodn.training.fit import member_rows

PREDICT_BATCH = 4096
LATTICE_BATCH = 1024
LATTICE_CELLS = 2**22  # a batch holds the outputs of all its subsets at once

Patients = Cohort | PatientTensors


@dataclass(eq=False)
class TrainedModel:
    """A study and the networks that were trained on it; what a bundle holds.

    N patients, M modalities in the study's order, T tasks, K outputs of a task.

    Attributes:
        study: What was trained.
        ensemble: The networks; their calibrated mean is the prediction.
        split: Training, validation and test patients; None if they are not recorded.
        provenance: Seed, versions, hashes of data and split, and how training went.
        acquisition: Predicts which modality to measure next; None before `model.explain.fit_acquisition`.
        conformal_scores: Calibrates conformal prediction sets; None before `model.conformal.fit`.
    """

    study: Study
    ensemble: Ensemble
    split: Split | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    acquisition: Acquisition | None = None
    conformal_scores: Conformal | None = None

    @property
    def tasks(self) -> dict[str, Task]:
        """Tasks by name."""
        return self.ensemble.tasks

    @property
    def modalities(self) -> list[str]:
        """Modality names as the networks number them; each repeated reading is a modality of its own."""
        return self.ensemble.first.modalities

    @property
    def order(self) -> list[str]:
        """Modality names in the order in which predictions take them."""
        return [self.modalities[m] for m in self.ensemble.first.order]

    @property
    def n_members(self) -> int:
        """Networks in the ensemble."""
        return len(self.ensemble.members)

    @property
    def prior(self) -> Outputs:
        """For each task the outputs ``(K,)`` without any modality."""
        with torch.inference_mode():
            return self.ensemble.prior()

    @property
    def hidden(self) -> dict[str, list[str]]:
        """For each task the modalities that the study hides from it."""
        seen = self.ensemble.first.seen.tolist()
        return {
            task: [name for name, sees in zip(self.modalities, row, strict=True) if not sees]
            for task, row in zip(self.tasks, seen, strict=True)
        }

    def select_tasks(self, name: str | None = None) -> dict[str, Task]:
        """Returns all tasks by name, or the one of that name."""
        if name is None:
            return self.tasks
        if name not in self.tasks:
            raise StudyError(f"Unknown task '{name}'.{did_you_mean(name, self.tasks)}")
        return {name: self.tasks[name]}

    def prepare(self, cohort: Patients | None = None, *, labelled: bool = False) -> PatientTensors:
        """Parses patients once, for any number of predictions and explanations.

        Args:
            cohort: The patients, with any subset of the modalities; default: those of the study's sources. Prepared
                patients are returned as they are.
            labelled: Whether to read targets too, which `evaluate` needs.

        Raises:
            DataError: If a cell cannot be read; the message names patient and column.
        """
        if isinstance(cohort, PatientTensors):
            return cohort
        cohort = Cohort.load(self.study, labelled=labelled) if cohort is None else cohort
        return prepare(self.ensemble.first, cohort, labelled=labelled)

    def development_patients(
        self, cohort: Cohort | None = None
    ) -> tuple[Cohort, PatientTensors, list[tuple[Tensor, Tensor]]]:
        """Returns the patients of training and validation, and for each member its training and held-out rows of them.

        ``cohort`` holds them; default: the study's sources.
        """
        cohort = Cohort.load(self.study) if cohort is None else cohort
        split = self.split or make_split(self.study, cohort)
        seen = cohort.subset([*split.train, *split.validation])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # shown when they were trained on
            patients = self.prepare(seen, labelled=True)
        return seen, patients, member_rows(self.study, seen, split)

    def test_cohort(self) -> Cohort:
        """Reads the test patients of the split from the study's sources."""
        everyone = Cohort.load(self.study)
        return everyone.subset((self.split or make_split(self.study, everyone)).test)

    def outputs(self, patients: PatientTensors, order: Sequence[str] | None = None) -> Outputs:
        """Returns for each task the outputs ``(N, K)`` after all present modalities.

        ``order``: modality names in the order of the steps, all or some; default: the study's.
        """
        order = self._expanded(order)
        return self._over_batches(patients.batches(PREDICT_BATCH), lambda batch: self.ensemble(batch, order))

    def step_outputs(self, patients: PatientTensors, order: Sequence[str] | None = None) -> Outputs:
        """Returns for each task the outputs ``(len(order) + 1, N, K)`` before any modality and after each step."""
        order, batches = self._expanded(order), patients.batches(PREDICT_BATCH)
        return self._over_batches(batches, lambda batch: self.ensemble.trajectory(batch, order), dim=1)

    def subset_outputs(self, patients: PatientTensors) -> Outputs:
        """Returns for each task the outputs ``(2^M, N, K)`` of every subset; bit m of a subset's number: modality m."""
        return self._over_batches(self.lattice_batches(patients), self.ensemble.lattice, dim=1)

    def lattice_batches(self, patients: PatientTensors) -> Iterator[Batch]:
        """Slices patients so that the outputs of all subsets of a batch fit in memory."""
        return patients.batches(min(LATTICE_BATCH, max(64, LATTICE_CELLS >> len(self.modalities))))

    def steps_taken(self, patients: PatientTensors, order: Sequence[str] | None = None) -> Tensor:
        """Bool ``(T, N, len(order))``: which steps each patient takes for each task."""
        numbers = order_numbers(self._expanded(order) or self.order, self.modalities)
        return patients.presence[:, numbers] & self.ensemble.first.seen[:, None, numbers]

    def _expanded(self, order: Sequence[str] | None) -> list[str] | None:
        return None if order is None else self.study.expanded(order)

    def _over_batches(self, batches: Iterator[Batch], run: Callable[[Batch], Outputs], dim: int = 0) -> Outputs:
        with torch.inference_mode():
            parts = [run(batch) for batch in batches]
        return {name: torch.cat([part[name] for part in parts], dim) for name in parts[0]}
