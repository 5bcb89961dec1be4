"""Types that arms, folds and cross-validation agree on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from multimodn.data.cohort import Cohort
from multimodn.data.splits import Split, folds
from multimodn.study.study import Study

Predictions = dict[str, NDArray[np.float64]]
"""For each task the link-scale predictions of the test patients, ``(n, L)``."""


Arms = Callable[[Study, Cohort, Cohort, int], dict[str, Predictions]]
"""Trains one or several arms on one cohort and predicts another; the last argument is a seed."""


OnCell = Callable[[str, int, int], None]  # told of a finished arm, repeat and fold


def development_split(study: Study, training: Cohort) -> Split:
    """Says who trains and who stops the training; nobody is left to test.

    An ensemble stops on its own folds; a single network needs a fifth of the patients to stop on.
    """
    everyone, nobody = training.patients.to_numpy(dtype=object), np.array([], dtype=object)
    if study.training.n_members(len(training)) > 1:
        return Split(everyone, nobody, nobody)
    stratify = getattr(study.split, "stratify", None)
    train, validation = next(folds(training, 5, seed=study.training.seed, stratify=stratify))
    return Split(train, validation, nobody)


# A trained model: for each task the link-scale predictions of a cohort's patients, ``(n, L)`` float64. The cohort may
# lack modalities that the model was trained on, for some patients or for all; its labels are not read.
Fitted = Callable[[Cohort], Predictions]


Trainer = Callable[[Study, Cohort, int], dict[str, Fitted]]
"""Trains one or several arms on a cohort; the last argument is a seed."""
