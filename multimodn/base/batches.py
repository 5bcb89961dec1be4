"""Prepared patients as tensors: batches are sliced, never collated row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from multimodn.base.encoder import Values
from multimodn.errors import DataError, ShapeError


@dataclass(frozen=True)
class Batch:
    """Some patients, with values only where there are any.

    Attributes:
        values: For each modality the rows that have it, in row order: an absent modality has no values at all, so that
            nothing in its columns can reach a model.
        presence: Bool ``(B, M)``, columns in the order of ``values``; True = the patient has the modality.
        targets: For each task the targets ``(B, ...)``.
        labelled: For each task the label presence, bool ``(B,)``.
        strata: Long ``(B, T)``: the outcome stratum in each task, -1 = no label; see `multimodn.base.task.Task.strata`.
        weights: Weight of each row in each task, ``(B, T)``; None: all are 1.
        cells: The label shift of the empty cells of each modality, ``(B, M, T, L)``; None: there is none. See
            `multimodn.missingness.cells`.
    """

    values: Mapping[str, Values]
    presence: Tensor
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    labelled: Mapping[str, Tensor] = field(default_factory=dict)
    strata: Tensor | None = None
    weights: Tensor | None = None
    cells: Tensor | None = None

    def __post_init__(self) -> None:
        kind, shape, names = self.presence.dtype, tuple(self.presence.shape), ", ".join(self.values)
        if kind != torch.bool or len(shape) != 2:
            raise ShapeError(f"`presence` is {kind} of shape {shape}, expected bool (batch, n_modalities).")
        if shape[1] != len(self.values):
            n = len(self.values)
            raise ShapeError(f"`presence` has {shape[1]} columns, but there are {n} modalities: {names}.")
        for name, n_rows in zip(self.values, self.presence.sum(0).tolist(), strict=True):
            if len(self.values[name]) != n_rows:
                given = f"Modality '{name}' has values for {len(self.values[name])} rows"
                repair = "Pass only the rows that have it, or use Batch.pack."
                raise ShapeError(f"{given}, but `presence` is True in {n_rows}. {repair}")

    @classmethod
    def pack(cls, values: Mapping[str, Tensor], presence: Tensor | None = None) -> Batch:
        """Builds a batch from aligned tensors ``(B, ...)``; rows with False in ``presence`` are dropped.

        Args:
            values: One tensor for each modality, all with B rows.
            presence: Bool ``(B, M)``; default: every modality is present in every row.

        Raises:
            ShapeError: If the tensors and ``presence`` do not have the same number of rows.
        """
        sizes = {name: len(rows) for name, rows in values.items()}
        n_rows = len(presence) if presence is not None else max(sizes.values(), default=0)
        if presence is None:
            presence = torch.ones(n_rows, len(values), dtype=torch.bool)
        wrong = {name: size for name, size in sizes.items() if size != n_rows}
        if wrong:
            raise ShapeError(f"Expected {n_rows} rows in every modality, but got {wrong}.")
        packed = {name: rows[presence[:, m]] for m, (name, rows) in enumerate(values.items())}
        return cls(packed, presence)

    def __len__(self) -> int:
        return len(self.presence)

    def to(self, device: torch.device) -> Batch:
        """Returns the same batch on ``device``."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        for name, value in given.items():
            moved = {k: v.to(device) for k, v in value.items()} if isinstance(value, Mapping) else value.to(device)
            given[name] = moved
        return replace(self, **given)


