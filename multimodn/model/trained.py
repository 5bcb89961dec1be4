"""What a trained model is, to whoever asks it something: networks, study, split, and patients as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from multimodn.base.batches import Batch, PatientTensors
from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.data.splits import Split, make_split
from multimodn.errors import NotFittedError, StudyError, did_you_mean
from multimodn.fusion import Ensemble, Outputs
from multimodn.fusion.paths import order_numbers
from multimodn.study.study import Study

if TYPE_CHECKING:
    from multimodn.conformal.calibration_scores import Conformal
    from multimodn.explain.acquisition.next_modality import Acquisition

PREDICT_BATCH = 4096

Patients = Cohort | PatientTensors


class Trained:
    """A study and the networks that were trained on it.

    Attributes:
        study: What was trained.
        model: The trained networks, whose mean is the prediction; None before training.
        acquisition: What tells which modality to measure next; None before `fit_acquisition`.
        sets: What conformal sets are calibrated with; None before `fit_conformal`.
        split: Who was trained on, validated on and tested on; None before training.
        provenance: Seed, versions, hashes of data and split, and how training went.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.model: Ensemble | None = None
        self.acquisition: Acquisition | None = None
        self.sets: Conformal | None = None
        self.split: Split | None = None
        self.provenance: dict[str, Any] = {}

    def prepare(self, cohort: Cohort | None = None, *, labelled: bool = False) -> PatientTensors:
        """Parses patients once, for as many predictions and explanations as are wanted.

        Args:
            cohort: The patients, with any subset of the modalities; default: those of the study's sources.
            labelled: Whether to read targets too, which `evaluate` needs.

        Raises:
            NotFittedError: Before `fit` or `load`.
            DataError: If a cell cannot be read; the message names patient and column.
        """
        from multimodn.training.build import prepare

        model = self._model()
        cohort = Cohort.load(self.study, labelled=labelled) if cohort is None else cohort
        return prepare(model.first, cohort, labelled=labelled)

    def test_cohort(self) -> Cohort:
        """Reads the test patients of the split from the study's sources."""
        everyone = Cohort.load(self.study)
        return everyone.subset((self.split or make_split(self.study, everyone)).test)

    @property
    def order(self) -> list[str]:
        """Modality names in the order in which predictions take them."""
        first = self._model().first
        return [first.modalities[m] for m in first.order]

    def _tasks(self, task: str | None = None) -> dict[str, Task]:
        """Returns all tasks by name, or the one that is asked for."""
        tasks = self._model().tasks
        if task is None:
            return tasks
        if task not in tasks:
            raise StudyError(f"Unknown task '{task}'.{did_you_mean(task, tasks)}")
        return {task: tasks[task]}

    def _model(self) -> Ensemble:
        if self.model is None:
            raise NotFittedError("This model is not trained: call fit(), or MultiModN.load(path).")
        return self.model

    def _expanded(self, order: Sequence[str] | None) -> list[str] | None:
        return None if order is None else self.study.expanded(order)

    def _prepared(self, cohort: Patients | None) -> PatientTensors:
        return cohort if isinstance(cohort, PatientTensors) else self.prepare(cohort)

    def _labelled(self, cohort: Patients | None) -> PatientTensors:
        return cohort if isinstance(cohort, PatientTensors) else self.prepare(cohort, labelled=True)

    def _steps(self, patients: PatientTensors, order: Sequence[str] | None) -> Tensor:
        """Bool ``(T, N, len(order))``: which steps each patient takes for each task."""
        first = self._model().first
        numbers = order_numbers(order or self.order, first.modalities)
        return patients.presence[:, numbers] & first.seen[:, None, numbers]

    def _run(self, patients: PatientTensors, run: Callable[[Batch], Outputs], dim: int = 0) -> Outputs:
        with torch.inference_mode():
            parts = [run(batch) for batch in patients.batches(PREDICT_BATCH)]
        return {name: torch.cat([part[name] for part in parts], dim) for name in parts[0]}
