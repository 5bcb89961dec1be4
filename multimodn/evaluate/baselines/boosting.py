"""Gradient boosted trees over the columns of all modalities; cells of an absent modality are NaN.

Trees can split on NaN, and so learn from presence itself.

References:
    Chen and Guestrin (2016), XGBoost, https://arxiv.org/abs/1603.02754
    Ke et al. (2017), LightGBM, https://papers.nips.cc/paper/6907
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodn.data.cohort import Cohort
from multimodn.data.splits import deal, group_numbers
from multimodn.errors import import_extra
from multimodn.evaluate.baselines.cox import partial_likelihood
from multimodn.evaluate.baselines.design_matrix import Array, designs, inputs, targets_of
from multimodn.evaluate.baselines.filling import Filling
from multimodn.evaluate.crossval.contracts import Fitted, Predictions
from multimodn.metrics.ties import likeliest
from multimodn.study.study import Study

Options = Mapping[str, float]  # options of a library, by the library's names
Numbers = NDArray[np.int64]
Predictor = Callable[[Array], Array]  # predicts one link-scale column ``(n,)`` from rows ``(n, columns)``

SHARED: Options = {"n_estimators": 200, "max_depth": 3, "learning_rate": 0.05}
XGBOOST: Options = {**SHARED, "subsample": 0.8, "colsample_bytree": 0.3, "max_bin": 64}
LIGHTGBM: Options = {  # the closest to XGBoost's
    **SHARED,
    **{"num_leaves": 8, "bagging_fraction": 0.8, "bagging_freq": 1, "feature_fraction": 0.3},
    **{"min_data_in_leaf": 5, "max_bin": 63},
}
STOPPED: Options = {
    **{"learning_rate": 0.05, "bagging_fraction": 0.8, "bagging_freq": 1, "feature_fraction": 0.3, "max_bin": 63},
    **{"n_estimators": 1000, "patience": 50},  # trees at most, and without a lower loss before training stops
}
GRID: Sequence[Options] = [
    {"num_leaves": leaves, "min_data_in_leaf": fewest} for leaves in (7, 15, 31) for fewest in (10, 30, 100)
]
INNER_FOLDS = 5
N_DRAWS = 10  # of the empty cells of a patient who is predicted


def fit_xgboost(study: Study, training: Cohort, seed: int, *, options: Options | None = None) -> dict[str, Fitted]:
    """Trains ``xgboost``: a model for each link-scale column of each task, from tables and embeddings.

    ``options`` of ``xgboost.XGBRegressor`` go over those of `XGBOOST`.

    Raises:
        MissingExtraError: Without the extra ``experiments``.
    """
    xgboost = import_extra("xgboost", "The baseline 'xgboost'", "experiments")
    objectives = {"log-odds": "binary:logistic", "units": "reg:squarederror", "log-risk": "survival:cox"}

    def fit(x: Array, y: Array, scale: str, groups: Numbers) -> Predictor:
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

    def fit(x: Array, y: Array, scale: str, groups: Numbers) -> Predictor:
        every: dict[str, Any] = {**LIGHTGBM, **(options or {})}
        n_rounds = int(every.pop("n_estimators"))
        every |= {"objective": objectives[scale], "seed": seed, "deterministic": True, "force_col_wise": True}
        every |= {"num_threads": 1, "verbosity": -1}
        model = lightgbm.train(every, lightgbm.Dataset(x, y), n_rounds)
        return lambda rows: np.asarray(model.predict(rows, raw_score=True, num_threads=1), dtype=np.float64)

    return {"lightgbm": _fit_columns(fit, study, training)}


def fit_lightgbm_tuned(
    study: Study, training: Cohort, seed: int, *, sees_empty: bool, grid: Sequence[Options] = GRID
) -> dict[str, Fitted]:
    """Trains ``lightgbm_tuned``, or with ``sees_empty`` ``lightgbm_tuned_sees_empty``, from tables and embeddings.

    For each link-scale column every setting of ``grid`` is trained in five inner folds of the training patients, each
    until the loss of its held-out patients no longer falls; the setting with the lowest loss is taken, and the mean of
    its five models is the prediction. Settings are parameters of ``lightgbm.train``, over those of `STOPPED`.

    With ``sees_empty`` empty cells and absent modalities are NaN, on which trees may split. Otherwise they have the
    training median or the commonest level (`Filling`): nothing tells a filled cell from a measured one of that value,
    but that so many have it.

    Raises:
        MissingExtraError: Without the extra ``experiments``.
    """
    fit = _tuned_fit(seed, grid)
    if sees_empty:
        return {"lightgbm_tuned_sees_empty": _fit_columns(fit, study, training)}
    filling = Filling.fit(inputs(study), training)
    fitted = _fit_columns(fit, study, filling.everything(training))
    return {"lightgbm_tuned": lambda cohort: fitted(filling.everything(cohort))}


def fit_lightgbm_imputed(
    study: Study, training: Cohort, seed: int, *, grid: Sequence[Options] = GRID
) -> dict[str, Fitted]:
    """Trains ``lightgbm_imputed``: `fit_lightgbm_tuned` on cells drawn given the other cells of the patient.

    Many patients with exactly the median tell trees which cells were empty; draws do not. Every column is regressed on
    the 20 that say most of it, in turn, and empty cells are drawn from what the regression leaves open (chained
    equations, `sklearn.impute.IterativeImputer`); predictions are means over `N_DRAWS` draws.

    References:
        van Buuren and Groothuis-Oudshoorn (2011), mice, https://doi.org/10.18637/jss.v045.i03
    """
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    tuned = _tuned_fit(seed, grid)

    def fit(x: Array, y: Array, scale: str, groups: Numbers) -> Predictor:
        known = ~np.isnan(x).all(0)
        x = x[:, known]
        imputer = IterativeImputer(
            sample_posterior=True, max_iter=5, n_nearest_features=20, random_state=seed,
            min_value=np.nanmin(x, 0), max_value=np.nanmax(x, 0),
        )  # fmt: skip
        model = tuned(np.asarray(imputer.fit_transform(x)), y, scale, groups)

        def predict(rows: Array) -> Array:
            draws = [model(np.asarray(imputer.transform(rows[:, known]))) for _ in range(N_DRAWS)]
            return np.asarray(np.mean(draws, axis=0, dtype=np.float64))

        return predict

    return {"lightgbm_imputed": _fit_columns(fit, study, training)}


def _tuned_fit(seed: int, grid: Sequence[Options]) -> Callable[[Array, Array, str, Numbers], Predictor]:
    """Returns what trains the mean of five early-stopped models of the setting of ``grid`` with the lowest loss."""
    lightgbm = import_extra("lightgbm", "The baseline 'lightgbm_tuned'", "experiments")
    objectives: dict[str, Any] = {"log-odds": "binary", "units": "regression", "log-risk": _cox_derivatives}

    def fit(x: Array, y: Array, scale: str, groups: Numbers) -> Predictor:
        strata = np.zeros(len(y), dtype=np.int64) if scale == "units" else (y > 0).astype(np.int64)
        fold = deal(groups, strata, min(INNER_FOLDS, len(np.unique(groups))), seed)
        shared: dict[str, Any] = {**STOPPED, "objective": objectives[scale], "seed": seed, "deterministic": True}
        shared |= {"force_col_wise": True, "num_threads": 1, "verbosity": -1, "feature_pre_filter": False}
        shared |= {"metric": {"log-odds": "binary_logloss", "units": "l2", "log-risk": "None"}[scale]}
        n_rounds, patience = int(shared.pop("n_estimators")), int(shared.pop("patience"))
        losses, models = np.zeros(len(grid)), [list[Any]() for _ in grid]
        for k in range(int(fold.max()) + 1):
            data = lightgbm.Dataset(x[fold != k], y[fold != k], params=shared)
            held_out = data.create_valid(x[fold == k], y[fold == k])
            for j, options in enumerate(grid):
                model = lightgbm.train(
                    {**shared, **options}, data, n_rounds, valid_sets=[held_out],
                    feval=_cox_loss if scale == "log-risk" else None,
                    callbacks=[lightgbm.early_stopping(patience, verbose=False)],
                )  # fmt: skip
                losses[j] += float(next(iter(model.best_score["valid_0"].values()))) * (fold == k).sum()
                models[j].append(model)
        chosen = models[int(likeliest(-losses[None] / len(y))[0])]
        every = {"raw_score": True, "num_threads": 1}
        return lambda rows: np.mean([model.predict(rows, **every) for model in chosen], axis=0, dtype=np.float64)

    return fit


def _cox_loss(risk: Array, data: Any) -> tuple[str, float, bool]:
    """Returns minus the partial log-likelihood of an event among these rows, and that a lower one is better."""
    signed = np.asarray(data.get_label(), dtype=np.float64)
    likelihood = partial_likelihood(np.abs(signed), signed > 0)(np.asarray(risk, dtype=np.float64))[0]
    return "partial_likelihood", -likelihood / max(int((signed > 0).sum()), 1), False


def _cox_derivatives(risk: Array, data: Any) -> tuple[Array, Array]:
    """Returns first and second derivatives of minus the partial log-likelihood; a censored time is negative."""
    signed = np.asarray(data.get_label(), dtype=np.float64)
    _, slope, curvature = partial_likelihood(np.abs(signed), signed > 0)(risk)
    return -slope, np.maximum(curvature, 1e-6)


def _fit_columns(fit: Callable[[Array, Array, str, Numbers], Predictor], study: Study, training: Cohort) -> Fitted:
    """Fits a model for each link-scale column; a column with a single outcome is predicted 0."""
    targets = targets_of(study, training)
    columns = designs(inputs(study), [task.name for task, _, _ in targets], training, scaled=False)
    groups = group_numbers(training)
    models: dict[str, list[Predictor]] = {}
    for task, target, is_labelled in targets:
        x = columns[task.name].rows(training)[is_labelled]
        target = _signed_times(target) if task.link_scale == "log-risk" else target
        models[task.name] = []
        for y in target.T:
            rows = ~np.isnan(y)
            is_constant = task.link_scale == "log-odds" and len(np.unique(y[rows])) < 2
            if is_constant:
                models[task.name].append(lambda rows: np.zeros(len(rows)))
            else:
                models[task.name].append(fit(x[rows], y[rows], task.link_scale, groups[is_labelled][rows]))

    def predict(cohort: Cohort) -> Predictions:
        rows = {task: columns[task].rows(cohort) for task in models}
        return {task: np.stack([model(rows[task]) for model in each], axis=1) for task, each in models.items()}

    return predict


def _signed_times(target: Array) -> Array:
    """Returns times ``(n, 1)`` for xgboost: a censored one is negative; an event at 0 makes all later by 1."""
    time, event = target[:, 0], target[:, 1] > 0
    time = time + float((time[event] == 0).any())
    return np.where(event, time, -time)[:, None]
