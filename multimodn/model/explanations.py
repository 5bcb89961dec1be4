"""The explanations of a trained model: `model.explain`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from multimodn.data.cohort import Cohort
from multimodn.data.covariates import read_covariates
from multimodn.data.splits import make_split
from multimodn.errors import NotFittedError, StudyError, did_you_mean
from multimodn.explain.acquisition.next_modality import fit_acquisition, next_modalities
from multimodn.explain.attention import attention, with_parts
from multimodn.explain.attributions import attribution_map, attributions
from multimodn.explain.contributions import Contributions, contributions
from multimodn.explain.interactions import Interactions, interactions, synergy
from multimodn.explain.modality_value import value_of
from multimodn.explain.order_sensitivity import Orders, draw_orders, order_sensitivity
from multimodn.explain.similar_patients import similar
from multimodn.explain.summary import summarise
from multimodn.findings.frames import AttributedFrame
from multimodn.missingness.propensity import weighted
from multimodn.model import tables
from multimodn.model.results import (
    AttributionFrame,
    ContributionFrame,
    InteractionFrame,
    NextFrame,
    OrderFrame,
    ResultFrame,
    SummaryFrame,
    SynergyFrame,
    TrajectoryFrame,
    ValueFrame,
)
from multimodn.model.trained import LATTICE_BATCH, Patients, TrainedModel

F = TypeVar("F", bound=ResultFrame)


class Explanations:
    """Explains a trained model; each answer is a tidy frame, most of them indexed by patient.

    ``cohort`` is by default that of the study's sources. Wherever a method takes ``Patients``, prepared patients will
    do, and save parsing a cohort again.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained

    def trajectory(self, cohort: Patients | None = None, *, order: Sequence[str] | None = None) -> TrajectoryFrame:
        """Predicts after every step.

        Returns:
            One row for each patient, task, output and step that the patient takes, indexed by patient: ``task``,
            ``output``, ``step`` (0 = before any modality), ``modality`` (empty at step 0) and ``value``.
        """
        trained, patients = self.trained, self.trained.prepare(cohort)
        outputs, steps = trained.step_outputs(patients, order), trained.steps_taken(patients, order)
        names = trained.order if order is None else trained.study.expanded(order)
        table = tables.trajectories(trained.tasks, patients.patients, outputs, steps, names)
        return self._framed(TrajectoryFrame, table)

    def deltas(self, cohort: Patients | None = None, *, order: Sequence[str] | None = None) -> pd.DataFrame:
        """Computes what each step changed, on the task's link scale; a step's delta depends on the steps before it.

        Returns:
            One row for each patient, task, output and step that the patient takes, indexed by patient: ``task``,
            ``output``, ``step`` (from 1), ``modality``, ``delta``, and ``value``, the prediction after the step. The
            deltas of a patient add up to prediction - prior, as contributions do.
        """
        trained, patients = self.trained, self.trained.prepare(cohort)
        outputs, steps = trained.step_outputs(patients, order), trained.steps_taken(patients, order)
        links = {name: task.link(outputs[name]).double() for name, task in trained.tasks.items()}
        names = trained.order if order is None else trained.study.expanded(order)
        return tables.deltas(trained.tasks, patients.patients, links, steps, names)

    def contributions(self, cohort: Patients | None = None, *, n_pairs: int = 32, seed: int = 0) -> ContributionFrame:
        """Shares each prediction out among the patient's modalities: Shapley values on the task's link scale.

        Exact for up to 14 modalities; beyond that, ``n_pairs`` orders are sampled, each with its reverse, and
        ``standard_error`` says how closely. Either way they add up to ``prediction - prior``.

        Returns:
            One row for each patient, task, output and present modality, indexed by patient: ``task``, ``output``,
            ``modality``, ``contribution``, ``standard_error`` (0 = exact), ``prior``, ``prediction``.
        """
        patients, model = self.trained.prepare(cohort), self.trained.ensemble
        with torch.inference_mode():
            parts = [contributions(model, batch, n_pairs, seed) for batch in self.trained.lattice_batches(patients)]
        whole = {name: Contributions.joined([part[name] for part in parts]) for name in model.tasks}
        table = tables.contributions(model.tasks, patients, whole, model.first.modalities, model.first.seen)
        return self._framed(ContributionFrame, table)

    def summary(
        self,
        cohort: Patients | None = None,
        *,
        by: Literal["class"] | pd.Series[Any] | None = None,
        n_resamples: int = 1000,
        seed: int = 0,
    ) -> SummaryFrame:
        """Averages the contributions of a cohort; see `multimodn.explain.summary.summarise`.

        Args:
            cohort: The patients.
            by: ``class``: apart for each class (or other outcome stratum) of a task, among its labelled patients; a
                series: apart for each group, such as `Cohort.groups`, the sites.
            n_resamples: Bootstrap resamples of patients behind the intervals.
            seed: Seed of the resamples.

        Raises:
            DataError: If a patient has no group.
        """
        patients = self.trained.prepare(cohort, labelled=isinstance(by, str))
        groups = tables.classes(self.trained.tasks, patients) if isinstance(by, str) else by
        shares = self.contributions(patients)
        return self._framed(SummaryFrame, summarise(shares, groups, n_resamples=n_resamples, seed=seed))

    def interactions(self, cohort: Patients | None = None) -> InteractionFrame:
        """Computes what each pair of a patient's modalities says only together: Shapley interactions, link scale.

        Returns:
            One row for each patient, task, output and pair of present modalities, indexed by patient: ``task``,
            ``output``, ``modality``, ``other``, ``interaction``. Where both are the same it is what that modality says
            by itself. The rows of a patient, task and output add up to prediction - prior.

        Raises:
            StudyError: If there are more than 14 modalities.
        """
        patients, model = self.trained.prepare(cohort), self.trained.ensemble
        with torch.inference_mode():
            parts = [interactions(model, batch) for batch in self.trained.lattice_batches(patients)]
        whole = {name: Interactions.joined([part[name] for part in parts]) for name in model.tasks}
        table = tables.interactions(model.tasks, patients.patients, whole, model.first.modalities)
        return self._framed(InteractionFrame, table)

    def synergy(self, cohort: Patients | None = None, *, n_resamples: int = 1000, seed: int = 0) -> SynergyFrame:
        """Computes the share of interactions in the predictions of a cohort; see `synergy` in `explain.interactions`.

        Raises:
            StudyError: If there are more than 14 modalities.
        """
        return self._framed(SynergyFrame, synergy(self.interactions(cohort), n_resamples, seed))

    def order_sensitivity(self, cohort: Patients | None = None, *, n_orders: int = 24, seed: int = 0) -> OrderFrame:
        """Predicts from all present modalities in ``n_orders`` random orders, or in all of them if there are not more.

        Returns:
            One row for each patient, task and output, indexed by patient: ``task``, ``output``, ``n_orders``,
            ``spread`` (standard deviation over the orders), ``low``, ``high``, ``prediction`` (in the study's order),
            all on the task's link scale.
        """
        patients, model = self.trained.prepare(cohort), self.trained.ensemble
        orders = draw_orders(len(model.first.modalities), n_orders, seed)
        with torch.inference_mode():
            parts = [order_sensitivity(model, batch, orders) for batch in patients.batches(LATTICE_BATCH)]
        whole = {name: Orders.joined([part[name] for part in parts]) for name in model.tasks}
        return self._framed(OrderFrame, tables.orders(model.tasks, patients.patients, whole, len(orders)))

    def value_of(
        self,
        modality: str | Sequence[str] | None = None,
        cohort: Cohort | None = None,
        *,
        n_resamples: int = 200,
        seed: int = 0,
    ) -> ValueFrame:
        """Compares performance with and without modalities, corrected for who has them; see `explain.value.value_of`.

        The study's `presence_covariates` count among what decides who has a modality.

        Args:
            modality: One or several; default: all.
            cohort: Patients with labels who were not trained on; default: the test patients of the split.
            n_resamples: Bootstrap resamples of patients behind the intervals.
            seed: Seed of the resamples.

        Raises:
            StudyError: If a modality is unknown.
        """
        trained = self.trained
        cohort = trained.test_cohort() if cohort is None else cohort
        columns = trained.study.presence_covariates
        covariates = read_covariates(cohort, columns) if columns else None
        names = [modality] if isinstance(modality, str) else modality
        modalities = None if names is None else trained.study.expanded(names)
        patients = trained.prepare(cohort, labelled=True)
        values = value_of(trained.ensemble, patients, modalities, covariates, n_resamples=n_resamples, seed=seed)
        return self._framed(ValueFrame, values)

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
        trained = self.trained
        cohort = Cohort.load(trained.study, labelled=False) if cohort is None else cohort
        patients = trained.prepare(cohort)
        seeing = [next(iter(trained.tasks)) if task is None else task]
        if task is None and modality in trained.modalities:
            seeing = [name for name, hidden in trained.hidden.items() if modality not in hidden]
        parts = [attributions(trained.ensemble, patients, cohort, modality, name, output, **options) for name in seeing]
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
        trained = self.trained
        cohort = Cohort.load(trained.study, labelled=False) if cohort is None else cohort
        chosen = trained.study.tasks[0].name if task is None else task
        patients, model = trained.prepare(cohort), trained.ensemble
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
            cohort: Patients to find others for.
            k: How many for each.
            among: Patients to be found; default: the training patients of the split, from the study's sources.
            ids: Whether to say who they are; without, only how near they are and how they fared.
            task: Compare what this task reads; default: the states of everything that a patient has.
        """
        trained = self.trained
        if among is None:
            everyone = Cohort.load(trained.study)
            among = everyone.subset((trained.split or make_split(trained.study, everyone)).train)
        patients, others = trained.prepare(cohort), trained.prepare(among, labelled=True)
        return similar(trained.ensemble, patients, others, k, ids=ids, task=task)

    def fit_acquisition(self, cohort: Cohort | None = None) -> Self:
        """Learns what to measure next, from the patients that each member did not train on; see `explain.acquisition`.

        ``cohort`` holds the training and validation patients.

        Raises:
            DataError: If nobody was held out.
        """
        trained, study = self.trained, self.trained.study
        seen, patients, rows = trained.development_patients(cohort)
        neutral = study.missingness == "neutral"
        if neutral and study.presence_covariates:
            covariates = read_covariates(seen, study.presence_covariates)
            patients = weighted(patients, covariates, list(trained.tasks.values()), trained.ensemble.first.seen)
        seed = study.training.seed
        trained.acquisition = fit_acquisition(trained.ensemble, patients, rows, neutral=neutral, seed=seed)
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
        trained, study = self.trained, self.trained.study
        if trained.acquisition is None:
            how = "call explain.fit_acquisition(), or train with a run"
            raise NotFittedError(f"What to measure next was not learned: {how}.")
        every = {name: spec.cost for name, spec in study.steps.items()}
        for name, cost in (costs or {}).items():
            steps = study.expanded([name])
            if steps[0] not in every:
                raise StudyError(f"Cost of an unknown modality '{name}'.{did_you_mean(name, every)}")
            if not 0 < cost < float("inf"):
                raise StudyError(f"The cost of '{name}' is {cost}; give a number above 0.")
            every |= dict.fromkeys(steps, cost)
        ranks = next_modalities(trained.ensemble, trained.acquisition, trained.prepare(cohort), every)
        return self._framed(NextFrame, ranks)

    def attention(self, modality: str, cohort: Patients | None = None) -> pd.DataFrame:
        """Returns where the encoder of a modality looked, such as the weight of every tile of a patient's slides.

        Only kinds that pool parts, such as `slide`, have it.

        Returns:
            One row for each part: ``patient``, its place (for slides ``file``, ``x``, ``y``) and ``attention``, which
            adds up to 1 for each patient.
        """
        return attention(self.trained.ensemble, self.trained.prepare(cohort), modality)

    def attended_modality(self) -> str:
        """Returns the name of the modality that `attention` can be asked about.

        Raises:
            StudyError: If there is none, or more than one.
        """
        names = with_parts(self.trained.ensemble)
        if len(names) != 1:
            raise StudyError(f"{len(names)} modalities look at tiles ({', '.join(names) or 'none'}); name one.")
        return names[0]

    def _framed(self, kind: type[F], frame: pd.DataFrame) -> F:
        """Lets a frame draw itself: its figures name scales and what a patient lacks."""
        trained = self.trained
        scales = {name: task.link_scale for name, task in trained.tasks.items()}
        return kind.of(frame, link_scales=scales, modalities=trained.order, hidden=trained.hidden)
