"""Fits the calibration of a trained ensemble on the patients that each member did not train on.

A mean of networks varies less than each of them does: what they disagree in averages out. So the slope of outcomes on
the mean is steeper than that on one network, by the ratio of their variances r,

    cov(y, mean) / var(mean) = r cov(y, member) / var(member),    r = mean of var(member) / var(mean),

and held-out patients only tell the latter. The ratio needs no outcomes: the members are compared on the same patients.

What one network's evidence is worth is fitted to the outcomes of its held-out patients: under ``missingness: neutral``
a slope and a shift a modality (`multimodn.training.fit_calibration`); else one scale a task, which keeps the order
of patients by the probability of a yes-or-no task: temperature scaling about the prior (Platt 1999; Guo et al. 2017, https://arxiv.org/abs/1706.04599,
section 4.2), times r. Neutral evidence is not scaled up: where presence misleads, being timid is the safer error.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.fusion import Ensemble, SequentialFusion, random_paths
from multimodn.fusion.paths import steps_taken
from multimodn.missingness.label_shift import LabelShift
from multimodn.training.fit_calibration import HeldOut, fit_calibration, fit_scale

N_ORDERS = 8
"""Random orders that each held-out patient is followed along; their prefixes are the subsets."""
MAX_ROWS = 4096
"""Held-out patients of each member, at most: a few numbers need no more."""


def calibrate(
    ensemble: Ensemble,
    patients: PatientTensors,
    rows: Sequence[tuple[Tensor, Tensor]],
    seed: int,
    *,
    neutral: bool = True,
) -> dict[str, str]:
    """Fits the ensemble's calibration, in place.

    Args:
        ensemble: Trained members, in evaluation mode, not calibrated.
        patients: All patients that any member needs, with targets.
        rows: For each member its training and held-out rows.
        seed: Seed of the orders.
        neutral: Whether modalities are calibrated apart and presence must say nothing.

    Returns:
        For each task what was fitted.
    """
    tasks = list(ensemble.tasks.values())
    if patients.strata is None or not any(len(held_out) for _, held_out in rows):
        return {task.name: "identity: no held-out rows" for task in tasks}
    if neutral:
        return _modalities(ensemble, patients, rows, seed)
    said, ratios = _scales(ensemble, patients, rows), _spread_ratios(ensemble, patients, rows)
    for t, task in enumerate(tasks):
        if not said[task.name].startswith("identity"):
            ensemble.calibration.scale[t] *= ratios[task.name]
    return said


@torch.no_grad()
def _spread_ratios(
    ensemble: Ensemble, patients: PatientTensors, rows: Sequence[tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """For each task the mean square of a member's evidence over that of the mean; 1 for a single member."""
    everyone = _everyone(rows)
    some = everyone[torch.randperm(len(everyone), generator=torch.Generator().manual_seed(0))[:MAX_ROWS]]
    batch = patients.batch(some)
    evidence: dict[str, list[Tensor]] = {name: [] for name in ensemble.tasks}
    for member in ensemble.networks:
        prior = member.decode(member.initial_state)
        for name, found in member(batch).items():
            evidence[name].append((found - prior[name]).double())
    ratios = {}
    for name, each in evidence.items():
        stacked = torch.stack(each)
        one, joint = stacked.square().mean(), stacked.mean(0).square().mean()
        ratios[name] = float(one / joint) if joint > 0 else 1.0
    return ratios


def _everyone(rows: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    found: Tensor = torch.cat([torch.cat(pair) for pair in rows]).unique()  # type: ignore[no-untyped-call]
    return found


def _scales(ensemble: Ensemble, patients: PatientTensors, rows: Sequence[tuple[Tensor, Tensor]]) -> dict[str, str]:
    """Fits one scale a task to the held-out patients, with all that each of them has."""
    parts = []
    with torch.no_grad():
        start = {name: prior.double() for name, prior in ensemble.prior().items()}
        for member, (_, held_out) in zip(ensemble.networks, rows, strict=True):
            batch = patients.batch(held_out[:MAX_ROWS])
            parts.append((member(batch), batch))
    said = {}
    for t, (name, task) in enumerate(ensemble.tasks.items()):
        outputs, targets, strata = (
            torch.cat(each)
            for each in zip(
                *((found[name][b.labelled[name]], b.targets[name][b.labelled[name]], b.strata[b.labelled[name], t])
                  for found, b in parts if b.strata is not None),
                strict=True,
            )
        )  # fmt: skip
        scale, said[name] = fit_scale(task, start[name], outputs.double(), targets, strata)
        ensemble.calibration.scale[t] = scale
    return said


def _modalities(
    ensemble: Ensemble, patients: PatientTensors, rows: Sequence[tuple[Tensor, Tensor]], seed: int
) -> dict[str, str]:
    """Fits a slope and a shift a modality to the held-out patients, at subsets of what they have."""
    tasks = list(ensemble.tasks.values())
    assert patients.strata is not None
    everyone = _everyone(rows)
    shift = LabelShift(patients.presence[everyone], patients.strata[everyone], tasks, ensemble.first.seen)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        parts = [
            _held_out(member, patients, held_out[:MAX_ROWS], generator)
            for member, (_, held_out) in zip(ensemble.networks, rows, strict=True)
        ]
        start = ensemble.prior()
    return fit_calibration(ensemble.calibration, tasks, start, parts, shift)


def _held_out(model: SequentialFusion, patients: PatientTensors, rows: Tensor, generator: torch.Generator) -> HeldOut:
    batch = patients.batch(rows)
    evidence = model.encode(batch)
    outputs: dict[str, list[Tensor]] = {name: [] for name in model.tasks}
    taken: dict[str, list[Tensor]] = {name: [] for name in model.tasks}
    for _ in range(N_ORDERS):
        paths = random_paths(batch.presence, generator)
        for name, found in model.read(evidence, paths).items():
            outputs[name].append(found[1:])
        for visibility in model.visibilities:
            steps = visibility.restrict_paths(paths)
            at = steps_taken(steps, batch.presence.shape[1])[1:] & (steps.T >= 0).unsqueeze(-1)
            for name in visibility.tasks:
                taken[name].append(at)
    assert batch.strata is not None
    whole, subsets = ({name: torch.cat(parts) for name, parts in each.items()} for each in (outputs, taken))
    return HeldOut(whole, subsets, batch.targets, batch.labelled, batch.strata, batch.weights)
