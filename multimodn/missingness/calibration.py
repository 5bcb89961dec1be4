"""Presence-neutral calibration: how far a trained model's evidence can be trusted, by modality.

A network overfits subsets that few training patients have, and is then too sure, in one direction, of whoever has them.
On patients that did not train it, at subsets S of what they have, each task's outputs are corrected to

    output_cal = prior + (1 + sum over m in S of a_m) (output - prior) + sum over m in S of b_m

by maximum likelihood with a ridge penalty towards the identity, where the label shift of S is corrected as in
training (`multimodn.missingness.weights`) and every visit counts alike. a_m is a number, b_m one for
each raw output. The prior, the prediction without any modality, stays as it is, so that contributions still add up.
It is Platt scaling (Platt 1999; Guo et al. 2017, arXiv 1706.04599, section 4.2) with a slope and a shift a modality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multimodn.base import Task
from multimodn.fusion.calibration import Calibration
from multimodn.fusion.model import Outputs
from multimodn.missingness.weights import LabelShift

MIN_ROWS = 20
"""Fewest held-out rows, in the rarest stratum half of it, for any correction."""

FULL_ROWS = 100
"""Fewest held-out rows for a shift; below, slopes alone."""


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
    """Fits slopes and shifts, in place.

    Args:
        calibration: The identity.
        tasks: Its tasks.
        start: For each task the outputs ``(K,)`` before any modality.
        held_out: Held-out rows, of each member of an ensemble its own.
        shift: The label shift of the training rows; None: every subset as it is.
        penalty: Strength of the ridge penalty, in rows: a slope that is off by one costs as much as
            ``penalty`` / 2 rows' worth of log-likelihood.

    Returns:
        For each task what was fitted: ``slopes and shifts``, ``slopes`` or ``identity: <why>``.
    """
    said, first = {}, 0
    for t, task in enumerate(tasks):
        rows = sum(int(part.labelled[task.name].sum()) for part in held_out)
        rarest = _rarest(held_out, t, task.n_strata)
        columns = slice(first, first + task.output_size)
        first += task.output_size
        if rows < MIN_ROWS or rarest < MIN_ROWS / 4:
            said[task.name] = f"identity: {rows} held-out rows with a label, {rarest} of the rarest outcome"
            continue
        with_shifts = rows >= FULL_ROWS
        slopes, shifts = _fit(task, t, start[task.name].double(), held_out, shift, penalty, with_shifts)
        if not (slopes.isfinite().all() and shifts.isfinite().all()):
            said[task.name] = "identity: the fit did not converge"
            continue
        calibration.slopes[:, t] = slopes.float()
        calibration.shifts[:, columns] = shifts.float()
        said[task.name] = "slopes and shifts" if with_shifts else "slopes"
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
    with_shifts: bool,
) -> tuple[Tensor, Tensor]:
    n_modalities = held_out[0].taken.shape[-1]
    slopes = torch.zeros(n_modalities, dtype=torch.float64, requires_grad=True)
    shifts = torch.zeros(n_modalities, task.output_size, dtype=torch.float64, requires_grad=with_shifts)
    parts = [_cells(task, t, part, shift) for part in held_out]
    optimizer = torch.optim.LBFGS(
        [slopes, shifts] if with_shifts else [slopes], max_iter=50, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        total = slopes.new_zeros(())
        for cells in parts:
            slope = 1 + cells.used @ slopes
            outputs = start + slope.unsqueeze(-1) * (cells.outputs - start) + cells.used @ shifts
            loss = task(outputs, cells.targets)
            if cells.tilts is not None:
                own = cells.tilts.gather(-1, cells.strata.unsqueeze(-1)).squeeze(-1)
                loss = loss + (task.log_strata(outputs) + cells.tilts).logsumexp(-1) - own
            total = total + (loss * cells.weights).sum()
        return total + penalty / 2 * (slopes.square().sum() + shifts.square().sum())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return slopes.detach(), shifts.detach()


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
