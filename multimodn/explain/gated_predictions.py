"""Predictions of a trained model as a function of the gates in front of one modality, and their attributions."""

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

Method = Literal["integrated_gradients", "feature_ablation"]

AT_ONCE = 2**20
"""Numbers behind the gates of all copies that are encoded together, roughly: bounds memory."""
MOST_MISSED = 0.05
"""Share of what attributions should add up to that the integral may miss."""
ROUNDING = 0.01
"""Share of the sum of absolute attributions that it may always miss: of a difference near 0 every share is large."""
MORE_STEPS = 4
"""Times as many steps are taken for patients of whom it misses more."""
PATIENTS = 64
"""Patients whose modality is cut into parts together."""


@dataclass(frozen=True)
class Question:
    """What is attributed, and how.

    Attributes:
        modality: Its number.
        task: Its name.
        outputs: Numbers of link-scale columns.
        method: How.
        n_steps: Steps of the integral.
        patch: See `Encoder.parts`.
        background: Rows of the patients over whom baselines are averaged; None = the kind's own baseline.
    """

    modality: int
    task: str
    outputs: Sequence[int]
    method: Method
    n_steps: int
    patch: int
    background: pd.DataFrame | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """Attributions of n patients.

    Attributes:
        patients: Their identifiers.
        parts: What is attributed to.
        gates: Attributions of gates, one after another, float64 ``(n_gates, L)``.
        prediction: ``(n, L)``.
        start: The prediction behind closed gates, ``(n, L)``.
    """

    patients: pd.Index
    parts: Parts
    gates: Tensor
    prediction: Tensor
    start: Tensor

    def by_part(self, method: Method) -> Tensor:
        """Returns attributions of parts, one after another, ``(n_parts, L)``.

        Integrated gradients of gates add up; ablation closes all gates of a part together, so that each has them whole.
        """
        first = self.parts.lengths.cumsum(0) - self.parts.lengths
        place = self.parts.gates.items + first[self.parts.gates.rows]
        n = int(self.parts.lengths.sum())
        summed = torch.zeros(n, self.gates.shape[1], dtype=self.gates.dtype).index_add(0, place, self.gates)
        if method == "integrated_gradients":
            return summed
        return summed / torch.bincount(place, minlength=n).clamp(min=1)[:, None]

    def missed(self) -> tuple[Tensor, Tensor]:
        """Returns by how much integrated gradients miss what they should add up to, ``(n, L)``, and where too much."""
        due = self.prediction - self.start
        gates: list[Tensor] = list(torch.split(self.gates, self.parts.gates.lengths.tolist()))
        is_bad = torch.cat([is_missed(own[None], due[[k]]) for k, own in enumerate(gates)])
        return torch.stack([own.sum(0) for own in gates]) - due, is_bad


class Gated:
    """The prediction of a task for some patients behind the gates of a modality; all other modalities stay theirs.

    Args:
        model: In double precision.
        batch: The patients, who all have the modality.
        parts: Theirs.
        question: What is asked.
    """

    def __init__(self, model: Ensemble, batch: Batch, parts: Parts, question: Question) -> None:
        self.model, self.parts, self.question = model, parts, question
        with torch.no_grad():
            self.evidence = model.encode(batch)

    def __call__(self, gates: Tensor, rows: Tensor) -> Tensor:
        """Predicts patients at long ``rows`` ``(k,)`` behind gates ``(k, P)`` on the link scale, ``(k, L)``."""
        m = self.question.modality
        found = []
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
            found.append(Evidence(member.update.join([evidence.rows, own]), where))
        outputs = self.model.subset(found, found[0].presence)[self.question.task]
        return self.model.tasks[self.question.task].link(outputs)


def answers(model: Ensemble, patients: PatientTensors, frame: pd.DataFrame, question: Question) -> Iterator[Answer]:
    """Answers a question for all patients who have the modality, some at a time.

    Args:
        model: The trained networks, which stay as they are.
        patients: The patients.
        frame: The modality's rows of these patients, in any order.
        question: What is asked.

    Raises:
        StudyError: If the kind of the modality has no parts, or its baseline cannot be another patient.
        DataError: If the frame lacks patients.
    """
    exact = copy.deepcopy(model).double().eval().requires_grad_(False)
    device = model.first.initial_state.device
    name = model.first.modalities[question.modality]
    who = patients.presence[:, question.modality].nonzero().squeeze(1)
    lost = patients.patients[who.numpy()].difference(frame.index)
    if len(lost):
        raise DataError(f"The cohort has no '{name}' of {shown(list(lost))}: give the one that was prepared.")
    of_row = patients.patients[who.numpy()].get_indexer(frame.index)
    order = np.argsort(of_row, kind="stable")
    frame, of_row = frame.iloc[order], of_row[order]
    references: list[Any] = []
    for start in range(0, len(who), PATIENTS):
        rows = who[start : start + PATIENTS]
        batch = patients.batch(rows).to(device)
        first, last = np.searchsorted(of_row, [start, start + len(rows)])
        parts = cut(model, name, frame.iloc[first:last], batch.values[name], question.patch)
        if question.background is None:
            found = [_answer(exact, batch, parts, question)]
        else:
            references = references or _references(model, name, parts, question.background)
            each = (replace(parts, reference=reference) for reference in references)
            found = [_answer(exact, batch, some, question) for some in each]
        gates, prediction, closed = (torch.stack(tensors).mean(0) for tensors in zip(*found, strict=True))
        yield Answer(patients.patients[rows.numpy()], parts, gates, prediction, closed)


