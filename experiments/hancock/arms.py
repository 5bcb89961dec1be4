"""What is compared on HANCOCK: every arm chooses its settings by inner folds of the training patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd
from sklearn.decomposition import PCA

from multimodn import Cohort, Study
from multimodn.evaluate.baselines.boosting import fit_xgboost
from multimodn.evaluate.baselines.fusion_networks import fit_p_fusion
from multimodn.evaluate.baselines.ridge import fit_late_ridge
from multimodn.evaluate.baselines.tuned import CANDIDATES, TUNED
from multimodn.evaluate.crossval.arms import as_arm, fit_ours, ours
from multimodn.evaluate.crossval.contracts import Arms, Fitted, Predictions, Trainer
from multimodn.evaluate.crossval.nested import choose, nested

# The tables that a clinic has without a tissue microarray; late fusion of these three is the reference in the field.
ROUTINE = ("clinical", "pathological", "blood")
WIDE, COMPONENTS = 100, 32


def with_penalty(fit: Trainer, penalty: float) -> Trainer:
    """Trains with another penalty than the study's."""

    def trainer(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
        spec = study.training.model_copy(update={"penalty": penalty})
        return fit(study.model_copy(update={"training": spec}), training, seed)

    return trainer


def chosen_by_one(fit: Trainer, penalties: Sequence[float]) -> Trainer:
    """Chooses the penalty by inner folds with one network, for time, and trains all members of the ensemble with it."""
    candidates = {f"penalty {penalty:g}": with_penalty(fit, penalty) for penalty in penalties}

    def trainer(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
        single = study.training.model_copy(update={"members": 1})
        choice = choose(candidates, study.model_copy(update={"training": single}), training, seed)
        return candidates[choice.best](study, training, seed)

    return trainer


def on_components(trainer: Trainer) -> Trainer:
    """Trains on principal components of wide modalities: trees take ten times longer for all 4,096 image features."""

    def fit(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
        wide = {name: frame for name, frame in training.modalities.items() if frame.shape[1] > WIDE}
        maps = {name: PCA(COMPONENTS, random_state=0).fit(frame.to_numpy()) for name, frame in wide.items()}
        fitted = trainer(study, _projected(training, maps), seed)
        return {
            arm: lambda cohort, predict=predict: predict(_projected(cohort, maps)) for arm, predict in fitted.items()
        }

    return fit


def _projected(cohort: Cohort, maps: Mapping[str, PCA]) -> Cohort:
    frames = {
        name: pd.DataFrame(maps[name].transform(frame.to_numpy()), frame.index).add_prefix("c")
        for name, frame in cohort.modalities.items()
        if name in maps
    }
    return replace(cohort, modalities=cohort.modalities | frames)


TREES: dict[str, Trainer] = {
    "components, depth 2": on_components(partial(fit_xgboost, options={"max_depth": 2})),
    "components, depth 4": on_components(partial(fit_xgboost, options={"max_depth": 4})),
    "all columns, depth 3": fit_xgboost,
}
"""Boosted trees of two depths on components, and of the usual settings on all columns."""


def late_ridge_routine(study: Study, training: Cohort, test: Cohort, seed: int) -> dict[str, Predictions]:
    """Returns ``late_ridge_3``: late ridge fusion of the three routine tables."""
    specs = [spec for spec in study.modalities if spec.name in ROUTINE]
    fitted = fit_late_ridge(study.model_copy(update={"modalities": specs}), training, seed)
    return {"late_ridge_3": fitted["late_ridge"](test)}


def with_update(update: str, penalty: float) -> Arms:
    """Builds the arm ``ours:<update>:<penalty>``: the study with another state update and penalty, nothing else."""

    def arm(study: Study, training: Cohort, test: Cohort, seed: int) -> dict[str, Predictions]:
        per_task = penalty * len(study.tasks)  # the arm's name counts it for the mean loss over tasks
        changes = {"update": update, "penalty": per_task, "calibrate": False, "experts": []}  # ranks are compared
        spec = study.training.model_copy(update=changes)
        found = ours(study.model_copy(update={"training": spec}), training, test, seed)
        return {f"ours:{update}:{penalty:g}": found["ours"]}

    return arm


def fit_network(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
    """Trains ``ours`` without experts; `EXPERTS` shows what they add."""
    spec = study.training.model_copy(update={"experts": []})
    return fit_ours(study.model_copy(update={"training": spec}), training, seed)


WIDTHS = {
    name: fit for name, fit in CANDIDATES["tabm"].items() if name in ("width 32, dropout 0.5", "width 128, dropout 0.1")
}
ARMS: list[Arms] = [
    as_arm(chosen_by_one(fit_network, (4.0, 12.0, 36.0))),
    late_ridge_routine,
    as_arm(TUNED["late_ridge"], without=("late_ridge_mean",)),
    as_arm(TUNED["early_concat"]),
    as_arm(nested("xgboost", TREES, per_task=True)),
    as_arm(nested("tabm", WIDTHS)),
    as_arm(chosen_by_one(fit_p_fusion, (3.0, 12.0, 36.0))),
]


def network_alone(study: Study, training: Cohort, test: Cohort, seed: int) -> dict[str, Predictions]:
    """Returns ``network_alone``: the study without experts."""
    return {"network_alone": fit_network(study, training, seed)["ours"](test)}


# What experts add: every arm with one setting, ours with those of the study.
EXPERTS: list[Arms] = [
    ours,
    network_alone,
    as_arm(TUNED["stacked_ridge"]),
    late_ridge_routine,
    as_arm(TUNED["late_ridge"], without=("late_ridge_mean",)),
]
# The penalty of the study suits the residual update; the others get weaker ones too.
UPDATES = [
    with_update("residual", 3.0),
    *(with_update(update, penalty) for update in ("gated", "linear") for penalty in (3.0, 0.3, 0.03)),
]
