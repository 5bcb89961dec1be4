"""What a trained model promises beside its predictions: sets that hold the truth with a given probability."""

from __future__ import annotations

import warnings
from typing import Self

import pandas as pd

from multimodn.data.cohort import Cohort
from multimodn.data.splits import make_split
from multimodn.errors import DataError, DataWarning, NotFittedError, shown
from multimodn.model.explanations import Explained
from multimodn.model.trained import Patients


class Reliable(Explained):
    """The promises of a `MultiModN`.

    Wherever a method takes ``Patients``, the result of `prepare` will do, and saves parsing a cohort again.
    """

    def fit_conformal(self, cohort: Cohort | None = None, *, calibration: Cohort | None = None) -> Self:
        """Calibrates sets on patients who were not trained on; see `multimodn.conformal.calibrate`.

        Args:
            cohort: Where the training and validation patients are; default: the study's sources. Each member of the
                ensemble is compared with those that it did not train on.
            calibration: Other patients, with labels, for whom the ensemble itself is calibrated. The sounder choice
                where there are any: held-out patients decided when training stopped.

        Raises:
            DataError: If nobody was held out, or a calibration patient was trained on.
        """
        from multimodn.conformal.calibrate import calibrate_sets
        from multimodn.training.fit import member_rows

        if calibration is not None:
            self._check_unseen(calibration)
            self.sets = calibrate_sets(self._model(), self.prepare(calibration, labelled=True), None)
            return self
        cohort = Cohort.load(self.study) if cohort is None else cohort
        split = self.split or make_split(self.study, cohort)
        seen = cohort.subset([*split.train, *split.validation])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # told when they were trained on
            patients = self.prepare(seen, labelled=True)
        held_out = [rows for _, rows in member_rows(self.study, seen, split)]
        self.sets = calibrate_sets(self._model(), patients, held_out, seed=self.study.training.seed)
        return self

    def conformal(self, cohort: Patients | None = None, *, level: float = 0.9) -> pd.DataFrame:
        """Computes sets that hold the truth with a given probability, for every task.

        Args:
            cohort: The patients; default: those of the study's sources.
            level: That probability.

        Returns:
            One row for each patient, task and class (one for a number or a survival time), indexed by patient:

            - ``task``, ``output``: the class (``label=class`` of a task with several labels), the task of a number,
              ``survival`` of a bound;
            - ``in_set``: whether the class belongs to the set; empty of others;
            - ``low``, ``high``: the interval of a number; ``low`` alone: a time that the patient survives;
            - ``p_value``: of the class, the share of calibration patients who were at least as strange;
            - ``pattern``: what the patient has of what the task sees; ``calibrated_on``: what the set rests on, less
              where this pattern was never calibrated; ``method`` (``own``, ``exact``, ``nested``); ``n_calibration``;
            - ``abstain``: the set tells nothing. It holds all classes or none; the interval is as wide as without any
              modality; the bound is 0;
            - ``level``.

        Raises:
            NotFittedError: Before `fit_conformal`.
            DataError: If the level does not lie between 0 and 1.
        """
        from multimodn.conformal.calibrate import sets_frame
        from multimodn.conformal.predict import conformal_sets

        if self.sets is None:
            raise NotFittedError("No sets were calibrated: call fit_conformal(), or train with a run.")
        patients, model = self._prepared(cohort), self._model()
        sets = conformal_sets(model, self.sets, patients, level)
        return sets_frame(model, self.sets, patients, sets, level)

    def _check_unseen(self, calibration: Cohort) -> None:
        """One member's validation patients only stopped it; with several they trained the others."""
        if self.split is None:
            return
        several = len(self._model().members) > 1
        seen = [*self.split.train, *(self.split.validation if several else ())]
        twice = calibration.patients.intersection(pd.Index(seen))
        if len(twice):
            raise DataError(
                f"{len(twice)} calibration patient(s) were trained on: {shown(list(twice))}. Calibrate on patients "
                f"whom the model has not seen, or call fit_conformal() without them."
            )
