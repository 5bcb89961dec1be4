"""Presence-neutral calibration: how far a trained model's evidence can be trusted, by modality.

A network overfits subsets that few training patients have, and is then too sure of whoever has them. On patients that
did not train it, at subsets S of what they have, each task's outputs are corrected to

    output_cal = prior + (1 + sum over m in S of a_m) (output - prior)

by maximum likelihood with a ridge penalty towards the identity, where the label shift of S is corrected as in training
(`multimodn.missingness.weights`) and every visit counts alike. The prior, the prediction without any modality, stays
as it is, so that contributions still add up. It is temperature scaling (Platt 1999; Guo et al. 2017, arXiv 1706.04599,
section 4.2) with a slope a modality. There is no shift a modality: evidence can be weakened or strengthened, but being
there can never become evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multimodn.base import Task
from multimodn.fusion.calibration import Calibration
from multimodn.fusion.model import Outputs, tilt_loss
from multimodn.missingness.weights import LabelShift

MIN_ROWS = 20
"""Fewest held-out rows, in the rarest stratum half of it, for any correction."""

FULL_ROWS = 100
"""Fewest held-out rows for a slope a modality; below, all modalities share one."""


@dataclass(frozen=True)
class HeldOut:
    """Outputs of patients that did not train the network, at subsets of what they have.

    Attributes:
        outputs: For each task ``(S, B, K)``.
        taken: The subsets, bool ``(S, B, M)``; all False where a patient has no such subset.
        targets: For each task ``(B, ...)``.
        labelled: For each task bool ``(B,)``.
        strata: Long ``(B, T)``, -1 = no label.
    """

    outputs: Outputs
    taken: Tensor
    targets: Mapping[str, Tensor]
    labelled: Mapping[str, Tensor]
    strata: Tensor


def fit_calibration(
    calibration: Calibration,
    tasks: Sequence[Task],
    start: Outputs,
    held_out: Sequence[HeldOut],
    shift: LabelShift | None,
    penalty: float = 20.0,
) -> dict[str, str]:
    """Fits slopes, in place.

    Args:
        calibration: The identity.
        tasks: Its tasks.
        start: For each task the outputs ``(K,)`` before any modality.
        held_out: Held-out rows, of each member of an ensemble its own.
        shift: The label shift of the training rows; None: every subset as it is.
        penalty: Strength of the ridge penalty, in rows: a slope that is off by one costs as much as
            ``penalty`` / 2 rows' worth of log-likelihood.

    Returns:
        For each task what was fitted: ``a slope a modality``, ``one slope`` or ``identity: <why>``.
    """
    said = {}
    for t, task in enumerate(tasks):
        rows = sum(int(part.labelled[task.name].sum()) for part in held_out)
        rarest = _rarest(held_out, t, task.n_strata)
        if rows < MIN_ROWS or rarest < MIN_ROWS / 4:
            said[task.name] = f"identity: {rows} held-out rows with a label, {rarest} of the rarer outcome"
            continue
        is_shared = rows < FULL_ROWS
        slopes = _fit(task, t, start[task.name].double(), held_out, shift, penalty, is_shared)
        if not slopes.isfinite().all():
            said[task.name] = "identity: the fit did not converge"
            continue
        calibration.slopes[:, t] = slopes.float()
        said[task.name] = "one slope" if is_shared else "a slope a modality"
    return said


def _rarest(held_out: Sequence[HeldOut], t: int, n_strata: int) -> int:
    known = torch.cat([part.strata[:, t] for part in held_out])
    low = int(((known >= 0) & (known < n_strata / 2)).sum())
    return min(low, int((known >= n_strata / 2).sum())) if n_strata > 1 else int((known >= 0).sum())


def _fit(
    task: Task,
    t: int,
    start: Tensor,
    held_out: Sequence[HeldOut],
    shift: LabelShift | None,
    penalty: float,
    is_shared: bool,
) -> Tensor:
    n_modalities = held_out[0].taken.shape[-1]
    learned = torch.zeros(1 if is_shared else n_modalities, dtype=torch.float64, requires_grad=True)
    parts = [_cells(task, t, part, shift) for part in held_out]
    optimizer = torch.optim.LBFGS([learned], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        slopes = learned.expand(n_modalities)
        objective = penalty / 2 * slopes.square().sum()
        for cells in parts:
            outputs = start + (1 + cells.used @ slopes).unsqueeze(-1) * (cells.outputs - start)
            loss = task(outputs, cells.targets)
            if cells.tilts is not None:
                loss = loss + tilt_loss(task, outputs, cells.tilts, cells.strata)
            objective = objective + (loss * cells.weights).sum()
        objective.backward()  # type: ignore[no-untyped-call]
        return objective

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return learned.detach().expand(n_modalities)


@dataclass(frozen=True)
class _Cells:
    """Labelled (row, subset) pairs, one a line; their weights add up to the number of rows."""

    outputs: Tensor
    used: Tensor
    targets: Tensor
    strata: Tensor
    weights: Tensor
    tilts: Tensor | None


def _cells(task: Task, t: int, part: HeldOut, shift: LabelShift | None) -> _Cells:
    chosen = part.taken.any(-1) & part.labelled[task.name]
    n_rows = int(chosen.any(0).sum())
    subset, row = chosen.nonzero(as_tuple=True)
    # every visit counts alike, as in the chances that the label shift is computed from
    weights = torch.full(row.shape, n_rows / max(len(row), 1), dtype=torch.float64)
    tilts = None
    if shift is not None and task.n_strata > 1:
        found = shift.corrections(part.taken, part.strata)
        if task.name in found.tilts:
            tilts = found.tilts[task.name][subset, row].double()
        else:
            weights = weights * found.weights[task.name][subset, row].double()
    return _Cells(
        part.outputs[task.name][subset, row].double(),
        part.taken[subset, row].double(),
        part.targets[task.name][row],
        part.strata[row, t].clamp(min=0),
        weights,
        tilts,
    )
