"""The mean of a few networks: small cohorts need it, and one network is its simplest case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from multimodn.base import Task
from multimodn.data.batches import Batch
from multimodn.fusion.model import Evidence, Outputs, SequentialFusion
from multimodn.fusion.paths import ordered_paths
from multimodn.fusion.trajectory import lattice, trajectory


class Ensemble(nn.Module):
    """Averages the raw outputs of networks with the same modalities and tasks.

    Raw outputs are averaged, not probabilities: for classes that is the mean log-odds, so that contributions of the
    mean are the mean of the contributions.
    """

    def __init__(self, members: Sequence[SequentialFusion]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def first(self) -> SequentialFusion:
        """The first member: all share its modalities, order, tasks and fitted scales."""
        return cast(SequentialFusion, self.members[0])

    @property
    def tasks(self) -> dict[str, Task]:
        """Tasks by name."""
        return {name: cast(Task, task) for name, task in self.first.tasks.items()}

    def forward(self, batch: Batch, order: Sequence[str] | None = None) -> Outputs:
        """Returns the outputs ``(B, K)`` after all present modalities; see `SequentialFusion.forward`."""
        return self._mean(lambda member: member(batch, order))

    def trajectory(self, batch: Batch, order: Sequence[str] | None = None) -> Outputs:
        """Returns the outputs after every step; see `multimodn.fusion.trajectory.trajectory`."""
        return self._mean(lambda member: trajectory(member, batch, order))

    def lattice(self, batch: Batch) -> Outputs:
        """Returns the outputs of every subset; see `multimodn.fusion.trajectory.lattice`."""
        return self._mean(lambda member: lattice(member, batch))

    def encode(self, batch: Batch) -> list[Evidence]:
        """Runs every member's encoders once."""
        return [cast(SequentialFusion, member).encode(batch) for member in self.members]

    def subset(self, evidence: Sequence[Evidence], chosen: Tensor) -> Outputs:
        """Returns the outputs ``(B, K)`` at one subset for each row, without an encoder call.

        Args:
            evidence: What `encode` returned.
            chosen: Bool ``(B, M)``, within the presence of the batch; taken in the model's order.
        """
        found = iter(evidence)
        paths = ordered_paths(chosen, self.first.order)
        return self._mean(lambda member: member.decode(member.states(next(found), paths)[-1]))

    def _mean(self, run: Callable[[SequentialFusion], Outputs]) -> Outputs:
        every = [run(cast(SequentialFusion, member)) for member in self.members]
        if len(every) == 1:
            return every[0]
        return {name: torch.stack([outputs[name] for outputs in every]).mean(0) for name in every[0]}
