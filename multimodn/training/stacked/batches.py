"""A batch of each of E members, padded to equal sizes, with the index tensors of one pass through all of them.

A cell is a member's encoder with the weights of the state update that go with it. Rows are brought into the order of
their cells, each cell padded to the same number of rows, so that every linear map is one batched matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from multimodn.base.batches import BatchLoader, PatientTensors
from multimodn.fusion import SequentialFusion, random_paths
from multimodn.fusion.paths import steps_taken
from multimodn.missingness.cells import with_cells
from multimodn.missingness.label_shift import Corrections, LabelShift

MOST_KEPT = 50_000  # patients whose fixed batches are kept; with more their second copy would fill the memory
WIDEST = 2  # a cell is padded by encoding further rows up to this factor, else by zeros


@dataclass(frozen=True)
class Moves:
    """Which row takes its step in which cell, at every depth; see `moves`."""

    states: Tensor  # for each slot of each cell, depth after depth, the row whose state it takes
    evidence: Tensor  # for each of these slots the row of the evidence
    places: Tensor  # for each depth and row its slot at that depth, long ``(depth, E x R)``; 0 where it takes no step
    taken: Tensor  # whether a row takes a step, bool ``(depth, E x R, 1)``
    sizes: list[int]  # slots at each depth
    complete: list[bool]  # whether at this depth every row takes a step


@dataclass(frozen=True)
class StackedBatch:
    """B patients of each of E members; rows are those of the first member, then of the second, and so on."""

    rows: list[Tensor]  # the patients of each member, at most B; the rest of its rows is padding
    values: list[Tensor]  # for each encoder rows of each member, equally many, ``(E x P_g, ...)``
    moves: Moves
    n_slots: int  # rows of evidence in a cell
    presence: Tensor  # bool ``(E x B, M)``
    paths: Tensor  # long ``(E x B, depth)``
    targets: dict[str, Tensor]
    labelled: dict[str, Tensor]
    strata: Tensor | None
    corrections: Corrections

    def __len__(self) -> int:
        return sum(map(len, self.rows))

    def to(self, device: torch.device) -> StackedBatch:
        """Returns the same batch on ``device``."""
        return self if self.paths.device == device else _moved(self, device)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(part, device) for key, part in value.items()}
    if isinstance(value, list):
        return [_moved(part, device) for part in value]
    if isinstance(value, StackedBatch | Moves | Corrections):
        return replace(value, **{own.name: _moved(getattr(value, own.name), device) for own in fields(value)})
    return value


class StackedLoader:
    """Iterates over the batches of E members at once; the dataloader of a `Trainer`.

    Every member has the rows, the order and the random paths that it has alone: those of its `BatchLoader`, and of
    ``seeds``, one for each member. ``is_fixed``: the paths are the same in every epoch.
    """

    def __init__(
        self, model: SequentialFusion, loaders: Sequence[BatchLoader], shifts: Sequence[LabelShift | None],
        *, is_fixed: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.loaders, self.shifts, self.is_fixed = model, list(loaders), list(shifts), is_fixed
        self.patients: PatientTensors = loaders[0].patients
        self.seeds: list[int] = []
        self._kept: list[StackedBatch] = []

    def start_epoch(self, epoch: int, seeds: Sequence[int]) -> None:
        """Sets the number of the epoch, and the seed of the paths of each member."""
        self.seeds = list(seeds)
        for loader in self.loaders:
            loader.epoch = epoch

    def __len__(self) -> int:
        return max(map(len, self.loaders))

    def __iter__(self) -> Iterator[StackedBatch]:
        if self._kept:
            yield from self._kept
            return
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        of_member = [loader.row_batches() for loader in self.loaders]
        nobody = torch.zeros(0, dtype=torch.long)
        for k in range(len(self)):
            rows = [batches[k] if k < len(batches) else nobody for batches in of_member]
            if self.is_fixed:
                generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
            presence = [self.patients.position[own] >= 0 for own in rows]
            paths = [random_paths(own, generator) for own, generator in zip(presence, generators, strict=True)]
            batch = stack(self.model, self.patients, rows, paths, self.shifts)
            if self.is_fixed and sum(len(loader.rows) for loader in self.loaders) <= MOST_KEPT:
                self._kept.append(batch)
            yield batch


def stack(
    model: SequentialFusion, patients: PatientTensors, rows: Sequence[Tensor], paths: Sequence[Tensor],
    shifts: Sequence[LabelShift | None],
) -> StackedBatch:  # fmt: skip
    """Joins the batches of E members.

    Args:
        model: Any member; all have the same encoders and tasks.
        patients: The patients.
        rows: Those of each member, long ``(B_e,)``.
        paths: Their paths, long ``(B_e, M)``.
        shifts: The label shift of each member's training rows, if losses are to be corrected for it.
    """
    padded = pad_sequence(list(rows), batch_first=True)
    is_real = torch.arange(padded.shape[1]) < torch.tensor([len(own) for own in rows]).unsqueeze(1)
    position = torch.where(is_real.unsqueeze(-1), patients.position[padded], -1)
    presence = position >= 0
    joined = pad_sequence(list(paths), batch_first=True, padding_value=-1)
    joined = joined[..., : max(1, int((joined >= 0).sum(-1).max()))]
    widths = presence.sum(1).amax(0).tolist()
    values, offsets, n_slots = _values(model, patients, position, widths)
    # where the evidence of a patient's modality lies in its cell
    source = presence.cumsum(1) - 1 + torch.tensor(offsets)
    flat = joined.flatten(0, 1)
    own_paths = torch.stack([group.restrict_paths(flat).view(joined.shape) for group in model.visibilities], dim=1)
    own_paths = own_paths.flatten(1, 2)
    repeated = source.repeat(1, len(model.visibilities), 1).gather(2, own_paths.clamp(min=0))
    encoders = torch.where(own_paths >= 0, torch.tensor(model.group)[own_paths.clamp(min=0)], -1)
    real, everyone = is_real.flatten(), padded.flatten()
    strata = None if patients.strata is None else patients.strata[everyone]
    taken = steps_taken(flat, presence.shape[-1])
    weights = None if patients.weights is None else patients.weights[everyone]
    corrections = Corrections({}, {})
    if strata is not None and shifts[0] is not None:
        corrections = _corrections(taken, strata, weights, shifts)
        cells = None if patients.cells is None else patients.cells[everyone]
        corrections = with_cells(corrections, cells, taken, strata, shifts[0].tasks, model.seen)
    return StackedBatch(
        list(rows),
        values,
        moves(encoders, repeated, max(model.group) + 1, n_slots),
        n_slots,
        presence.flatten(0, 1),
        flat,
        {name: target[everyone] for name, target in patients.targets.items()},
        {name: label[everyone] & real for name, label in patients.labelled.items()},
        strata,
        corrections,
    )


def _values(
    model: SequentialFusion, patients: PatientTensors, position: Tensor, widths: list[int]
) -> tuple[list[Tensor], list[int], int]:
    """Returns the values of each encoder, where those of each modality begin in its cell, and the slots of a cell."""
    order = (position < 0).byte().argsort(dim=1, stable=True)  # a member's rows that have the modality come first
    sorted_positions = position.gather(1, order).clamp(min=0)
    modalities = [[m for m, g in enumerate(model.group) if g == own] for own in range(max(model.group) + 1)]
    n_slots = max(1, *(sum(widths[m] for m in own) for own in modalities))
    values, offsets = [], [0] * len(widths)
    for own in modalities:
        n_used, parts = 0, []
        for m in own:
            offsets[m], width = n_used, widths[m]
            all_values = cast(Tensor, patients.values[model.modalities[m]])
            if len(own) == 1 and 0 < width < n_slots <= min(WIDEST * width, position.shape[1]):
                width = n_slots
            n_used += width
            if width:
                parts.append(all_values[sorted_positions[:, :width, m]])
        values.append(
            torch.cat(parts, 1).flatten(0, 1) if len(parts) > 1 else parts[0].flatten(0, 1) if parts else torch.zeros(0)
        )
    return values, offsets, n_slots


def moves(encoders: Tensor, source: Tensor, n_encoders: int, n_slots: int) -> Moves:
    """Sorts the rows of each depth by the cell of their step.

    Args:
        encoders: The encoder of each step, long ``(E, R, depth)``, -1 = no step.
        source: Where the evidence of the step lies in its cell, long ``(E, R, depth)``.
        n_encoders: Number G of encoders.
        n_slots: Rows of evidence in a cell.
    """
    n_members, n_rows, depth = encoders.shape
    is_step, own = encoders >= 0, encoders.clamp(min=0)
    goes_to = encoders.unsqueeze(-1) == torch.arange(n_encoders)
    counts = goes_to.sum(1)  # (E, depth, G)
    widths = counts.amax((0, 2))
    rank = goes_to.cumsum(1).gather(-1, own.unsqueeze(-1)).squeeze(-1) - 1
    cell = torch.arange(n_members).view(-1, 1, 1) * n_encoders + own
    place = cell * widths + rank
    n_cells = n_members * n_encoders
    sizes = n_cells * widths
    total = int(sizes.sum())
    # a slot that no row takes computes on a row of its own member, so that no member can disturb another
    cells = torch.arange(n_cells).repeat(depth).repeat_interleave(widths.repeat_interleave(n_cells), output_size=total)
    slot = torch.where(is_step, sizes.cumsum(0) - sizes + place, total).flatten()
    every_row = torch.arange(n_members * n_rows).view(n_members, n_rows, 1).expand(-1, -1, depth).flatten()
    states = F.pad(cells // n_encoders * n_rows, (0, 1)).scatter_(0, slot, every_row)
    evidence = F.pad(cells * n_slots, (0, 1)).scatter_(0, slot, (cell * n_slots + source).flatten())
    taken = is_step.flatten(0, 1).T
    return Moves(
        states[:total],
        evidence[:total],
        torch.where(is_step, place, 0).flatten(0, 1).T.contiguous(),
        taken.unsqueeze(-1),
        sizes.tolist(),
        taken.all(1).tolist(),
    )


def _corrections(
    taken: Tensor, strata: Tensor, weights: Tensor | None, shifts: Sequence[LabelShift | None]
) -> Corrections:
    """Corrects the rows of each member by its own label shift."""
    n = len(shifts)
    of_weights = [None] * n if weights is None else weights.tensor_split(n)
    parts = [
        shift.corrections(own_taken, own_strata, own_weights)
        for shift, own_taken, own_strata, own_weights in zip(
            shifts, taken.tensor_split(n, dim=1), strata.tensor_split(n), of_weights, strict=True
        )
        if shift is not None
    ]
    first = parts[0]
    return Corrections(
        {name: torch.cat([part.tilts[name] for part in parts], 1) for name in first.tilts},
        {name: torch.cat([part.weights[name] for part in parts], 1) for name in first.weights},
    )
