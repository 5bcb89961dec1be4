"""What a trained model tells beside its predictions: steps, contributions, values, what to measure next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd
import torch

from multimodn.base.batches import Batch, PatientTensors
from multimodn.data.cohort import Cohort
from multimodn.explain.contributions import Contributions, contributions
from multimodn.explain.interactions import Interactions, interactions, synergy
from multimodn.explain.order_sensitivity import Orders, draw_orders, order_sensitivity
from multimodn.explain.summary import summarise
from multimodn.model import tables
from multimodn.model.attributions import Inspected
from multimodn.model.results import (
    ContributionFrame,
    InteractionFrame,
    OrderFrame,
    SummaryFrame,
    SynergyFrame,
    TrajectoryFrame,
    ValueFrame,
)
from multimodn.model.trained import Patients

LATTICE_BATCH = 1024
LATTICE_CELLS = 2**22  # a batch holds the outputs of all its subsets at once


class Explained(Inspected):
    """The explanations of a `MultiModN`; each is a tidy frame, most of them indexed by patient.

    Wherever a method takes a ``cohort``, the result of `prepare` will do, and saves parsing it again.
    """

    def trajectory(self, cohort: Patients | None = None, *, order: Sequence[str] | None = None) -> TrajectoryFrame:
        """Predicts after every step.

        Returns:
            One row for each patient, task, output and step that the patient takes, indexed by patient: ``task``,
            ``output``, ``step`` (0 = before any modality), ``modality`` (empty at step 0) and ``value``.
        """
        patients, order = self._prepared(cohort), self._expanded(order)
        outputs = self._run(patients, lambda batch: self._model().trajectory(batch, order), dim=1)
        names = self.order if order is None else list(order)
        return self._framed(
            TrajectoryFrame,
            tables.trajectories(self._model().tasks, patients.patients, outputs, self._steps(patients, order), names),
        )

    def deltas(self, cohort: Patients | None = None, *, order: Sequence[str] | None = None) -> pd.DataFrame:
        """Computes what each step changed, on the task's link scale; a step's delta depends on the steps before it.

        Returns:
            One row for each patient, task, output and step that the patient takes, indexed by patient: ``task``,
            ``output``, ``step`` (from 1), ``modality``, ``delta``, and ``value``, the prediction after the step. The
            deltas of a patient add up to prediction - prior, as contributions do.
        """
        patients, model, order = self._prepared(cohort), self._model(), self._expanded(order)
        outputs = self._run(patients, lambda batch: model.trajectory(batch, order), dim=1)
        links = {name: task.link(outputs[name]).double() for name, task in model.tasks.items()}
        names = self.order if order is None else list(order)
        return tables.deltas(model.tasks, patients.patients, links, self._steps(patients, order), names)

    def contributions(self, cohort: Patients | None = None, *, n_pairs: int = 32, seed: int = 0) -> ContributionFrame:
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
            parts = [contributions(model, batch, n_pairs, seed) for batch in self._lattice_batches(patients)]
        whole = {name: Contributions.joined([part[name] for part in parts]) for name in model.tasks}
        return self._framed(
            ContributionFrame,
            tables.contributions(model.tasks, patients, whole, model.first.modalities, model.first.seen),
        )

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
            cohort: The patients; default: those of the study's sources.
            by: ``class``: apart for each class (or other outcome stratum) of a task, among its labelled patients; a
                series: apart for each group, such as `Cohort.groups`, the sites.
            n_resamples: Bootstrap resamples of patients behind the intervals.
            seed: Seed of the resamples.

        Raises:
            DataError: If a patient has no group.
        """
        patients = self._labelled(cohort) if isinstance(by, str) else self._prepared(cohort)
        groups = tables.classes(self._model().tasks, patients) if isinstance(by, str) else by
        found = summarise(self.contributions(patients), groups, n_resamples=n_resamples, seed=seed)
        return self._framed(SummaryFrame, found)

    def interactions(self, cohort: Patients | None = None) -> InteractionFrame:
        """Computes what each pair of a patient's modalities says only together: Shapley interactions, link scale.

        Returns:
            One row for each patient, task, output and pair of present modalities, indexed by patient: ``task``,
            ``output``, ``modality``, ``other``, ``interaction``. Where both are the same it is what that modality says
            by itself. The rows of a patient, task and output add up to prediction - prior.

        Raises:
            StudyError: If there are more than 14 modalities.
        """
        patients, model = self._prepared(cohort), self._model()
        with torch.inference_mode():
            parts = [interactions(model, batch) for batch in self._lattice_batches(patients)]
        whole = {name: Interactions.joined([part[name] for part in parts]) for name in model.tasks}
        return self._framed(
            InteractionFrame, tables.interactions(model.tasks, patients.patients, whole, model.first.modalities)
        )

    def synergy(self, cohort: Patients | None = None, *, n_resamples: int = 1000, seed: int = 0) -> SynergyFrame:
        """Computes the share of interactions in the predictions of a cohort; see `synergy` in `explain.interactions`.

        Raises:
            StudyError: If there are more than 14 modalities.
        """
        return self._framed(SynergyFrame, synergy(self.interactions(cohort), n_resamples, seed))

    def order_sensitivity(self, cohort: Patients | None = None, *, n_orders: int = 24, seed: int = 0) -> OrderFrame:
        """Predicts from all present modalities in many orders.

        Args:
            cohort: The patients; default: those of the study's sources.
            n_orders: Orders to draw; all of them, if there are not more.
            seed: Seed of the orders.

        Returns:
            One row for each patient, task and output, indexed by patient: ``task``, ``output``, ``n_orders``,
            ``spread`` (standard deviation over the orders), ``low``, ``high``, ``prediction`` (in the study's order),
            all on the task's link scale.
        """
        patients, model = self._prepared(cohort), self._model()
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
        from multimodn.data.covariates import read_covariates
        from multimodn.explain.modality_value import value_of

        cohort = self.test_cohort() if cohort is None else cohort
        named = self.study.presence_covariates
        covariates = read_covariates(cohort, named) if named else None
        modalities = (
            None if modality is None else self.study.expanded([modality] if isinstance(modality, str) else modality)
        )
        patients = self.prepare(cohort, labelled=True)
        return self._framed(
            ValueFrame, value_of(self._model(), patients, modalities, covariates, n_resamples=n_resamples, seed=seed)
        )

    def _lattice_batches(self, patients: PatientTensors) -> Sequence[Batch]:
        n_modalities = len(self._model().first.modalities)
        return list(patients.batches(min(LATTICE_BATCH, max(64, LATTICE_CELLS >> n_modalities))))
