"""The networks of E members as one: their weights stacked, each linear map one batched matrix product."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodn.base.batches import PatientTensors
from multimodn.base.task import Task
from multimodn.fusion import SequentialFusion
from multimodn.fusion.state import GroupedLinear
from multimodn.training.stacked.batches import StackedBatch

Module = TypeVar("Module", bound=nn.Module)


class NotStackable(Exception):
    """These members cannot be trained side by side; the message says why."""


class StackedLinear(nn.Module):
    """n linear maps, for n blocks of equally many rows."""

    weight: Tensor  # ``(n, in, out)``, transposed: so its gradient needs no copy
    bias: Tensor | None  # ``(n, out)``

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n, self.bias = n, None

    def forward(self, x: Tensor, counts: Sequence[int] = ()) -> Tensor:
        """Maps ``(..., in)`` to ``(..., out)``; ``counts`` is for the signature of `GroupedLinear`."""
        blocks = x.reshape(self.n, -1, x.shape[-1])
        if self.bias is None:
            mapped = blocks @ self.weight
        else:
            mapped = torch.baddbmm(self.bias.unsqueeze(1), blocks, self.weight)
        return mapped.view(*x.shape[:-1], mapped.shape[-1])


@dataclass(frozen=True)
class Piece:
    """Parameters of a member that are used together: a tensor ``(n, ...)``, smaller ones filled up with zeros.

    Zeros stay zeros: what they are multiplied with is zero, or what comes of them is not read.
    """

    names: list[str]  # of the parameters
    shape: tuple[int, ...]
    put: Callable[[Tensor], None]  # takes the parameters of all members, ``(E, n, ...)``
    is_transposed: bool = False  # whether the last two dimensions are those of the parameters in reverse order

    def pack(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Returns the tensor of one member."""
        packed = parameters[self.names[0]].new_zeros(self.shape)
        for own, name in zip(packed, self.names, strict=True):
            self._part(own, parameters[name]).copy_(parameters[name].detach())
        return packed

    def unpack(self, packed: Tensor, parameters: Mapping[str, Tensor]) -> None:
        """Writes the tensor of one member into its parameters."""
        for own, name in zip(packed, self.names, strict=True):
            parameters[name].copy_(self._part(own, parameters[name]))

    def _part(self, packed: Tensor, parameter: Tensor) -> Tensor:
        """The part of ``packed`` that holds one parameter, in its shape."""
        packed = packed.mT if self.is_transposed else packed
        return packed[tuple(slice(0, size) for size in parameter.shape)]


