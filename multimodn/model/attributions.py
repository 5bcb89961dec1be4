"""What a trained model tells of single modalities and patients: attributions, attention, neighbours."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.data.cohort import Cohort
from multimodn.data.splits import make_split
from multimodn.errors import DataWarning, NotFittedError, StudyError, did_you_mean
from multimodn.findings.frames import AttributedFrame
from multimodn.model.results import AttributionFrame, NextFrame, ResultFrame
from multimodn.model.trained import Patients, Trained

F = TypeVar("F", bound=ResultFrame)


class Inspected(Trained):
    """The answers of a `MultiModN` about the inside of a modality, and about other patients and modalities.

    Wherever a method takes ``Patients``, the result of `prepare` will do, and saves parsing a cohort again.
    """

    def attributions(
        self,
        modality: str,
        cohort: Cohort | None = None,
        task: str | None = None,
        output: str | None = None,
        **options: Any,
    ) -> AttributionFrame:
        """Attributes predictions to the parts of one modality: columns, words, tiles, measurements, pixels; by captum.

        Args:
            modality: Its name.
            cohort: The patients; default: those of the study's sources.
            task: Its name; default: every task that sees the modality.
            output: One of the task's `link_names`; default: all of them.
            options: Of `multimodn.explain.attributions.attributions`, such as ``method`` or ``n_steps``.

        Returns:
            One row for each patient who has the modality, task, output and part, indexed by patient: ``modality``,
            ``task``, ``output``, ``feature``, ``position``, ``value``, ``attribution``, what says where the part is,
            ``prediction`` and ``baseline_prediction``. Fields of the frame: ``method``, ``baseline`` and, for each
            patient, ``convergence_delta``.

        Raises:
            StudyError: If modality, task or output is unknown, or the modality's kind has no parts.
        """
        from multimodn.explain.attributions import attributions

        model = self._model()
        cohort = Cohort.load(self.study, labelled=False) if cohort is None else cohort
        patients = self.prepare(cohort)
        seeing = [next(iter(model.tasks)) if task is None else task]
        if task is None and modality in model.first.modalities:
            m = model.first.modalities.index(modality)
            seeing = [name for name, seen in zip(model.tasks, model.first.seen[:, m], strict=True) if seen]
        parts = [attributions(model, patients, cohort, modality, name, output, **options) for name in seeing]
        deltas = pd.DataFrame({name: part.convergence_delta for name, part in zip(seeing, parts, strict=True)})
        largest = deltas.abs().max(axis=1).to_dict()
        whole = AttributedFrame.of(pd.concat(parts), like=parts[0], convergence_delta=largest)
        return self._framed(AttributionFrame, whole)

    def attribution_map(
        self,
        modality: str,
        patient: str,
        cohort: Cohort | None = None,
        task: str | None = None,
        output: str | None = None,
        **options: Any,
    ) -> NDArray[np.float64]:
        """Attributes a prediction to every pixel or voxel of a patient's pictures, ``(n_pictures, rows, ...)``.

        See `multimodn.explain.attributions.attribution_map`; ``task`` is the first, if left out.

        Raises:
            StudyError: If modality, task or output is unknown, or the modality has no pixels.
            DataError: If the patient is unknown or has no such pictures.
        """
        from multimodn.explain.attributions import attribution_map

        cohort = Cohort.load(self.study, labelled=False) if cohort is None else cohort
        chosen = self.study.tasks[0].name if task is None else task
        patients, model = self.prepare(cohort), self._model()
        return attribution_map(model, patients, cohort, modality, chosen, output, patient=patient, **options)

    def similar(
        self,
        cohort: Patients | None = None,
        k: int = 5,
        *,
        among: Patients | None = None,
        ids: bool = False,
        task: str | None = None,
    ) -> pd.DataFrame:
        """Finds the training patients whose state is most like a patient's; see `explain.similar_patients.similar`.

        Args:
            cohort: Patients to find others for; default: those of the study's sources.
            k: How many for each.
            among: Patients to be found; default: the training patients of the split, from the study's sources.
            ids: Whether to say who they are; without, only how near they are and how they fared.
            task: Compare what this task reads; default: the states of everything that a patient has.
        """
        from multimodn.explain.similar_patients import similar

        if among is None:
            everyone = Cohort.load(self.study)
            among = everyone.subset((self.split or make_split(self.study, everyone)).train)
        return similar(self._model(), self._prepared(cohort), self._labelled(among), k, ids=ids, task=task)

    def fit_acquisition(self, cohort: Cohort | None = None) -> Self:
        """Learns what to measure next, from the patients that each member did not train on; see `explain.acquisition`.

        Args:
            cohort: Where the training and validation patients are; default: the study's sources.

        Raises:
            DataError: If nobody was held out.
        """
        from multimodn.data.covariates import read_covariates
        from multimodn.explain.acquisition.next_modality import fit_acquisition
        from multimodn.missingness.propensity import weighted
        from multimodn.training.fit import member_rows

        cohort = Cohort.load(self.study) if cohort is None else cohort
        split = self.split or make_split(self.study, cohort)
        seen = cohort.subset([*split.train, *split.validation])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # told when they were trained on
            patients = self.prepare(seen, labelled=True)
        rows = member_rows(self.study, seen, split)
        neutral, seed = self.study.missingness == "neutral", self.study.training.seed
        if neutral and self.study.presence_covariates:
            covariates = read_covariates(seen, self.study.presence_covariates)
            patients = weighted(patients, covariates, list(self._model().tasks.values()), self._model().first.seen)
        self.acquisition = fit_acquisition(self._model(), patients, rows, neutral=neutral, seed=seed)
        return self

    def next(self, cohort: Patients | None = None, *, costs: Mapping[str, float] | None = None) -> NextFrame:
        """Ranks the modalities that a patient lacks by how much they are expected to help.

        Args:
            cohort: The patients; default: those of the study's sources.
            costs: Of some modalities, more than 0, in any unit; default: the study's.

        Returns:
            One row for each patient, task and absent modality, indexed by patient: ``task`` (and ``all``: the mean over
            tasks of the gain as a share of the loss without any modality), ``modality``, ``gain`` (expected drop in
            loss), ``cost``, ``rank`` (1 = measure first, by gain for cost).

        Raises:
            NotFittedError: Before `fit_acquisition`.
            StudyError: If a cost is of an unknown modality, or not more than 0.
        """
        from multimodn.explain.acquisition.next_modality import next_modalities

        if self.acquisition is None:
            raise NotFittedError("What to measure next was not learned: call fit_acquisition(), or train with a run.")
        every = {name: spec.cost for name, spec in self.study.steps.items()}
        for name, cost in (costs or {}).items():
            steps = self.study.expanded([name])
            if steps[0] not in every:
                raise StudyError(f"Cost of an unknown modality '{name}'.{did_you_mean(name, every)}")
            if not 0 < cost < float("inf"):
                raise StudyError(f"The cost of '{name}' is {cost}; give a number above 0.")
            every |= dict.fromkeys(steps, cost)
        patients = self._prepared(cohort)
        return self._framed(NextFrame, next_modalities(self._model(), self.acquisition, patients, every))

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

    def _framed(self, kind: type[F], frame: pd.DataFrame) -> F:
        """Lets a frame draw itself: its figures name scales and what a patient lacks."""
        model = self._model()
        hidden = {
            name: [modality for modality, sees in zip(model.first.modalities, seen.tolist(), strict=True) if not sees]
            for name, seen in zip(model.tasks, model.first.seen, strict=True)
        }
        scales = {name: task.link_scale for name, task in model.tasks.items()}
        return kind.of(frame, link_scales=scales, modalities=self.order, hidden=hidden)