def cut(model: Ensemble, name: str, frame: pd.DataFrame, values: object, patch: int) -> Parts:
    """Cuts a modality into its parts; what there is to warn of was told when it was prepared."""
    encoder = model.first.encoders[name]
    # a bare module has none, and the base class says so
    cut_it = encoder.parts if isinstance(encoder, Encoder) else partial(Encoder.parts, cast(Encoder, encoder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        try:
            return cut_it(frame, values, patch)
        except StudyError as error:
            raise StudyError(f"modality '{name}': {error}") from None


def _references(model: Ensemble, name: str, parts: Parts, background: pd.DataFrame) -> list[Any]:
    """Returns what each patient of the background has, as a row that takes the baseline's place."""
    if not parts.is_aligned:
        raise StudyError(
            f"modality '{name}': its parts are not the same for every patient, as columns are, so no other patient can "
            f"stand for a baseline. Leave `background` out."
        )
    encoder = cast(Encoder, model.first.encoders[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        values = encoder.prepare(background)
    content = cut(model, name, background, values, 1).content
    return [content[row : row + 1] for row in range(len(content))]


def _answer(model: Ensemble, batch: Batch, parts: Parts, question: Question) -> tuple[Tensor, Tensor, Tensor]:
    """Returns attributions of gates, predictions, and predictions behind closed gates; see `Answer`."""
    gated = Gated(model, batch, parts, question)
    lengths, n, n_outputs = parts.gates.lengths, len(batch), len(question.outputs)
    first = lengths.cumsum(0) - lengths
    device = batch.presence.device
    found = torch.zeros(int(lengths.sum()), n_outputs, dtype=torch.float64)
    prediction, closed = torch.zeros(2, n, n_outputs, dtype=torch.float64)
    for size in sorted(set(lengths.tolist())):
        most = max(1, AT_ONCE // (size * parts.width))
        for rows in (lengths == size).nonzero().squeeze(1).split(most):
            gates, there = torch.ones(len(rows), size, dtype=torch.float64, device=device), rows.to(device)
            with torch.no_grad():
                prediction[rows] = gated(gates, there)[:, question.outputs].cpu()
                closed[rows] = gated(torch.zeros_like(gates), there)[:, question.outputs].cpu()
            place = first[rows].unsqueeze(1) + torch.arange(size)
            if question.method == "feature_ablation":
                found[place] = _ablated(gated, gates, there, parts.gates.items[place], most).cpu()
                continue
            found[place] = _integrated(gated, gates, there, question.n_steps, most).cpu()
            again = is_missed(found[place], prediction[rows] - closed[rows]).any(1)
            if again.any():
                more = _integrated(gated, gates[again], there[again], MORE_STEPS * question.n_steps, most)
                found[place[again]] = more.cpu()
    return found, prediction, closed


def is_missed(attributed: Tensor, due: Tensor) -> Tensor:
    """Says where attributions ``(n, P, L)`` miss too much of what they should add up to, bool ``(n, L)``."""
    missed = (attributed.sum(1) - due).abs()
    return missed > MOST_MISSED * due.abs() + ROUNDING * attributed.abs().sum(1)


def _integrated(gated: Gated, gates: Tensor, rows: Tensor, n_steps: int, most: int) -> Tensor:
    from captum.attr import IntegratedGradients

    found: list[Tensor] = [
        IntegratedGradients(gated).attribute(
            gates,
            baselines=0.0,
            target=output,
            additional_forward_args=(rows,),
            n_steps=n_steps,
            internal_batch_size=max(most, len(rows)),
        )
        for output in gated.question.outputs
    ]
    return torch.stack(found, 2).detach()


def _ablated(gated: Gated, gates: Tensor, rows: Tensor, part: Tensor, most: int) -> Tensor:
    from captum.attr import FeatureAblation

    found: list[Tensor] = [
        FeatureAblation(gated).attribute(
            gates,
            baselines=0.0,
            target=output,
            additional_forward_args=(rows,),
            feature_mask=part.to(gates.device),
            perturbations_per_eval=max(1, most // len(rows)),
        )
        for output in gated.question.outputs
    ]
    return torch.stack(found, 2)
