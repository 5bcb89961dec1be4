"""`MultiModN`: fit, predict, trajectory, contributions, evaluate, save, load."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd
import torch
from torch import Tensor

from multimodn import frames
from multimodn.base import Task
from multimodn.data.batches import Batch, PatientTensors
from multimodn.data.cohort import Cohort
from multimodn.data.splits import Split, make_split
from multimodn.errors import DataWarning, NotFittedError, StudyError, shown
from multimodn.explain.contributions import Contributions, contributions
from multimodn.fusion import Ensemble, Outputs
from multimodn.fusion.paths import order_numbers
from multimodn.study import Study

if TYPE_CHECKING:
    from multimodn.training.fit import TrainerFlags

PREDICT_BATCH = 4096
LATTICE_BATCH = 1024  # a batch holds the outputs of all its subsets at once

Patients = Cohort | PatientTensors


class MultiModN:
    """Predicts several tasks from the modalities that each patient has.

    Wherever a method takes a ``cohort``, the result of `prepare` will do, and saves parsing it again.

    Args:
        study: A `Study`, or the path of a study file.

    Attributes:
        model: The trained networks, whose mean is the prediction; None before `fit`.
        split: Who was trained on, validated on and tested on; None before `fit`.
        provenance: Seed, versions, hashes of data and split, and how training went.
    """

    def __init__(self, study: Study | str | Path) -> None:
        self.study = study if isinstance(study, Study) else Study.load(Path(study))
        self.model: Ensemble | None = None
        self.split: Split | None = None
        self.provenance: dict[str, Any] = {}

    def __repr__(self) -> str:
        trained = "not trained" if self.model is None else f"{len(self.model.members)} trained member(s)"
        return f"MultiModN({self.study.name!r}, {trained})"

    def fit(
        self,
        cohort: Cohort | None = None,
        *,
        split: Split | None = None,
        folder: Path | None = None,
        flags: TrainerFlags | None = None,
    ) -> MultiModN:
        """Trains on the split's training and validation patients; nothing of the test patients is looked at.

        Args:
            cohort: The patients; default: those of the study's sources.
            split: Who trains, validates and tests; default: the study's.
            folder: Where checkpoints go. The same call after an interruption goes on after the last finished epoch.
            flags: Lightning's flags.

        Raises:
            DataError: If the data cannot be used; every problem found is listed.
        """
        from multimodn.missingness.propensity import read_covariates, weighted
        from multimodn.training.build import build_model, prepare
        from multimodn.training.calibrate import calibrate
        from multimodn.training.fit import fit_members, member_rows
        from multimodn.training.provenance import provenance

        cohort = Cohort.load(self.study) if cohort is None else cohort
        split = make_split(self.study, cohort) if split is None else split
        spec = self.study.training
        everyone = [*split.train, *split.validation]
        fitted_on = cohort.subset(everyone if spec.members > 1 else split.train)
        members = [build_model(self.study, fitted_on, spec.seed + k) for k in range(spec.members)]
        del fitted_on  # a copy of the tables, which must not stand beside the tensors
        seen = cohort.subset(everyone)
        rows = member_rows(self.study, seen, split)
        patients = prepare(members[0], seen, labelled=True)
        if len(split.test):  # what cannot be read of them is told now, not after hours of training
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # told when they are predicted
                prepare(members[0], cohort.subset(split.test), labelled=True)
        if self.study.presence_covariates and self.study.missingness == "neutral":
            tasks = [cast(Task, task) for task in members[0].tasks.values()]
            covariates = read_covariates(seen, self.study.presence_covariates)
            patients = weighted(patients, covariates, tasks, members[0].seen)
        del seen
        log = fit_members(self.study, members, patients, rows, folder, flags)
        self.model, self.split = Ensemble(members).eval(), split
        self.provenance = provenance(cohort, split, spec.seed) | {"members": log}
        if self.study.missingness == "neutral":
            self.provenance["calibration"] = calibrate(self.model, patients, rows, spec.seed)
        return self

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

    def predict(self, cohort: Patients | None = None, *, order: Sequence[str] | None = None) -> pd.DataFrame:
        """Predicts every task for every patient.

        Args:
            cohort: The patients; default: those of the study's sources.
            order: Modality names in the order of the steps, all or some; default: the study's.

        Returns:
            One row for each patient, task and output, indexed by patient: ``task``, ``output`` (such as
            ``probability``), ``value``, and ``n_modalities``, the number of modalities that the value rests on.
            A patient without any gets the prior, and a `DataWarning` says so.
        """
        patients = self._prepared(cohort)
        order = self._expanded(order)
        outputs = self._run(patients, lambda batch: self._model()(batch, order))
        n_used = self._steps(patients, order).sum(2)
        nobody = patients.patients[(n_used == 0).all(0).numpy()]
        if len(nobody):
            names = shown(list(nobody))
            warnings.warn(
                f"{len(nobody)} patient(s) have none of the modalities and get the prior: {names}.",
                DataWarning,
                stacklevel=2,
            )
        return frames.predictions(self._model().tasks, patients.patients, outputs, n_used)

    def link(self, cohort: Patients | None = None, *, order: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Predicts on the link scale: for each task ``(N, len(link_names))``, such as log-odds."""
        patients, model, order = self._prepared(cohort), self._model(), self._expanded(order)
        outputs = self._run(patients, lambda batch: model(batch, order))
        return {name: task.link(outputs[name]) for name, task in model.tasks.items()}

    def trajectory(self, cohort: Patients | None = None, *, order: Sequence[str] | None = None) -> pd.DataFrame:
        """Predicts after every step.

        Returns:
            One row for each patient, task, output and step that the patient takes, indexed by patient: ``task``,
            ``output``, ``step`` (0 = before any modality), ``modality`` (empty at step 0) and ``value``.
        """
        patients, order = self._prepared(cohort), self._expanded(order)
        outputs = self._run(patients, lambda batch: self._model().trajectory(batch, order), dim=1)
        names = self.order if order is None else list(order)
        return frames.trajectories(self._model().tasks, patients.patients, outputs, self._steps(patients, order), names)

    def contributions(self, cohort: Patients | None = None, *, n_pairs: int = 32, seed: int = 0) -> pd.DataFrame:
        """Shares each prediction out among the patient's modalities: Shapley values on the task's link scale.

        Exact for up to ten modalities; beyond that, orders are sampled and ``standard_error`` says how closely.
        Either way they add up to ``prediction - prior``.

        Args:
            cohort: The patients; default: those of the study's sources.
            n_pairs: Number of sampled orders, each with its reverse; unused where the values are exact.
            seed: Seed of the sampled orders.

        Returns:
            One row for each patient, task, output and present modality, indexed by patient: ``task``, ``output``,
            ``modality``, ``contribution``, ``standard_error`` (0 = exact), ``prior``, ``prediction``.
        """
        patients, model = self._prepared(cohort), self._model()
        with torch.inference_mode():
            parts = [contributions(model, batch, n_pairs, seed) for batch in patients.batches(LATTICE_BATCH)]
        whole = {name: Contributions.joined([part[name] for part in parts]) for name in model.tasks}
        return frames.contributions(model.tasks, patients, whole, model.first.modalities, model.first.seen)

    def attention(self, modality: str, cohort: Patients | None = None) -> pd.DataFrame:
        """Returns where the encoder of a modality looked, such as the weight of every tile of a patient's slides.

        Args:
            modality: One whose kind pools parts, such as `slide`.
            cohort: The patients; default: those of the study's sources.

        Returns:
            One row for each part: ``patient``, its place (for slides ``file``, ``x``, ``y``) and ``attention``, which
            adds up to 1 for each patient.
        """
        from multimodn.explain.attention import attention

        return attention(self._model(), self._prepared(cohort), modality)

    def with_tiles(self) -> str:
        """Returns the name of the modality that `attention` can be asked about.

        Raises:
            StudyError: If there is none, or more than one.
        """
        from multimodn.explain.attention import with_parts

        found = with_parts(self._model())
        if len(found) != 1:
            raise StudyError(f"{len(found)} modalities look at tiles ({', '.join(found) or 'none'}); name one.")
        return found[0]

    def evaluate(self, cohort: Patients | None = None, *, order: Sequence[str] | None = None) -> pd.DataFrame:
        """Scores the predictions of labelled patients.

        Args:
            cohort: The patients; default: the test patients of the study's split.
            order: Modality names; default: the study's.

        Returns:
            One row for each task and metric: ``task``, ``metric``, ``value`` (NaN = undefined on these patients),
            ``n`` (labelled patients).
        """
        if cohort is None:
            everyone = Cohort.load(self.study)
            cohort = everyone.subset((self.split or make_split(self.study, everyone)).test)
        patients = cohort if isinstance(cohort, PatientTensors) else self.prepare(cohort, labelled=True)
        order = self._expanded(order)
        outputs = self._run(patients, lambda batch: self._model()(batch, order))
        return frames.scores(self._model().tasks, patients, outputs)

    def save(self, path: str | Path) -> Path:
        """Writes the model as a bundle: a folder with weights (safetensors) and what they mean (JSON)."""
        from multimodn.bundle import save

        return save(Path(path), self.study, self._model(), self.split, self.provenance)

    @classmethod
    def load(cls, path: str | Path) -> MultiModN:
        """Reads a bundle.

        Raises:
            BundleError: If it is truncated, edited, or of another schema.
        """
        from multimodn.bundle import load

        study, model, split, provenance = load(Path(path))
        loaded = cls(study)
        loaded.model, loaded.split, loaded.provenance = model, split, provenance
        return loaded

    @property
    def order(self) -> list[str]:
        """Modality names in the order in which predictions take them."""
        first = self._model().first
        return [first.modalities[m] for m in first.order]

    def _model(self) -> Ensemble:
        if self.model is None:
            raise NotFittedError("This model is not trained: call fit(), or MultiModN.load(path).")
        return self.model

    def _expanded(self, order: Sequence[str] | None) -> list[str] | None:
        return None if order is None else self.study.expanded(order)

    def _prepared(self, cohort: Patients | None) -> PatientTensors:
        return cohort if isinstance(cohort, PatientTensors) else self.prepare(cohort)

    def _steps(self, patients: PatientTensors, order: Sequence[str] | None) -> Tensor:
        """Bool ``(T, N, len(order))``: which steps each patient takes for each task."""
        first = self._model().first
        numbers = order_numbers(order or self.order, first.modalities)
        return patients.presence[:, numbers] & first.seen[:, None, numbers]

    def _run(self, patients: PatientTensors, run: Callable[[Batch], Outputs], dim: int = 0) -> Outputs:
        with torch.inference_mode():
            parts = [run(batch) for batch in patients.batches(PREDICT_BATCH)]
        return {name: torch.cat([part[name] for part in parts], dim) for name in parts[0]}
