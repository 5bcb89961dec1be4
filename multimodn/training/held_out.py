"""Outputs of a network for patients whom it was not trained on, at subsets of their modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multimodn.base.batches import Batch, PatientTensors
from multimodn.base.task import Task
from multimodn.fusion import SequentialFusion, random_paths
from multimodn.fusion.network import Evidence, Outputs, tilt_loss
from multimodn.fusion.paths import subsets_along
from multimodn.missingness.cells import own_factor
from multimodn.missingness.label_shift import LabelShift, shift_of_states

N_ORDERS = 8  # random orders for each held-out patient; their prefixes are the subsets
MAX_ROWS = 4096  # maximum number of held-out patients of each member, enough for a few parameters


Rows = Sequence[tuple[Tensor, Tensor]]  # for each member its training and held-out rows


def union(rows: Rows) -> Tensor:
    """Returns the rows of all members, each once, sorted."""
    everyone: Tensor = torch.cat([torch.cat(pair) for pair in rows]).unique()  # type: ignore[no-untyped-call]
    return everyone


def held_out_batches(patients: PatientTensors, rows: Rows) -> list[Batch]:
    """Slices for each member the patients whom it was not trained on, at most `MAX_ROWS`."""
    return [patients.batch(held_out[:MAX_ROWS]) for _, held_out in rows]


@dataclass(frozen=True)
class HeldOut:
    """Outputs for held-out patients at subsets of their modalities; mappings are by task."""

    outputs: Outputs  # (S, B, K)
    taken: Mapping[str, Tensor]  # the subsets, bool (S, B, M); all False where a patient has no such subset
    targets: Mapping[str, Tensor]  # (B, ...)
    labelled: Mapping[str, Tensor]  # bool (B,)
    strata: Tensor  # long (B, T), -1 = no label
    weights: Tensor | None = None  # of each row in each task, (B, T); None: all are 1
    cells: Tensor | None = None  # the label shift of the empty cells of each modality, (B, M, T, L); None: none


@dataclass(frozen=True)
class Visits:
    """Labelled pairs of row and subset; their weights add up to the number of rows.

    Tilts correct the label shift of a likelihood, the weights ``balance`` that of a mean.
    """

    outputs: Tensor
    used: Tensor
    targets: Tensor
    strata: Tensor
    weights: Tensor
    tilts: Tensor | None
    balance: Tensor | None

    def loss(self, task: Task, outputs: Tensor) -> Tensor:
        """Returns the loss of other outputs for these visits, a sum, with the label shift undone."""
        each, weights = task(outputs, self.targets), self.weights
        if self.tilts is not None:
            each = each + tilt_loss(task, outputs, self.tilts, self.strata)
        elif self.balance is not None:
            weights = weights * self.balance
        total: Tensor = (each * weights).sum()
        return total


def labelled_visits(task: Task, t: int, part: HeldOut, shift: LabelShift | None) -> Visits:
    """Returns the visits of held-out rows with a label of task number t; ``shift`` None: no correction."""
    taken = part.taken[task.name]
    chosen = taken.any(-1) & part.labelled[task.name]
    n_rows = int(chosen.any(0).sum())
    subset, row = chosen.nonzero(as_tuple=True)
    # all visits have equal weight, as in the probabilities of the label shift
    weights = torch.full(row.shape, n_rows / max(len(row), 1), dtype=torch.float64)
    if part.weights is not None:
        weights = weights * part.weights[row, t]
    tilts = balance = None
    if shift is not None and task.n_strata > 1:
        balance = shift.balance(taken, part.strata)[task.name][subset, row].double()
        if part.cells is not None:
            of_cells = torch.einsum("vm,vml->vl", taken[subset, row].float(), part.cells[row, :, t])
            balance = balance * own_factor(of_cells, part.strata[row, t]).double()
        tilts_of = shift.corrections(taken, part.strata).tilts
        tilts = tilts_of[task.name][subset, row].double() if task.name in tilts_of else None
        if tilts is not None and part.cells is not None:
            tilts = tilts + of_cells[:, : task.n_strata].double()
    outputs, used = part.outputs[task.name][subset, row].double(), taken[subset, row].double()
    strata = part.strata[row, t].clamp(min=0)
    return Visits(outputs, used, part.targets[task.name][row], strata, weights, tilts, balance)


def whole_visits(task: Task, t: int, parts: Sequence[HeldOut], *, neutral: bool) -> Visits:
    """Returns held-out rows with a label of task number t, each at all modalities that it has.

    Under ``neutral`` the label shift is that of these rows.
    """
    joined: list[tuple[Tensor, ...]] = []
    for part in parts:
        n_read = part.taken[task.name].sum(-1)
        row = ((n_read.amax(0) > 0) & part.labelled[task.name]).nonzero().squeeze(1)
        last = n_read.argmax(0)[row]
        used, strata = part.taken[task.name][last, row], part.strata[row, t].clamp(min=0)
        weight = torch.ones(len(row)) if part.weights is None else part.weights[row, t]
        of_cells = torch.zeros(len(row), task.n_strata, dtype=torch.float64)
        if part.cells is not None:
            of_cells += torch.einsum("nm,nml->nl", used.double(), part.cells[row, :, t, : task.n_strata].double())
        outputs = part.outputs[task.name][last, row].double()
        joined.append((outputs, used, part.targets[task.name][row], strata, weight.double(), of_cells))
    outputs, used, targets, strata, weights, of_cells = map(torch.cat, zip(*joined, strict=True))
    tilts = balance = None
    if neutral and task.n_strata > 1:
        shift = shift_of_states(used[None], strata, weights[None], task.n_strata)[0] + of_cells
        tilts, balance = (shift, None) if task.has_strata_likelihood else (None, own_factor(shift, strata))
    return Visits(outputs, used.double(), targets, strata, weights, tilts, balance)


def held_out_outputs(model: SequentialFusion, batch: Batch, evidence: Evidence, generator: torch.Generator) -> HeldOut:
    """Predicts patients whom the member was not trained on, and whom it has encoded, along random orders."""
    outputs: dict[str, list[Tensor]] = {name: [] for name in model.tasks}
    taken: dict[str, list[Tensor]] = {name: [] for name in model.tasks}
    for _ in range(N_ORDERS):
        paths = random_paths(batch.presence, generator)
        for name, of_steps in model.read(evidence, paths).items():
            outputs[name].append(of_steps[1:])
        for visibility in model.visibilities:
            subsets = subsets_along(visibility.restrict_paths(paths), batch.presence.shape[1])
            for name in visibility.tasks:
                taken[name].append(subsets)
    assert batch.strata is not None
    joined, joined_subsets = ({name: torch.cat(parts) for name, parts in each.items()} for each in (outputs, taken))
    return HeldOut(joined, joined_subsets, batch.targets, batch.labelled, batch.strata, batch.weights, batch.cells)
