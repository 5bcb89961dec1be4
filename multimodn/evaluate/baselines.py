"""Strong simple models on the same folds: late ridge fusion, early concatenation, boosted trees, one modality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from multimodn.base import Task
from multimodn.data.cohort import Cohort
from multimodn.evaluate.crossval import Predictions
from multimodn.study import ModalitySpec, Study

Array = NDArray[np.float64]

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Values of C that a ridge logistic regression chooses from, by inner cross-validated log loss."""


def late_ridge(study: Study, training: Cohort, test: Cohort, seed: int) -> dict[str, Predictions]:
    """Returns ``late_ridge`` and, as they are its parts, ``single:<modality>``.

    One ridge model a modality and task: logistic regression for each link-scale column of log-odds, linear for units,
    Cox for log-risk (standardised, as its scale is arbitrary). Late fusion is the mean over the modalities that a
    patient has. Who has none, or lacks the single one, gets the mean prediction.
    """
    parts = {spec.name: _ridge_parts(study, [spec], training, test, seed) for spec in study.modalities}
    tasks = [spec.name for spec in study.tasks]
    arms = {"late_ridge": {task: _mean_present([part[task] for part in parts.values()]) for task in tasks}}
    for modality, part in parts.items():
        arms[f"single:{modality}"] = {task: _mean_present([part[task]]) for task in tasks}
    return arms


def early_concat(study: Study, training: Cohort, test: Cohort, seed: int) -> dict[str, Predictions]:
    """Returns ``early_concat``: ridge models over all columns side by side, an absent modality at its training mean."""
    parts = _ridge_parts(study, study.modalities, training, test, seed)
    return {"early_concat": {task: _mean_present([link]) for task, link in parts.items()}}


def xgboost(study: Study, training: Cohort, test: Cohort, seed: int) -> dict[str, Predictions]:
    """Returns ``xgboost``: gradient boosting over all columns; the cells of an absent modality are NaN.

    Needs the extra ``experiments``.
    """
    from xgboost import XGBRegressor

    design = _design(study, study.modalities, training, test, scaled=False)
    objectives = {"log-odds": "binary:logistic", "units": "reg:squarederror", "log-risk": "survival:cox"}
    result = {}
    for task, target, known in _targets(study, training):
        x = design.train[known]
        if task.link_scale == "log-risk":  # xgboost's convention: a censored time is negative
            target = np.where(target[:, 1] > 0, target[:, 0], -target[:, 0])[:, None]
        columns = []
        for y in target.T:
            labelled = ~np.isnan(y)
            model = XGBRegressor(
                n_estimators=200, max_depth=3, learning_rate=0.05, subsample=0.8, colsample_bytree=0.3, max_bin=64,
                objective=objectives[task.link_scale], random_state=seed, n_jobs=1,
            )  # fmt: skip
            model.fit(x[labelled], y[labelled])
            columns.append(model.predict(design.test, output_margin=True))
        result[task.name] = np.stack(columns, axis=1).astype(np.float64)
    return {"xgboost": result}


@dataclass(frozen=True)
class _Design:
    """Columns of some modalities side by side, fitted on training rows; NaN rows where all of them are absent."""

    train: Array
    test: Array
    train_has: NDArray[np.bool_]
    test_has: NDArray[np.bool_]


def _design(
    study: Study, modalities: list[ModalitySpec], training: Cohort, test: Cohort, *, scaled: bool = True
) -> _Design:
    blocks: list[tuple[Array, Array]] = []
    for spec in modalities:
        transform = _columns(spec, training.modalities[spec.name], scaled)
        blocks.append((_aligned(training, spec.name, transform, scaled), _aligned(test, spec.name, transform, scaled)))
    names = [spec.name for spec in modalities]
    return _Design(
        np.hstack([train for train, _ in blocks]),
        np.hstack([tested for _, tested in blocks]),
        np.any(training.presence[names].to_numpy(), axis=1),
        np.any(test.presence[names].to_numpy(), axis=1),
    )


