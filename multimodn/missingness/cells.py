"""The label shift of empty cells: which columns or variables of a modality are empty, given that the patient has it.

As for modalities (`multimodn.missingness.label_shift`), emptiness that depends on the outcome y alone changes one
factor of the likelihood only. With r_m the pattern of empty cells of modality m,

    P(y | x_S, r_S)  ~  P(y | x_S)  product over m in S of P(y | r_m) / P(y)

so that log P(y | r_m) - log P(y), which `multimodn.training.cells` learns on other patients, is added to the tilt of
each state that has read m. A task without a likelihood of strata is weighted by the inverse.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from multimodn.base.task import Task
from multimodn.missingness.label_shift import Corrections

MAX_FACTOR = 10.0  # largest factor of a row's weight, and the inverse of the smallest


def cell_tilts(cells: Tensor, taken: Tensor, seen: Tensor) -> Tensor:
    """Adds up the tilts ``(B, M, T, L)`` of the modalities that S states have read: ``(S, B, T, L)``.

    ``taken``: bool ``(S, B, M)``; ``seen``: which modalities each task may see, bool ``(T, M)``.
    """
    return torch.einsum("sbm,tm,bmtl->sbtl", taken.to(cells.dtype), seen.to(cells.device, cells.dtype), cells)


def own_factor(tilts: Tensor, strata: Tensor) -> Tensor:
    """Returns the weight of each row's own outcome ``(...)``, from tilts ``(..., L)`` and strata, which broadcast."""
    own = tilts.gather(-1, strata.clamp(min=0).expand(tilts.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    return (-own).exp().clamp(1 / MAX_FACTOR, MAX_FACTOR)


def with_cells(
    corrections: Corrections, cells: Tensor | None, taken: Tensor, strata: Tensor, tasks: Sequence[Task], seen: Tensor
) -> Corrections:
    """Adds the label shift of empty cells to the corrections of S states; see `cell_tilts` for the arguments."""
    if cells is None:
        return corrections
    tilts = cell_tilts(cells, taken, seen)
    factor = own_factor(tilts, strata)
    joined, weights = dict(corrections.tilts), dict(corrections.weights)
    for t, task in enumerate(tasks):
        if task.name in joined:
            joined[task.name] = joined[task.name] + tilts[:, :, t, : task.n_strata]
        elif task.name in weights:
            weights[task.name] = weights[task.name] * factor[:, :, t]
    return Corrections(joined, weights)
