"""Fits the calibration of a trained ensemble on the patients that each member did not train on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from multimodn.data.batches import PatientTensors
from multimodn.fusion import Ensemble, SequentialFusion, random_paths
from multimodn.fusion.paths import steps_taken
from multimodn.missingness.calibration import HeldOut, fit_calibration
from multimodn.missingness.weights import LabelShift

N_ORDERS = 8
"""Random orders that each held-out patient is followed along; their prefixes are the subsets."""
MAX_ROWS = 4096
"""Held-out patients of each member, at most: a few numbers need no more."""


def calibrate(
    ensemble: Ensemble, patients: PatientTensors, rows: Sequence[tuple[Tensor, Tensor]], seed: int
) -> dict[str, str]:
    """Fits the ensemble's calibration, in place; see `multimodn.missingness.calibration`.

    Args:
        ensemble: Trained members, in evaluation mode, not calibrated.
        patients: All patients that any member needs, with targets.
        rows: For each member its training and held-out rows.
        seed: Seed of the orders.

    Returns:
        For each task what was fitted.
    """
    tasks = list(ensemble.tasks.values())
    if patients.strata is None or not any(len(held_out) for _, held_out in rows):
        return {task.name: "identity: no held-out rows" for task in tasks}
    everyone = torch.cat([torch.cat(pair) for pair in rows]).unique()  # type: ignore[no-untyped-call]
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
        for view in model.views:
            steps = view.along(paths)
            at = steps_taken(steps, batch.presence.shape[1])[1:] & (steps.T >= 0).unsqueeze(-1)
            for name in view.tasks:
                taken[name].append(at)
    assert batch.strata is not None
    whole, subsets = ({name: torch.cat(parts) for name, parts in each.items()} for each in (outputs, taken))
    return HeldOut(whole, subsets, batch.targets, batch.labelled, batch.strata, batch.weights)
