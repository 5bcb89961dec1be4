"""Predictions after every step of an order, and for every subset of the modalities that a patient has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from multimodn.base.batches import Batch
from multimodn.fusion.network import Evidence, Outputs, SequentialFusion
from multimodn.fusion.paths import subset_codes
from multimodn.fusion.visibility import Visibility


def trajectory(model: SequentialFusion, batch: Batch, order: Sequence[str] | None = None) -> Outputs:
    """Decodes the state after every step of an order (modality names; default: the model's).

    Returns:
        For each task the raw outputs ``(len(order) + 1, B, K)``; entry 0 is the prior, entry k + 1 follows
        ``order[k]`` and repeats entry k in rows that lack that modality.
    """
    evidence = model.encode(batch)
    return model.read(evidence, model.paths(evidence, order))


def lattice(model: SequentialFusion, batch: Batch) -> Outputs:
    """Decodes the state of every subset of the present modalities, each one step after a smaller subset.

    The encoders run once. Modalities are taken in the model's order, so that the entry of all that a patient has is
    the prediction.

    Returns:
        For each task the raw outputs ``(2 ** M, B, K)`` by the bit code of the subset (`multimodn.fusion.paths`); NaN
        where the patient lacks a modality of it. A modality that a task must not see changes nothing for it.
    """
    evidence = model.encode(batch)
    codes = torch.arange(2 ** len(model.modalities), device=evidence.where.device)
    lacking = (codes.unsqueeze(1) & subset_codes(~evidence.presence)) > 0
    outputs: Outputs = {}
    for visibility in model.visibilities:
        of_tasks = _lattice(model, evidence, visibility)
        if visibility.seen is not None:
            visible = codes & subset_codes(visibility.seen.to(codes.device))
            of_tasks = {
                name: raw[visible].masked_fill(lacking.unsqueeze(-1), torch.nan) for name, raw in of_tasks.items()
            }
        outputs |= of_tasks
    return {name: outputs[name] for name in model.tasks}


def _lattice(model: SequentialFusion, evidence: Evidence, visibility: Visibility) -> Outputs:
    """Decodes every subset of what some tasks see, for these tasks; NaN at the other subsets."""
    presence = visibility.restrict(evidence.presence)
    n_rows, n_modalities = presence.shape
    outputs: Outputs = {}

    def visit(state: Tensor, rows: Tensor, code: int, start: int) -> None:
        for name, decoded in model.decode(state, visibility.tasks).items():
            if name not in outputs:
                outputs[name] = decoded.new_full((2**n_modalities, n_rows, decoded.shape[-1]), torch.nan)
            outputs[name][code, rows] = decoded
        for k in range(start, n_modalities):
            m = model.order[k]
            having = presence[rows, m].nonzero().squeeze(1)
            if len(having):
                everyone = len(having) == len(rows)
                next_rows, before = (rows, state) if everyone else (rows[having], state[having])
                counts = [0] * (max(model.group) + 1)
                counts[model.group[m]] = len(next_rows)
                after = model.update_state(before, evidence, evidence.where[next_rows, m], counts)
                visit(after, next_rows, code | 1 << m, k + 1)

    visit(model.start(presence), torch.arange(n_rows, device=presence.device), 0, 0)
    return outputs
