"""Gradient boosted trees over the columns of all modalities; cells of an absent modality are NaN.

Trees can split on NaN, and so learn from presence itself.

References:
    Chen and Guestrin (2016), XGBoost, https://arxiv.org/abs/1603.02754
    Ke et al. (2017), LightGBM, https://papers.nips.cc/paper/6907
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from multimodn.data.cohort import Cohort
from multimodn.errors import import_extra
from multimodn.evaluate.baselines.cox import partial_likelihood
from multimodn.evaluate.baselines.design_matrix import Array, designs, inputs, targets_of
from multimodn.evaluate.crossval.contracts import Fitted, Predictions
from multimodn.study.study import Study

Options = Mapping[str, float]  # options of a library, by the library's names
Predictor = Callable[[Array], Array]  # predicts one link-scale column ``(n,)`` from rows ``(n, columns)``

SHARED: Options = {"n_estimators": 200, "max_depth": 3, "learning_rate": 0.05}
XGBOOST: Options = {**SHARED, "subsample": 0.8, "colsample_bytree": 0.3, "max_bin": 64}
LIGHTGBM: Options = {  # the closest to XGBoost's
    **SHARED,
    **{"num_leaves": 8, "bagging_fraction": 0.8, "bagging_freq": 1, "feature_fraction": 0.3},
    **{"min_data_in_leaf": 5, "max_bin": 63},
}


def fit_xgboost(study: Study, training: Cohort, seed: int, *, options: Options | None = None) -> dict[str, Fitted]:
    """Trains ``xgboost``: a model for each link-scale column of each task, from tables and embeddings.

    ``options`` of ``xgboost.XGBRegressor`` go over those of `XGBOOST`.

    Raises:
        MissingExtraError: Without the extra ``experiments``.
    """
    xgboost = import_extra("xgboost", "The baseline 'xgboost'", "experiments")
    objectives = {"log-odds": "binary:logistic", "units": "reg:squarederror", "log-risk": "survival:cox"}

    def fit(x: Array, y: Array, scale: str) -> Predictor:
        every = {**XGBOOST, **(options or {}), "objective": objectives[scale], "random_state": seed}
        model = xgboost.XGBRegressor(**every, n_jobs=1).fit(x, y)
        return lambda rows: np.asarray(model.predict(rows, output_margin=True), dtype=np.float64)

    return {"xgboost": _fit_columns(fit, study, training)}


def fit_lightgbm(study: Study, training: Cohort, seed: int, *, options: Options | None = None) -> dict[str, Fitted]:
    """Trains ``lightgbm``: a model for each link-scale column of each task, from tables and embeddings.

    LightGBM has no loss for survival: it is Cox's partial likelihood of `multimodn.evaluate.baselines.cox`.
    ``options``, parameters of ``lightgbm.train`` and ``n_estimators``, go over those of `LIGHTGBM`.

    Raises:
        MissingExtraError: Without the extra ``experiments``.
    """
    lightgbm = import_extra("lightgbm", "The baseline 'lightgbm'", "experiments")
    objectives: dict[str, Any] = {"log-odds": "binary", "units": "regression", "log-risk": _cox_derivatives}

    def fit(x: Array, y: Array, scale: str) -> Predictor:
        every: dict[str, Any] = {**LIGHTGBM, **(options or {})}
        n_rounds = int(every.pop("n_estimators"))
        every |= {"objective": objectives[scale], "seed": seed, "deterministic": True, "force_col_wise": True}
        every |= {"num_threads": 1, "verbosity": -1}
        model = lightgbm.train(every, lightgbm.Dataset(x, y), n_rounds)
        return lambda rows: np.asarray(model.predict(rows, raw_score=True, num_threads=1), dtype=np.float64)

    return {"lightgbm": _fit_columns(fit, study, training)}


def _cox_derivatives(risk: Array, data: Any) -> tuple[Array, Array]:
    """Returns first and second derivatives of minus the partial log-likelihood; a censored time is negative."""
    signed = np.asarray(data.get_label(), dtype=np.float64)
    _, slope, curvature = partial_likelihood(np.abs(signed), signed > 0)(risk)
    return -slope, np.maximum(curvature, 1e-6)


def _fit_columns(fit: Callable[[Array, Array, str], Predictor], study: Study, training: Cohort) -> Fitted:
    """Fits a model for each link-scale column; a column with a single outcome is predicted 0."""
    targets = targets_of(study, training)
    columns = designs(inputs(study), [task.name for task, _, _ in targets], training, scaled=False)
    models: dict[str, list[Predictor]] = {}
    for task, target, is_labelled in targets:
        x = columns[task.name].rows(training)[is_labelled]
        target = _signed_times(target) if task.link_scale == "log-risk" else target
        models[task.name] = []
        for y in target.T:
            rows = ~np.isnan(y)
            is_constant = task.link_scale == "log-odds" and len(np.unique(y[rows])) < 2
            model = (lambda rows: np.zeros(len(rows))) if is_constant else fit(x[rows], y[rows], task.link_scale)
            models[task.name].append(model)

    def predict(cohort: Cohort) -> Predictions:
        rows = {task: columns[task].rows(cohort) for task in models}
        return {task: np.stack([model(rows[task]) for model in each], axis=1) for task, each in models.items()}

    return predict


def _signed_times(target: Array) -> Array:
    """Returns times ``(n, 1)`` for xgboost: a censored one is negative; an event at 0 makes all later by 1."""
    time, event = target[:, 0], target[:, 1] > 0
    time = time + float((time[event] == 0).any())
    return np.where(event, time, -time)[:, None]
