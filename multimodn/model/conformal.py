"""Conformal prediction sets of a trained model: `model.conformal`."""

from __future__ import annotations

import warnings
from typing import Any, Self

import pandas as pd

from multimodn.conformal.calibrate import calibrate_sets, sets_frame
from multimodn.conformal.predict import conformal_sets
from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, NotFittedError, shown
from multimodn.model.trained import Patients, TrainedModel


class ConformalPrediction:
    """Calibrates and predicts conformal prediction sets.

    Args:
        trained: The model whose predictions become sets.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained

    def fit(self, cohort: Cohort | None = None, *, calibration: Cohort | None = None) -> Self:
        """Calibrates sets on patients who were not trained on; see `multimodn.conformal.calibrate`.

        Args:
            cohort: Where the training and validation patients are; default: the study's sources. Each member of the
                ensemble is compared with those that it did not train on.
            calibration: Other patients, with labels, for whom the ensemble itself is calibrated. The sounder choice
                where there are any: held-out patients decided when training stopped.

        Raises:
            DataError: If nobody was held out, or a calibration patient was trained on.
        """
        trained, model, seed = self.trained, self.trained.ensemble, self.trained.study.training.seed
        if calibration is not None:
            self._check_unseen(calibration)
            patients = trained.prepare(calibration, labelled=True)
            trained.conformal_scores = calibrate_sets(model, patients, None)
        else:
            _, patients, rows = trained.development_patients(cohort)
            trained.conformal_scores = calibrate_sets(model, patients, [held for _, held in rows], seed=seed)
        return self

    def predict(self, cohort: Patients | None = None, *, level: float = 0.9) -> pd.DataFrame:
        """Computes sets that hold the true outcome with probability ``level``, for every task.

        Args:
            cohort: The patients; default: those of the study's sources.
            level: The coverage to reach, between 0 and 1.

        Returns:
            One row for each patient, task and class (one for a number or a survival time), indexed by patient:

            - ``task``, ``output``: the class (``label=class`` of a task with several labels), the task of a number,
              ``survival`` of a bound;
            - ``in_set``: whether the class belongs to the set; empty of others;
            - ``low``, ``high``: the interval of a number; ``low`` alone: a time that the patient survives;
            - ``p_value``: of the class, the share of calibration patients with at least this nonconformity score;
            - ``pattern``: the modalities of the patient that the task sees; ``calibrated_on``: those that the set
              rests on, fewer where this pattern was never calibrated; ``method`` (``own``, ``exact``, ``nested``);
              ``n_calibration``;
            - ``abstain``: the set says nothing. It holds all classes or none; the interval is as wide as without any
              modality; the bound is 0;
            - ``level``.

        Raises:
            NotFittedError: Before `fit`.
            DataError: If the level does not lie between 0 and 1.
        """
        trained = self.trained
        if trained.conformal_scores is None:
            raise NotFittedError("No sets were calibrated: call conformal.fit(), or train with a run.")
        patients, model, scores = trained.prepare(cohort), trained.ensemble, trained.conformal_scores
        return sets_frame(model, scores, patients, conformal_sets(model, scores, patients, level), level)

    def __call__(self, *given: Any, **named: Any) -> pd.DataFrame:
        """Forwards `model.conformal(...)` of before."""
        warnings.warn("model.conformal(...) is now model.conformal.predict(...).", DeprecationWarning, stacklevel=2)
        return self.predict(*given, **named)

    def _check_unseen(self, calibration: Cohort) -> None:
        """One member's validation patients only stopped it; with several they trained the others."""
        split = self.trained.split
        if split is None:
            return
        seen = [*split.train, *(split.validation if self.trained.n_members > 1 else ())]
        twice = calibration.patients.intersection(pd.Index(seen))
        if len(twice):
            raise DataError(
                f"{len(twice)} calibration patient(s) were trained on: {shown(list(twice))}. Calibrate on patients "
                f"whom the model has not seen, or call conformal.fit() without them."
            )
