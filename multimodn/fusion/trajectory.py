"""What the fusion predicts along an order, and for every subset of the modalities that a patient has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from multimodn.base.batches import Batch
from multimodn.fusion.network import Evidence, Outputs, SequentialFusion
from multimodn.fusion.visibility import View


def trajectory(model: SequentialFusion, batch: Batch, order: Sequence[str] | None = None) -> Outputs:
    """Decodes the state after every step.

    Args:
        model: The network.
        batch: B patients.
        order: Modality names; default: the model's order.

    Returns:
        For each task the raw outputs ``(len(order) + 1, B, K)``; entry 0 is the prior, entry k + 1 follows
        ``order[k]`` and repeats entry k in rows that lack that modality.
    """
    evidence = model.encode(batch)
    return model.read(evidence, model.paths(evidence, order))


def lattice(model: SequentialFusion, batch: Batch) -> Outputs:
    """Decodes the state of every subset of present modalities, each from its parent's by one small update.

    The encoders run once. A subset's modalities are taken in the model's order, so that the entry of a patient's
    complete set is the prediction.

    Returns:
        For each task the raw outputs ``(2 ** M, B, K)``. The subset with bit code c holds modality m if
        ``c >> m & 1``. NaN where the patient lacks a modality of the subset. A modality that a task must not see
        changes nothing for it.
    """
    evidence = model.encode(batch)
    presence = evidence.presence
    codes = torch.arange(2 ** len(model.modalities), device=presence.device)
    outputs: Outputs = {}
    for view in model.views:
        found = _lattice(model, evidence, view)
        if view.seen is not None:
            lacking = (codes.unsqueeze(1) & _codes(~presence)) > 0
            found = {name: each[codes & _codes(view.seen.to(codes.device))] for name, each in found.items()}
            found = {name: each.masked_fill(lacking.unsqueeze(-1), torch.nan) for name, each in found.items()}
        outputs |= found
    return {name: outputs[name] for name in model.tasks}


def _codes(members: Tensor) -> Tensor:
    """Returns the bit codes of subsets, bool ``(..., M)``."""
    return (members.long() << torch.arange(members.shape[-1], device=members.device)).sum(-1)


def _lattice(model: SequentialFusion, evidence: Evidence, view: View) -> Outputs:
    """The outputs of a view's tasks at every subset of what they see; NaN at the other subsets."""
    presence = view.of(evidence.presence)
    n_rows, n_modalities = presence.shape
    outputs: Outputs = {}

    def visit(state: Tensor, rows: Tensor, code: int, start: int) -> None:
        for name, decoded in model.decode(state, view.tasks).items():
            if name not in outputs:
                outputs[name] = decoded.new_full((2**n_modalities, n_rows, decoded.shape[-1]), torch.nan)
            outputs[name][code, rows] = decoded
        for k in range(start, n_modalities):
            m = model.order[k]
            here = presence[rows, m].nonzero().squeeze(1)
            if len(here):
                next_rows = rows[here] if len(here) < len(rows) else rows
                before = state[here] if len(here) < len(rows) else state
                counts = [0] * (max(model.group) + 1)
                counts[model.group[m]] = len(next_rows)
                after = model.update_state(before, evidence.rows[evidence.where[next_rows, m]], counts)
                visit(after, next_rows, code | 1 << m, k + 1)

    visit(model.start(presence), torch.arange(n_rows, device=presence.device), 0, 0)
    return outputs
