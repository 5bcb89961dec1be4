"""Late ridge fusion whose modalities are weighed by how well they predict patients that they were not fitted on.

Each modality's ridge model is cross-fitted: its evidence for a training patient comes from a model that never saw the
patient. A second model adds the evidence up, with weights that are not negative and are shrunk towards their common
mean, so that with few patients it is a mean of the modalities and with many a weighted sum.

References:
    Wolpert (1992), Stacked generalization, https://doi.org/10.1016/S0893-6080(05)80023-1
    Breiman (1996), Stacked regressions, https://doi.org/10.1007/BF00117832 (weights that are not negative)
    Verweij and van Houwelingen (1993), Cross-validation in survival analysis,
    https://doi.org/10.1002/sim.4780122407
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from multimodn.data.cohort import Cohort
from multimodn.data.splits import deal, group_numbers
from multimodn.evaluate.baselines.cox import partial_likelihood
from multimodn.evaluate.baselines.design_matrix import Array, Design, inputs, targets_of
from multimodn.evaluate.baselines.filling import Filling, fit_emptiness
from multimodn.evaluate.crossval.contracts import Fitted, Predictions
from multimodn.metrics.ties import likeliest
from multimodn.study.study import ModalitySpec, Study

Bools = NDArray[np.bool_]
Likelihood = Callable[[Array], tuple[float, Array]]
"""Scores ``(n,)`` on the link scale to their log-likelihood and its gradient ``(n,)``."""

N_FOLDS = 5
PENALTIES = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
"""Candidates of a modality's L2 penalty against the summed log-likelihood, the strongest first."""
SHRINKAGES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
"""Candidates of the penalty on how far the weights of modalities are from their mean, the strongest first."""
WIDE, COMPONENTS = 100, 16
"""A modality with more columns than the first number is reduced to so many principal components."""
MOST = 3.0
"""Standard deviations at which columns are clipped: one extreme laboratory value would decide for a patient."""
OPTIONS = {"maxiter": 200, "ftol": 1e-9}


def fit_stacked_ridge(study: Study, training: Cohort, seed: int, *, sees_empty: bool = False) -> dict[str, Fitted]:
    """Trains ``stacked_ridge``, from tables and embeddings; with ``sees_empty`` ``stacked_ridge_sees_empty``.

    For each link-scale column and modality a ridge model: logistic for log-odds, linear for units, Cox for log-risk.
    Its penalty is the best in five folds of the training patients who have the modality, whose out-of-fold scores, less
    their mean, are its evidence; the evidence of an absent modality is 0. A model of the same kind adds them up, with
    an intercept (none for log-risk), weights >= 0 and a penalty on their distance from their mean, chosen in folds too.

    Columns are clipped at `MOST` standard deviations, and those of a wide modality reduced to principal components.
    Empty cells have the training median or the commonest level, so that only a model with ``sees_empty`` knows of them:
    it has one more block, of what is empty (`fit_emptiness`), absent modalities included. A modality in which an
    outcome occurs in fewer patients than there are folds gives no evidence; a column that nothing predicts has the
    prior's log-odds, the mean, or a log-risk of 0.
    """
    modalities, groups, targets = inputs(study), group_numbers(training), targets_of(study, training)
    seen = {task.name: [spec for spec in modalities if task.name not in spec.exclude_for] for task, _, _ in targets}
    blocks = _Blocks(modalities, list(seen.values()) if sees_empty else [], training)
    read = blocks.read(training)
    models: dict[str, list[_Stack]] = {}
    for task, target, is_labelled in targets:
        own = {name: read[name] for name in blocks.names(seen[task.name])}
        columns = [target] if task.link_scale == "log-risk" else [each[:, None] for each in target.T]
        outcomes = [_Outcome(task.link_scale, y) for y in columns]
        models[task.name] = [_fit_stack(own, is_labelled, outcome, groups, seed) for outcome in outcomes]

    def predict(cohort: Cohort) -> Predictions:
        read = blocks.read(cohort)
        return {
            task: np.stack([each.predict(read, len(cohort)) for each in stacks], axis=1)
            for task, stacks in models.items()
        }

    return {"stacked_ridge_sees_empty" if sees_empty else "stacked_ridge": predict}


Rows = tuple[Array, Bools]
"""Standardised rows ``(n, columns)`` of some patients, and who has them ``(n,)``."""


