"""Baselines whose settings are chosen in inner folds of the training patients.

Ridge models choose their penalties themselves (`evaluate.baselines.ridge`, `stacked`), and so do trees that are stopped
early (`evaluate.baselines.boosting.fit_lightgbm_tuned`); other trees and networks choose among a few candidates by
`multimodn.evaluate.crossval.nested`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec

from multimodn.data.cohort import Cohort
from multimodn.evaluate.baselines.boosting import fit_lightgbm, fit_lightgbm_imputed, fit_lightgbm_tuned, fit_xgboost
from multimodn.evaluate.baselines.fusion_networks import fit_p_fusion
from multimodn.evaluate.baselines.ridge import fit_early_concat, fit_late_ridge
from multimodn.evaluate.baselines.stacked import fit_stacked_ridge
from multimodn.evaluate.baselines.tabm import TabMOptions, fit_tabm
from multimodn.evaluate.crossval.contracts import Fitted, Trainer
from multimodn.evaluate.crossval.nested import nested
from multimodn.study.study import Study


def fit_p_fusion_with(study: Study, training: Cohort, seed: int, *, penalty: float) -> dict[str, Fitted]:
    """Trains ``p_fusion`` with another L2 penalty (`multimodn.study.study.TrainingSpec`) than the study's."""
    spec = study.training.model_copy(update={"penalty": penalty})
    return fit_p_fusion(study.model_copy(update={"training": spec}), training, seed)


PACES: Mapping[str, Mapping[str, float]] = {
    "slow": {"learning_rate": 0.03, "n_estimators": 150},
    "fast": {"learning_rate": 0.1, "n_estimators": 150},
}
CANDIDATES: Mapping[str, Mapping[str, Trainer]] = {
    "xgboost": {
        f"depth {depth}, {name}": partial(fit_xgboost, options={"max_depth": depth, **pace})
        for depth in (2, 4)
        for name, pace in PACES.items()
    },
    "lightgbm": {
        f"depth {depth}, {name}": partial(fit_lightgbm, options={"max_depth": depth, "num_leaves": 2**depth, **pace})
        for depth in (2, 4)
        for name, pace in PACES.items()
    },
    "tabm": {
        f"width {size}, dropout {dropout:g}": partial(
            fit_tabm, options=TabMOptions(hidden_size=size, dropout=dropout, weight_decay=decay)
        )
        for size in (32, 128)
        for dropout, decay in ((0.1, 3e-4), (0.5, 3e-2))
    },
    "p_fusion": {
        f"penalty {penalty:g}": partial(fit_p_fusion_with, penalty=penalty) for penalty in (0.3, 3.0, 12.0, 50.0)
    },
}
"""Candidates by arm; few, as each is trained once for every inner fold."""

PER_TASK = ("xgboost", "lightgbm")  # arms with a model for each task: each task may choose other settings

TUNED: Mapping[str, Trainer] = {
    "late_ridge": fit_late_ridge,
    "early_concat": fit_early_concat,
    "stacked_ridge": fit_stacked_ridge,
    "stacked_ridge_sees_empty": partial(fit_stacked_ridge, sees_empty=True),
    "lightgbm_tuned": partial(fit_lightgbm_tuned, sees_empty=False),
    "lightgbm_tuned_sees_empty": partial(fit_lightgbm_tuned, sees_empty=True),
    "lightgbm_imputed": fit_lightgbm_imputed,
    **{arm: nested(arm, candidates, per_task=arm in PER_TASK) for arm, candidates in CANDIDATES.items()},
}
"""Trainers by arm; ``late_ridge`` also returns ``late_ridge_mean`` and ``single:<modality>``."""


def installed_trees() -> str | None:
    """Returns the arm of boosted trees whose library is installed, or None."""
    return next((arm for arm in ("lightgbm", "xgboost") if find_spec(arm) is not None), None)
