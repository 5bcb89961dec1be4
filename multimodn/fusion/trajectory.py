"""What the fusion predicts along an order, and for every subset of the modalities that a patient has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from multimodn.data.batches import Batch
from multimodn.fusion.model import Outputs, SequentialFusion


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
    return model.decode(model.states(evidence, model.paths(evidence, order)))


def lattice(model: SequentialFusion, batch: Batch) -> Outputs:
    """Decodes the state of every subset of present modalities, each from its parent's by one small update.

    The encoders run once. A subset's modalities are taken in the model's order, so that the entry of a patient's
    complete set is the prediction.

    Returns:
        For each task the raw outputs ``(2 ** M, B, K)``. The subset with bit code c holds modality m if
        ``c >> m & 1``. NaN where the patient lacks a modality of the subset.
    """
    evidence = model.encode(batch)
    n_modalities, n_rows = len(model.modalities), len(batch)
    presence = evidence.presence
    outputs: Outputs = {}

    def visit(state: Tensor, rows: Tensor, code: int, start: int) -> None:
        for name, decoded in model.decode(state).items():
            if name not in outputs:
                outputs[name] = decoded.new_full((2**n_modalities, n_rows, decoded.shape[-1]), torch.nan)
            outputs[name][code, rows] = decoded
        for k in range(start, n_modalities):
            m = model.order[k]
            here = presence[rows, m].nonzero().squeeze(1)
            if len(here):
                next_rows = rows[here] if len(here) < len(rows) else rows
                before = state[here] if len(here) < len(rows) else state
                counts = [0] * n_modalities
                counts[m] = len(next_rows)
                after = model.update_state(before, evidence.rows[evidence.where[next_rows, m]], counts)
                visit(after, next_rows, code | 1 << m, k + 1)

    visit(model.start(presence), torch.arange(n_rows, device=presence.device), 0, 0)
    return outputs