class _Blocks:
    """What the ridge models read: a block a modality, and one of what is empty in the modalities that a task sees."""

    def __init__(
        self, modalities: Sequence[ModalitySpec], emptiness: Sequence[Sequence[ModalitySpec]], training: Cohort
    ) -> None:
        self.filling = Filling.fit(modalities, training)
        filled = self.filling.cells(training)
        self.designs = {spec.name: Design([spec], filled) for spec in modalities}
        self.emptiness = {_of(specs): fit_emptiness(specs, training) for specs in emptiness}
        present = {name: _clipped(design.rows(filled))[design.has(training)] for name, design in self.designs.items()}
        present |= {name: rows(training) for name, rows in self.emptiness.items()}
        self.reduce = {name: _components(rows) for name, rows in present.items()}

    def names(self, modalities: Sequence[ModalitySpec]) -> list[str]:
        """Returns the blocks that a task reads which sees these modalities."""
        return [*(spec.name for spec in modalities), *(name for name in self.emptiness if name == _of(modalities))]

    def read(self, cohort: Cohort) -> dict[str, Rows]:
        """Returns the rows of every block, 0 where absent."""
        filled, everybody = self.filling.cells(cohort), np.ones(len(cohort), dtype=bool)
        found = {name: (_clipped(design.rows(filled)), design.has(cohort)) for name, design in self.designs.items()}
        found |= {name: (rows(cohort), everybody) for name, rows in self.emptiness.items()}
        return {name: (self.reduce[name](rows), has) for name, (rows, has) in found.items()}


def _of(modalities: Sequence[ModalitySpec]) -> str:
    return f"empty in {', '.join(spec.name for spec in modalities)}"


def _clipped(rows: Array) -> Array:
    return np.clip(rows, -MOST, MOST)


def _components(rows: Array) -> Callable[[Array], Array]:
    """Fits the principal components of wide rows, of which the first has standard deviation 1."""
    from sklearn.decomposition import PCA

    if rows.shape[1] <= WIDE:
        return lambda values: values
    pca = PCA(min(COMPONENTS, *rows.shape), random_state=0).fit(rows)
    spread = float(np.sqrt(pca.explained_variance_[0])) or 1.0
    return lambda values: np.asarray(pca.transform(values) / spread, dtype=np.float64)


@dataclass(frozen=True)
class _Outcome:
    """What one link-scale column predicts: ``y`` is ``(n, 1)``, NaN = unknown, or time and event ``(n, 2)``."""

    scale: str
    y: Array

    @property
    def strata(self) -> NDArray[np.int64]:
        """What folds spread evenly, ``(n,)``: outcomes or events; one stratum for numbers."""
        if self.scale == "units":
            return np.zeros(len(self.y), dtype=np.int64)
        return (self.y[:, -1] > 0).astype(np.int64)

    @property
    def start(self) -> float:
        """The score that predicts the outcome's frequency or mean for everybody."""
        if self.scale == "log-risk" or not len(self.y):
            return 0.0
        mean = float(self.y.mean())
        if self.scale == "units":
            return mean
        return float(np.log(mean / (1 - mean))) if 0 < mean < 1 else 0.0

    @property
    def curvature(self) -> float:
        """About minus the second derivative of a patient's log-likelihood."""
        if self.scale == "units" or not len(self.y):
            return 1.0
        mean = float((self.y[:, -1] > 0).mean())
        return mean if self.scale == "log-risk" else mean * (1 - mean)

    def of(self, rows: Bools) -> _Outcome:
        return _Outcome(self.scale, self.y[rows])

    def fold(self, groups: NDArray[np.int64], seed: int) -> NDArray[np.int64] | None:
        """Deals patients into folds; None where these cannot all train on either outcome, or hold out an event."""
        if len(np.unique(groups)) < N_FOLDS:
            return None
        strata = self.strata
        fold = deal(groups, strata, N_FOLDS, seed)
        if self.scale != "units":
            held_out = np.stack([np.bincount(fold[strata == k], minlength=N_FOLDS) for k in range(2)])
            wanted = held_out[1:] if self.scale == "log-risk" else held_out  # everybody may have the event
            if (wanted == 0).any():
                return None
        return fold

    def likelihood(self) -> Likelihood:
        if self.scale == "log-risk":
            partial = partial_likelihood(self.y[:, 0], self.y[:, 1] > 0)
            return lambda score: partial(score)[:2]
        y = self.y[:, 0]
        if self.scale == "units":
            return lambda score: (-float((y - score) @ (y - score)) / 2, y - score)
        sign = 1 - 2 * y
        return lambda score: (-float(np.logaddexp(0, sign * score).sum()), y - expit(score))


@dataclass(frozen=True)
class _Linear:
    """Weights ``(columns,)`` and a shift."""

    weights: Array
    shift: float

    def __call__(self, rows: Array) -> Array:
        score: Array = rows @ self.weights + self.shift
        return score


