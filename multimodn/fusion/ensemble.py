"""Ensemble: the mean of a few networks, which small cohorts need; one network is its simplest case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from multimodn.base.batches import Batch
from multimodn.base.task import Task
from multimodn.fusion.calibration import Calibration
from multimodn.fusion.network import Evidence, Outputs, SequentialFusion
from multimodn.fusion.paths import all_subsets, order_numbers, ordered_paths, steps_taken
from multimodn.fusion.trajectory import lattice, trajectory


class Ensemble(nn.Module):
    """Averages the raw outputs of networks with the same modalities and tasks, and calibrates the mean.

    Raw outputs are averaged, not probabilities: for classes that is the mean log-odds, so that contributions of the
    mean are the mean of the contributions.
    """

    def __init__(self, members: Sequence[SequentialFusion]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.calibration = Calibration(list(self.tasks.values()), self.first.seen)

    @property
    def first(self) -> SequentialFusion:
        """The first member: all share its modalities, order, tasks and fitted scales."""
        return cast(SequentialFusion, self.members[0])

    @property
    def networks(self) -> list[SequentialFusion]:
        """The members."""
        return [cast(SequentialFusion, member) for member in self.members]

    @property
    def tasks(self) -> dict[str, Task]:
        """Tasks by name."""
        return {name: cast(Task, task) for name, task in self.first.tasks.items()}

    def forward(self, batch: Batch, order: Sequence[str] | None = None) -> Outputs:
        """Returns the outputs ``(B, K)`` after all present modalities; see `SequentialFusion.forward`."""
        outputs = self._mean(lambda member: member(batch, order))
        return self.calibrated(outputs, self._subsets_along(batch, order)[-1])

    def trajectory(self, batch: Batch, order: Sequence[str] | None = None) -> Outputs:
        """Returns the outputs after every step; see `multimodn.fusion.trajectory.trajectory`."""
        outputs = self._mean(lambda member: trajectory(member, batch, order))
        return self.calibrated(outputs, self._subsets_along(batch, order))

    def lattice(self, batch: Batch) -> Outputs:
        """Returns the outputs of every subset; see `multimodn.fusion.trajectory.lattice`."""
        subsets = all_subsets(len(self.first.modalities), batch.presence.device)
        return self.calibrated(self._mean(lambda member: lattice(member, batch)), subsets.unsqueeze(1))

    def encode(self, batch: Batch) -> list[Evidence]:
        """Runs every member's encoders once."""
        return [member.encode(batch) for member in self.networks]

    def subset(self, evidence: Sequence[Evidence], chosen: Tensor, order: Sequence[int] | None = None) -> Outputs:
        """Returns the outputs ``(B, K)`` at one subset for each row, bool ``(B, M)`` within presence; encodes nothing.

        ``order`` has the numbers of all modalities in the order in which they are taken; default: the model's.
        """
        of_member = iter(evidence)
        paths = ordered_paths(chosen, order or self.first.order)
        outputs = self._mean(lambda member: {k: v[-1] for k, v in member.read(next(of_member), paths).items()})
        return self.calibrated(outputs, chosen)

    def member_outputs(self, k: int, batch: Batch) -> Outputs:
        """Returns the outputs ``(B, K)`` of member k alone, calibrated as the ensemble's are."""
        return self.calibrated(self.networks[k](batch), self._subsets_along(batch)[-1])

    def prior(self) -> Outputs:
        """Returns the outputs ``(K,)`` without any modality, where presence is not informative."""
        return self._mean(lambda member: member.decode(member.initial_state))

    def calibrated(self, outputs: Outputs, subsets: Tensor) -> Outputs:
        """Calibrates raw outputs ``(..., K)`` of the ensemble or of a member, which rest on subsets ``(..., M)``."""
        return outputs if self.calibration.is_identity else self.calibration(outputs, self.prior(), subsets)

    def _subsets_along(self, batch: Batch, order: Sequence[str] | None = None) -> Tensor:
        """Returns the subset that each state of a trajectory has read, bool ``(len(order) + 1, B, M)``."""
        numbers = self.first.order if order is None else order_numbers(order, self.first.modalities)
        return steps_taken(ordered_paths(batch.presence, numbers), len(self.first.modalities))

    def _mean(self, run: Callable[[SequentialFusion], Outputs]) -> Outputs:
        of_member = [run(member) for member in self.networks]
        if len(of_member) == 1:
            return of_member[0]
        return {name: torch.stack([outputs[name] for outputs in of_member]).mean(0) for name in of_member[0]}
