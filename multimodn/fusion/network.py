"""The network: encode every modality once, update a patient state step by step, decode it after every step."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodn.base.batches import Batch
from multimodn.base.encoder import Encoder, Values
from multimodn.base.task import Task
from multimodn.errors import ShapeError, StudyError
from multimodn.fusion.experts import Experts
from multimodn.fusion.paths import order_numbers, ordered_paths
from multimodn.fusion.updates import build_update
from multimodn.fusion.visibility import group_by_visibility

Outputs = dict[str, Tensor]  # for each task the decoder's raw outputs, ``(..., output_size)``


@dataclass(frozen=True)
class Evidence:
    """The encoded modalities of a batch, ready for any order, subset or explanation."""

    # projected embeddings of all modalities, one after another, ``(n_present, evidence_size)``; with their tokens where
    # the state update attends to tokens
    rows: Values
    where: Tensor  # row of a patient's modality in ``rows``, long ``(B, M)``; -1 = absent
    # what the experts say of the same rows, ``(n_present, Q)``; None: there are none
    experts: Tensor | None = None

    @property
    def presence(self) -> Tensor:
        """Bool ``(B, M)``."""
        return self.where >= 0


class SequentialFusion(nn.Module):
    """Updates a patient state by one modality after another; every task has a decoder that reads every state.

    With `experts`, a state carries beside the learned numbers a running sum of what the experts of the modalities so
    far say of each task, and outputs weigh both:

        prior + network_weight (decoder(state) - prior) + expert_weight (running sum)

    Args:
        encoders: For each modality a module that maps its prepared values to ``(n, embedding_size)`` and has the
            attribute ``embedding_size``. One module under several names, such as those of repeated readings, takes a
            step for each name, with the same weights.
        tasks: The tasks.
        state_size: Width D of the state.
        update: Name of the state update: ``residual``, ``product``, ``gated``, ``linear`` or ``attention``.
        order: Modality names in the order of prediction; default: as in ``encoders``.
        informative: Whether the initial state depends on which modalities the patient has.
        excluded: For some tasks the modalities that they must not see: their states come from paths without them.

    Raises:
        StudyError: If there is no modality or no task, a name stands twice, ``order`` is not a permutation, or a task
            sees no modality.

    References:
        Swamy et al. (2023), MultiModN, https://arxiv.org/abs/2309.14118
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        tasks: Sequence[Task],
        state_size: int = 32,
        update: str = "residual",
        order: Sequence[str] | None = None,
        informative: bool = False,
        excluded: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        super().__init__()
        if not encoders or not tasks:
            raise StudyError("A model needs at least one modality and one task.")
        names = [task.name for task in tasks]
        if len(set(names)) < len(names):
            raise StudyError(f"Two tasks have the same name: {names}.")
        self.modalities = list(encoders)
        self.order = order_numbers(order or self.modalities, self.modalities)
        if len(self.order) < len(self.modalities):
            raise StudyError(f"The order {list(order or [])} leaves out some of {self.modalities}.")
        self.encoders = nn.ModuleDict(encoders)
        self.tasks = nn.ModuleDict({task.name: task for task in tasks})
        self.decoders = nn.ModuleDict({task.name: task.decoder(state_size) for task in tasks})
        distinct = list(dict.fromkeys(encoders.values()))  # by identity: that is how modules compare
        self.group = [distinct.index(encoder) for encoder in encoders.values()]
        first = [list(encoders)[self.group.index(g)] for g in range(len(distinct))]
        sizes = [_embedding_size(name, encoder) for name, encoder in zip(first, distinct, strict=True)]
        self.token_sizes = [int(getattr(encoder, "token_size", 0)) for encoder in distinct]
        self.update = build_update(update, sizes, state_size, self.token_sizes)
        self.visibilities = group_by_visibility(names, self.modalities, excluded or {})
        self.initial_state = nn.Parameter(torch.zeros(self.update.width))
        self.presence_effect = nn.Linear(len(self.modalities), self.update.width, bias=False) if informative else None
        if self.presence_effect is not None:
            nn.init.zeros_(self.presence_effect.weight)
        self.experts: Experts | None = None  # fitted after the network; see `multimodn.training.experts`

    @contextmanager
    def without_experts(self) -> Iterator[None]:
        """Leaves the network alone with its own evidence, as it was trained."""
        experts, self.experts = self.experts, None
        try:
            yield
        finally:
            self.experts = experts

    @property
    def seen(self) -> Tensor:
        """Which modalities each task may see, bool ``(T, M)``."""
        everything = torch.ones(len(self.modalities), dtype=torch.bool)
        of_task = {name: group.restrict(everything) for group in self.visibilities for name in group.tasks}
        return torch.stack([of_task[name] for name in self.tasks])

    def encode(self, batch: Batch) -> Evidence:
        """Runs every encoder once, on the rows that have its modality.

        Raises:
            ShapeError: If the batch has other modalities than the model.
        """
        if list(batch.values) != self.modalities:
            raise ShapeError(f"The batch has modalities {list(batch.values)}, expected {self.modalities}.")
        parts = [
            self._project(group, self.encoders[name], batch.values[name])
            for group, name in zip(self.group, self.modalities, strict=True)
            if len(batch.values[name])
        ]
        rows = self.update.join(parts) if parts else self.initial_state.new_zeros(0, 1)
        flat = batch.presence.T.flatten()
        where = torch.where(flat, flat.cumsum(0) - 1, -1)
        return Evidence(rows, where.view(batch.presence.T.shape).T, self._expert_evidence(batch))

    def _expert_evidence(self, batch: Batch) -> Tensor | None:
        if self.experts is None:
            return None
        parts = [self.initial_state.new_zeros(0, self.experts.width)]
        for m, (name, values) in enumerate(batch.values.items()):
            if len(values) and self.experts.has(m):
                parts.append(self.experts.evidence(m, self.vector(name, values)))
            else:
                parts.append(self.initial_state.new_zeros(len(values), self.experts.width))
        return torch.cat(parts)

    def vector(self, name: str, values: Any) -> Tensor:
        """Returns the fixed vectors that the experts of a modality read, ``(n, vector_size)``, NaN = empty."""
        return cast(Encoder, self.encoders[name]).vector(values).to(self.initial_state.dtype)

    def _project(self, group: int, encoder: nn.Module, values: Any) -> Values:
        if self.update.looks_at_tokens and self.token_sizes[group]:
            embedding, tokens = cast(Encoder, encoder).with_tokens(values)
            return self.update.project_tokens(group, embedding, tokens)
        return self.update.project(group, encoder(values))

    def start(self, presence: Tensor) -> Tensor:
        """Returns the initial states ``(B, width)``: the same for all, unless presence is informative."""
        if self.presence_effect is None:
            state = self.initial_state.expand(len(presence), -1)
        else:
            state = self.initial_state + self.presence_effect(presence.to(self.initial_state.dtype))
        return state if self.experts is None else torch.cat([state, self.experts.start(len(presence))], 1)

    def states(self, evidence: Evidence, paths: Tensor, presence: Tensor | None = None) -> Tensor:
        """Follows each row's path.

        Args:
            evidence: What `encode` returned for the batch.
            paths: Long ``(B, depth)``, -1 = no step; see `multimodn.fusion.paths`.
            presence: Presence on which an informative initial state depends, bool ``(B, M)``; default: that of the
                batch.

        Returns:
            States ``(depth + 1, B, width)``, with experts ``width + Q``, the first before any step. A row without a
            step keeps its state unchanged.
        """
        state = self.start(evidence.presence if presence is None else presence)
        states = [state]
        # all depths are sorted and counted at once: one synchronisation with the device, not one a step
        encoders = self._encoders_of(paths)
        by_modality = encoders.argsort(dim=0, stable=True)
        taken = encoders.unsqueeze(-1) == torch.arange(max(self.group) + 1, device=paths.device)
        all_counts: list[list[int]] = taken.sum(0).tolist()
        for depth, counts in enumerate(all_counts):
            rows = by_modality[len(paths) - sum(counts) :, depth]
            state = self._step(state, rows, paths[:, depth], evidence, counts)
            states.append(state)
        return torch.stack(states)

    def _step(self, state: Tensor, rows: Tensor, step: Tensor, evidence: Evidence, counts: Sequence[int]) -> Tensor:
        if not len(rows):
            return state
        if len(rows) == len(state) and len(rows) in counts:  # all take the same modality: no shuffling
            place = evidence.where.gather(1, step.unsqueeze(1)).squeeze(1)
            return self.update_state(state, evidence, place, counts)
        place = evidence.where[rows, step[rows]]
        return state.index_copy(0, rows, self.update_state(state[rows], evidence, place, counts))

    def _encoders_of(self, paths: Tensor) -> Tensor:
        """Returns the number of the encoder of each step of a path, -1 = no step."""
        if self.group == list(range(len(self.group))):
            return paths
        numbers = torch.tensor(self.group, device=paths.device)
        return torch.where(paths >= 0, numbers[paths.clamp(min=0)], -1)

    def update_state(self, state: Tensor, evidence: Evidence, place: Tensor, counts: Sequence[int]) -> Tensor:
        """Applies one step to rows sorted by encoder, whose evidence is at rows ``place``.

        ``counts``: the number of rows of each encoder; see `multimodn.fusion.state.StateUpdate.forward`.
        """
        learned, running = state.tensor_split((self.update.width,), dim=1)
        after: Tensor = self.update(learned, evidence.rows[place], counts)
        return after if evidence.experts is None else torch.cat([after, running + evidence.experts[place]], 1)

    def decode(self, states: Tensor, tasks: Collection[str] | None = None) -> Outputs:
        """Decodes states ``(..., width)`` for some tasks, default all."""
        read, experts = states[..., : self.update.state_size], self.experts
        outputs = {name: decoder(read) for name, decoder in self.decoders.items() if tasks is None or name in tasks}
        if experts is None:
            return outputs
        running = states[..., self.update.width :]
        said = experts.outputs(running) if running.shape[-1] else None  # else it is the initial state alone
        start = self.initial_state[: self.update.state_size]
        for t, (name, columns) in enumerate(zip(self.tasks, experts.columns, strict=True)):
            if name in outputs:
                prior = self.decoders[name](start)
                outputs[name] = prior + experts.network_weight[t] * (outputs[name] - prior)
                if said is not None:
                    own = experts.expert_weight[t] * said[..., columns]
                    outputs[name] = outputs[name] + F.pad(own, (0, outputs[name].shape[-1] - own.shape[-1]))
        return outputs

    def read(self, evidence: Evidence, paths: Tensor) -> Outputs:
        """Follows each row's path and decodes every state; each task only by the steps that it may see.

        Returns:
            For each task ``(depth + 1, B, K)``; a step that the task must not see repeats the outputs before it.
        """
        # each visibility adds rows to one pass: small batches cost by the step, not by the row
        own_paths = torch.cat([group.restrict_paths(paths) for group in self.visibilities])
        presence = torch.cat([group.restrict(evidence.presence) for group in self.visibilities])
        repeated = replace(evidence, where=evidence.where.repeat(len(self.visibilities), 1))
        states = self.states(repeated, own_paths, presence).tensor_split(len(self.visibilities), dim=1)
        outputs: Outputs = {}
        for group, own_states in zip(self.visibilities, states, strict=True):
            outputs |= self.decode(own_states, group.tasks)
        return {name: outputs[name] for name in self.tasks}

    def forward(self, batch: Batch, order: Sequence[str] | None = None) -> Outputs:
        """Returns each task's raw outputs ``(B, K)`` after all present modalities.

        A row without any modality gets the outputs of the initial state, the prior.
        """
        evidence = self.encode(batch)
        return {name: outputs[-1] for name, outputs in self.read(evidence, self.paths(evidence, order)).items()}

    def paths(self, evidence: Evidence, order: Sequence[str] | None = None) -> Tensor:
        """Returns the paths of a batch in ``order`` (modality names; default: the model's)."""
        numbers = self.order if order is None else order_numbers(order, self.modalities)
        return ordered_paths(evidence.presence, numbers)

    def losses(
        self,
        batch: Batch,
        paths: Tensor,
        tilts: Mapping[str, Tensor] | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Averages each task's loss over all states on the paths of its labelled rows.

        Args:
            batch: Patients with targets.
            paths: Long ``(B, depth)``.
            tilts: For some tasks the log ratio of the frequency of each outcome stratum at each state and in all
                patients, ``(depth + 1, B, n_strata)``: the likelihood is tilted by it, the outputs are not. Needs the
                batch's strata.
            weights: For some tasks a weight of each state, ``(depth + 1, B)``.

        Returns:
            For each task a scalar; zero, without a gradient, where no row has its label.
        """
        outputs = self.read(self.encode(batch), paths)
        of_rows = self.row_losses(outputs, paths, batch.targets, batch.labelled, batch.strata, tilts, weights)
        return {name: loss.sum() / counted.sum().clamp(min=1) for name, (loss, counted) in of_rows.items()}

    def row_losses(
        self, outputs: Outputs, paths: Tensor, targets: Mapping[str, Tensor], labelled: Mapping[str, Tensor],
        strata: Tensor | None = None, tilts: Mapping[str, Tensor] | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> dict[str, tuple[Tensor, Tensor]]:  # fmt: skip
        """Returns for each task the loss of each state on the paths, and whether it counts, ``(depth + 1, B)`` both.

        ``outputs`` are those of `read` for ``paths``; the rest as in `losses`. What does not count has a loss of 0.
        """
        start = torch.ones(1, len(paths), dtype=torch.bool, device=paths.device)
        visited = {
            name: torch.cat([start, (group.restrict_paths(paths) >= 0).T])
            for group in self.visibilities
            for name in group.tasks
        }
        losses = {}
        for t, (name, task) in enumerate(self.tasks.items()):
            counted = visited[name] & labelled[name]
            loss = task(outputs[name], targets[name])
            if tilts and name in tilts and strata is not None:
                loss = loss + tilt_loss(cast(Task, task), outputs[name], tilts[name], strata[:, t])
            loss = torch.where(counted, loss, 0.0)
            if weights and name in weights:
                loss = loss * weights[name]
            losses[name] = loss, counted
        return losses


def tilt_loss(task: Task, outputs: Tensor, tilt: Tensor, strata: Tensor) -> Tensor:
    """Returns what the tilt p(y) exp(tilt_y) / sum_z p(z) exp(tilt_z) adds to the negative log-likelihood."""
    own = tilt.gather(-1, strata.clamp(min=0).expand(tilt.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    return (task.log_strata(outputs) + tilt).logsumexp(-1) - own


def _embedding_size(name: str, encoder: nn.Module) -> int:
    size = getattr(encoder, "embedding_size", None)
    if not isinstance(size, int):
        raise StudyError(
            f"Encoder '{name}' ({type(encoder).__name__}) has no integer attribute `embedding_size`; "
            "set it to the width of the embedding that it returns."
        )
    return size