@dataclass(frozen=True)
class _Stack:
    """Predicts one link-scale column, ``(n,)``."""

    experts: dict[str, _Linear]  # by block; the evidence of a patient who has it, 0 on average
    fused: _Linear  # over the experts
    scale: float = 1.0

    def predict(self, read: Mapping[str, Rows], n: int) -> Array:
        evidence = np.zeros((n, len(self.experts)))
        for k, (name, expert) in enumerate(self.experts.items()):
            rows, has = read[name]
            evidence[:, k] = np.where(has, expert(rows), 0.0)
        # equal patients are ties: the last digits of a product depend on the machine and would order them
        return np.asarray(self.fused(evidence).round(9) * self.scale)


def _fit_stack(
    read: Mapping[str, Rows], is_labelled: Bools, outcome: _Outcome, groups: NDArray[np.int64], seed: int
) -> _Stack:
    known = ~np.isnan(outcome.y[:, 0])
    outcome, labelled, scale = outcome.of(known), np.flatnonzero(is_labelled)[known], 1.0
    if outcome.scale == "units":  # so that penalties mean the same whatever the unit
        scale = float(outcome.y.std()) or 1.0
        outcome = _Outcome(outcome.scale, outcome.y / scale)
    experts, evidence = dict[str, _Linear](), list[Array]()
    for name, (rows, has) in read.items():
        has = has[labelled]
        found = _cross_fitted(rows[labelled][has], outcome.of(has), groups[labelled][has], seed, PENALTIES)
        if found is not None:
            out_of_fold, expert = found
            mean = float(out_of_fold.mean())
            experts[name] = _Linear(expert.weights, expert.shift - mean)
            evidence.append(np.zeros(len(labelled)))
            evidence[-1][has] = out_of_fold - mean
    if not experts:
        return _Stack({}, _Linear(np.zeros(0), outcome.start), scale)
    z = np.stack(evidence, axis=1)
    fused = _cross_fitted(z, outcome, groups[labelled], seed + 1, SHRINKAGES, is_stack=True)
    equal = _Linear(np.full(len(experts), 1 / len(experts)), outcome.start)  # groups left no folds to choose in
    return _Stack(experts, equal if fused is None else fused[1], scale)


def _cross_fitted(
    x: Array,
    outcome: _Outcome,
    groups: NDArray[np.int64],
    seed: int,
    strengths: Sequence[float],
    *,
    is_stack: bool = False,
) -> tuple[Array, _Linear] | None:
    """Returns the out-of-fold scores at the best strength, and the model of all rows; None where there are no folds.

    A fold contributes l(all rows) - l(rows without it) at what was fitted without it: for independent rows this is the
    likelihood of the fold, and Cox's partial likelihood knows no other.
    """
    fold = outcome.fold(groups, seed)
    if fold is None:
        return None
    whole = outcome.likelihood()
    scores, gains = np.zeros((len(strengths), len(x))), np.zeros(len(strengths))
    for k in range(N_FOLDS):
        train = fold != k
        part = outcome.of(train)
        likelihood = part.likelihood()
        for j, model in enumerate(_path(x[train], part, strengths, is_stack)):
            score = model(x)
            scores[j, ~train] = score[~train]
            gains[j] += whole(score)[0] - likelihood(score[train])[0]
    best = int(likeliest(gains[None] / len(x))[0])  # the strongest of those that are as good
    return scores[best], _path(x, outcome, strengths[: best + 1], is_stack)[-1]


def _path(x: Array, outcome: _Outcome, strengths: Sequence[float], is_stack: bool) -> list[_Linear]:
    """Fits a model for each strength, from the one before; the weights of a stack are >= 0, shrunk to their mean."""
    from scipy.optimize import minimize

    likelihood, n = outcome.likelihood(), x.shape[1]
    # along these directions, in steps of a root of the curvature, the loss of a ridge model is nearly round
    curvatures, directions = (np.ones(n), np.eye(n)) if is_stack else np.linalg.eigh(x.T @ x)
    bounds = [(0.0 if is_stack else None, None)] * n + [(None, None)]
    weights, shift, path = np.full(n, 0.5 if is_stack else 0.0), outcome.start, []
    for strength in strengths:
        steps = 1.0 if is_stack else np.sqrt(outcome.curvature * np.maximum(curvatures, 0) + strength)
        basis = directions / steps

        def loss(values: Array, basis: Array = basis, strength: float = strength) -> tuple[float, Array]:
            weights = basis @ values[:-1]
            likely, slope = likelihood(x @ weights + values[-1])
            away = weights - weights.mean() if is_stack else weights
            # the mean's own derivative vanishes; a shift does not change a partial likelihood: its slope is 0
            gradient = np.append(basis.T @ (strength * away - x.T @ slope), -slope.sum())
            return strength * float(away @ away) / 2 - likely, gradient

        values = np.append(directions.T @ weights * steps, shift)
        values = minimize(loss, values, (), "L-BFGS-B", jac=True, bounds=bounds, options=OPTIONS).x
        weights, shift = basis @ values[:-1], float(values[-1])
        path.append(_Linear(weights, shift))
    return path
