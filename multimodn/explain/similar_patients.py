"""The training patients most like a patient, by the state that the model made of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.batches import Batch, PatientTensors
from multimodn.base.task import Task
from multimodn.errors import DataError, StudyError, did_you_mean
from multimodn.fusion import Ensemble
from multimodn.fusion.paths import ordered_paths
from multimodn.fusion.visibility import View

BATCH = 4096
CELLS = 2**24
"""Distances that are held at once."""


def similar(
    model: Ensemble,
    asked: PatientTensors,
    among: PatientTensors,
    k: int = 5,
    *,
    ids: bool = False,
    task: str | None = None,
) -> pd.DataFrame:
    """Finds the patients whose state, after all modalities that they have, is nearest.

    The distance is the root mean squared difference of the states' dimensions over all members, each in standard
    deviations of ``among``: two patients drawn from these at random are 1.4 apart in root mean square. A dimension that
    does not vary there is left out. A patient is never the neighbour of itself.

    **Privacy.** Rows are training patients. Without ``ids`` nobody is named, but a rare outcome, or a rare combination
    of outcomes, may tell who it is to those who know the cohort: do not hand these rows out where the data themselves
    could not be.

    Args:
        model: The trained networks.
        asked: Patients to find others for.
        among: Patients to be found, such as those who were trained on; outcomes are told of those with targets.
        k: How many for each.
        ids: Whether to say who they are.
        task: Compare the states that this task reads, which ``exclude_for`` may keep from seeing some modalities;
            default: the states of everything that a patient has.

    Returns:
        ``k`` rows for each patient of ``asked`` (fewer if there are not so many), indexed by patient: ``rank`` (from
        1), ``distance``, ``shared`` (modalities that both have), ``n_modalities`` (that the other has), with ``ids``
        ``similar``, and for each task ``outcome_<task>``: the class, the number, or ``event at t`` and ``no event up
        to t``; empty = not known.

    Raises:
        StudyError: If the task is unknown.
        DataError: If there is nobody to be found, or ``k`` is no count.

    References:
        Caruana et al. (1999), Case-based explanation of non-case-based learning methods,
        https://www.ncbi.nlm.nih.gov/pmc/articles/PMC2232607/
    """
    if k < 1 or not len(among):
        raise DataError(f"Expected k = 1 or more of at least 1 patient, found k = {k} of {len(among)}.")
    view = _view(model, task)
    centre, scale = _scale(them := _states(model, among, view))
    them = _scaled(them, centre, scale)
    distance, place = _nearest(_scaled(_states(model, asked, view), centre, scale), them, asked, among, k)
    found = distance.isfinite()  # only where there are fewer than k others
    presence = [view.of(patients.presence) for patients in (asked, among)]
    shared = (presence[0].unsqueeze(1) & presence[1][place]).sum(2)
    rank = torch.arange(1, place.shape[1] + 1).expand_as(place)
    columns: dict[str, object] = {
        "rank": rank[found].numpy(),
        "distance": distance[found].double().numpy(),
        "shared": shared[found].numpy(),
        "n_modalities": presence[1][place].sum(2)[found].numpy(),
    }
    chosen = place[found]
    if ids:
        columns["similar"] = among.patients[chosen.numpy()]
    for name, each in model.tasks.items():
        if name in among.labelled:
            columns[f"outcome_{name}"] = _outcomes(each, among, chosen)
    who = asked.patients[torch.arange(len(asked)).unsqueeze(1).expand_as(place)[found].numpy()]
    return pd.DataFrame(columns, index=who).rename_axis("patient")


def _view(model: Ensemble, task: str | None) -> View:
    if task is None:
        return View(None, ())
    for view in model.first.views:
        if task in view.tasks:
            return view
    raise StudyError(f"Unknown task '{task}'.{did_you_mean(task, model.tasks)}")


def _states(model: Ensemble, patients: PatientTensors, view: View) -> Tensor:
    """The last states of all members side by side, as the decoders read them, ``(N, members x state_size)``."""
    with torch.inference_mode():
        return torch.cat([_of_batch(model, batch, view) for batch in patients.batches(BATCH)])


def _of_batch(model: Ensemble, batch: Batch, view: View) -> Tensor:
    paths = ordered_paths(view.of(batch.presence), model.first.order)
    found = []
    for member in model.networks:
        states = member.states(member.encode(batch), paths, view.of(batch.presence))
        found.append(states[-1, :, : member.update.state_size])
    return torch.cat(found, dim=1)


def _scale(states: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each dimension; infinite where it does not vary."""
    spread = states.double().std(0, correction=0).float()
    return states.mean(0), torch.where(spread > 1e-6 * spread.max(), spread, torch.inf)


def _scaled(states: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
    """Standardised, and divided so that a squared distance is a mean over the dimensions that vary."""
    return (states - centre) / scale / scale.isfinite().sum().clamp(min=1).sqrt()


def _nearest(
    states: Tensor, them: Tensor, asked: PatientTensors, among: PatientTensors, k: int
) -> tuple[Tensor, Tensor]:
    """Distances and places of the ``k`` nearest others, both ``(N, k)``, the nearest first; infinite = nobody.

    Differences are taken directly, not by the matrix product of which near patients' distances would be a rest.
    """
    own = torch.from_numpy(among.patients.get_indexer(asked.patients))
    most, distances, places = max(1, CELLS // max(len(them), 1)), [], []
    for rows in torch.split(torch.arange(len(states)), most):
        part = torch.cdist(states[rows], them, compute_mode="donot_use_mm_for_euclid_dist")
        itself = (own[rows] >= 0).nonzero().squeeze(1)
        part[itself, own[rows][itself]] = torch.inf
        distance, place = part.topk(min(k, len(them)), dim=1, largest=False)
        distances.append(distance)
        places.append(place)
    width = min(k, len(them))
    if not distances:
        return torch.zeros(0, width), torch.zeros(0, width, dtype=torch.long)
    return torch.cat(distances), torch.cat(places)


def _outcomes(task: Task, among: PatientTensors, rows: Tensor) -> NDArray[np.object_]:
    """Writes what happened to some patients; empty = not known."""
    target, known = among.targets[task.name][rows], among.labelled[task.name][rows].numpy()
    if task.link_scale == "log-odds":
        texts: NDArray[np.object_] = np.array(task.stratum_names, dtype=object)[task.strata(target).numpy()]
    else:
        truth = task.link_target(target).double().numpy()
        if task.link_scale == "units":
            texts = np.array([f"{value:.4g}" for value in truth[:, 0]], dtype=object)
        else:
            words = np.where(truth[:, 1] > 0, "event at", "no event up to")
            texts = np.array([f"{word} {time:g}" for word, time in zip(words, truth[:, 0], strict=True)], dtype=object)
    texts[~known] = ""
    return texts