@dataclass(frozen=True)
class PatientTensors:
    """All patients of a cohort after `Encoder.prepare` and `Task.prepare`."""

    patients: pd.Index  # identifiers, N of them
    values: Mapping[str, Values]  # for each modality its rows, in any order
    position: Tensor  # long (N, M): the row of each patient in `values`, -1 = the modality is absent
    targets: Mapping[str, Tensor] = field(default_factory=dict)  # (N, ...) for each task
    labelled: Mapping[str, Tensor] = field(default_factory=dict)  # label presence in each task, bool (N,)
    strata: Tensor | None = None  # long (N, T): the outcome stratum in each task, -1 = no label
    weights: Tensor | None = None  # of each patient in each task, (N, T); None: all are 1
    cells: Tensor | None = None  # the label shift of empty cells, (N, M, T, L); None: there is none
    registry: Tensor | None = None  # long (N,): the number of each patient's registry; None: there is one

    def __len__(self) -> int:
        return len(self.patients)

    @property
    def presence(self) -> Tensor:
        """Bool ``(N, M)``."""
        return self.position >= 0

    def check_labelled(self) -> None:
        """Raises a DataError if no targets were read."""
        if not self.labelled:
            raise DataError("These patients have no targets: prepare them with prepare(cohort, labelled=True).")

    def subset(self, rows: Tensor) -> PatientTensors:
        """Returns the patients at ``rows``, whose values are shared and not parsed again."""
        registry = None if self.registry is None else self.registry[rows]
        patients, position = self.patients[rows.numpy()], self.position[rows]
        return replace(self, patients=patients, position=position, registry=registry, **self._outcomes(rows))

    def batch(self, rows: Tensor) -> Batch:
        """Slices the patients at ``rows``."""
        position = self.position[rows]
        presence = position >= 0
        values = {name: all_rows[position[presence[:, m], m]] for m, (name, all_rows) in enumerate(self.values.items())}
        return Batch(values, presence, **self._outcomes(rows))

    def _outcomes(self, rows: Tensor) -> dict[str, Any]:
        """What batches and subsets slice alike."""
        by_task = {"targets": self.targets, "labelled": self.labelled}
        sliced: dict[str, Any] = {key: {k: v[rows] for k, v in tensors.items()} for key, tensors in by_task.items()}
        joined = {"strata": self.strata, "weights": self.weights, "cells": self.cells}
        return sliced | {key: None if tensor is None else tensor[rows] for key, tensor in joined.items()}

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Slices all patients in their order."""
        for rows in torch.split(torch.arange(len(self)), batch_size):
            yield self.batch(rows)


class BatchLoader:
    """Iterates over slices of the patients at ``rows``, shuffled on request; the dataloader of a `Trainer`.

    The order depends on the seed and on `epoch`, so that a resumed run sees the batches of an uninterrupted one. Under
    a distributed strategy each process takes its share of every epoch. ``alternate``: each batch holds patients of one
    registry, the registries in turn; an epoch passes every patient once, so that a registry has batches in proportion
    to its patients, of equal size to one patient.
    """

    def __init__(
        self, patients: PatientTensors, rows: Tensor, batch_size: int,
        *, shuffle: bool = False, seed: int = 0, alternate: bool = False,
    ) -> None:  # fmt: skip
        self.patients, self.rows, self.batch_size = patients, rows, batch_size
        self.shuffle, self.seed, self.epoch = shuffle, seed, 0
        self.rank, self.n_processes = 0, 1
        self.alternate = alternate and patients.registry is not None

    def __len__(self) -> int:
        return sum(-(-self._share(len(part)) // self.batch_size) for part in self._parts(self.rows))

    def __iter__(self) -> Iterator[Batch]:
        for rows in self.row_batches():
            yield self.patients.batch(rows)

    def row_batches(self) -> Sequence[Tensor]:
        """Returns the rows of each batch of epoch `epoch`."""
        rows = self.rows
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            rows = rows[torch.randperm(len(rows), generator=generator)]
        parts = [self._dealt(part) for part in self._parts(rows)]
        if self.alternate:  # each part in batches of equal size, to one row, interleaved evenly
            of_parts = [part.tensor_split(-(-len(part) // self.batch_size)) for part in parts]
            places = [((k + 0.5) / len(own), p, k) for p, own in enumerate(of_parts) for k in range(len(own))]
            return [of_parts[p][k] for _, p, k in sorted(places)]
        return torch.split(parts[0], self.batch_size)

    def _parts(self, rows: Tensor) -> list[Tensor]:
        """The rows of each registry, or all of them."""
        if not self.alternate or self.patients.registry is None:
            return [rows]
        of_row = self.patients.registry[rows]
        return [rows[of_row == number] for number in of_row.unique().tolist()]  # type: ignore[no-untyped-call]

    def _dealt(self, rows: Tensor) -> Tensor:
        if self.n_processes == 1:
            return rows
        # with unequal shares the processes would wait for each other for ever
        copies = rows.repeat(self.n_processes)[: self._share(len(rows)) * self.n_processes]
        return copies[self.rank :: self.n_processes]

    def _share(self, n: int) -> int:
        return -(-n // self.n_processes)
