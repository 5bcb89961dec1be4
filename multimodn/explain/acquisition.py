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
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodn.data.batches import Batch, PatientTensors
from multimodn.errors import DataError
from multimodn.explain._acquisition_examples import Examples, Known, examples, known
from multimodn.fusion import Ensemble
from multimodn.missingness.weights import LabelShift

HIDDEN = 16
EPOCHS, RATE = 150, 1e-2
DECAY = 1.0
"""L2 penalty on the head's weights, divided by the number of patients it learns from."""
SOFT = 0.03
"""Width of the bend at 0 that keeps gains from being negative, in standard deviations of the drops."""
SHRINK = 20.0
"""Patients that the mean gain over all modalities counts for, in the mean gain of one."""
EVERY_TASK = "all"


@dataclass(frozen=True)
class Sizes:
    """Widths of a head: members K, state W, what else is known C, modalities M, tasks T."""

    members: int
    state: int
    known: int
    modalities: int
    tasks: int


class Acquisition(nn.Module):
    """Expected drops in loss, by task and modality, from what the members of an ensemble know of a patient.

    Args:
        sizes: Widths.
    """

    state_mean: Tensor
    state_spread: Tensor
    known_mean: Tensor
    known_spread: Tensor
    unit: Tensor
    prior_loss: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.states = nn.ModuleList(nn.Linear(sizes.state, HIDDEN) for _ in range(sizes.members))
        self.known = nn.Linear(sizes.known, HIDDEN, bias=False)
        self.out = nn.Linear(HIDDEN, sizes.modalities * sizes.tasks)
        for name, shape in self._buffers_of(sizes).items():
            self.register_buffer(name, torch.zeros(shape))

    @staticmethod
    def _buffers_of(sizes: Sizes) -> dict[str, tuple[int, ...]]:
        return {
            "state_mean": (sizes.members, sizes.state),
            "state_spread": (sizes.members, sizes.state),
            "known_mean": (sizes.known,),
            "known_spread": (sizes.known,),
            "unit": (sizes.tasks,),
            "prior_loss": (sizes.tasks,),
        }

    def member(self, k: int, facts: Known) -> Tensor:
        """Returns gains in `unit` s, ``(n, M, T)``, from what member k knows."""
        state = (facts.state - self.state_mean[k]) / self.state_spread[k] / self.sizes.state**0.5
        rest = (facts.rest - self.known_mean) / self.known_spread / self.sizes.known**0.5
        found = self.out(torch.tanh(self.states[k](state) + self.known(rest)))
        return F.softplus(found.view(-1, self.sizes.modalities, self.sizes.tasks), beta=1 / SOFT)

    def forward(self, facts: Sequence[Known]) -> Tensor:
        """Returns expected drops in loss (nats, for losses that are likelihoods), ``(n, M, T)``: the members' mean."""
        return torch.stack([self.member(k, each) for k, each in enumerate(facts)]).mean(0) * self.unit


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
    with torch.no_grad():
        every = [examples(model, k, patients, held_out, shift, generator) for k, (_, held_out) in enumerate(rows)]
    if not sum(float(each.weight.sum()) for each in every):
        raise DataError(
            "What to measure next is learned from patients who were held out while training, and nobody was: give the "
            "split a validation part, or train several members."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = _started(model, every)
        _train(head, every)
    return head.eval()


def _shift(model: Ensemble, patients: PatientTensors, rows: Sequence[tuple[Tensor, Tensor]]) -> LabelShift:
    assert patients.strata is not None
    everyone = torch.cat([torch.cat(pair) for pair in rows]).unique()  # type: ignore[no-untyped-call]
    tasks = list(model.tasks.values())
    return LabelShift(patients.presence[everyone], patients.strata[everyone], tasks, model.first.seen)


def _started(model: Ensemble, every: Sequence[Examples]) -> Acquisition:
    """A head that predicts each modality's mean gain, shrunk towards the mean of all."""
    facts, drops = [each.known for each in every], torch.cat([each.drop for each in every])
    weights, taken = torch.cat([each.weight for each in every]), torch.cat([each.taken for each in every])
    n_modalities, n_tasks = len(model.first.modalities), drops.shape[1]
    head = Acquisition(Sizes(len(every), facts[0].state.shape[1], facts[0].rest.shape[1], n_modalities, n_tasks))
    rest = torch.cat([each.rest for each in facts])
    head.known_mean.copy_(rest.mean(0))
    head.known_spread.copy_(_spread(rest))
    for k, each in enumerate(facts):
        head.state_mean[k], head.state_spread[k] = each.state.mean(0), _spread(each.state)
    mean = (drops * weights).sum(0) / weights.sum(0).clamp(min=1e-9)
    head.unit.copy_(
        ((drops - mean).square() * weights).sum(0).div(weights.sum(0).clamp(min=1e-9)).sqrt().clamp(min=1e-6)
    )
    head.prior_loss.copy_(torch.cat([each.prior_loss for each in every]).nanmean(0).clamp(min=1e-6))
    totals = torch.zeros(n_modalities, n_tasks).index_add_(0, taken, drops / head.unit * weights)
    sizes = torch.zeros(n_modalities, n_tasks).index_add_(0, taken, weights)
    who = torch.cat([each.patient for each in every])
    n_patients = torch.stack([torch.full((n_tasks,), float(_n_distinct(who[taken == m]))) for m in range(n_modalities)])
    own = totals / sizes.clamp(min=1e-9)
    shrunk = (n_patients * own + SHRINK * mean / head.unit) / (n_patients + SHRINK)
    with torch.no_grad():
        nn.init.zeros_(head.out.weight)
        head.out.bias.copy_((SOFT * torch.log(torch.expm1((shrunk / SOFT).clamp(min=1e-2)))).flatten())
    return head


def _n_distinct(numbers: Tensor) -> int:
    return len(torch.unique(numbers))


def _spread(values: Tensor) -> Tensor:
    spread = values.std(0, correction=0)
    return torch.where(spread > 1e-6, spread, 1.0)


def _train(head: Acquisition, every: Sequence[Examples]) -> None:
    n_patients = _n_distinct(torch.cat([each.patient for each in every]))
    matrices = [p for p in head.parameters() if p.dim() > 1]
    vectors = [p for p in head.parameters() if p.dim() == 1]
    groups: list[dict[str, Any]] = [{"params": matrices, "weight_decay": DECAY / max(n_patients, 1)}]
    optimizer = torch.optim.Adam([*groups, {"params": vectors}], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    total = torch.stack([each.weight.sum(0) for each in every]).sum(0).clamp(min=1e-9)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        loss = torch.zeros(())
        for k, each in enumerate(every):
            where = each.taken.view(-1, 1, 1).expand(-1, 1, head.sizes.tasks)
            gain = head.member(k, each.known).gather(1, where).squeeze(1)
            loss = loss + ((gain - each.drop / head.unit).square() * each.weight / total).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


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
        shares = (whole / head.prior_loss).mean(2, keepdim=True)
    open_ = ~patients.presence & _reachable(patients.presence, names)
    parts = []
    for t, task in enumerate([EVERY_TASK, *tasks]):
        gain = shares[:, :, 0] if t == 0 else whole[:, :, t - 1]
        seen = model.first.seen.any(0) if t == 0 else model.first.seen[t - 1]
        row, m = (open_ & seen).nonzero(as_tuple=True)
        cost = torch.tensor([float(costs.get(name, 1.0)) for name in names], dtype=torch.float64)
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
    found = torch.ones_like(presence)
    for m, name in enumerate(names):
        base, at, number = name.rpartition("@")
        if at and number.isdigit() and int(number) > 1:
            found[:, m] = presence[:, list(names).index(f"{base}@{int(number) - 1}")]
    return found
