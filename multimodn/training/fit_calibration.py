"""Presence-neutral calibration of a trained model's evidence, by modality.

A network overfits subsets of modalities that few training patients have, and is then overconfident in patients with
them. On held-out patients, at subsets S of their modalities, each task's outputs are corrected to

    output_cal = prior + (1 + sum over m in S of a_m) (output - prior) + sum over m in S of b_m

The slopes a: maximum likelihood with a ridge penalty towards the identity; the label shift of S is corrected as in
training (`missingness.label_shift`), and all visits have equal weight. This is temperature scaling (Platt 1999; Guo et
al. 2017, arXiv 1706.04599, section 4.2) with a slope for each modality.

The shifts b: over all patients the mean of P(y | x_S) is P(y) for each S, so that presence is never evidence. Held-out
patients, weighted by w_S(y), show the difference of the network's mean, which the shifts correct. They are not fitted
to the outcomes given presence, which would bring the shortcut back.

The prior, the prediction without any modality, is not changed, so that contributions still add up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from multimodn.base.task import Task
from multimodn.fusion.calibration import Calibration
from multimodn.fusion.network import Outputs
from multimodn.missingness.label_shift import LabelShift
from multimodn.training.held_out import HeldOut, Visits, labelled_visits

MIN_ROWS = 20  # minimum of labelled held-out rows for any correction; a quarter of it of the rarer outcomes
FULL_ROWS = 100  # minimum for a slope and a shift for each modality; below, all modalities share them
LEAST_SCALE = 0.1  # a wrong ranking of few held-out rows, by chance, must not reverse that of all others
SHIFT_PENALTY = 1.0  # strength of the ridge penalty on shifts, in rows: weak, as a mean needs few rows


def fit_calibration(
    calibration: Calibration, tasks: Sequence[Task], start: Outputs, held_out: Sequence[HeldOut],
    shift: LabelShift | None, penalty: float = 20.0,
) -> dict[str, str]:  # fmt: skip
    """Fits slopes and shifts to the held-out rows of each member, in place, and describes them for each task.

    ``start``: for each task the outputs ``(K,)`` before any modality; ``shift``: the label shift of the training rows,
    None: no correction, and no shifts; ``penalty``: strength of the ridge penalty on slopes, in rows: a slope off by
    one costs ``penalty`` / 2 rows' worth of log-likelihood.
    """
    summaries = {}
    for t, task in enumerate(tasks):
        rows = sum(int(part.labelled[task.name].sum()) for part in held_out)
        if too_few := _too_few(task, torch.cat([part.strata[:, t] for part in held_out])):
            summaries[task.name] = too_few
            continue
        is_shared = rows < FULL_ROWS
        prior, parts = start[task.name].double(), [labelled_visits(task, t, part, shift) for part in held_out]
        slopes = _fit_slopes(task, prior, parts, penalty, is_shared)
        shifts = _fit_shifts(task, prior, parts, slopes, is_shared)
        if not (slopes.isfinite().all() and shifts.isfinite().all()):
            summaries[task.name] = "identity: the fit did not converge"
            continue
        calibration.slopes[:, t] = slopes.float()
        calibration.shifts[:, t, : shifts.shape[1]] = shifts.float()
        summaries[task.name] = "one slope and shift" if is_shared else "a slope and a shift a modality"
    return summaries


def fit_scale(
    task: Task, prior: Tensor, outputs: Tensor, targets: Tensor, strata: Tensor, penalty: float = 1.0
) -> tuple[float, str]:
    """Fits one factor of all evidence, at least `LEAST_SCALE`, and describes it.

    ``prior``: outputs ``(K,)`` before any modality; ``outputs``: those of held-out labelled rows ``(n, K)``;
    ``penalty``: strength of the ridge penalty towards 1, in rows.
    """
    if too_few := _too_few(task, strata):
        return 1.0, too_few

    def objective(learned: Tensor) -> Tensor:
        loss: Tensor = task(prior + (1 + learned) * (outputs - prior), targets).sum()
        return loss

    scale = 1 + float(_minimum(objective, (1,), penalty))
    if not math.isfinite(scale):
        return 1.0, "identity: the fit did not converge"
    return max(scale, LEAST_SCALE), "one scale"


def _too_few(task: Task, strata: Tensor) -> str:
    """Says that held-out rows ``(n,)``, -1 = no label, are too few to fit anything; empty where they are enough.

    Needed are `MIN_ROWS` labels and a quarter of that among the rows that limit what can be learned.
    """
    n_rows, (n_limiting, which) = int((strata >= 0).sum()), limiting_rows(task, strata)
    if n_rows >= MIN_ROWS and n_limiting >= MIN_ROWS / 4:
        return ""
    return f"identity: {n_rows} held-out rows with a label" + (f", {n_limiting} {which}" if which else "")


def limiting_rows(task: Task, strata: Tensor) -> tuple[int, str]:
    """Counts the rows that limit what a fit can learn, and says which these are; "" = all.

    Of classes and combinations of labels: all but the most frequent one. A rare class beside two frequent ones does
    not limit slopes that all classes share. Of survival: the events; censored rows need not be among them. Of numbers
    and of tasks without strata: all labels.
    """
    counts = strata[strata >= 0].bincount(minlength=task.n_strata)
    if task.n_strata == 1 or task.link_scale == "units":
        return int(counts.sum()), ""
    if task.link_scale == "log-risk":
        return int(counts[-(task.n_strata // 2) :].sum()), "with the event"  # the upper half, see `Task.strata`
    return int(counts.sum() - counts.max()), "outside the most frequent outcome"


def _fit_slopes(task: Task, prior: Tensor, parts: Sequence[Visits], penalty: float, is_shared: bool) -> Tensor:
    """Slopes ``(M,)``, less one, by maximum likelihood."""
    n_modalities = parts[0].used.shape[1]

    def objective(learned: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for visits in parts:
            outputs = prior + (1 + visits.used @ learned.expand(n_modalities)).unsqueeze(-1) * (visits.outputs - prior)
            total = total + visits.loss(task, outputs)
        return total

    return _minimum(objective, (1 if is_shared else n_modalities,), penalty).expand(n_modalities)


def _fit_shifts(task: Task, prior: Tensor, parts: Sequence[Visits], slopes: Tensor, is_shared: bool) -> Tensor:
    """Shifts ``(M, K)`` that bring the balanced mean prediction of every subset close to the prior."""
    n_modalities = parts[0].used.shape[1]
    if not task.has_strata_likelihood or parts[0].balance is None:
        return torch.zeros(n_modalities, len(prior), dtype=torch.float64)
    wanted = task.log_strata(prior).exp()
    balances = _balanced(parts, wanted)

    def objective(learned: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for visits, weights in zip(parts, balances, strict=True):
            outputs = prior + (1 + visits.used @ slopes).unsqueeze(-1) * (visits.outputs - prior)
            likely = task.log_strata(outputs + visits.used @ learned.expand(n_modalities, -1))
            # the gradient of this cross-entropy by a log-odds is mean prediction minus prior
            total = total - (likely @ wanted * weights).sum()
        return total

    shape = (1 if is_shared else n_modalities, len(prior))
    return _minimum(objective, shape, SHIFT_PENALTY).expand(n_modalities, -1)


def _balanced(parts: Sequence[Visits], wanted: Tensor) -> list[Tensor]:
    """Weights of the visits by which every stratum has exactly the ``wanted`` share of every subset.

    `LabelShift.balance` does that for expected visits; the visits of random orders differ a little, which nearly
    certain predictions could follow only by huge shifts. A subset whose visits lack a stratum has weight 0.
    """
    weights = [visits.weights * visits.balance for visits in parts if visits.balance is not None]
    subsets, codes = torch.unique(torch.cat([visits.used for visits in parts]), dim=0, return_inverse=True)
    place = codes * len(wanted) + torch.cat([visits.strata for visits in parts])
    total = torch.zeros(len(subsets) * len(wanted), dtype=torch.float64).index_add(0, place, torch.cat(weights))
    visits = total.view(len(subsets), len(wanted))
    whole = ((visits > 0) | (visits.sum(0) == 0)).all(1, keepdim=True)  # except for a stratum that no patient has
    factors = torch.where(whole, wanted * visits.sum(1, keepdim=True) / visits, 0.0).flatten()[place]
    sizes = [len(visits.weights) for visits in parts]
    return [w * f for w, f in zip(weights, torch.split(factors, sizes), strict=True)]


def _minimum(objective: Callable[[Tensor], Tensor], shape: tuple[int, ...], penalty: float) -> Tensor:
    """Minimises an objective of few numbers and a ridge penalty, from zero."""
    learned = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([learned], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = objective(learned) + penalty / 2 * learned.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return learned.detach()
