"""Experts: models of one modality each, whose evidence is added up beside the learned state.

An expert reads the fixed vector of a patient's modality (`multimodn.base.encoder.Encoder.vector`) and returns evidence
for every task, on the scale of the raw outputs that evidence moves (`multimodn.base.task.Task.n_evidence`). An absent
modality has no vector and adds nothing, so that orders, subsets and contributions are exact. They are fitted by
`multimodn.training.experts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodn.fusion.trees import Trees, TreeSizes

UNREAD = -64.0  # in the columns of joint trees, below every scaled value: not read, or empty


@dataclass(frozen=True)
class ExpertSizes:
    """The shapes of the experts of one modality."""

    n_columns: int  # width of the vector; 0 = this modality has no experts
    n_bins: int  # bins of the piecewise-linear basis of the linear model; 0 = the columns alone
    indicates_empty: bool  # whether the linear model sees which columns are empty
    splits_on_empty: bool = False  # whether trees do; else an empty cell counts as 0, the mean
    trees: TreeSizes | None = None  # None: no trees


class LinearBasis(nn.Module):
    """The columns of a vector, their piecewise-linear encoding, and indicators of empty cells if wanted.

    Unlike the input layer of the table encoder the edges are each column's own quantiles, as vectors of other kinds are
    not quantile-scaled. Every column has mean 0 over the non-empty training cells, and is 0 where the cell is empty: an
    empty cell counts as the average training patient's.

    References:
        Gorishniy et al. (2022), On embeddings for numerical features in tabular deep learning, equation 1,
        https://arxiv.org/abs/2203.05556
    """

    edges: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, n_columns: int, n_bins: int, *, indicates_empty: bool) -> None:
        super().__init__()
        self.n_bins, self.indicates_empty = n_bins, indicates_empty
        self.output_size = n_columns * (1 + n_bins + indicates_empty)
        self.register_buffer("edges", torch.zeros(n_columns, n_bins + 1 if n_bins else 0))
        self.register_buffer("mean", torch.zeros(self.output_size))
        self.register_buffer("scale", torch.ones(n_columns))

    def fit(self, vector: Tensor) -> None:
        """Fits edges (quantiles), scales and means on training rows ``(n, n_columns)``, NaN = empty."""
        filled = ~vector.isnan()
        count = filled.sum(0).clamp(min=1)
        centre = torch.nan_to_num(vector).sum(0) / count
        spread = (torch.where(filled, vector - centre, 0.0).square().sum(0) / count).sqrt()
        self.scale.copy_(torch.where(spread > 1e-6, 1.0 / spread.clamp(min=1e-6), 0.0))
        if self.n_bins:
            probability = torch.linspace(0.0, 1.0, self.n_bins + 1, dtype=vector.dtype)
            edges = torch.nanquantile(_some(vector), probability, dim=0).T
            self.edges.copy_(torch.nan_to_num(edges))
        self.mean.zero_()
        encoded = self._encoded(vector)
        known = filled.repeat(1, 1 + self.n_bins)
        if self.indicates_empty:
            known = torch.cat([known, torch.ones_like(filled)], 1)
        self.mean.copy_(torch.where(known, encoded, 0.0).sum(0) / known.sum(0).clamp(min=1))

    @property
    def is_bin(self) -> Tensor:
        """Which outputs are bins of the piecewise-linear encoding, bool ``(output_size,)``."""
        n_columns = len(self.scale)
        place = torch.arange(self.output_size)
        return (place >= n_columns) & (place < n_columns * (1 + self.n_bins))

    def _encoded(self, vector: Tensor) -> Tensor:
        blocks = [vector * self.scale]
        for j in range(self.n_bins):
            low, high = self.edges[:, j], self.edges[:, j + 1]
            width = high - low
            ramp = (torch.minimum(torch.maximum(vector, low), high) - low) / width.clamp(min=1e-6)
            blocks.append(torch.where(width > 1e-6, ramp, 0.0 * vector))
        if self.indicates_empty:
            blocks.append(vector.isnan().to(vector.dtype))
        return torch.cat(blocks, 1)

    def forward(self, vector: Tensor) -> Tensor:
        """Maps ``(n, n_columns)``, NaN = empty, to ``(n, output_size)``."""
        return torch.nan_to_num(self._encoded(vector) - self.mean)


class ModalityExperts(nn.Module):
    """The experts of one modality: a linear model, and trees; both with the weights of the stack."""

    weight: Tensor
    bias: Tensor

    def __init__(self, sizes: ExpertSizes, n_outputs: int) -> None:
        super().__init__()
        self.basis = LinearBasis(sizes.n_columns, sizes.n_bins, indicates_empty=sizes.indicates_empty)
        self.splits_on_empty = sizes.splits_on_empty
        self.register_buffer("weight", torch.zeros(self.basis.output_size, n_outputs))
        self.register_buffer("bias", torch.zeros(n_outputs))
        self.trees = Trees(sizes.trees, n_outputs) if sizes.trees is not None else None

    def forward(self, vector: Tensor) -> Tensor:
        """Returns the evidence ``(n, Q)`` of vectors ``(n, n_columns)``, NaN = empty."""
        evidence: Tensor = self.basis(vector) @ self.weight + self.bias
        if self.trees is None:
            return evidence
        of_trees: Tensor = self.trees(vector if self.splits_on_empty else torch.nan_to_num(vector))
        return evidence + of_trees


class Experts(nn.Module):
    """The experts of all modalities, joint trees, and how much network and experts count in each task.

    A row of evidence has Q numbers of the experts of one modality, and, with joint trees, J columns for the vectors of
    all modalities, of which the others' are 0, and a 1. Rows are added up step by step, so that the sum holds what was
    read so far and the number of steps: joint trees read the J columns, and say nothing before the first step. A column
    that was not read, or is empty, is 0, the mean; where presence may be learned from, it is `UNREAD`.

    Attributes:
        sizes: For each modality its shapes.
        joint: Trees over the columns of all modalities; None: there are none.
        columns: For each task the columns of the Q evidence outputs that are its own.
        network_weight: Weight of the network's evidence in each task, ``(T,)``.
        expert_weight: Weight of the experts' evidence in each task, ``(T,)``.
    """

    network_weight: Tensor
    expert_weight: Tensor

    def __init__(self, sizes: Sequence[ExpertSizes], n_evidence: Sequence[int], joint: TreeSizes | None = None) -> None:
        super().__init__()
        self.sizes, self.n_evidence, self.n_outputs = list(sizes), list(n_evidence), sum(n_evidence)
        ends = [sum(n_evidence[: t + 1]) for t in range(len(n_evidence))]
        self.columns = [slice(end - n, end) for end, n in zip(ends, n_evidence, strict=True)]
        self.of_modality = nn.ModuleDict(
            {str(m): ModalityExperts(each, self.n_outputs) for m, each in enumerate(sizes) if each.n_columns}
        )
        self.joint = None if joint is None else Trees(joint, self.n_outputs)
        widths = [each.n_columns for each in sizes] if joint is not None else [0] * len(sizes)
        self.joint_columns = [slice(sum(widths[:m]), sum(widths[: m + 1])) for m in range(len(widths))]
        self.n_joint = sum(widths)
        self.unread = [UNREAD if each.splits_on_empty else 0.0 for each in sizes]
        self.register_buffer("network_weight", torch.full((len(n_evidence),), 0.5))
        self.register_buffer("expert_weight", torch.full((len(n_evidence),), 0.5))

    def config(self) -> dict[str, Any]:
        """Returns what `from_config` needs to rebuild the module so that its ``state_dict`` loads."""
        joint = None if self.joint is None else asdict(self.joint.sizes)
        return {"sizes": [asdict(each) for each in self.sizes], "n_evidence": self.n_evidence, "joint": joint}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Experts:
        """Rebuilds the module that `config` described, with unfitted numbers."""
        sizes = [
            ExpertSizes(**each | {"trees": each["trees"] and TreeSizes(**each["trees"])}) for each in config["sizes"]
        ]
        return cls(sizes, config["n_evidence"], config["joint"] and TreeSizes(**config["joint"]))

    @property
    def has_trees(self) -> bool:
        """Whether any of them are trees."""
        return self.joint is not None or any(each.trees is not None for each in self.sizes)

    @property
    def width(self) -> int:
        """Q + J + 1, or Q without joint trees: the width of a row of evidence."""
        return self.n_outputs + (0 if self.joint is None else self.n_joint + 1)

    def evidence(self, m: int, vector: Tensor) -> Tensor:
        """Returns rows of evidence ``(n, width)`` of modality m from its vectors ``(n, n_columns)``, NaN = empty."""
        evidence: Tensor = self.of_modality[str(m)](vector)
        if self.joint is None:
            return evidence
        return torch.cat([evidence, self.read(m, vector), evidence.new_ones(len(evidence), 1)], 1)

    def read(self, m: int, vector: Tensor) -> Tensor:
        """Returns what the vectors of modality m add to the columns of joint trees, ``(n, J)``."""
        columns = self.joint_columns[m]
        known = torch.where(vector.isnan(), 0.0, vector - self.unread[m])
        return F.pad(known, (columns.start, self.n_joint - columns.stop))

    def outputs(self, running: Tensor) -> Tensor:
        """Returns what experts say ``(..., Q)`` from sums of evidence ``(..., width)``."""
        said = running[..., : self.n_outputs]
        if self.joint is None:
            return said
        columns, n_steps = running[..., self.n_outputs : -1].flatten(0, -2), running[..., -1:]
        of_joint: Tensor = self.joint(columns)
        return said + torch.where(n_steps > 0, of_joint.view(said.shape), 0.0)

    def has(self, m: int) -> bool:
        """Whether modality m has experts."""
        return str(m) in self.of_modality

    def start(self, n_rows: int) -> Tensor:
        """Returns the sums of evidence ``(n_rows, width)`` before any modality."""
        start = self.network_weight.new_zeros(self.width)
        for columns, unread in zip(self.joint_columns, self.unread, strict=True):
            start[self.n_outputs :][columns] = unread
        return start.expand(n_rows, -1)


def _some(vector: Tensor, most: int = 4096) -> Tensor:
    """Returns some rows, evenly spaced: quantiles need no more."""
    return vector if len(vector) <= most else vector[torch.linspace(0, len(vector) - 1, most).long()]
