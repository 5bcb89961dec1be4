"""`MultiModN`: fit, predict, explain, evaluate, save, load."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.task import Task
from multimodn.data.cohort import Cohort
from multimodn.data.covariates import read_covariates
from multimodn.data.rare_labels import check_rare_labels
from multimodn.data.splits import Split, make_split, with_validation
from multimodn.errors import DataWarning, NotFittedError, shown
from multimodn.files import BUNDLE
from multimodn.fusion import Ensemble
from multimodn.missingness.propensity import weighted
from multimodn.model import bundle, tables
from multimodn.model.conformal import ConformalPrediction
from multimodn.model.explanations import Explanations
from multimodn.model.results import ContributionFrame, TrajectoryFrame
from multimodn.model.trained import Patients, TrainedModel
from multimodn.study.study import Study
from multimodn.training.build import build_model, prepare
from multimodn.training.calibrate import calibrate
from multimodn.training.cells import with_cell_tilts
from multimodn.training.experts.add import add_experts
from multimodn.training.fit import TrainerFlags, fit_members, member_rows
from multimodn.training.provenance import provenance

_FORWARDS = {  # names of before, and where they are now; they go with the next release
    name: f"explain.{name}"
    for name in (
        "deltas", "summary", "interactions", "synergy", "order_sensitivity", "value_of", "attributions",
        "attribution_map", "similar", "attention", "next",
    )
} | {
    "fit_acquisition": "explain.fit_acquisition",
    "fit_conformal": "conformal.fit",
    "with_tiles": "explain.attended_modality",
    "model": "trained.ensemble",
    "acquisition": "trained.acquisition",
    "sets": "trained.conformal_scores",
}  # fmt: skip

_NOT_TRAINED = "This model is not trained: call fit(), or MultiModN.load(path)."


class MultiModN:
    """Predicts several tasks from the modalities that each patient has.

    Wherever a method takes ``Patients``, the result of `prepare` will do, and saves parsing a cohort again.

    Args:
        study: A `Study`, or the path of a study file.

    Attributes:
        study: What is trained.
    """

    def __init__(self, study: Study | str | Path) -> None:
        self.study = study if isinstance(study, Study) else Study.load(Path(study))
        self._trained: TrainedModel | None = None

    def __repr__(self) -> str:
        trained = "not trained" if self._trained is None else f"{self._trained.n_members} trained member(s)"
        return f"MultiModN({self.study.name!r}, {trained})"

    @classmethod
    def of(cls, trained: TrainedModel) -> MultiModN:
        """Wraps a trained model."""
        model = cls(trained.study)
        model._trained = trained
        return model

    @property
    def trained(self) -> TrainedModel:
        """The networks, and what is computed from them; `NotFittedError` before `fit` or `load`."""
        if self._trained is None:
            raise NotFittedError(_NOT_TRAINED)
        return self._trained

    @property
    def is_trained(self) -> bool:
        """Whether there is anything to predict with."""
        return self._trained is not None

    @property
    def split(self) -> Split | None:
        """Training, validation and test patients; None before training."""
        return None if self._trained is None else self._trained.split

    @property
    def provenance(self) -> dict[str, Any]:
        """Seed, versions, hashes of data and split, and how training went; empty before training."""
        return {} if self._trained is None else self._trained.provenance

    @property
    def order(self) -> list[str]:
        """Modality names in the order in which predictions take them."""
        return self.trained.order

    @property
    def explain(self) -> Explanations:
        """Contributions, interactions, attributions, what to measure next, similar patients."""
        return Explanations(self.trained)

    @property
    def conformal(self) -> ConformalPrediction:
        """Conformal prediction sets."""
        return ConformalPrediction(self.trained)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Forwards names of before."""
            if hasattr(type(self), name):  # a property raised NotFittedError, an AttributeError: Python asks here
                raise NotFittedError(_NOT_TRAINED)
            if name not in _FORWARDS:
                raise AttributeError(f"'MultiModN' has no attribute '{name}'")
            place = _FORWARDS[name]
            warnings.warn(f"model.{name} is now model.{place}.", DeprecationWarning, stacklevel=2)
            value = attrgetter(place)(self)
            if not name.startswith("fit_"):
                return value
            return lambda *given, **named: (value(*given, **named), self)[1]

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
            split: Training, validation and test patients; default: the study's. Without validation patients a fifth of
                the training patients is drawn, see `multimodn.data.splits.with_validation`.
            folder: Where checkpoints go. The same call after an interruption goes on after the last finished epoch.
            flags: Lightning's flags.

        Raises:
            DataError: If the data cannot be used; every problem found is listed.
        """
        cohort = Cohort.load(self.study) if cohort is None else cohort
        split = make_split(self.study, cohort) if split is None else with_validation(self.study, cohort, split)
        spec, neutral = self.study.training, self.study.missingness == "neutral"
        everyone = [*split.train, *split.validation]
        n_members = spec.n_members(len(everyone))
        fitted_on = cohort.subset(everyone if n_members > 1 else split.train)
        check_rare_labels(cohort, split, fitted_on.patients)
        members = [build_model(self.study, fitted_on, spec.seed + k) for k in range(n_members)]
        del fitted_on  # a copy of the tables, which must not stand beside the tensors
        seen = cohort.subset(everyone)
        rows = member_rows(self.study, seen, split)
        patients = prepare(members[0], seen, labelled=True)
        if len(split.test):  # what cannot be read of them is an error now, not after hours of training
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # shown when they are predicted
                prepare(members[0], cohort.subset(split.test), labelled=True)
        tasks = [cast(Task, task) for task in members[0].tasks.values()]
        if self.study.presence_covariates and neutral:
            covariates = read_covariates(seen, self.study.presence_covariates)
            patients = weighted(patients, covariates, tasks, members[0].seen)
        if neutral:
            patients = with_cell_tilts(patients, seen, self.study, tasks, members[0].seen)
        del seen
        log = fit_members(self.study, members, patients, rows, folder, flags)
        ensemble = Ensemble(members).eval()
        facts = provenance(cohort, split, spec.seed) | {"members": log}
        if spec.experts:
            facts["experts"] = add_experts(
                ensemble, patients, rows, self.study, progress=flags is None or flags.progress
            )
        if spec.calibrate:
            facts["calibration"] = calibrate(ensemble, patients, rows, spec.seed, neutral=neutral)
        self._trained = TrainedModel(self.study, ensemble, split, facts)
        return self

    def prepare(self, cohort: Cohort | None = None, *, labelled: bool = False) -> PatientTensors:
        """Parses patients once, for any number of predictions and explanations; see `TrainedModel.prepare`."""
        return self.trained.prepare(cohort, labelled=labelled)

    def test_cohort(self) -> Cohort:
        """Reads the test patients of the split from the study's sources."""
        return self.trained.test_cohort()

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
        trained, patients = self.trained, self.trained.prepare(cohort)
        outputs, n_used = trained.outputs(patients, order), trained.steps_taken(patients, order).sum(2)
        nobody = patients.patients[(n_used == 0).all(0).numpy()]
        if len(nobody):
            text = f"{len(nobody)} patient(s) have none of the modalities and get the prior: {shown(list(nobody))}."
            warnings.warn(text, DataWarning, stacklevel=2)
        return tables.predictions(trained.tasks, patients.patients, outputs, n_used)

    def link(self, cohort: Patients | None = None, *, order: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Predicts on the link scale: for each task ``(N, len(link_names))``, such as log-odds."""
        outputs = self.trained.outputs(self.trained.prepare(cohort), order)
        return {name: task.link(outputs[name]) for name, task in self.trained.tasks.items()}

    def trajectory(self, cohort: Patients | None = None, *, order: Sequence[str] | None = None) -> TrajectoryFrame:
        """Predicts after every step; see `Explanations.trajectory`."""
        return self.explain.trajectory(cohort, order=order)

    def contributions(self, cohort: Patients | None = None, *, n_pairs: int = 32, seed: int = 0) -> ContributionFrame:
        """Divides each prediction among the patient's modalities; see `Explanations.contributions`."""
        return self.explain.contributions(cohort, n_pairs=n_pairs, seed=seed)

    def evaluate(self, cohort: Patients | None = None, *, order: Sequence[str] | None = None) -> pd.DataFrame:
        """Scores the predictions of labelled patients.

        Args:
            cohort: The patients; default: the test patients of the study's split.
            order: Modality names; default: the study's.

        Returns:
            One row for each task and metric: ``task``, ``metric``, ``value`` (NaN = undefined on these patients),
            ``n`` (labelled patients).
        """
        trained = self.trained
        patients = trained.prepare(trained.test_cohort() if cohort is None else cohort, labelled=True)
        return tables.scores(trained.tasks, patients, trained.outputs(patients, order))

    def save(self, path: str | Path) -> Path:
        """Writes the model as a bundle: a folder with weights (safetensors) and what they mean (JSON)."""
        return bundle.save(Path(path), self.trained)

    @classmethod
    def load(cls, path: str | Path) -> MultiModN:
        """Reads a bundle, or the bundle of a run folder.

        Raises:
            BundleError: If it is truncated, edited, or of another schema.
        """
        inside = Path(path) / BUNDLE
        return cls.of(bundle.load(inside if inside.is_dir() else Path(path)))
