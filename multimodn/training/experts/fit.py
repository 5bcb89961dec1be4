"""Fits experts on development patients: linear models and trees of each modality, and their stack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodn.base.batches import PatientTensors
from multimodn.base.encoder import Encoder
from multimodn.base.task import Task
from multimodn.fusion import SequentialFusion
from multimodn.fusion.experts import Experts, ExpertSizes, LinearBasis, ModalityExperts
from multimodn.fusion.network import tilt_loss
from multimodn.fusion.paths import random_paths, steps_taken
from multimodn.fusion.trees import TreeSizes
from multimodn.missingness.cells import own_factor
from multimodn.missingness.label_shift import frequency_shift, shift_of_states
from multimodn.study.study import Study
from multimodn.training.experts import trees
from multimodn.training.experts.linear import LinearFit, fit_best_columns
from multimodn.training.experts.stack import fit_weights, to_others, to_sum
from multimodn.training.experts.trees import TreeFit
from multimodn.training.fit_calibration import limiting_rows

MIN_ROWS = 20  # labelled patients who have the modality, below which an expert is left out
MIN_LIMITING = 5  # of them that limit what can be learned, see `multimodn.training.fit_calibration.limiting_rows`
N_BINS = 4  # bins of the piecewise-linear basis
ROWS_OF_A_BIN = 60  # labelled patients for each bin; with fewer than two bins' worth the columns enter alone
JOINT_SUBSETS = 2  # random subsets of each patient, beside all modalities, at which joint trees are boosted
WHOLE = 0.6  # weight of all modalities of a patient among these
BLOCK = 4096  # patients whose vectors are made at once


@dataclass(frozen=True)
class Folds:
    """The patients that experts are fitted on.

    Attributes:
        rows: Their rows, long ``(n,)``.
        fold: The fold of each, long ``(n,)``; evidence for a patient comes from experts without the patient's fold.
        n_folds: How many there are.
        of_all: Whether to return one set of experts, fitted on all rows; else a set without each fold.
    """

    rows: Tensor
    fold: Tensor
    n_folds: int
    of_all: bool


@dataclass(frozen=True)
class Labelled:
    """Patients with a label of a task, and what their likelihood needs."""

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
    model: SequentialFusion, patients: PatientTensors, folds: Folds, study: Study,
    on_modality: Callable[[], None] = lambda: None,
) -> tuple[list[Experts], dict[str, str]]:  # fmt: skip
    """Fits sets of experts and stacks them by evidence for patients whom they were not fitted on.

    Every modality with a fixed vector and every task that sees it get a linear model, and trees where there are enough
    patients. Under ``missingness: neutral`` likelihoods are tilted by the label shift of modalities and of empty cells.
    The evidence of a task's experts is added up with weights of at least 0, drawn to their mean, given all
    modalities that each patient has. ``on_modality`` is called when a modality is done.

    Returns:
        The sets, whose network and expert weights are not fitted yet, and for each ``modality: task`` without an expert
        the reason.
    """
    fitting = _Fitting(model, patients, folds, study)
    left_out: dict[str, str] = {}
    for m in range(len(model.modalities)):
        left_out |= fitting.fit_modality(m)
        on_modality()
    return fitting.stacked(), left_out


Key = tuple[int, int, str]  # modality, task, kind of expert


class _Fitting:
    def __init__(self, model: SequentialFusion, patients: PatientTensors, folds: Folds, study: Study) -> None:
        self.model, self.patients, self.folds, self.rows = model, patients, folds, folds.rows
        self.tasks = [cast(Task, task) for task in model.tasks.values()]
        self.seed, self.kinds = study.training.seed, study.training.experts
        asked = "experts" in study.training.model_fields_set  # else linear models do where LightGBM is not installed
        is_possible = asked or trees.is_installed()
        self.boosts = "trees" in self.kinds and is_possible
        self.boosts_jointly = "joint" in self.kinds and is_possible
        self.neutral, self.informative = study.missingness == "neutral", study.missingness == "informative"
        self.presence, self.seen = patients.presence[self.rows], model.seen
        assert patients.strata is not None
        self.strata = patients.strata[self.rows]
        with torch.no_grad():
            self.priors = [task.prior().double() for task in self.tasks]
        self.n_evidence = [task.n_evidence for task in self.tasks]
        self.sizes = [ExpertSizes(0, 0, indicates_empty=False)] * len(model.modalities)
        self.bases: dict[int, LinearBasis] = {}
        self.linear: dict[tuple[int, int], LinearFit] = {}  # by modality and task
        self.trees: dict[tuple[int, int], TreeFit] = {}
        self.held_out: dict[Key, Tensor] = {}  # evidence for each row, (n, n_evidence), 0 where there is none
        self.vectors: dict[int, Tensor] = {}  # of those who have the modality, kept where joint trees may read them

    def fit_modality(self, m: int) -> dict[str, str]:
        name = self.model.modalities[m]
        encoder = self.model.encoders[name]
        if not isinstance(encoder, Encoder) or not encoder.vector_size:
            return {f"{name}: {task.name}": "its kind has no fixed vector" for task in self.tasks}
        has = self.presence[:, m].nonzero().squeeze(1)
        reasons: dict[str, str] = {}
        asked: list[tuple[int, Tensor]] = []
        for t, task in enumerate(self.tasks):
            if self.seen[t, m]:
                labelled = has[self.patients.labelled[task.name][self.rows[has]]]
                if reason := self._reason_against(t, labelled):
                    reasons[f"{name}: {task.name}"] = reason
                else:
                    asked.append((t, labelled))
        if asked:
            self._fit_tasks(m, has, asked)
        if "trees" in self.kinds and not self.boosts and any(len(rows) >= trees.MIN_ROWS for _, rows in asked):
            reasons[f"{name}: trees"] = 'LightGBM is not installed: pip install "multimodn[trees]"'
        return reasons

    def _reason_against(self, t: int, labelled: Tensor) -> str:
        n_limiting, which = limiting_rows(self.tasks[t], self.strata[labelled, t])
        if len(labelled) >= MIN_ROWS and n_limiting >= MIN_LIMITING:
            return ""
        return f"fewer than {MIN_ROWS} patients with both" + (f", or than {MIN_LIMITING} {which}" if which else "")

    def _fit_tasks(self, m: int, has: Tensor, asked: Sequence[tuple[int, Tensor]]) -> None:
        vector = self._vector(m, self.rows[has])
        n_bins = min(N_BINS, min(len(labelled) for _, labelled in asked) // ROWS_OF_A_BIN)
        n_bins = n_bins if n_bins > 1 else 0
        basis = LinearBasis(vector.shape[1], n_bins, indicates_empty=self.informative)
        basis.fit(vector)
        columns = torch.nan_to_num(vector) if self.neutral else vector  # trees must not split on who has an empty cell
        encoded, place = basis(vector), torch.full((len(self.rows),), -1)
        place[has] = torch.arange(len(has))
        self.bases[m] = basis
        if self.boosts_jointly:
            self.vectors[m] = vector
        self.sizes[m] = ExpertSizes(vector.shape[1], n_bins, self.informative, not self.neutral)
        n_folds = self.folds.n_folds
        for t, labelled in asked:
            rows, n, fold = self._labelled(m, t, labelled), self.n_evidence[t], self.folds.fold[labelled]
            if "ridge" in self.kinds:
                self.linear[m, t] = fit_best_columns(
                    encoded[place[labelled]], ~basis.is_bin, rows.loss, n, fold, n_folds, rows.weight
                )
                self._keep((m, t, "ridge"), labelled, self.linear[m, t].held_out)
            if self.boosts and len(labelled) >= trees.MIN_ROWS:
                own, of_all = columns[place[labelled]], self.folds.of_all
                self.trees[m, t] = trees.fit_trees(
                    own, rows.loss, n, fold, n_folds, rows.weight, self.seed, of_all=of_all
                )
                self._keep((m, t, "trees"), labelled, self.trees[m, t].held_out)

    def _keep(self, key: Key, labelled: Tensor, evidence: Tensor) -> None:
        self.held_out[key] = torch.zeros(len(self.rows), evidence.shape[1], dtype=torch.float64)
        self.held_out[key][labelled] = evidence

    def _labelled(self, m: int, t: int, labelled: Tensor) -> Labelled:
        """The likelihood of modality m alone: tilted by the outcomes of who has it, and by its empty cells."""
        task, rows, strata = self.tasks[t], self.rows[labelled], self.strata[labelled, t]
        weight, tilt = self._row_weights(t, rows), None
        if self.neutral and task.n_strata > 1:
            everyone = self.strata[self.strata[:, t] >= 0, t]
            tilts = frequency_shift(everyone, strata, task.n_strata).expand(len(rows), -1)
            if self.patients.cells is not None:
                tilts = tilts + self.patients.cells[rows, m, t, : task.n_strata].double()
            if task.has_strata_likelihood:
                tilt = tilts
            else:
                weight = weight * own_factor(tilts, strata)
        return Labelled(task, self.priors[t], self.patients.targets[task.name][rows], strata, tilt, weight)

    def _row_weights(self, t: int, rows: Tensor) -> Tensor:
        weights = self.patients.weights
        return torch.ones(len(rows), dtype=torch.float64) if weights is None else weights[rows, t].double()

    @torch.no_grad()
    def _vector(self, m: int, rows: Tensor) -> Tensor:
        name = self.model.modalities[m]
        values, position = self.patients.values[name], self.patients.position[rows, m]
        return torch.cat([self.model.vector(name, values[part]) for part in torch.split(position, BLOCK)])

    def stacked(self) -> list[Experts]:
        """Fits the weights of each task's experts, and folds them into coefficients and leaves."""
        weights: dict[Key, float] = {}
        for t in range(len(self.tasks)):
            keys = [key for key in self.held_out if key[1] == t]
            if keys:
                weights |= dict(zip(keys, self._stack(t, keys).tolist(), strict=True))
        joint: dict[int, tuple[TreeFit, float]] = {}
        for t in range(len(self.tasks)):
            if (fit := self._fit_joint(t, weights)) is not None:
                trees_of_all, of_sum, of_joint = fit
                joint[t] = trees_of_all, of_joint
                weights |= {key: of_sum * weight for key, weight in weights.items() if key[1] == t}
        numbers = [self.folds.n_folds] if self.folds.of_all else range(self.folds.n_folds)
        return [self._set(k, weights, joint) for k in numbers]

    def _fit_joint(self, t: int, weights: Mapping[Key, float]) -> tuple[TreeFit, float, float] | None:
        """Boosts trees over the columns of all modalities, at subsets of the modalities.

        Every patient counts with all modalities and at `JOINT_SUBSETS` random subsets. Returns the trees, a factor for
        the stacked evidence and one for the trees; None if there are too few patients, or held-out patients are not
        predicted better.
        """
        task, keys = self.tasks[t], [key for key in weights if key[1] == t]
        labelled = self.patients.labelled[task.name][self.rows].nonzero().squeeze(1)
        if not self.boosts_jointly or len(labelled) < trees.MIN_ROWS or len({m for m, _, _ in keys}) < 2:
            return None
        generator = torch.Generator().manual_seed(self.seed)
        presence = self.presence[labelled] & self.seen[t]
        taken = torch.stack([presence, *(_random_subset(presence, generator) for _ in range(JOINT_SUBSETS))])
        steps = taken[:, :, [m for m, _, _ in keys]].double()
        evidence = torch.stack([weights[key] * self.held_out[key][labelled] for key in keys])
        base = torch.einsum("snm,mnk->snk", steps, evidence).flatten(0, 1)
        shares = torch.tensor([WHOLE] + [(1 - WHOLE) / JOINT_SUBSETS] * JOINT_SUBSETS, dtype=torch.float64)
        like = self._at_subsets(t, labelled, taken, shares.unsqueeze(1).expand(taken.shape[:2]))

        def loss(evidence: Tensor) -> Tensor:
            return like.loss(evidence.view(-1, *taken.shape[:2], base.shape[1])).flatten(1)

        fold, of_all = self.folds.fold[labelled].repeat(len(taken)), self.folds.of_all
        fit = trees.fit_trees(
            self._joint_columns(labelled, taken), loss, self.n_evidence[t], fold, self.folds.n_folds,
            like.weight.flatten(), self.seed, of_all=of_all, settings=trees.JOINT_SETTINGS,
        )  # fmt: skip

        def weighed(weights: Tensor) -> Tensor:
            total: Tensor = (
                loss(weights[0] * base[None] + weights[1] * fit.held_out[None]) * like.weight.flatten()
            ).sum()
            return total

        of_sum, of_joint = fit_weights(weighed, [0.5, 0.5], to_sum).tolist()
        return (fit, of_sum, of_joint) if of_joint > 0 else None

    def _joint_columns(self, labelled: Tensor, taken: Tensor) -> Tensor:
        """Returns what joint trees read of some rows at subsets ``(S, n, M)``: ``(S n, J)``."""
        empty = Experts(self.sizes, self.n_evidence, TreeSizes(1, 1, 1))
        start = empty.start(1)[0, empty.n_outputs : -1]
        columns = start.repeat(len(labelled) * len(taken), 1)
        place = torch.full((len(self.rows),), -1)
        for m, vector in self.vectors.items():
            has = self.presence[:, m].nonzero().squeeze(1)
            place[has] = torch.arange(len(has))
            subset, row = taken[..., m].nonzero(as_tuple=True)
            read = empty.read(m, vector)[place[labelled[row]]]
            columns[subset * len(labelled) + row] += read
        return columns

    def _set(self, k: int, weights: Mapping[Key, float], joint: Mapping[int, tuple[TreeFit, float]]) -> Experts:
        """Builds the set of experts number k of the fits."""
        ends = torch.tensor(self.n_evidence).cumsum(0).tolist()
        columns = [slice(end - n, end) for end, n in zip(ends, self.n_evidence, strict=True)]
        sizes, made = list(self.sizes), dict[str, ModalityExperts]()
        for m, basis in self.bases.items():
            of_tasks = [
                (fit.trees[k], columns[t], weights[m, t, "trees"]) for (own, t), fit in self.trees.items() if own == m
            ]
            joined = trees.join_trees(of_tasks, ends[-1])
            sizes[m] = replace(sizes[m], trees=None if joined is None else joined.sizes)
            experts = ModalityExperts(sizes[m], ends[-1])
            experts.basis.load_state_dict(basis.state_dict())
            experts.trees = joined
            for (own, t), fit in self.linear.items():
                if own == m:
                    experts.weight[:, columns[t]] = (weights[m, t, "ridge"] * fit.weight[k]).float()
                    experts.bias[columns[t]] = (weights[m, t, "ridge"] * fit.bias[k]).float()
            made[str(m)] = experts
        whole = trees.join_trees([(fit.trees[k], columns[t], weight) for t, (fit, weight) in joint.items()], ends[-1])
        joined_experts = Experts(sizes, self.n_evidence, None if whole is None else whole.sizes)
        joined_experts.of_modality.update(made)
        joined_experts.joint = whole
        return joined_experts

    def _stack(self, t: int, keys: Sequence[Key]) -> Tensor:
        """Returns the weights of a task's experts, by the likelihood given all modalities that a patient has.

        At subsets of them a modality of noise would get weight, as there is nothing beside it.
        """
        task = self.tasks[t]
        labelled = self.patients.labelled[task.name][self.rows].nonzero().squeeze(1)
        taken = (self.presence[labelled] & self.seen[t])[None]
        steps = taken[:, :, [m for m, _, _ in keys]].double()
        is_state = steps.any(-1)
        evidence = torch.stack([self.held_out[key][labelled] for key in keys])  # (m, n, K)
        like = self._at_subsets(t, labelled, taken, is_state / is_state.sum(0).clamp(min=1).double())
        is_later = torch.tensor([kind == "trees" for _, _, kind in keys])

        def loss(weights: Tensor) -> Tensor:
            said = torch.einsum("snm,m,mnk->snk", steps, weights, evidence)
            total: Tensor = (like.loss(said) * like.weight).sum()
            return total

        return fit_weights(loss, [len(keys) ** -0.5] * len(keys), partial(to_others, is_later))

    def _at_subsets(self, t: int, labelled: Tensor, taken: Tensor, weight: Tensor) -> Labelled:
        """The likelihood of a task at subsets ``(S, n, M)`` of rows with a label, whose weights are ``(S, n)``."""
        task, rows, strata = self.tasks[t], self.rows[labelled], self.strata[labelled, t]
        weight, tilt = weight * self._row_weights(t, rows), None
        if self.neutral and task.n_strata > 1:
            tilts = shift_of_states(taken, strata, weight, task.n_strata)
            if self.patients.cells is not None:
                cells = self.patients.cells[rows, :, t, : task.n_strata].double()
                tilts = tilts + torch.einsum("snm,nml->snl", taken.double(), cells)
            if task.has_strata_likelihood:
                tilt = tilts
            else:
                weight = weight * own_factor(tilts, strata)
        return Labelled(task, self.priors[t], self.patients.targets[task.name][rows], strata, tilt, weight)


def _random_subset(presence: Tensor, generator: torch.Generator) -> Tensor:
    """Returns one subset of each row's modalities, of random size, at least one: bool ``(n, M)``."""
    paths = random_paths(presence, generator)
    sizes = 1 + (torch.rand(len(paths), generator=generator) * presence.sum(1)).long()
    return steps_taken(paths, presence.shape[1])[sizes.clamp(max=presence.shape[1]), torch.arange(len(paths))]
