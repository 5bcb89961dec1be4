"""Fits the experts of a member on its training patients: linear models and trees of each modality, and their stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodn.base.batches import PatientTensors
from multimodn.base.encoder import Encoder
from multimodn.base.task import Task
from multimodn.fusion import SequentialFusion, random_paths
from multimodn.fusion.experts import Experts, ExpertSizes, LinearBasis, ModalityExperts
from multimodn.fusion.network import tilt_loss
from multimodn.fusion.paths import steps_taken
from multimodn.missingness.cells import own_factor, with_cells
from multimodn.missingness.label_shift import LabelShift
from multimodn.study.study import Study
from multimodn.training.experts import trees
from multimodn.training.experts.linear import N_FOLDS, LinearFit, deal_folds, fit_linear
from multimodn.training.experts.stack import fit_weights
from multimodn.training.experts.trees import TreeFit

MIN_ROWS = 20  # labelled training patients who have the modality, below which an expert is left out
MIN_RAREST = 5  # of them in the rarest outcome that occurs
N_BINS = 4  # bins of the piecewise-linear basis
ROWS_OF_A_BIN = 60  # labelled patients for each bin; with fewer than two bins' worth the columns enter alone
N_ORDERS = 4  # random orders of each patient whose subsets the stack is fitted to
STACK_PENALTY = 10.0  # strength that draws the weights of a task's experts to their mean, in rows
BLOCK = 4096  # patients whose vectors are made at once


@dataclass(frozen=True)
class Rows:
    """Training rows of a member that have a label of a task, and what their likelihood needs."""

    task: Task
    prior: Tensor  # raw outputs without any modality, float64 ``(K,)``
    target: Tensor  # ``(n, ...)``
    strata: Tensor  # long ``(n,)``
    tilt: Tensor | None  # log factors of the strata, float64 ``(n, L)``; None: the likelihood is not tilted
    weight: Tensor  # of each row, float64 ``(n,)``

    def loss(self, evidence: Tensor) -> Tensor:
        """Returns the losses ``(R, n)`` at evidence ``(R, n, n_evidence)``."""
        outputs = self.prior + F.pad(evidence, (0, len(self.prior) - evidence.shape[-1]))
        loss: Tensor = self.task(outputs, self.target)
        if self.tilt is not None:
            loss = loss + tilt_loss(self.task, outputs, self.tilt.expand(*outputs.shape[:-1], -1), self.strata)
        return loss


def fit_experts(
    model: SequentialFusion, patients: PatientTensors, rows: Tensor, study: Study, seed: int
) -> tuple[Experts, dict[str, str]]:
    """Fits experts on training rows and stacks them by evidence from inner folds.

    Every modality with a fixed vector and every task that sees it get a linear model. Under ``missingness: neutral``
    likelihoods are tilted by the label shift of modalities and of empty cells. The evidence of a task's experts is
    added up with weights of at least 0, drawn to their mean, fitted at random subsets of each patient's modalities.

    Returns:
        The experts, whose network and expert weights are not fitted yet, and for each ``modality: task`` without an
        expert the reason.
    """
    fitting = _Fitting(model, patients, rows, study, seed)
    left_out: dict[str, str] = {}
    for m in range(len(model.modalities)):
        left_out |= fitting.fit_modality(m)
    return fitting.stacked(), left_out


class _Fitting:
    def __init__(
        self, model: SequentialFusion, patients: PatientTensors, rows: Tensor, study: Study, seed: int
    ) -> None:
        self.model, self.patients, self.rows, self.seed = model, patients, rows, seed
        self.tasks = [cast(Task, task) for task in model.tasks.values()]
        self.neutral, self.informative = study.missingness == "neutral", study.missingness == "informative"
        self.presence, self.seen = patients.presence[rows], model.seen
        assert patients.strata is not None
        self.strata = patients.strata[rows]
        self.shift = LabelShift(self.presence, self.strata, self.tasks, self.seen) if self.neutral else None
        with torch.no_grad():
            self.priors = [task.prior().double() for task in self.tasks]
        self.n_evidence = [task.n_evidence for task in self.tasks]
        self.sizes = [ExpertSizes(0, 0, indicates_empty=False)] * len(model.modalities)
        self.bases: dict[int, LinearBasis] = {}
        self.linear: dict[tuple[int, int], LinearFit] = {}  # by modality and task
        self.trees: dict[tuple[int, int], TreeFit] = {}
        # evidence of training rows from inner folds, (n_rows, n_evidence), by modality, task and kind of expert
        self.held_out: dict[tuple[int, int, str], Tensor] = {}
        self.kinds = study.training.experts

    def fit_modality(self, m: int) -> dict[str, str]:
        name = self.model.modalities[m]
        encoder = self.model.encoders[name]
        if not isinstance(encoder, Encoder) or not encoder.vector_size:
            return {f"{name}: {task.name}": "its kind has no fixed vector" for task in self.tasks}
        has = self.presence[:, m].nonzero().squeeze(1)
        reasons, asked = {}, []
        for t, task in enumerate(self.tasks):
            if not self.seen[t, m]:
                continue
            labelled = has[self.patients.labelled[task.name][self.rows[has]]]
            counts = torch.bincount(self.strata[labelled, t], minlength=task.n_strata)
            rarest = int(counts[counts > 0].min()) if len(labelled) else 0
            one = task.link_scale == "log-odds" and int((counts > 0).sum()) < 2
            if len(labelled) < MIN_ROWS or rarest < MIN_RAREST or one:
                reasons[f"{name}: {task.name}"] = (
                    f"{len(labelled)} training patients with both, {rarest} of the rarest outcome"
                )
            else:
                asked.append((t, labelled))
        if not asked:
            return reasons
        vector = self._vector(m, self.rows[has])
        fewest = min(len(labelled) for _, labelled in asked)
        n_bins = min(N_BINS, fewest // ROWS_OF_A_BIN)
        n_bins = n_bins if n_bins > 1 else 0
        basis = LinearBasis(vector.shape[1], n_bins, indicates_empty=self.informative)
        basis.fit(vector)
        x = basis(vector)
        place = torch.full((len(self.rows),), -1)
        place[has] = torch.arange(len(has))
        columns = torch.nan_to_num(vector) if self.neutral else vector  # trees must not split on who has an empty cell
        for t, labelled in asked:
            self._fit_task(m, t, labelled, x[place[labelled]], columns[place[labelled]])
        self.bases[m] = basis
        self.sizes[m] = ExpertSizes(vector.shape[1], n_bins, self.informative, not self.neutral)
        return reasons

    def _fit_task(self, m: int, t: int, labelled: Tensor, basis: Tensor, columns: Tensor) -> None:
        rows, n = self._rows_of(m, t, labelled), self.n_evidence[t]
        folds = deal_folds(rows.strata, N_FOLDS, self.seed)
        if "ridge" in self.kinds:
            self.linear[m, t] = fit_linear(basis, rows.loss, n, folds, rows.weight)
            self._keep((m, t, "ridge"), labelled, self.linear[m, t].held_out)
        if "trees" in self.kinds and len(labelled) >= trees.MIN_ROWS:
            self.trees[m, t] = trees.fit_trees(
                columns, rows.loss, n, folds, rows.weight, self.seed, "training.experts: trees"
            )
            self._keep((m, t, "trees"), labelled, self.trees[m, t].held_out)

    def _keep(self, key: tuple[int, int, str], labelled: Tensor, evidence: Tensor) -> None:
        self.held_out[key] = torch.zeros(len(self.rows), evidence.shape[1], dtype=torch.float64)
        self.held_out[key][labelled] = evidence

    def _rows_of(self, m: int, t: int, labelled: Tensor) -> Rows:
        """The likelihood of modality m alone: tilted by the outcomes of who has it, and by its empty cells."""
        task, rows = self.tasks[t], self.rows[labelled]
        strata = self.strata[labelled, t]
        weight = torch.ones(len(labelled), dtype=torch.float64)
        if self.patients.weights is not None:
            weight = weight * self.patients.weights[rows, t].double()
        tilt = None
        if self.neutral and task.n_strata > 1:
            everyone = self.strata[self.strata[:, t] >= 0, t]
            tilts = _frequency_shift(everyone, strata, task.n_strata).expand(len(rows), -1)
            if self.patients.cells is not None:
                tilts = tilts + self.patients.cells[rows, m, t, : task.n_strata].double()
            if task.has_strata_likelihood:
                tilt = tilts
            else:
                weight = weight * own_factor(tilts, strata)
        return Rows(task, self.priors[t], self.patients.targets[task.name][rows], strata, tilt, weight)

    @torch.no_grad()
    def _vector(self, m: int, rows: Tensor) -> Tensor:
        name = self.model.modalities[m]
        values, position = self.patients.values[name], self.patients.position[rows, m]
        return torch.cat([self.model.vector(name, values[part]) for part in torch.split(position, BLOCK)])

    def stacked(self) -> Experts:
        """Fits the weights of each task's experts, and folds them into their coefficients."""
        n_outputs = sum(self.n_evidence)
        ends = [sum(self.n_evidence[: t + 1]) for t in range(len(self.tasks))]
        columns = [slice(end - n, end) for end, n in zip(ends, self.n_evidence, strict=True)]
        weights: dict[tuple[int, int, str], float] = {}
        for t in range(len(self.tasks)):
            keys = [key for key in self.held_out if key[1] == t]
            if keys:
                weights |= dict(zip(keys, self._stack(t, keys).tolist(), strict=True))
        made: dict[int, ModalityExperts] = {}
        for m, basis in self.bases.items():
            boosted = [(fit, columns[t], weights[m, t, "trees"]) for (own, t), fit in self.trees.items() if own == m]
            joined = trees.join_trees(boosted, n_outputs)
            self.sizes[m] = replace(self.sizes[m], trees=None if joined is None else joined.sizes)
            made[m] = ModalityExperts(self.sizes[m], n_outputs)
            made[m].basis, made[m].trees = basis, joined
            for (own, t), fit in self.linear.items():
                if own == m:
                    made[m].weight[:, columns[t]] = (weights[m, t, "ridge"] * fit.weight).float()
                    made[m].bias[columns[t]] = (weights[m, t, "ridge"] * fit.bias).float()
        experts = Experts(self.sizes, self.n_evidence)
        experts.of_modality.update({str(m): each for m, each in made.items()})
        return experts

    def _stack(self, t: int, keys: Sequence[tuple[int, int, str]]) -> Tensor:
        task = self.tasks[t]
        labelled = self.patients.labelled[task.name][self.rows].nonzero().squeeze(1)
        rows, presence = self.rows[labelled], self.presence[labelled] & self.seen[t]
        generator = torch.Generator().manual_seed(self.seed)
        taken = torch.cat(
            [
                presence[None],
                *(_subsets_along(random_paths(presence, generator), presence.shape[1]) for _ in range(N_ORDERS)),
            ]
        )
        steps = taken[:, :, [m for m, _, _ in keys]].double()
        is_state = steps.any(-1)
        evidence = torch.stack([self.held_out[key][labelled] for key in keys])  # (m, n, K)
        strata = self.strata[labelled]
        weight = is_state.double() / is_state.sum(0).clamp(min=1)
        if self.patients.weights is not None:
            weight = weight * self.patients.weights[rows, t].double()
        tilt = None
        if self.shift is not None:
            corrections = self.shift.corrections(taken, strata)
            cells = None if self.patients.cells is None else self.patients.cells[rows]
            corrections = with_cells(corrections, cells, taken, strata, self.tasks, self.seen)
            if task.name in corrections.tilts:
                tilt = corrections.tilts[task.name].double()
            elif task.name in corrections.weights:
                weight = weight * corrections.weights[task.name].double()
        target, own = self.patients.targets[task.name][rows], strata[:, t]

        def loss(weights: Tensor) -> Tensor:
            said = torch.einsum("snm,m,mnk->snk", steps, weights, evidence)
            outputs = self.priors[t] + F.pad(said, (0, len(self.priors[t]) - said.shape[-1]))
            each: Tensor = task(outputs, target)
            if tilt is not None:
                each = each + tilt_loss(task, outputs, tilt, own)
            total: Tensor = (each * weight).sum()
            return total

        return fit_weights(loss, len(keys), STACK_PENALTY, 1.0 / len(keys) ** 0.5)


def _subsets_along(paths: Tensor, n_modalities: int) -> Tensor:
    """Returns the subset after each step of a path, bool ``(depth, n, M)``; empty where there is no step."""
    return steps_taken(paths, n_modalities)[1:] & (paths.T >= 0).unsqueeze(-1)


def _frequency_shift(everyone: Tensor, having: Tensor, n_strata: int) -> Tensor:
    """Returns log P(y | having) - log P(y) of each stratum, ``(L,)`` float64, smoothed by one row of everyone's."""
    prior = torch.bincount(everyone, minlength=n_strata).double()
    prior = prior / prior.sum()
    counts = torch.bincount(having, minlength=n_strata).double()
    share = (counts + prior) / (len(having) + 1)
    return torch.where(prior > 0, (share / prior.clamp(min=1e-300)).log(), 0.0)