def _columns(spec: ModalitySpec, frame: pd.DataFrame, scaled: bool) -> Callable[[pd.DataFrame], Array]:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    declared = set(getattr(spec.options, "categorical", []))
    numeric = [str(c) for c in frame if c not in declared and pd.api.types.is_numeric_dtype(frame[c].dtype)]
    numeric = [c for c in numeric if frame[c].notna().any()]
    categorical = [str(c) for c in frame if c not in numeric and frame[c].notna().any()]
    scaler = make_pipeline(SimpleImputer(), StandardScaler()) if scaled else "passthrough"
    levels = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    transformer = ColumnTransformer([("numeric", scaler, numeric), ("levels", levels, categorical)])

    def plain(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.astype(dict.fromkeys(categorical, object)).fillna(dict.fromkeys(categorical, "empty"))

    def transform(rows: pd.DataFrame) -> Array:
        values: Array = transformer.transform(plain(rows)).astype(np.float64)
        return values

    transformer.fit(_texts(plain(frame), categorical))
    return lambda rows: transform(_texts(rows, categorical)) if len(rows) else np.empty((0, 1))


def _texts(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """One type for the levels of a column, whatever mixture of numbers and words they are."""
    return frame.assign(**{c: frame[c].astype(object).where(frame[c].notna(), "empty").astype(str) for c in columns})


def _aligned(cohort: Cohort, name: str, transform: Callable[[pd.DataFrame], Array], scaled: bool) -> Array:
    """Places the transformed rows of a modality among all patients; absent rows are 0 (scaled) or NaN."""
    frame = cohort.modalities[name]
    values = transform(frame)
    filled = np.full((len(cohort), values.shape[1]), 0.0 if scaled else np.nan)
    filled[cohort.patients.get_indexer(frame.index)] = values
    return filled


def _targets(study: Study, training: Cohort) -> list[tuple[Task, Array, NDArray[np.bool_]]]:
    from multimodn.training.build import fit_tasks

    found = []
    for task in fit_tasks(study, training):
        target, known = task.prepare(training.targets[task.name])
        found.append((task, task.link_target(target[known]).numpy().astype(np.float64), known.numpy()))
    return found


def _ridge_parts(
    study: Study, modalities: list[ModalitySpec], training: Cohort, test: Cohort, seed: int
) -> Predictions:
    """Ridge models over the columns of some modalities; NaN for test patients who have none of them."""
    design = _design(study, modalities, training, test)
    result = {}
    for task, target, known in _targets(study, training):
        usable = known & design.train_has
        y = target[design.train_has[known]]
        if task.link_scale == "log-risk":
            columns = [_cox(design.train[usable], y, design.test)]
        else:
            fit = _logistic if task.link_scale == "log-odds" else _linear
            columns = [_column(fit, design.train[usable], column, design.test, seed) for column in y.T]
        link = np.stack(columns, axis=1)
        link[~design.test_has] = np.nan
        result[task.name] = link
    return result


def _column(fit: Callable[..., Array], x: Array, y: Array, x_test: Array, seed: int) -> Array:
    labelled = ~np.isnan(y)
    column: Array = fit(x[labelled], y[labelled], x_test, seed)
    return column


def _logistic(x: Array, y: Array, x_test: Array, seed: int) -> Array:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    fewest = int(np.bincount(y.astype(int), minlength=2).min())
    if fewest < 1:
        return np.zeros(len(x_test))
    if fewest < 3:  # too few to choose the penalty by cross-validation
        return np.asarray(LogisticRegression(C=0.01, max_iter=1000).fit(x, y).decision_function(x_test))
    inner = StratifiedKFold(min(5, fewest), shuffle=True, random_state=seed)
    model: Any = GridSearchCV(
        LogisticRegression(max_iter=1000, tol=1e-3), {"C": list(PENALTIES)}, scoring="neg_log_loss", cv=inner
    )
    return np.asarray(model.fit(x, y).decision_function(x_test), dtype=np.float64)


def _linear(x: Array, y: Array, x_test: Array, seed: int) -> Array:
    from sklearn.linear_model import RidgeCV

    return np.asarray(RidgeCV(alphas=np.logspace(-1, 5, 13)).fit(x, y).predict(x_test), dtype=np.float64)


def _cox(x: Array, y: Array, x_test: Array, penalty: float = 0.05) -> Array:
    """Ridge Cox regression by L-BFGS on the mean partial log-likelihood; risks standardised on training rows.

    Ties by Breslow (1974): every event of a time is compared with all who were at risk then.
    """
    latest_first = np.argsort(-y[:, 0], kind="stable")
    rows = torch.from_numpy(x[latest_first])
    time, event = y[latest_first, 0], torch.from_numpy(y[latest_first, 1] > 0)
    last_tied = torch.from_numpy(np.searchsorted(-time, -time, side="right") - 1)
    weights = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        risk = rows @ weights
        log_likelihood = (risk - risk.logcumsumexp(0)[last_tied])[event]
        loss = penalty * weights.square().sum() / 2 - log_likelihood.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    learned = weights.detach().numpy()
    spread = float((x @ learned).std()) or 1.0
    risk: Array = x_test @ learned / spread
    return risk


def _mean_present(parts: list[Array]) -> Array:
    stacked = np.stack(parts)
    present = ~np.isnan(stacked)
    total = np.nansum(stacked, axis=0)
    overall = total.sum(0) / np.maximum(present.sum(0).sum(0), 1)
    fused: Array = np.where(present.any(0), total / np.maximum(present.sum(0), 1), overall)
    return fused
