"""`MultiModN`: fit, predict, evaluate, save, load; what it tells beside stands in `model/conformal.py` and below."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pandas as pd
from torch import Tensor

from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.data.splits import Split, make_split
from multimodn.errors import DataWarning, shown
from multimodn.files import BUNDLE
from multimodn.fusion import Ensemble
from multimodn.model import tables as frames
from multimodn.model.conformal import Reliable
from multimodn.model.trained import Patients
from multimodn.study.study import Study

if TYPE_CHECKING:
    from multimodn.training.fit import TrainerFlags


class MultiModN(Reliable):
    """Predicts several tasks from the modalities that each patient has.

    Wherever a method takes a ``cohort``, the result of `prepare` will do, and saves parsing it again.

    Args:
        study: A `Study`, or the path of a study file.
    """

    def __init__(self, study: Study | str | Path) -> None:
        super().__init__(study if isinstance(study, Study) else Study.load(Path(study)))

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
        from multimodn.data.covariates import read_covariates
        from multimodn.missingness.propensity import weighted
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
        if spec.calibrate:
            neutral = self.study.missingness == "neutral"
            self.provenance["calibration"] = calibrate(self.model, patients, rows, spec.seed, neutral=neutral)
        return self

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

    def evaluate(self, cohort: Patients | None = None, *, order: Sequence[str] | None = None) -> pd.DataFrame:
        """Scores the predictions of labelled patients.

        Args:
            cohort: The patients; default: the test patients of the study's split.
            order: Modality names; default: the study's.

        Returns:
            One row for each task and metric: ``task``, ``metric``, ``value`` (NaN = undefined on these patients),
            ``n`` (labelled patients).
        """
        patients = self._labelled(self.test_cohort() if cohort is None else cohort)
        order = self._expanded(order)
        outputs = self._run(patients, lambda batch: self._model()(batch, order))
        return frames.scores(self._model().tasks, patients, outputs)

    def save(self, path: str | Path) -> Path:
        """Writes the model as a bundle: a folder with weights (safetensors) and what they mean (JSON)."""
        from multimodn.model.bundle import Content, save

        content = Content(self.study, self._model(), self.split, self.provenance, self.acquisition, self.sets)
        return save(Path(path), content)

    @classmethod
    def load(cls, path: str | Path) -> MultiModN:
        """Reads a bundle.

        Raises:
            BundleError: If it is truncated, edited, or of another schema.
        """
        from multimodn.model.bundle import load

        found = load(Path(path))
        loaded = cls(found.study)
        loaded.model, loaded.acquisition, loaded.sets = found.model, found.acquisition, found.sets
        loaded.split, loaded.provenance = found.split, dict(found.provenance)
        return loaded


def load_run(folder: Path) -> MultiModN:
    """Loads the bundle of a run folder, or of a bundle's own folder.

    Raises:
        BundleError: If there is none that can be trusted.
    """
    return MultiModN.load(folder / BUNDLE if (folder / BUNDLE).is_dir() else folder)
