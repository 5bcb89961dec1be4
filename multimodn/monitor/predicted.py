"""Predictions and embeddings of patients whom the predicting member was not trained on, and how later ones compare.

What a network predicts of its own training patients is more extreme than what it predicts of others. So the reference
holds what each member predicts of the patients that it left out, and what all members, one by one, predict of the test
patients; later patients are compared by what all members predict, one by one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.base.encoder import Encoder
from multimodn.data.cohort import Cohort
from multimodn.data.splits import Split
from multimodn.errors import DataWarning
from multimodn.fusion import Ensemble
from multimodn.monitor.counts import FEWEST, Floats, count, fit_edges
from multimodn.monitor.summaries import BINS, Directions, Numbers, fit_directions, padded, summary

if TYPE_CHECKING:
    from multimodn.model.multimodn import MultiModN

AT_ONCE = 1024
"""Patients that an encoder is given at once."""


def summarise_predictions(
    model: MultiModN, cohort: Cohort, split: Split
) -> tuple[tuple[PredictionReference, ...], str]:
    """Summarises predictions out of sample, and says in words whose they are."""
    ensemble = model.trained.ensemble
    patients, held_out, test, words = _outside(model, cohort, split)
    if not len(patients):
        return (), words
    share = 1 / len(ensemble.networks)
    values: dict[str, list[Floats]] = {name: [] for name in ensemble.tasks}
    weights: list[Floats] = []
    for k, rows in enumerate(held_out):
        both = torch.cat([rows, test])
        if len(both):
            for name, found in _of_member(model, patients, both, k).items():
                values[name].append(found)
            weights.append(np.where(np.arange(len(both)) < len(rows), 1.0, share))
    return tuple(
        _prediction(name, list(outputs), np.concatenate(values[name]), np.concatenate(weights))
        for name, outputs in _output_names(ensemble).items()
    ), words


def member_predictions(model: MultiModN, patients: PatientTensors) -> list[dict[str, Floats]]:
    """Returns what each member alone predicts: for each task ``(n, outputs)``."""
    everyone = torch.arange(len(patients))
    return [_of_member(model, patients, everyone, k) for k in range(model.trained.n_members)]


def counted_predictions(found: Sequence[Floats], edges: Floats) -> tuple[Floats, Floats]:
    """Counts the predictions of all members in the bins of a reference, and averages: ``(P, E + 1)``, ``(P,)``.

    A patient counts once: a share of 1 for each member, so that counts vary less than whole ones would.
    """
    return np.mean([count(values, edges) for values in found], axis=0), np.mean([v.mean(0) for v in found], axis=0)


def label_texts(model: MultiModN, cohort: Cohort) -> Iterator[pd.Series[Any]]:
    """Names the outcome stratum of each labelled patient, for each task that the cohort has targets of."""
    for name, task in model.trained.tasks.items():
        if name in cohort.targets:
            target, known = task.prepare(cohort.targets[name])
            codes = task.strata(target[known]).numpy()
            names = np.array(task.stratum_names, dtype=object)
            yield pd.Series(names[codes], cohort.patients[known.numpy()], name=name)


def held_out_embedding(model: MultiModN, cohort: Cohort, split: Split, modality: str) -> Directions | None:
    """Summarises what the first member's encoder makes of patients whom it was not trained on; None: too few."""
    patients, held_out, test, _ = _outside(model, cohort, split)
    if not len(patients):
        return None
    values = embedding(model, patients, modality, torch.cat([held_out[0], test]))
    if len(values) < 4 * FEWEST:
        return None
    return fit_directions([f"e{i}" for i in range(values.shape[1])], values)


def embedding(model: MultiModN, patients: PatientTensors, modality: str, rows: Tensor | None = None) -> Floats:
    """Returns what the first member's encoder makes of those of the patients who have a modality, ``(n, E)``."""
    network = model.trained.ensemble.first
    encoder = cast(Encoder, network.encoders[modality])
    position = patients.position[:, network.modalities.index(modality)]
    position = position if rows is None else position[rows]
    chosen = position[position >= 0]
    if not len(chosen):
        return np.empty((0, encoder.embedding_size))
    with torch.inference_mode():
        parts = [encoder(patients.values[modality][some]) for some in torch.split(chosen, AT_ONCE)]
    return torch.cat(parts).double().numpy()


def _outside(model: MultiModN, cohort: Cohort, split: Split) -> tuple[PatientTensors, list[Tensor], Tensor, str]:
    """Prepares patients, and says whom each member left out, who was tested on, and that in words."""
    from multimodn.training.fit import member_rows

    seen = cohort.subset([*split.train, *split.validation])
    held_out = [rows for _, rows in member_rows(model.study, seen, split)]
    left_out = seen.patients[np.unique(torch.cat(held_out).numpy())]
    tested = [patient for patient in split.test if patient in cohort.patients]
    everyone = cohort.subset([*left_out, *tested])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # told when they were trained on
        patients = model.prepare(everyone)
    place = [torch.from_numpy(everyone.patients.get_indexer(seen.patients[rows.numpy()])) for rows in held_out]
    test = torch.arange(len(left_out), len(everyone))
    if not len(everyone):
        return patients, place, test, "nobody: no patient was held out, and predictions of training patients mislead"
    several = len(held_out) > 1
    words = f"{len(left_out)} patients by the member that left them out" if several else f"{len(left_out)} validation"
    return patients, place, test, f"{words} and {len(tested)} test patients"


def _of_member(model: MultiModN, patients: PatientTensors, rows: Tensor, k: int) -> dict[str, Floats]:
    """Returns what a member predicts, calibrated as the ensemble is: for each task ``(n, outputs)``."""
    ensemble = model.trained.ensemble
    with torch.inference_mode():
        parts = [ensemble.member_outputs(k, patients.batch(some)) for some in torch.split(rows, 4096)]
        outputs = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {
            name: torch.stack(list(task.predict(outputs[name]).values()), 1).double().numpy()
            for name, task in ensemble.tasks.items()
        }


def _output_names(ensemble: Ensemble) -> dict[str, list[str]]:
    return {name: list(task.predict(ensemble.prior()[name][None])) for name, task in ensemble.tasks.items()}


def _prediction(task: str, names: list[str], values: Floats, weights: Floats) -> PredictionReference:
    n_bins = max(1, min(BINS, int(weights.sum()) // (2 * FEWEST)))
    edges = fit_edges(values, n_bins)
    counts = sum(count(values[weights == w], edges) * w for w in np.unique(weights))
    kept = summary(names, values, edges, np.asarray(counts))
    return PredictionReference(task, kept)


def edges_of(kept: PredictionReference) -> Floats:
    """Returns the edges between the bins of a task's outputs, ``(P, E)``."""
    return padded(kept.values.edges, np.inf)


@dataclass(frozen=True)
class PredictionReference:
    """Predictions of a task for patients on whom the predicting member was not trained; counts may be parts of 1."""

    task: str
    values: Numbers
