"""Out-of-sample predictions and embeddings for the reference, and those of new patients.

Predictions of a network for its own training patients are more extreme than for others. So the reference has the
predictions of each member for the patients on whom it was not trained, and of all members, one by one, for the test
patients; new patients are predicted by all members, one by one.
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
from multimodn.monitor.counts import FEWEST, Floats, count, fit_edges
from multimodn.monitor.summaries import BINS, Directions, NumberColumns, fit_directions, padded, summary
from multimodn.training.fit import member_rows

if TYPE_CHECKING:
    from multimodn.model.multimodn import MultiModN

AT_ONCE = 1024  # patients that are encoded at once


def summarise_predictions(
    model: MultiModN, cohort: Cohort, split: Split
) -> tuple[tuple[PredictionReference, ...], str]:
    """Summarises out-of-sample predictions, and says in words of which patients."""
    ensemble = model.trained.ensemble
    patients, held_out, test, words = _held_out(model, cohort, split)
    if not len(patients):
        return (), words
    share = 1 / len(ensemble.networks)
    values: dict[str, list[Floats]] = {name: [] for name in ensemble.tasks}
    weights: list[Floats] = []
    for k, rows in enumerate(held_out):
        both = torch.cat([rows, test])
        if len(both):
            for name, predictions in _of_member(model, patients, both, k).items():
                values[name].append(predictions)
            weights.append(np.where(np.arange(len(both)) < len(rows), 1.0, share))
    prior = ensemble.prior()
    return tuple(
        _prediction(name, list(task.predict(prior[name][None])), np.concatenate(values[name]), np.concatenate(weights))
        for name, task in ensemble.tasks.items()
    ), words


def member_predictions(model: MultiModN, patients: PatientTensors) -> list[dict[str, Floats]]:
    """Returns the predictions of each member: for each task ``(n, outputs)``."""
    everyone = torch.arange(len(patients))
    return [_of_member(model, patients, everyone, k) for k in range(model.trained.n_members)]


def counted_predictions(of_members: Sequence[Floats], edges: Floats) -> tuple[Floats, Floats]:
    """Returns counts in the bins of a reference and means, averaged over members: ``(P, E + 1)``, ``(P,)``."""
    counts, means = [count(values, edges) for values in of_members], [values.mean(0) for values in of_members]
    return np.mean(counts, axis=0), np.mean(means, axis=0)


def label_texts(model: MultiModN, cohort: Cohort) -> Iterator[pd.Series[Any]]:
    """Names the outcome stratum of each labelled patient, for each task with targets in the cohort."""
    for name, task in model.trained.tasks.items():
        if name in cohort.targets:
            target, labelled = task.prepare(cohort.targets[name])
            codes = task.strata(target[labelled]).numpy()
            names = np.array(task.stratum_names, dtype=object)
            yield pd.Series(names[codes], cohort.patients[labelled.numpy()], name=name)


def held_out_embedding(model: MultiModN, cohort: Cohort, split: Split, modality: str) -> Directions | None:
    """Summarises out-of-sample embeddings of the first member; None if there are too few."""
    patients, held_out, test, _ = _held_out(model, cohort, split)
    if not len(patients):
        return None
    values = embedding(model, patients, modality, torch.cat([held_out[0], test]))
    if len(values) < 4 * FEWEST:
        return None
    return fit_directions([f"e{i}" for i in range(values.shape[1])], values)


def embedding(model: MultiModN, patients: PatientTensors, modality: str, rows: Tensor | None = None) -> Floats:
    """Returns the first member's embeddings of those of the patients who have a modality, ``(n, E)``."""
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


def _held_out(model: MultiModN, cohort: Cohort, split: Split) -> tuple[PatientTensors, list[Tensor], Tensor, str]:
    """Prepares patients; returns also the held-out rows of each member, the test rows, and a description of both."""
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


def _prediction(task: str, names: list[str], values: Floats, weights: Floats) -> PredictionReference:
    edges = fit_edges(values, max(1, min(BINS, int(weights.sum()) // (2 * FEWEST))))
    counts = sum(count(values[weights == w], edges) * w for w in np.unique(weights))
    return PredictionReference(task, summary(names, values, edges, np.asarray(counts)))


@dataclass(frozen=True)
class PredictionReference:
    """Out-of-sample predictions of a task; the counts of test patients are means over the members."""

    task: str
    values: NumberColumns

    @property
    def edges(self) -> Floats:
        """The edges between the bins of the task's outputs, ``(P, E)``."""
        return padded(self.values.edges, np.inf)
