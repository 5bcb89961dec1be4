"""The mean of a few networks: small cohorts need it, and one network is its simplest case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from multimodn.base.batches import Batch
from multimodn.base.task import Task
from multimodn.fusion.calibration import Calibration
from multimodn.fusion.network import Evidence, Outputs, SequentialFusion
from multimodn.fusion.paths import order_numbers, ordered_paths, steps_taken
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
        return self._calibrated(self._mean(lambda member: member(batch, order)), self._taken(batch, order)[-1])

    def trajectory(self, batch: Batch, order: Sequence[str] | None = None) -> Outputs:
        """Returns the outputs after every step; see `multimodn.fusion.trajectory.trajectory`."""
        return self._calibrated(self._mean(lambda member: trajectory(member, batch, order)), self._taken(batch, order))

    def lattice(self, batch: Batch) -> Outputs:
        """Returns the outputs of every subset; see `multimodn.fusion.trajectory.lattice`."""
        bits = torch.arange(len(self.first.modalities), device=batch.presence.device)
        codes = torch.arange(2 ** len(bits), device=bits.device)
        taken = (codes.unsqueeze(1) >> bits & 1 > 0).unsqueeze(1)
        return self._calibrated(self._mean(lambda member: lattice(member, batch)), taken)

    def encode(self, batch: Batch) -> list[Evidence]:
        """Runs every member's encoders once."""
        return [member.encode(batch) for member in self.networks]

    def subset(self, evidence: Sequence[Evidence], chosen: Tensor, order: Sequence[int] | None = None) -> Outputs:
        """Returns the outputs ``(B, K)`` at one subset for each row, without an encoder call.

        Args:
            evidence: What `encode` returned.
            chosen: Bool ``(B, M)``, within the presence of the batch.
            order: Numbers of all modalities in the order in which they are taken; default: the model's.
        """
        found = iter(evidence)
        paths = ordered_paths(chosen, order or self.first.order)
        outputs = self._mean(lambda member: {k: v[-1] for k, v in member.read(next(found), paths).items()})
        return self._calibrated(outputs, chosen)

    def prior(self) -> Outputs:
        """Returns the outputs ``(K,)`` without any modality, where presence is not informative."""
        return self._mean(lambda member: member.decode(member.initial_state))

    def _taken(self, batch: Batch, order: Sequence[str] | None) -> Tensor:
        """Bool ``(len(order) + 1, B, M)``: what each state of a trajectory has seen."""
        numbers = self.first.order if order is None else order_numbers(order, self.first.modalities)
        return steps_taken(ordered_paths(batch.presence, numbers), len(self.first.modalities))

    def _calibrated(self, outputs: Outputs, taken: Tensor) -> Outputs:
        return outputs if self.calibration.is_identity else self.calibration(outputs, self.prior(), taken)

    def _mean(self, run: Callable[[SequentialFusion], Outputs]) -> Outputs:
        every = [run(member) for member in self.networks]
        if len(every) == 1:
            return every[0]
        return {name: torch.stack([outputs[name] for outputs in every]).mean(0) for name in every[0]}
