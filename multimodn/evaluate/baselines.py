"""Strong simple models on the same folds: late ridge fusion, early concatenation, boosted trees, one modality.

A function ``fit_...`` trains; ``late_ridge``, ``early_concat`` and ``xgboost`` train, predict once and forget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from multimodn.base import Task
from multimodn.data.cohort import Cohort
from multimodn.errors import StudyError
from multimodn.evaluate.arms import Fitted, as_arm
from multimodn.evaluate.crossval import Predictions
from multimodn.study import ModalitySpec, Study

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Target = tuple[Task, Array, Bools]
"""A fitted task, what its link-scale columns predict for the labelled patients, and who is labelled."""
Score = Callable[[Array], Array]
"""Predicts one link-scale column ``(n,)`` from rows ``(n, columns)``."""

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Values of C that a ridge logistic regression chooses from, by inner cross-validated log loss."""
BOOSTING = {"n_estimators": 200, "max_depth": 3, "learning_rate": 0.05, "subsample": 0.8, "colsample_bytree": 0.3}


def fit_late_ridge(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
    """Trains ``late_ridge``, ``late_ridge_mean`` and, as they are their parts, ``single:<modality>``.

    One ridge model a modality and task: logistic regression for each link-scale column of log-odds, linear for units,
    Cox for log-risk (standardised, as its scale is arbitrary).

    ``late_ridge`` is the mean over the modalities that a patient has. Who has none, or lacks the single one, gets the
    mean prediction of the patients predicted together.

    ``late_ridge_mean`` is neutral to presence: the task's prior plus the mean over ALL M modalities of the score less
    its mean over the training patients who have the modality; an absent one adds 0. Absence takes evidence away and
    says nothing itself. It is the mean, not the sum, so that patients with all modalities rank as by ``late_ridge``.
    """
    targets = _targets(study, training)
    parts = {spec.name: _fit_ridges([spec], targets, training, seed) for spec in _inputs(study)}
    means = {m: {task: np.nanmean(link, axis=0) for task, link in part(training).items()} for m, part in parts.items()}
    priors = {task.name: task.link(task.prior()).double().numpy() for task, _, _ in targets}

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
    """Trains ``early_concat``: ridge models over all columns side by side, an absent modality at its training mean."""
    return {"early_concat": _filled(_fit_ridges(_inputs(study), _targets(study, training), training, seed))}


def fit_xgboost(study: Study, training: Cohort, seed: int) -> dict[str, Fitted]:
    """Trains ``xgboost``: gradient boosting over all columns; the cells of an absent modality are NaN.

    Needs the extra ``experiments``.
    """
    from xgboost import XGBRegressor

    designs = _designs(_inputs(study), [task.name for task, _, _ in _targets(study, training)], training, scaled=False)
    objectives = {"log-odds": "binary:logistic", "units": "reg:squarederror", "log-risk": "survival:cox"}
    models: dict[str, list[Any]] = {}
    for task, target, known in _targets(study, training):
        x = designs[task.name].rows(training)[known]
        if task.link_scale == "log-risk":  # xgboost's convention: a censored time is negative
            target = np.where(target[:, 1] > 0, target[:, 0], -target[:, 0])[:, None]
        options = BOOSTING | {"max_bin": 64, "objective": objectives[task.link_scale], "random_state": seed}
        columns = zip(target.T, ~np.isnan(target.T), strict=True)
        models[task.name] = [XGBRegressor(**options, n_jobs=1).fit(x[labelled], y[labelled]) for y, labelled in columns]

    def predict(cohort: Cohort) -> Predictions:
        rows = {task: designs[task].rows(cohort) for task in models}
        margins = {t: [model.predict(rows[t], output_margin=True) for model in each] for t, each in models.items()}
        return {task: np.stack(columns, axis=1).astype(np.float64) for task, columns in margins.items()}

    return {"xgboost": predict}


late_ridge = as_arm(fit_late_ridge, without=("late_ridge_mean",))
early_concat = as_arm(fit_early_concat)
xgboost = as_arm(fit_xgboost)


def _inputs(study: Study) -> list[ModalitySpec]:
    """Returns the modalities, each reading of a repeated one by itself.

    Raises:
        StudyError: If one is no table of numbers and categories, one row a patient.
    """
    other = [spec.name for spec in study.modalities if spec.takes_several_rows or spec.file_columns]
    if other:
        raise StudyError(f"This baseline reads tables and embeddings only; leave out {', '.join(other)}.")
    return [spec.model_copy(update={"name": name, "repeats": None}) for name, spec in study.steps.items()]


class _Design:
    """The columns of some modalities side by side, as training rows fitted them."""

    def __init__(self, modalities: Sequence[ModalitySpec], training: Cohort, *, scaled: bool = True) -> None:
        self.scaled = scaled
        self.transforms = {spec.name: _columns(spec, training.modalities[spec.name], scaled) for spec in modalities}

    def rows(self, cohort: Cohort) -> Array:
        """Returns ``(n, columns)``; the cells of an absent modality are 0 (scaled) or NaN."""
        return np.hstack([self._aligned(cohort, name) for name in self.transforms])

    def has(self, cohort: Cohort) -> Bools:
        """Says which patients have any of the modalities."""
        has: Bools = np.any([cohort.patients.isin(_rows(cohort, name).index) for name in self.transforms], axis=0)
        return has

    def _aligned(self, cohort: Cohort, name: str) -> Array:
        values = self.transforms[name](_rows(cohort, name))
        filled = np.full((len(cohort), values.shape[1]), 0.0 if self.scaled else np.nan)
        filled[cohort.patients.get_indexer(_rows(cohort, name).index)] = values
        return filled


def _designs(
    modalities: Sequence[ModalitySpec], tasks: Sequence[str], training: Cohort, *, scaled: bool = True
) -> dict[str, _Design]:
    """For each task the columns that it may see; a task that may see none of the modalities has no design."""
    made: dict[tuple[str, ...], _Design] = {}
    found = {}
    for task in tasks:
        seen = [spec for spec in modalities if task not in spec.exclude_for]
        key = tuple(spec.name for spec in seen)
        if key and key not in made:
            made[key] = _Design(seen, training, scaled=scaled)
        if key:
            found[task] = made[key]
    return found


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

    def texts(rows: pd.DataFrame) -> pd.DataFrame:  # one type for a column, whatever mixture of numbers and words it is
        levels = {c: rows[c].astype(object).where(rows[c].notna(), "empty").astype(str) for c in categorical}
        return rows.assign(**{c: column.astype(object) for c, column in levels.items()})

    transformer.fit(texts(frame))
    width = transformer.transform(texts(frame.head(1))).shape[1]
    return lambda rows: transformer.transform(texts(rows)).astype(np.float64) if len(rows) else np.empty((0, width))


def _rows(cohort: Cohort, modality: str) -> pd.DataFrame:
    """The modality's rows; none where the cohort does not hold it at all."""
    return cohort.modalities.get(modality, pd.DataFrame())


def _targets(study: Study, training: Cohort) -> list[Target]:
    from multimodn.training.build import fit_tasks

    found = []
    for task in fit_tasks(study, training):
        target, known = task.prepare(training.targets[task.name])
        found.append((task, task.link_target(target[known]).numpy().astype(np.float64), known.numpy()))
    return found


def _fit_ridges(modalities: Sequence[ModalitySpec], targets: Sequence[Target], training: Cohort, seed: int) -> Fitted:
    """Ridge models over the columns of some modalities; they answer NaN for patients who have none of them.

    A task that may see none of the modalities is left out.
    """
    designs = _designs(modalities, [task.name for task, _, _ in targets], training)
    models: dict[str, list[Score]] = {}
    for task, target, known in targets:
        if task.name not in designs:
            continue
        rows, has = designs[task.name].rows(training), designs[task.name].has(training)
        x, y = rows[known & has], target[has[known]]
        if task.link_scale == "log-risk":
            models[task.name] = [_cox(x, y)]
        else:
            fit = _logistic if task.link_scale == "log-odds" else _linear
            models[task.name] = [fit(x[~np.isnan(column)], column[~np.isnan(column)], seed) for column in y.T]

    def predict(cohort: Cohort) -> Predictions:
        found = {}
        for task, scores in models.items():
            x, present = designs[task].rows(cohort), designs[task].has(cohort)[:, None]
            found[task] = np.where(present, np.stack([score(x) for score in scores], axis=1), np.nan)
        return found

    return predict


def _filled(part: Fitted) -> Fitted:
    """Gives those for whom a part has no answer the mean of the others."""
    return lambda cohort: {task: _mean_present([link]) for task, link in part(cohort).items()}


def _logistic(x: Array, y: Array, seed: int) -> Score:
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
        model = GridSearchCV(free, {"C": list(PENALTIES)}, scoring="neg_log_loss", cv=inner)
    model.fit(x, y)
    return lambda rows: np.asarray(model.decision_function(rows), dtype=np.float64)


def _linear(x: Array, y: Array, seed: int) -> Score:
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas=np.logspace(-1, 5, 13)).fit(x, y)
    return lambda rows: np.asarray(model.predict(rows), dtype=np.float64)


def _cox(x: Array, y: Array, penalty: float = 0.05) -> Score:
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
    # equal patients are ties: the last digits of a product depend on the machine and would order them
    return lambda rows: (rows @ learned / spread).round(9)


def _mean_present(parts: list[Array]) -> Array:
    stacked = np.stack(parts)
    present = ~np.isnan(stacked)
    total = np.nansum(stacked, axis=0)
    overall = total.sum(0) / np.maximum(present.sum(0).sum(0), 1)
    fused: Array = np.where(present.any(0), total / np.maximum(present.sum(0), 1), overall)
    return fused
