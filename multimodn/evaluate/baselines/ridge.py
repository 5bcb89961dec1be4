"""Ridge baselines: late fusion, early concatenation, and single modalities.

A function ``fit_...`` is a trainer; ``late_ridge``, ``early_concat`` and ``xgboost`` train and predict once. Settings
are chosen by inner folds in `multimodn.evaluate.baselines.tuned`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from multimodn.data.cohort import Cohort
from multimodn.evaluate.baselines.boosting import fit_xgboost
from multimodn.evaluate.baselines.cox import Score, fit_cox
from multimodn.evaluate.baselines.design_matrix import Array, Target, designs, inputs, targets_of
from multimodn.evaluate.crossval.arms import as_arm
from multimodn.evaluate.crossval.contracts import Fitted, Predictions
from multimodn.study.study import ModalitySpec, Study

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Values of C of a ridge logistic regression, chosen by log loss in inner cross-validation."""


def fit_late_ridge(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
    """Trains ``late_ridge``, ``late_ridge_mean`` and their parts, ``single:<modality>``, from tables and embeddings.

    One ridge model for each modality and task: logistic regression for each link-scale column of log-odds, linear for
    units, Cox for log-risk. Inner folds, drawn by ``seed``, choose the penalties.

    ``late_ridge`` is the mean over the modalities that a patient has. A patient without any, or without the single one,
    has the mean prediction of the patients predicted together.

    ``late_ridge_mean`` does not use presence: it is the task's prior plus the mean over ALL M modalities of the score
    minus its mean over the training patients who have the modality; an absent modality adds 0. It is the mean, not the
    sum, so that patients with all modalities rank as by ``late_ridge``.
    """
    targets = targets_of(study, training)
    parts = {spec.name: _fit_ridges([spec], targets, training, seed) for spec in inputs(study)}
    means = {m: {task: np.nanmean(link, axis=0) for task, link in part(training).items()} for m, part in parts.items()}
    priors = _priors(targets)

    def fused(cohort: Cohort) -> Predictions:
        links = [part(cohort) for part in parts.values()]
        return {task: _mean_present([link[task] for link in links if task in link]) for task in priors}

    def centred(cohort: Cohort) -> Predictions:
        links = {m: part(cohort) for m, part in parts.items()}
        evidence = {t: [np.nan_to_num(links[m][t] - means[m][t]) for m in parts if t in means[m]] for t in priors}
        return {task: prior + np.mean(evidence[task], axis=0) for task, prior in priors.items()}

    singles = {f"single:{modality}": _filled(part) for modality, part in parts.items()}
    return {"late_ridge": fused, "late_ridge_mean": centred, **singles}


def fit_early_concat(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
    """Trains ``early_concat``: ridge models over the columns of all modalities, an absent one at its training mean."""
    targets = targets_of(study, training)
    return {"early_concat": _filled(_fit_ridges(inputs(study), targets, training, seed))}


def fit_single(study: Study, training: Cohort, seed: int, *, modality: str) -> dict[str, Fitted]:
    """Trains ``single:<modality>`` alone, as `fit_late_ridge` does.

    Tasks that may not see the modality are predicted at their prior.
    """
    targets = targets_of(study, training)
    chosen = [spec for spec in inputs(study) if spec.name == modality]
    predict, priors = _filled(_fit_ridges(chosen, targets, training, seed)), _priors(targets)
    return {
        f"single:{modality}": lambda cohort: (
            {name: np.tile(prior, (len(cohort), 1)) for name, prior in priors.items()} | predict(cohort)
        )
    }


late_ridge = as_arm(fit_late_ridge, without=("late_ridge_mean",))
early_concat = as_arm(fit_early_concat)
xgboost = as_arm(fit_xgboost)


def _priors(targets: Sequence[Target]) -> dict[str, Array]:
    """Returns the prior of each task on the link scale, ``(L,)``."""
    return {task.name: task.link(task.prior()).double().numpy() for task, _, _ in targets}


def _fit_ridges(modalities: Sequence[ModalitySpec], targets: Sequence[Target], training: Cohort, seed: int) -> Fitted:
    """Fits ridge models over the columns of some modalities, for the tasks that see any of them.

    Predictions are NaN for patients without any of the modalities.
    """
    columns = designs(modalities, [task.name for task, _, _ in targets], training)
    models: dict[str, list[Score]] = {}
    for task, target, is_labelled in targets:
        if task.name not in columns:
            continue
        has = columns[task.name].has(training)
        x, y = columns[task.name].rows(training)[is_labelled & has], target[has[is_labelled]]
        if task.link_scale == "log-risk":
            models[task.name] = [fit_cox(x, y, seed)]
        else:
            fit = _logistic if task.link_scale == "log-odds" else _linear
            models[task.name] = [fit(x[~np.isnan(each)], each[~np.isnan(each)], seed) for each in y.T]

    def predict(cohort: Cohort) -> Predictions:
        links = {}
        for task, scores in models.items():
            x, has = columns[task].rows(cohort), columns[task].has(cohort)[:, None]
            links[task] = np.where(has, np.stack([score(x) for score in scores], axis=1), np.nan)
        return links

    return predict


def _filled(part: Fitted) -> Fitted:
    """Replaces NaN by the mean prediction of the other patients."""
    return lambda cohort: {task: _mean_present([link]) for task, link in part(cohort).items()}


def _logistic(x: Array, y: Array, seed: int) -> Score:
    from sklearn import config_context
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    fewest = int(np.bincount(y.astype(int), minlength=2).min())
    if fewest < 1:
        return lambda rows: np.zeros(len(rows))
    if fewest < 3:  # too few to choose the penalty by cross-validation
        model: Any = LogisticRegression(C=0.01, max_iter=1000)
    else:
        inner = StratifiedKFold(min(5, fewest), shuffle=True, random_state=seed)
        free = LogisticRegression(max_iter=1000, tol=1e-3)
        model = GridSearchCV(free, {"C": list(PENALTIES)}, scoring=_log_likelihood, cv=inner)
    with config_context(assume_finite=True, skip_parameter_validation=True):  # checks take half of the time
        model.fit(x, y)
    return lambda rows: np.asarray(model.decision_function(rows), dtype=np.float64)


def _log_likelihood(model: Any, x: Array, y: Array) -> float:
    """Returns the mean log-likelihood: ``neg_log_loss`` of scikit-learn, ten times as fast."""
    return -float(np.logaddexp(0, (1 - 2 * y) * model.decision_function(x)).mean())


def _linear(x: Array, y: Array, seed: int) -> Score:
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas=np.logspace(-1, 5, 13)).fit(x, y)
    return lambda rows: np.asarray(model.predict(rows), dtype=np.float64)


def _mean_present(parts: list[Array]) -> Array:
    """Averages over the parts that are not NaN; where all are, the overall mean."""
    stacked = np.stack(parts)
    present = ~np.isnan(stacked)
    total = np.nansum(stacked, axis=0)
    overall = total.sum(0) / np.maximum(present.sum(0).sum(0), 1)
    fused: Array = np.where(present.any(0), total / np.maximum(present.sum(0), 1), overall)
    return fused
