"""What to measure next: the absent modality with the largest expected gain for a patient.

A small head reads the state and predictions of a patient after some modalities, and predicts the decrease in the loss
of each task by one more. For a negative log-likelihood that is the conditional mutual information of outcome and
modality, which is never negative. It learns from patients on whom a member of the ensemble was not trained: every step
of random orders of their modalities is an example.

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
from multimodn.explain.acquisition.examples import examples, features, n_orders, readings_before
from multimodn.explain.acquisition.gain_network import Acquisition, Sizes, fit_head
from multimodn.fusion import Ensemble
from multimodn.missingness.label_shift import LabelShift

__all__ = ["EVERY_TASK", "Acquisition", "Sizes", "fit_acquisition", "gains", "next_modalities"]

EVERY_TASK = "all"


def fit_acquisition(
    model: Ensemble, patients: PatientTensors, rows: Sequence[tuple[Tensor, Tensor]], *, neutral: bool, seed: int = 0
) -> Acquisition:
    """Trains the heads on the patients on whom each member was not trained.

    ``rows`` has the training and held-out rows of each member; ``neutral``: examples are weighted against label shift,
    as in the calibration.

    Raises:
        DataError: If no held-out patient has a label and a modality.
    """
    generator = torch.Generator().manual_seed(seed)
    shift = None
    if neutral:
        everyone = torch.cat([torch.cat(pair) for pair in rows]).unique()  # type: ignore[no-untyped-call]
        shift = LabelShift.of_rows(patients, everyone, list(model.tasks.values()), model.first.seen)
    orders = n_orders(patients, [held_out for _, held_out in rows])
    with torch.no_grad():
        every = [examples(model, k, patients, out, shift, generator, orders) for k, (_, out) in enumerate(rows)]
    of_visibility = list(zip(*every, strict=True))
    if not sum(float(each.weight.sum()) for parts in of_visibility for each in parts):
        raise DataError(
            "What to measure next is learned from patients held out from training; none has a label and a modality: "
            "give the split a validation part, or train several members."
        )
    tasks, names = list(model.tasks), model.first.modalities
    heads = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for visibility, parts in zip(model.first.visibilities, of_visibility, strict=True):
            first, numbers = parts[0].features, tuple(tasks.index(name) for name in visibility.tasks)
            sizes = Sizes(len(parts), first.state.shape[1], first.rest.shape[1], len(names), numbers)
            heads.append(fit_head(parts, sizes))
        fitted = Acquisition([head.sizes for head in heads])
    fitted.load_state_dict({f"heads.{v}.{k}": t for v, head in enumerate(heads) for k, t in head.state_dict().items()})
    return fitted.eval()


def gains(model: Ensemble, head: Acquisition, batch: Batch) -> Tensor:
    """Returns the expected decrease in the loss of each task by each modality, ``(B, M, T)``; 0 where it is not seen.

    Only gains of absent modalities are meaningful.
    """
    expected: Tensor = head(features(model, model.encode(batch), batch.presence))
    return expected * model.first.seen.T.to(expected.device)


def next_modalities(
    model: Ensemble, head: Acquisition, patients: PatientTensors, costs: Mapping[str, float], batch_size: int = 1024
) -> pd.DataFrame:
    """Ranks each patient's absent modalities by gain per cost (above 0; default 1).

    A reading of a repeated modality, such as ``labs@2``, is proposed after the one before.

    Returns:
        One row for each patient, task and absent modality that the task sees, indexed by patient: ``task`` (the tasks,
        and ``all``: the mean over tasks of the gain as a share of the loss without any modality), ``modality``,
        ``gain``, ``cost``, ``rank`` (1 = measure first). No row for a patient with all modalities.
    """
    names, tasks = model.first.modalities, list(model.tasks)
    with torch.inference_mode():
        whole = torch.cat([gains(model, head, batch) for batch in patients.batches(batch_size)])
    shares = (whole / head.prior_loss).mean(2)
    asked = [(task, whole[:, :, t], model.first.seen[t]) for t, task in enumerate(tasks)]
    if EVERY_TASK not in tasks:
        asked.insert(0, (EVERY_TASK, shares, model.first.seen.any(0)))
    before = torch.tensor(readings_before(names))  # a later reading needs the one before
    possible = ~patients.presence & ((before < 0) | patients.presence[:, before.clamp(min=0)])
    cost = torch.tensor([float(costs.get(name, 1.0)) for name in names], dtype=torch.float64)
    parts = []
    for t, (task, gain, seen) in enumerate(asked):
        row, m = (possible & seen).nonzero(as_tuple=True)
        columns = {"task": task, "modality": pd.Series([names[i] for i in m.tolist()], dtype=object)}
        columns |= {"gain": gain[row, m].double().numpy(), "cost": cost[m].numpy()}
        part = pd.DataFrame(columns).set_index(patients.patients[row.numpy()].rename("patient"))
        worth = (part["gain"] / part["cost"]).groupby(level=0)
        parts.append(part.assign(rank=worth.rank(ascending=False, method="first").astype(int), row=row.numpy(), of=t))
    ranks = pd.concat(parts)
    keys = ranks[["row", "of", "rank"]].reset_index(drop=True).sort_values(["row", "of", "rank"], kind="stable").index
    return ranks.iloc[keys].drop(columns=["row", "of"])
