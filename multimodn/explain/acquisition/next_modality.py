"""What to measure next: which absent modality is expected to help a patient most.

A small head reads what a model knows of a patient after some modalities, and predicts by how much the loss of each
task would fall if a further one were there. Of a loss that is a negative log-likelihood that is the conditional mutual
information of outcome and modality, which is never negative. It learns from patients whom a member of the ensemble did
not train on: along random orders of what they have, every step is an example.

References:
    Gadgil, Covert and Lee (2024), DIME: Estimating conditional mutual information for dynamic feature selection,
    https://arxiv.org/abs/2306.03301
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from multimodn.base.batches import Batch, PatientTensors
from multimodn.errors import DataError
from multimodn.explain.acquisition.examples import examples, known, n_orders, readings_before
from multimodn.explain.acquisition.gain_network import Acquisition, Sizes, taught
from multimodn.fusion import Ensemble
from multimodn.missingness.label_shift import LabelShift

__all__ = ["EVERY_TASK", "Acquisition", "Sizes", "fit_acquisition", "gains", "next_modalities"]

EVERY_TASK = "all"


def fit_acquisition(
    model: Ensemble, patients: PatientTensors, rows: Sequence[tuple[Tensor, Tensor]], *, neutral: bool, seed: int = 0
) -> Acquisition:
    """Teaches a head on the patients that each member did not train on.

    Args:
        model: The trained networks.
        patients: Training and validation patients, with targets.
        rows: For each member its training and held-out rows.
        neutral: Whether examples are weighted against what presence tells of the outcome, as the calibration's are.
        seed: Seed of orders and first weights.

    Raises:
        DataError: If nobody was held out, or nobody of them has a label and a modality.
    """
    generator = torch.Generator().manual_seed(seed)
    shift = _shift(model, patients, rows) if neutral else None
    orders = n_orders(patients, [held_out for _, held_out in rows])
    with torch.no_grad():
        every = [examples(model, k, patients, out, shift, generator, orders) for k, (_, out) in enumerate(rows)]
    of_view = list(zip(*every, strict=True))
    if not sum(float(each.weight.sum()) for parts in of_view for each in parts):
        raise DataError(
            "What to measure next is learned from patients who were held out while training, and nobody was who has a "
            "label and a modality: give the split a validation part, or train several members."
        )
    tasks, names = list(model.tasks), model.first.modalities
    heads = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for view, parts in zip(model.first.views, of_view, strict=True):
            facts, numbers = parts[0].known, tuple(tasks.index(name) for name in view.tasks)
            sizes = Sizes(len(parts), facts.state.shape[1], facts.rest.shape[1], len(names), numbers)
            heads.append(taught(parts, sizes))
        found = Acquisition([head.sizes for head in heads])
    found.load_state_dict({f"heads.{v}.{k}": t for v, head in enumerate(heads) for k, t in head.state_dict().items()})
    return found.eval()


def _shift(model: Ensemble, patients: PatientTensors, rows: Sequence[tuple[Tensor, Tensor]]) -> LabelShift:
    assert patients.strata is not None
    everyone = torch.cat([torch.cat(pair) for pair in rows]).unique()  # type: ignore[no-untyped-call]
    tasks = list(model.tasks.values())
    return LabelShift(patients.presence[everyone], patients.strata[everyone], tasks, model.first.seen)


def gains(model: Ensemble, head: Acquisition, batch: Batch) -> Tensor:
    """Returns the expected drop in loss of each task from each modality, ``(B, M, T)``; 0 where a task sees none.

    Only gains of absent modalities mean anything.
    """
    found: Tensor = head(known(model, model.encode(batch), batch.presence))
    return found * model.first.seen.T.to(found.device)


def next_modalities(
    model: Ensemble, head: Acquisition, patients: PatientTensors, costs: Mapping[str, float], batch_size: int = 1024
) -> pd.DataFrame:
    """Ranks each patient's absent modalities by gain for its cost.

    A reading of a repeated modality, such as ``labs@2``, is proposed where the one before is there.

    Args:
        model: The trained networks.
        head: What `fit_acquisition` returned.
        patients: Any prepared patients.
        costs: The cost of each modality, more than 0.
        batch_size: Patients at once.

    Returns:
        One row for each patient, task and absent modality that the task sees, indexed by patient: ``task`` (the tasks,
        and ``all``: the mean over tasks of the gain as a share of the loss without any modality), ``modality``,
        ``gain``, ``cost``, ``rank`` (1 = measure first). Nothing for a patient who lacks nothing.
    """
    names, tasks = model.first.modalities, list(model.tasks)
    with torch.inference_mode():
        whole = torch.cat([gains(model, head, batch) for batch in patients.batches(batch_size)])
    shares = (whole / head.prior_loss).mean(2)
    asked = [(task, whole[:, :, t], model.first.seen[t]) for t, task in enumerate(tasks)]
    if EVERY_TASK not in tasks:  # a task of that name speaks for itself
        asked.insert(0, (EVERY_TASK, shares, model.first.seen.any(0)))
    open_ = ~patients.presence & _reachable(patients.presence, names)
    cost = torch.tensor([float(costs.get(name, 1.0)) for name in names], dtype=torch.float64)
    parts = []
    for t, (task, gain, seen) in enumerate(asked):
        row, m = (open_ & seen).nonzero(as_tuple=True)
        part = pd.DataFrame(
            {
                "task": task,
                "modality": pd.Series([names[i] for i in m.tolist()], dtype=object),
                "gain": gain[row, m].double().numpy(),
                "cost": cost[m].numpy(),
            }
        ).set_index(patients.patients[row.numpy()].rename("patient"))
        worth = (part["gain"] / part["cost"]).groupby(level=0)
        parts.append(part.assign(rank=worth.rank(ascending=False, method="first").astype(int), row=row.numpy(), of=t))
    found = pd.concat(parts)
    keys = found[["row", "of", "rank"]].reset_index(drop=True).sort_values(["row", "of", "rank"], kind="stable").index
    return found.iloc[keys].drop(columns=["row", "of"])


def _reachable(presence: Tensor, names: Sequence[str]) -> Tensor:
    """Says which modalities could be measured, bool ``(N, M)``: a later reading needs the one before."""
    before = torch.tensor(readings_before(names))
    return (before < 0) | presence[:, before.clamp(min=0)]
