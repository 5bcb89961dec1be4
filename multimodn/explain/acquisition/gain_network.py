"""The network of `multimodn.explain.acquisition.next_modality`, and its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodn.explain.acquisition.examples import Examples, Features

HIDDEN = 16
EPOCHS, RATE = 150, 1e-2
DECAY = 1.0  # L2 penalty on the head's weights, divided by the number of patients it learns from
SOFT = 0.03  # width of the softplus that keeps gains above 0, in standard deviations of the drops
SHRINK = 20.0  # pseudo-patients with the mean gain over all modalities, in the mean gain of each


@dataclass(frozen=True)
class Sizes:
    """Widths of a head: members K, state W, other features C, modalities M; and the numbers of its tasks."""

    members: int
    state: int
    known: int
    modalities: int
    tasks: tuple[int, ...]


class Head(nn.Module):
    """Expected decrease in loss of the tasks of a visibility, from the features of all members."""

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
        self.out = nn.Linear(HIDDEN, sizes.modalities * len(sizes.tasks))
        shapes = {"state": (sizes.members, sizes.state), "known": (sizes.known,)}
        buffers = {f"{name}_{what}": shape for name, shape in shapes.items() for what in ("mean", "spread")}
        for name, shape in (buffers | dict.fromkeys(("unit", "prior_loss"), (len(sizes.tasks),))).items():
            self.register_buffer(name, torch.zeros(shape))

    def member(self, k: int, features: Features) -> Tensor:
        """Returns gains in units of `unit`, ``(n, M, T)``, from the features of member k."""
        state = (features.state - self.state_mean[k]) / self.state_spread[k] / self.sizes.state**0.5
        rest = (features.rest - self.known_mean) / self.known_spread / self.sizes.known**0.5
        gains = self.out(torch.tanh(self.states[k](state) + self.known(rest)))
        return F.softplus(gains.view(-1, self.sizes.modalities, len(self.sizes.tasks)), beta=1 / SOFT)

    def forward(self, features: Sequence[Features]) -> Tensor:
        """Returns the members' mean decrease in loss (nats, for negative log-likelihoods), ``(n, M, T)``."""
        return torch.stack([self.member(k, each) for k, each in enumerate(features)]).mean(0) * self.unit


class Acquisition(nn.Module):
    """Expected decrease in loss by modality and task, with a head for each visibility."""

    def __init__(self, sizes: Sequence[Sizes]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(each) for each in sizes)

    @property
    def sizes(self) -> list[Sizes]:
        """The widths of each head."""
        return [head.sizes for head in self._heads]

    @property
    def prior_loss(self) -> Tensor:
        """The loss without any modality ``(T,)``; infinite for a task without a labelled held-out patient."""
        return self._by_task([head.prior_loss for head in self._heads])

    def forward(self, features: Sequence[Sequence[Features]]) -> Tensor:
        """Returns the expected decrease in loss (nats, for negative log-likelihoods), ``(n, M, T)``."""
        return self._by_task([head(each) for head, each in zip(self._heads, features, strict=True)])

    @property
    def _heads(self) -> list[Head]:
        return [cast(Head, head) for head in self.heads]

    def _by_task(self, of_head: Sequence[Tensor]) -> Tensor:
        tasks = torch.tensor([task for sizes in self.sizes for task in sizes.tasks])
        return torch.cat(list(of_head), dim=-1)[..., tasks.argsort().to(of_head[0].device)]


def fit_head(every: Sequence[Examples], sizes: Sizes) -> Head:
    """Trains a head on the examples of each member, from the mean gain of each modality shrunk to that of all."""
    features, drops = [each.features for each in every], torch.cat([each.drop for each in every])
    weights, taken = torch.cat([each.weight for each in every]), torch.cat([each.taken for each in every])
    head, shape = Head(sizes), (sizes.modalities, len(sizes.tasks))
    rest = torch.cat([each.rest for each in features])
    head.known_mean.copy_(rest.mean(0))
    head.known_spread.copy_(_spread(rest))
    for k, each in enumerate(features):
        if len(each.state):
            head.state_mean[k] = each.state.mean(0)
        head.state_spread[k] = _spread(each.state)
    total = weights.sum(0).clamp(min=1e-9)
    mean = (drops * weights).sum(0) / total
    head.unit.copy_(((drops - mean).square() * weights).sum(0).div(total).sqrt().clamp(min=1e-6))
    prior_loss = torch.cat([each.prior_loss for each in every]).nanmean(0)
    head.prior_loss.copy_(prior_loss.clamp(min=1e-6).nan_to_num(nan=torch.inf))
    totals = torch.zeros(shape).index_add_(0, taken, drops / head.unit * weights)
    counts = torch.zeros(shape).index_add_(0, taken, weights)
    who = torch.cat([each.patient for each in every])
    n_patients = torch.tensor([[float(_n_distinct(who[taken == m]))] for m in range(sizes.modalities)])
    own = totals / counts.clamp(min=1e-9)
    shrunk = (n_patients * own + SHRINK * mean / head.unit) / (n_patients + SHRINK)
    with torch.no_grad():
        nn.init.zeros_(head.out.weight)
        head.out.bias.copy_((SOFT * torch.log(torch.expm1((shrunk / SOFT).clamp(min=1e-2)))).flatten())
    _train(head, every)
    return head


def _n_distinct(numbers: Tensor) -> int:
    return len(torch.unique(numbers))


def _spread(values: Tensor) -> Tensor:
    spread = values.std(0, correction=0) if len(values) else torch.zeros(values.shape[1])
    return torch.where(spread > 1e-6, spread, 1.0)


def _train(head: Head, every: Sequence[Examples]) -> None:
    n_patients = _n_distinct(torch.cat([each.patient for each in every]))
    groups: list[dict[str, Any]] = [{"params": [p for p in head.parameters() if p.dim() > 1]}]
    groups[0]["weight_decay"] = DECAY / max(n_patients, 1)
    optimizer = torch.optim.Adam([*groups, {"params": [p for p in head.parameters() if p.dim() == 1]}], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    total = torch.stack([each.weight.sum(0) for each in every]).sum(0).clamp(min=1e-9)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        loss = torch.zeros(())
        for k, each in enumerate(every):
            where = each.taken.view(-1, 1, 1).expand(-1, 1, len(head.sizes.tasks))
            gain = head.member(k, each.features).gather(1, where).squeeze(1)
            loss = loss + ((gain - each.drop / head.unit).square() * each.weight / total).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
