"""Predictions as a function of the gates of one modality's parts, and the attributions of these gates."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multimodn.base.batches import Batch, PatientTensors
from multimodn.base.encoder import Encoder
from multimodn.base.feature_groups import Parts
from multimodn.errors import DataError, DataWarning, StudyError, shown
from multimodn.fusion import Ensemble
from multimodn.fusion.network import Evidence

Method = Literal["integrated_gradients", "shapley_values", "feature_ablation"]

AT_ONCE = 2**20  # approximate number of inputs that are encoded together: bounds memory
MOST_MISSED = 0.05  # largest relative error of the sum of attributions
ROUNDING = 0.01
"""Error that is always allowed, as a share of the sum of absolute attributions: of a sum near 0 any error is large."""
MORE_STEPS = 4  # factor of the steps for patients whose error is larger
N_PERMUTATIONS = 25  # orders in which gates are opened for Shapley values
PATIENTS = 64  # patients whose modality is split into parts together


@dataclass(frozen=True)
class AttributionRequest:
    """What is attributed, and how."""

    modality: int  # number of the modality
    task: str
    outputs: Sequence[int]  # numbers of link-scale columns
    method: Method
    n_steps: int  # steps of the integral
    patch: int  # see `Encoder.parts`
    # rows of the patients over whom baselines are averaged; None = the encoder's own baseline
    background: pd.DataFrame | None = None


@dataclass(frozen=True, eq=False)
class GateAttributions:
    """Attributions of n patients."""

    patients: pd.Index
    parts: Parts
    gates: Tensor  # attributions of the gates of all patients, one after another, float64 ``(n_gates, L)``
    prediction: Tensor  # ``(n, L)``
    start: Tensor  # prediction with closed gates, ``(n, L)``

    def by_part(self, method: Method) -> Tensor:
        """Returns attributions of parts, one after another, ``(n_parts, L)``.

        Integrated gradients of a part's gates add up; ablation closes them together, so that each has the whole.
        """
        first = self.parts.lengths.cumsum(0) - self.parts.lengths
        place = self.parts.gates.items + first[self.parts.gates.rows]
        n = int(self.parts.lengths.sum())
        summed = torch.zeros(n, self.gates.shape[1], dtype=self.gates.dtype).index_add(0, place, self.gates)
        if method != "feature_ablation":
            return summed
        return summed / torch.bincount(place, minlength=n).clamp(min=1)[:, None]

    def errors(self) -> tuple[Tensor, Tensor]:
        """Returns sum of integrated gradients - (prediction - start), ``(n, L)``, and whether that is too large."""
        difference = self.prediction - self.start
        gates: list[Tensor] = list(torch.split(self.gates, self.parts.gates.lengths.tolist()))
        is_large = torch.cat([has_large_error(own[None], difference[[k]]) for k, own in enumerate(gates)])
        return torch.stack([own.sum(0) for own in gates]) - difference, is_large


class GatedPredictions:
    """The prediction of a task by a model in double precision, as a function of the gates of one modality.

    All patients of the batch have the modality; their other modalities stay as they are.
    """

    def __init__(self, model: Ensemble, batch: Batch, parts: Parts, request: AttributionRequest) -> None:
        self.model, self.parts, self.request = model, parts, request
        with torch.no_grad():
            self.evidence = model.encode(batch)

    def __call__(self, gates: Tensor, rows: Tensor) -> Tensor:
        """Predicts patients at long ``rows`` ``(k,)`` with gates ``(k, P)`` on the link scale, ``(k, L)``."""
        m = self.request.modality
        gated = []
        for member, evidence in zip(self.model.networks, self.evidence, strict=True):
            encoder = cast(Encoder, member.encoders[member.modalities[m]])
            encoded = encoder.encode_parts(self.parts, rows, gates)
            embedding, tokens = encoded if isinstance(encoded, tuple) else (encoded, None)
            if tokens is not None and member.update.looks_at_tokens:
                own = member.update.project_tokens(member.group[m], embedding, tokens)
            else:
                own = member.update.project(member.group[m], embedding)
            where = evidence.where[rows].clone()
            where[:, m] = len(evidence.rows) + torch.arange(len(rows), device=where.device)
            experts = evidence.experts
            if experts is not None and member.experts is not None:
                said = experts.new_zeros(len(rows), experts.shape[1])
                if member.experts.has(m):
                    said = member.experts.evidence(m, encoder.vector_parts(self.parts, rows, gates))
                experts = torch.cat([experts, said])
            gated.append(Evidence(member.update.join([evidence.rows, own]), where, experts))
        outputs = self.model.subset(gated, gated[0].presence)[self.request.task]
        return self.model.tasks[self.request.task].link(outputs)


def attribute_gates(
    model: Ensemble, patients: PatientTensors, frame: pd.DataFrame, request: AttributionRequest
) -> Iterator[GateAttributions]:
    """Attributes predictions to gates, for all patients who have the modality, some of them at a time.

    Raises:
        StudyError: If the modality's encoder has no parts, or its baseline cannot be another patient.
        DataError: If the frame lacks patients.
    """
    exact = copy.deepcopy(model).double().eval().requires_grad_(False)
    name = model.first.modalities[request.modality]
    who = patients.presence[:, request.modality].nonzero().squeeze(1)
    ids = patients.patients[who.numpy()]
    lost = ids.difference(frame.index)
    if len(lost):
        raise DataError(f"The cohort has no '{name}' of {shown(list(lost))}: give the one that was prepared.")
    of_row = ids.get_indexer(frame.index)
    order = np.argsort(of_row, kind="stable")
    frame, of_row = frame.iloc[order], of_row[order]
    references: list[Any] = []
    for start in range(0, len(who), PATIENTS):
        batch = patients.batch(who[start : start + PATIENTS]).to(model.first.initial_state.device)
        first, last = np.searchsorted(of_row, [start, start + len(batch)])
        parts = parts_of(model, name, frame.iloc[first:last], batch.values[name], request.patch)
        if request.background is None:
            baselines = [parts]
        else:
            references = references or _references(model, name, parts, request.background)
            baselines = [replace(parts, reference=reference) for reference in references]
        attributed = [_attribute_batch(exact, batch, each, request) for each in baselines]
        gates, prediction, closed = (torch.stack(tensors).mean(0) for tensors in zip(*attributed, strict=True))
        yield GateAttributions(ids[start : start + PATIENTS], parts, gates, prediction, closed)


def parts_of(model: Ensemble, name: str, frame: pd.DataFrame, values: object, patch: int) -> Parts:
    """Splits a modality into its parts; warnings about its values were given when it was prepared."""
    encoder = model.first.encoders[name]
    # a plain module has no parts, and the base class says so
    split = encoder.parts if isinstance(encoder, Encoder) else partial(Encoder.parts, cast(Encoder, encoder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        try:
            return split(frame, values, patch)
        except StudyError as error:
            raise StudyError(f"modality '{name}': {error}") from None


def _references(model: Ensemble, name: str, parts: Parts, background: pd.DataFrame) -> list[Any]:
    """Returns the values of each patient of the background, as a row that replaces the baseline."""
    if not parts.is_aligned:
        raise StudyError(
            f"modality '{name}': its parts are not the same for every patient, as columns are, so no other patient can "
            "stand for a baseline. Leave `background` out."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        values = cast(Encoder, model.first.encoders[name]).prepare(background)
    content = parts_of(model, name, background, values, 1).content
    return [content[row : row + 1] for row in range(len(content))]


def _attribute_batch(
    model: Ensemble, batch: Batch, parts: Parts, request: AttributionRequest
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns attributions of gates, predictions, and predictions with closed gates; see `GateAttributions`."""
    gated = GatedPredictions(model, batch, parts, request)
    lengths = parts.gates.lengths
    first = lengths.cumsum(0) - lengths
    device = batch.presence.device
    attributed = torch.zeros(int(lengths.sum()), len(request.outputs), dtype=torch.float64)
    prediction, closed = torch.zeros(2, len(batch), len(request.outputs), dtype=torch.float64)
    for size in sorted(set(lengths.tolist())):
        most = max(1, AT_ONCE // (size * parts.width))
        for rows in (lengths == size).nonzero().squeeze(1).split(most):
            gates, on_device = torch.ones(len(rows), size, dtype=torch.float64, device=device), rows.to(device)
            with torch.no_grad():
                prediction[rows] = gated(gates, on_device)[:, request.outputs].cpu()
                closed[rows] = gated(torch.zeros_like(gates), on_device)[:, request.outputs].cpu()
            place = first[rows].unsqueeze(1) + torch.arange(size)
            if request.method != "integrated_gradients":
                by = _ablated if request.method == "feature_ablation" else _permuted
                attributed[place] = by(gated, gates, on_device, parts.gates.items[place], most).cpu()
                continue
            attributed[place] = _integrated(gated, gates, on_device, request.n_steps, most).cpu()
            again = has_large_error(attributed[place], prediction[rows] - closed[rows]).any(1)
            if again.any():
                n_steps = MORE_STEPS * request.n_steps
                attributed[place[again]] = _integrated(gated, gates[again], on_device[again], n_steps, most).cpu()
    return attributed, prediction, closed


def has_large_error(attributed: Tensor, difference: Tensor) -> Tensor:
    """Says where attributions ``(n, P, L)`` do not add up to the difference ``(n, L)``, bool ``(n, L)``."""
    errors = (attributed.sum(1) - difference).abs()
    return errors > MOST_MISSED * difference.abs() + ROUNDING * attributed.abs().sum(1)


def _integrated(gated: GatedPredictions, gates: Tensor, rows: Tensor, n_steps: int, most: int) -> Tensor:
    from captum.attr import IntegratedGradients

    options = {"n_steps": n_steps, "internal_batch_size": max(most, len(rows))}
    return _by_captum(IntegratedGradients(gated), gated, gates, rows, **options)


def _ablated(gated: GatedPredictions, gates: Tensor, rows: Tensor, part: Tensor, most: int) -> Tensor:
    from captum.attr import FeatureAblation

    options = {"feature_mask": part.to(gates.device), "perturbations_per_eval": max(1, most // len(rows))}
    return _by_captum(FeatureAblation(gated), gated, gates, rows, **options)


def _permuted(gated: GatedPredictions, gates: Tensor, rows: Tensor, part: Tensor, most: int) -> Tensor:
    """Shapley values by permutations of the parts; those of each permutation add up exactly."""
    from captum.attr import ShapleyValueSampling

    which = part.to(gates.device)
    options = {"perturbations_per_eval": max(1, most // len(rows)), "n_samples": N_PERMUTATIONS, "feature_mask": which}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = _by_captum(ShapleyValueSampling(gated), gated, gates, rows, **options)
    # all gates of a part have the whole of it, but are added up afterwards
    size = torch.zeros_like(gates).scatter_add(1, which, torch.ones_like(gates))
    return whole / size.gather(1, which)[..., None]


def _by_captum(method: Any, gated: GatedPredictions, gates: Tensor, rows: Tensor, **options: Any) -> Tensor:
    """Attributes every requested output to gates ``(k, P)``: ``(k, P, L)``."""
    shared = {"baselines": 0.0, "additional_forward_args": (rows,), **options}
    return torch.stack([method.attribute(gates, target=o, **shared) for o in gated.request.outputs], 2).detach()