class StackedFusion(nn.Module):
    """Runs E networks of the same kind at once, each on rows of its own.

    The code of encoders, state update and tasks is that of the networks; only their linear maps are replaced. The
    parameters of a member are two vectors, those under the penalty and the others.

    Raises:
        NotStackable: If the networks have other parts than linear maps, or are not of one kind.
    """

    def __init__(self, models: Sequence[SequentialFusion], patients: PatientTensors) -> None:
        super().__init__()
        _check_alike(models, patients)
        self.n, self.first = len(models), [models[0]]  # in a list: its weights are not this module's
        self.tasks = models[0].tasks  # they move with this module
        self.pieces: list[Piece] = []
        self._parameters_of_first = dict(models[0].named_parameters())
        first = models[0]
        names = [name for g in range(max(first.group) + 1) for name in [first.modalities[first.group.index(g)]]]
        self.sizes = [int(cast(Any, first.encoders[name]).embedding_size) for name in names]
        self.encoders = nn.ModuleList(self._stacked(f"encoders.{name}", first.encoders[name]) for name in names)
        self.update = self._stacked_update(first)
        self.decoder = StackedLinear(self.n * len(first.tasks))
        self._decoders(first)
        self._add(["initial_state"], self._put_start)
        self.presence_effect = None
        if first.presence_effect is not None:
            self.presence_effect = StackedLinear(self.n)
            self._linear(["presence_effect"], self.presence_effect)
        parameters = self._parameters_of_first
        if sorted(name for piece in self.pieces for name in piece.names) != sorted(parameters):
            raise NotStackable("some parameters are neither weights nor biases of linear maps")
        is_penalised = {piece.names[0]: parameters[piece.names[0]].dim() > 1 for piece in self.pieces}
        self.segments = [[p for p in self.pieces if is_penalised[p.names[0]] == kind] for kind in (True, False)]
        packed = [self.pack(dict(model.named_parameters())) for model in models]
        self.penalised = nn.ParameterList(nn.Parameter(vectors[0]) for vectors in packed)
        self.free = nn.ParameterList(nn.Parameter(vectors[1]) for vectors in packed)

    # --- building ---

    def _add(self, names: list[str], put: Callable[[Tensor], None], *, is_transposed: bool = False) -> None:
        shapes = [self._parameters_of_first[name].shape for name in names]
        largest = [max(sizes) for sizes in zip(*shapes, strict=True)]
        if is_transposed:
            largest[-2:] = largest[:-3:-1]
        self.pieces.append(Piece(names, (len(names), *largest), put, is_transposed))

    def _linear(self, prefixes: list[str], to: StackedLinear) -> None:
        """Lets ``to`` take the weights and biases of linear maps, one after another for each member."""
        for kind in ("weight", "bias"):
            names = [f"{prefix}.{kind}" for prefix in prefixes]
            if names[0] in self._parameters_of_first:
                self._add(names, _setter(to, kind), is_transposed=kind == "weight")

    def _stacked(self, prefix: str, module: nn.Module) -> nn.Module:
        """Copies an encoder and replaces its linear maps by those of all members."""
        template = copy_of(module)
        found = {name: child for name, child in template.named_modules() if type(child) is nn.Linear}
        for name in found:
            linear = StackedLinear(self.n)
            parent, _, own = name.rpartition(".")
            setattr(template.get_submodule(parent), own, linear)
            self._linear([f"{prefix}.{name}"], linear)
        if list(template.parameters()):
            raise NotStackable(f"{prefix} has parameters outside linear maps")
        return template

    def _stacked_update(self, model: SequentialFusion) -> Any:
        """Copies the state update; its only modality is a stack of cells."""
        template = copy_of(model.update)
        n_cells = self.n * (max(model.group) + 1)
        for name, child in list(template.named_children()):
            linear = StackedLinear(n_cells)
            if isinstance(child, GroupedLinear):
                setattr(template, name, linear)
                self._linear([f"update.{name}"], linear)
            elif isinstance(child, nn.ModuleList) and all(type(part) is nn.Linear for part in child):
                setattr(template, name, nn.ModuleList([linear]))
                self._linear([f"update.{name}.{g}" for g in range(len(child))], linear)
            else:
                raise NotStackable(f"the state update has a part {name} that is no linear map")
        for name, parameter in list(template.named_parameters(recurse=False)):
            delattr(template, name)
            self._add([f"update.{name}"], _cell_setter(template, name, parameter.dim()))
        return template

    def _decoders(self, model: SequentialFusion) -> None:
        names = list(model.tasks)
        if not all(type(model.decoders[name]) is nn.Linear for name in names):
            raise NotStackable("a decoder is no linear map")
        self._linear([f"decoders.{name}" for name in names], self.decoder)

    def _put_start(self, start: Tensor) -> None:
        self.start = start.squeeze(1)

    # --- weights ---

    def pack(self, parameters: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the parameters of a member as two vectors: those under the penalty, and the others."""
        first, second = (
            torch.cat([piece.pack(parameters).flatten() for piece in segment]) for segment in self.segments
        )
        return first, second

    def unpack(self, vectors: Sequence[Tensor], model: nn.Module) -> None:
        """Writes the vectors of a member into a network."""
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for segment, vector in zip(self.segments, vectors, strict=True):
                parts = torch.split(vector, [_size(piece.shape) for piece in segment])
                for piece, part in zip(segment, parts, strict=True):
                    piece.unpack(part.view(piece.shape), parameters)

    def _use_weights(self) -> None:
        for segment, vectors in zip(self.segments, (self.penalised, self.free), strict=True):
            sizes = [_size(piece.shape) for piece in segment]
            parts = torch.split(torch.stack(list(vectors)), sizes, dim=1)
            for piece, part in zip(segment, parts, strict=True):
                piece.put(part.view(self.n, *piece.shape))

    # --- one pass ---

    def forward(self, batch: StackedBatch) -> dict[str, Tensor]:
        """Returns each task's raw outputs ``(depth + 1, E x B, K)`` at every state of the paths."""
        self._use_weights()
        model, moves = self.first[0], batch.moves
        evidence = torch.split(self._evidence(batch).index_select(0, moves.evidence), moves.sizes)
        slots = torch.split(moves.states, moves.sizes)
        state = self._start(batch)
        states = [state]
        for depth, size in enumerate(moves.sizes):
            if size:
                moved = self.update(state.index_select(0, slots[depth]), evidence[depth], ())
                moved = moved.index_select(0, moves.places[depth])
                state = moved if moves.complete[depth] else torch.where(moves.taken[depth], moved, state)
            states.append(state)
        n_views, size = len(model.visibilities), model.update.state_size
        read = torch.stack([state.view(self.n, -1, state.shape[-1]) for state in states], dim=1)[..., :size]
        n_tasks = len(model.tasks)
        for_each = read.reshape(self.n, 1, -1, size).expand(-1, n_tasks, -1, -1)
        decoded = self.decoder(for_each).view(self.n, n_tasks, len(states), n_views, -1, self._k)
        outputs = {}
        for v, group in enumerate(model.visibilities):
            for name in group.tasks:
                t, width = list(model.tasks).index(name), cast(Task, model.tasks[name]).output_size
                outputs[name] = decoded[:, t, :, v, :, :width].transpose(0, 1).reshape(len(states), -1, width)
        return {name: outputs[name] for name in model.tasks}

    @property
    def _k(self) -> int:
        return max(cast(Task, task).output_size for task in self.first[0].tasks.values())

    def _start(self, batch: StackedBatch) -> Tensor:
        visibilities = self.first[0].visibilities
        n_rows = len(batch.presence) // self.n * len(visibilities)
        start = self.start.unsqueeze(1)
        if self.presence_effect is None:
            return start.expand(-1, n_rows, -1).flatten(0, 1)
        seen = [group.restrict(batch.presence).view(self.n, -1, batch.presence.shape[-1]) for group in visibilities]
        effect = self.presence_effect(torch.cat(seen, 1).to(start.dtype))
        with_presence: Tensor = start + effect
        return with_presence.flatten(0, 1)

    def _evidence(self, batch: StackedBatch) -> Tensor:
        """Returns the evidence of the rows of each cell, ``(E x G x n_slots, evidence_size)``."""
        parts, widest = [], max(self.sizes)
        for encoder, values, size in zip(self.encoders, batch.values, self.sizes, strict=True):
            if len(values):
                embedding = encoder(values).view(self.n, -1, size)
            else:
                embedding = self.start.new_zeros(self.n, batch.n_slots, size)
            missing = (0, widest - size, 0, batch.n_slots - embedding.shape[1])
            parts.append(F.pad(embedding, missing) if any(missing) else embedding)
        cells = torch.cat(parts, dim=1).view(-1, batch.n_slots, widest)
        evidence: Tensor = self.update.project(0, cells)
        return evidence.flatten(0, 1)

    def losses(self, batch: StackedBatch) -> Tensor:
        """Returns the loss of each task for each member, ``(T, E)``; see `SequentialFusion.losses`."""
        of_rows = self.first[0].row_losses(
            self(batch), batch.paths, batch.targets, batch.labelled, batch.strata,
            batch.corrections.tilts, batch.corrections.weights,
        )  # fmt: skip
        totals = [loss.view(len(loss), self.n, -1).sum((0, 2)) for loss, _ in of_rows.values()]
        counts = [counted.view(len(counted), self.n, -1).sum((0, 2)) for _, counted in of_rows.values()]
        return torch.stack(totals) / torch.stack(counts).clamp(min=1)


def copy_of(module: Module) -> Module:
    """Copies a module and its parts, but nothing else that they refer to, such as the columns of a table."""
    shared = [value for part in module.modules() for name, value in vars(part).items() if not name.startswith("_")]
    return copy.deepcopy(module, {id(value): value for value in shared})


def _size(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


def _setter(to: StackedLinear, kind: str) -> Callable[[Tensor], None]:
    def put(stacked: Tensor) -> None:
        setattr(to, kind, stacked.reshape(to.n, *stacked.shape[-1 - (kind == "weight") :]))

    return put


def _cell_setter(update: nn.Module, name: str, n_dims: int) -> Callable[[Tensor], None]:
    """Sets a parameter ``(G, ...)`` of a state update as that of one modality, ``(1, cells, ..., ...)``."""

    def put(stacked: Tensor) -> None:
        cells = stacked.flatten(0, 2)
        setattr(update, name, (cells.unsqueeze(1) if n_dims == 2 else cells).unsqueeze(0))

    return put


def _check_alike(models: Sequence[SequentialFusion], patients: PatientTensors) -> None:
    first = models[0]
    if not all(isinstance(values, Tensor) for values in patients.values.values()):
        raise NotStackable("values of a modality are no tensor")
    if first.update.looks_at_tokens:
        raise NotStackable("the state update looks at tokens")
    if list(first.tasks.parameters()):
        raise NotStackable("a task has weights to learn")
    if not all(p.requires_grad and p.dtype == torch.float32 for model in models for p in model.parameters()):
        raise NotStackable("some weights are frozen, or not in single precision")
    for model in models[1:]:
        if [type(part) for part in model.modules()] != [type(part) for part in first.modules()]:
            raise NotStackable("members are not of one kind")
        sizes = {name: p.shape for name, p in model.named_parameters()}
        if sizes != {name: p.shape for name, p in first.named_parameters()}:
            raise NotStackable("members differ in the sizes of their weights")
        buffers = dict(model.named_buffers())
        if not all(torch.equal(buffer, buffers[name]) for name, buffer in first.named_buffers()):
            raise NotStackable("members differ in what they fitted to the training patients")
