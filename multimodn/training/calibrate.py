"""Fits the calibration of a trained ensemble on the held-out patients of each member.

The mean of networks varies less than each of them. The slope of outcomes on the mean is therefore steeper than that on
one network, which held-out patients show, by the ratio r of their variances:

    cov(y, mean) / var(mean) = r cov(y, member) / var(member),    r = mean of var(member) / var(mean).

The ratio needs no outcomes: the members are compared on the same patients.

Each network's evidence is calibrated on the outcomes of its held-out patients: under ``missingness: neutral`` by a
slope and a shift for each modality (`multimodn.training.fit_calibration`); otherwise by one scale for each task, which
keeps the ranking of patients in a binary task: temperature scaling about the prior (Platt 1999; Guo et al. 2017,
https://arxiv.org/abs/1706.04599, section 4.2), times r. Neutral evidence is not multiplied by r: where presence
misleads, underconfidence is the safer error.
"""

from __future__ import annotations

import torch

from multimodn.base.batches import PatientTensors
from multimodn.fusion import Ensemble
from multimodn.missingness.label_shift import LabelShift
from multimodn.training.fit_calibration import fit_calibration, fit_scale
from multimodn.training.held_out import MAX_ROWS, Rows, held_out_batches, held_out_outputs, union


def calibrate(
    ensemble: Ensemble, patients: PatientTensors, rows: Rows, seed: int, *, neutral: bool = True
) -> dict[str, str]:
    """Fits the calibration of trained members, in evaluation mode, in place, and describes it for each task.

    ``rows``: for each member its training and held-out rows. ``neutral``: each modality is calibrated separately and
    presence must not be informative.
    """
    tasks = list(ensemble.tasks.values())
    if patients.strata is None or not any(len(held_out) for _, held_out in rows):
        return {task.name: "identity: no held-out rows" for task in tasks}
    if neutral:
        return _calibrate_modalities(ensemble, patients, rows, seed)
    return _calibrate_tasks(ensemble, patients, rows)


@torch.no_grad()
def _spread_ratios(ensemble: Ensemble, patients: PatientTensors, rows: Rows) -> dict[str, float]:
    """For each task the mean square of a member's evidence over that of the mean; 1 for a single member."""
    all_rows = union(rows)
    some = all_rows[torch.randperm(len(all_rows), generator=torch.Generator().manual_seed(0))[:MAX_ROWS]]
    batch = patients.batch(some)
    read = [(member.decode(member.initial_state), member(batch)) for member in ensemble.networks]
    ratios = {}
    for name in ensemble.tasks:
        stacked = torch.stack([(outputs[name] - prior[name]).double() for prior, outputs in read])
        one, joint = stacked.square().mean(), stacked.mean(0).square().mean()
        ratios[name] = float(one / joint) if joint > 0 else 1.0
    return ratios


def _calibrate_tasks(ensemble: Ensemble, patients: PatientTensors, rows: Rows) -> dict[str, str]:
    """Fits one scale for each task to the held-out patients, with all their modalities, times the spread ratio."""
    batches = held_out_batches(patients, rows)
    with torch.no_grad():
        start = {name: prior.double() for name, prior in ensemble.prior().items()}
        parts = [(member(batch), batch) for member, batch in zip(ensemble.networks, batches, strict=True)]
    ratios = _spread_ratios(ensemble, patients, rows)
    summaries = {}
    for t, (name, task) in enumerate(ensemble.tasks.items()):
        outputs, targets, strata = (
            torch.cat(each)
            for each in zip(
                *((links[name][b.labelled[name]], b.targets[name][b.labelled[name]], b.strata[b.labelled[name], t])
                  for links, b in parts if b.strata is not None),
                strict=True,
            )
        )  # fmt: skip
        scale, summaries[name] = fit_scale(task, start[name], outputs.double(), targets, strata)
        ensemble.calibration.scale[t] = scale
        if not summaries[name].startswith("identity"):
            ensemble.calibration.scale[t] *= ratios[name]
    return summaries


def _calibrate_modalities(ensemble: Ensemble, patients: PatientTensors, rows: Rows, seed: int) -> dict[str, str]:
    """Fits a slope and a shift for each modality to the held-out patients, at subsets of their modalities."""
    tasks = list(ensemble.tasks.values())
    shift = LabelShift.of_rows(patients, union(rows), tasks, ensemble.first.seen)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        parts = [
            held_out_outputs(member, batch, member.encode(batch), generator)
            for member, batch in zip(ensemble.networks, held_out_batches(patients, rows), strict=True)
        ]
        start = ensemble.prior()
    return fit_calibration(ensemble.calibration, tasks, start, parts, shift)
