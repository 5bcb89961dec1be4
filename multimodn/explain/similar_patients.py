"""The training patients most similar to a patient, by the distance of their states."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.task import Task
from multimodn.errors import DataError, StudyError, did_you_mean
from multimodn.fusion import Ensemble
from multimodn.fusion.paths import ordered_paths
from multimodn.fusion.visibility import Visibility

BATCH = 4096
CELLS = 2**24  # distances in memory at once


def similar(
    model: Ensemble,
    asked: PatientTensors,
    among: PatientTensors,
    k: int = 5,
    *,
    ids: bool = False,
    task: str | None = None,
) -> pd.DataFrame:
    """Finds the patients of ``among`` with the nearest states, after all modalities that they have.

    The distance is the root mean squared difference over the dimensions of all members' states, each in standard
    deviations of ``among``: two patients drawn from these at random are 1.4 apart in root mean square. A dimension that
    does not vary there is left out. A patient is never their own neighbour. With ``task`` the states that it reads are
    compared, from which ``exclude_for`` may hide modalities.

    **Privacy.** Rows are training patients. Without ``ids`` nobody is named, but a rare outcome, or a rare combination
    of outcomes, may identify a patient to those who know the cohort: do not hand these rows out where the data
    themselves could not be.

    Returns:
        ``k`` rows for each patient of ``asked`` (fewer if there are not so many), indexed by patient: ``rank`` (from
        1), ``distance``, ``shared`` (modalities that both have), ``n_modalities`` (that the other has), with ``ids``
        ``similar``, and, if ``among`` has targets, for each task ``outcome_<task>``: the class, the number, or
        ``event at t`` and ``no event up to t``; empty = unknown.

    Raises:
        StudyError: If the task is unknown.
        DataError: If ``among`` is empty, or ``k`` is less than 1.

    References:
        Caruana et al. (1999), Case-based explanation of non-case-based learning methods,
        https://www.ncbi.nlm.nih.gov/pmc/articles/PMC2232607/
    """
    if k < 1 or not len(among):
        raise DataError(f"Expected k = 1 or more of at least 1 patient, found k = {k} of {len(among)}.")
    visibility = _visibility(model, task)
    states = _states(model, among, visibility)
    spread = states.double().std(0, correction=0).float()
    scale = torch.where(spread > 1e-6 * spread.max(), spread, torch.inf)  # infinite where a dimension does not vary
    n_varying = scale.isfinite().sum().clamp(min=1)  # so that a squared distance is a mean over these
    asked_states = _states(model, asked, visibility)
    points, others = ((each - states.mean(0)) / scale / n_varying.sqrt() for each in (asked_states, states))
    distance, place = _nearest(points, others, asked, among, k)
    exists = distance.isfinite()  # infinite where there are fewer than k others
    presence = [visibility.restrict(patients.presence) for patients in (asked, among)]
    shared = (presence[0].unsqueeze(1) & presence[1][place]).sum(2)
    rank = torch.arange(1, place.shape[1] + 1).expand_as(place)
    numbers = {"rank": rank, "distance": distance.double(), "shared": shared, "n_modalities": presence[1][place].sum(2)}
    columns: dict[str, object] = {name: values[exists].numpy() for name, values in numbers.items()}
    chosen = place[exists]
    if ids:
        columns["similar"] = among.patients[chosen.numpy()]
    for name, each in model.tasks.items():
        if name in among.labelled:
            columns[f"outcome_{name}"] = _outcomes(each, among, chosen)
    who = asked.patients[torch.arange(len(asked)).unsqueeze(1).expand_as(place)[exists].numpy()]
    return pd.DataFrame(columns, index=who).rename_axis("patient")


def _visibility(model: Ensemble, task: str | None) -> Visibility:
    if task is not None and task not in model.tasks:
        raise StudyError(f"Unknown task '{task}'.{did_you_mean(task, model.tasks)}")
    return next((each for each in model.first.visibilities if task in each.tasks), Visibility(None, ()))


def _states(model: Ensemble, patients: PatientTensors, visibility: Visibility) -> Tensor:
    """Returns the last states of all members side by side, ``(N, members x state_size)``."""
    parts = []
    with torch.inference_mode():
        for batch in patients.batches(BATCH):
            presence = visibility.restrict(batch.presence)
            paths = ordered_paths(presence, model.first.order)
            last = [member.states(member.encode(batch), paths, presence)[-1] for member in model.networks]
            parts.append(torch.cat([state[:, : model.first.update.state_size] for state in last], dim=1))
    return torch.cat(parts)


def _nearest(
    states: Tensor, others: Tensor, asked: PatientTensors, among: PatientTensors, k: int
) -> tuple[Tensor, Tensor]:
    """Returns distances to and places of the ``k`` nearest others, both ``(N, k)``, the nearest first; infinite = none.

    Differences are computed directly: by a matrix product those of near patients would be lost in rounding.
    """
    own = torch.from_numpy(among.patients.get_indexer(asked.patients))
    most, distances, places = max(1, CELLS // max(len(others), 1)), [], []
    for rows in torch.split(torch.arange(len(states)), most):
        part = torch.cdist(states[rows], others, compute_mode="donot_use_mm_for_euclid_dist")
        itself = (own[rows] >= 0).nonzero().squeeze(1)
        part[itself, own[rows][itself]] = torch.inf
        distance, place = part.topk(min(k, len(others)), dim=1, largest=False)
        distances.append(distance)
        places.append(place)
    empty = torch.zeros(0, min(k, len(others)))
    return torch.cat([empty, *distances]), torch.cat([empty.long(), *places])


def _outcomes(task: Task, among: PatientTensors, rows: Tensor) -> NDArray[np.object_]:
    """Writes the outcomes of some patients as text; empty = unknown."""
    target, labelled = among.targets[task.name][rows], among.labelled[task.name][rows].numpy()
    if task.link_scale == "log-odds":
        texts: NDArray[np.object_] = np.array(task.stratum_names, dtype=object)[task.strata(target).numpy()]
    else:
        truth = task.link_target(target).double().numpy()
        if task.link_scale == "units":
            texts = np.array([f"{value:.4g}" for value in truth[:, 0]], dtype=object)
        else:
            words = np.where(truth[:, 1] > 0, "event at", "no event up to")
            texts = np.array([f"{word} {time:g}" for word, time in zip(words, truth[:, 0], strict=True)], dtype=object)
    texts[~labelled] = ""
    return texts
