"""Layers that the encoders share.

Each input layer returns an encoding whose mean over the training rows is 0 and which is 0 for an empty cell: to the
layers behind it an empty cell is the average patient.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Literal, cast

import torch
from torch import Tensor, nn

MAX_COMPONENTS = 32
MAX_ROWS_OF_PROJECTION = 4096  # rows, evenly spaced, that fit components where rows and columns are both more
N_PERIODIC = 8  # width of a periodic embedding, and its number of frequencies


class Layers(nn.Module):
    """A linear map, and beside it hidden layers (ReLU, dropout) whose sum with it starts at zero.

    Training starts from the linear model, which is mostly the best for small cohorts, and departs from it only where
    that pays. Rows are independent in every layer. Without a hidden layer the dropout acts on the input.

    References:
        Cheng et al. (2016), Wide & deep learning, https://arxiv.org/abs/1606.07792; the start at zero: Zhang, Dauphin
        and Ma (2019), Fixup initialization, https://arxiv.org/abs/1901.09321
    """

    __call__: Callable[..., Tensor]  # torch's own returns Any

    def __init__(self, input_size: int, hidden_size: int, n_layers: int, output_size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.0 if n_layers else dropout)
        self.straight = nn.Linear(input_size, output_size)
        self.bent: nn.Sequential | None = None
        if n_layers:
            layers: list[nn.Module] = []
            for size in [input_size] + [hidden_size] * (n_layers - 1):
                layers += [nn.Linear(size, hidden_size), nn.ReLU(), nn.Dropout(dropout)]
            last = nn.Linear(hidden_size, output_size, bias=False)
            nn.init.zeros_(last.weight)
            self.bent = nn.Sequential(*layers, last)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(n, input_size)`` to ``(n, output_size)``."""
        x = self.dropout(x)
        straight: Tensor = self.straight(x)
        return straight if self.bent is None else straight + self.bent(x)

    def ignore_first(self, inputs: slice) -> None:
        """Sets the first weights of some inputs to zero."""
        for layer in [self.straight] if self.bent is None else [self.straight, cast(nn.Linear, self.bent[0])]:
            nn.init.zeros_(layer.weight[:, inputs].data)


class ScaledInput(nn.Module):
    """Passes scaled numbers ``(n, n_columns)`` on; NaN becomes 0."""

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.output_size = n_columns

    def fit(self, values: Tensor) -> None:
        """Does nothing: the values are centred already."""

    def forward(self, values: Tensor) -> Tensor:
        """Returns ``(n, n_columns)``."""
        return torch.nan_to_num(values)


class PiecewiseInput(nn.Module):
    """The scaled number, and its piecewise-linear encoding over a few bins.

    The bins have the normal's quantiles as edges, which on quantile-scaled columns are the column's own quantiles. The
    layer behind starts with weights of zero on the encoding (inputs `n_columns` onwards), so that training starts from
    a linear model: version "B" of the embeddings in `rtdl_num_embeddings`, with the small matrix of each column
    multiplied into that layer. The numbers are those of its `PiecewiseLinearEncoding`, bin by bin, which is faster.

    References:
        Gorishniy et al. (2022), On embeddings for numerical features in tabular deep learning, equation 1,
        https://arxiv.org/abs/2203.05556; version "B": Gorishniy et al. (2024), https://arxiv.org/abs/2410.24210
    """

    low: Tensor
    high: Tensor
    weight: Tensor
    offset: Tensor

    def __init__(self, n_columns: int, n_bins: int) -> None:
        super().__init__()
        inner = torch.special.ndtri(torch.linspace(0.0, 1.0, n_bins + 1)[1:-1])
        edges = torch.cat([torch.tensor([-3.0]), inner, torch.tensor([3.0])])  # on the scale of normal scores
        infinite = torch.tensor([torch.inf])
        # (clamp(x, low, high) - low) / width; the first block is x itself, the outer bins have no outer bound
        blocks = {
            "low": torch.cat([-infinite, -infinite, inner]),
            "high": torch.cat([infinite, inner, infinite]),
            "weight": torch.cat([torch.ones(1), 1.0 / edges.diff()]),
            "offset": torch.cat([torch.zeros(1), -edges[:-1] / edges.diff()]),
        }
        self.n_copies, self.output_size = 1 + n_bins, n_columns * (1 + n_bins)
        for name, block in blocks.items():
            self.register_buffer(name, block.repeat_interleave(n_columns), persistent=name == "offset")

    def fit(self, values: Tensor) -> None:
        """Fits the mean encoding over the non-empty cells of training rows ``(n, n_columns)``."""
        total = torch.zeros_like(self.offset, dtype=torch.float64)
        n_filled = torch.zeros_like(total)
        for part in torch.split(values, 512):  # the encoding is several times as large as the values
            total += self(part).double().sum(0)
            n_filled += (~part.isnan()).sum(0).repeat(self.n_copies)
        self.offset -= (total / n_filled.clamp(min=1)).to(self.offset.dtype)

    def forward(self, values: Tensor) -> Tensor:
        """Returns ``(n, n_columns + n_bins * n_columns)``; NaN becomes 0."""
        encoded = values.repeat(1, self.n_copies)
        # in place: fresh memory for each intermediate would cost four times as much as the arithmetic
        return encoded.clamp_(self.low, self.high).mul_(self.weight).add_(self.offset).nan_to_num_()


class PeriodicInput(nn.Module):
    """Periodic embeddings with learned frequencies; their mean is taken over training quantiles.

    References:
        Gorishniy et al. (2022), https://arxiv.org/abs/2203.05556, section 3.3
    """

    reference: Tensor

    def __init__(self, n_columns: int, n_reference: int = 64) -> None:
        super().__init__()
        from rtdl_num_embeddings import PeriodicEmbeddings  # type: ignore[import-untyped]  # costs 0.2 s

        options = {"n_frequencies": N_PERIODIC, "frequency_init_scale": 0.1, "lite": True}
        self.embeddings = PeriodicEmbeddings(n_columns, N_PERIODIC, **options)
        self.output_size = n_columns * N_PERIODIC
        self.register_buffer("reference", torch.zeros(n_reference, n_columns))

    def fit(self, values: Tensor) -> None:
        """Fits the reference points, evenly spaced in rank, from training rows ``(n, n_columns)``."""
        probability = (torch.arange(len(self.reference), dtype=torch.float64) + 0.5) / len(self.reference)
        for column, cells in enumerate(values.T):
            ordered = cells[~cells.isnan()].sort().values
            self.reference[:, column] = ordered[(probability * len(ordered)).long()]

    def forward(self, values: Tensor) -> Tensor:
        """Returns ``(n, n_columns * 8)``."""
        is_filled = ~values.isnan()
        # NaN must not enter the embeddings: their weights would receive NaN as gradient
        embedded = self.embeddings(torch.nan_to_num(values)) - self.embeddings(self.reference).mean(0)
        return torch.where(is_filled[:, :, None], embedded, 0.0).flatten(1)


class LevelInput(nn.Module):
    """Indicators of the level of each categorical column, minus the level's training frequency.

    The layer behind learns a vector for each level. NaN (empty or unseen) gives 0, the mean of those vectors weighted
    by training frequency.
    """

    frequency: Tensor
    first: Tensor
    column: Tensor

    def __init__(self, frequencies: list[list[float]]) -> None:
        super().__init__()
        sizes = torch.tensor([len(levels) for levels in frequencies])
        self.output_size = int(sizes.sum())
        # all three follow from the configuration, so they are not in the state
        self.register_buffer("frequency", torch.tensor([*chain(*frequencies)]), persistent=False)
        self.register_buffer("first", sizes.cumsum(0) - sizes, persistent=False)
        self.register_buffer("column", torch.arange(len(sizes)).repeat_interleave(sizes), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Returns ``(n, n_levels of all columns)`` for level numbers ``(n, n_columns)``."""
        is_level = ~codes.isnan()
        place = torch.nan_to_num(codes).long() + self.first
        indicators = codes.new_zeros(len(codes), self.output_size).scatter_(1, place, 1.0)
        return (indicators - self.frequency) * is_level[:, self.column]


class Projection(nn.Module):
    """Fixed projection on the leading principal components of the training rows.

    The scores are not whitened, as the small components of a few dozen patients are noise, but scaled together, so that
    their mean variance is 1.
    """

    components: Tensor

    def __init__(self, n_columns: int, n_components: int) -> None:
        super().__init__()
        self.register_buffer("components", torch.zeros(n_columns, n_components))

    @classmethod
    def fit(cls, values: Tensor, n_components: int) -> Projection:
        """Fits on centred training rows ``(n, n_columns)``, NaN = empty; null components are left out."""
        values = torch.nan_to_num(values)
        if min(values.shape) > MAX_ROWS_OF_PROJECTION:
            values = values[torch.linspace(0, len(values) - 1, MAX_ROWS_OF_PROJECTION).long()]
        is_wide = values.shape[0] < values.shape[1]
        power, vectors = torch.linalg.eigh((values @ values.T if is_wide else values.T @ values).double())
        kept = torch.arange(len(power) - 1, -1, -1)[:n_components]
        kept = kept[power[kept] > 1e-6 * power[-1]]
        directions = values.double().T @ vectors[:, kept] if is_wide else vectors[:, kept]
        directions = directions / directions.norm(dim=0)
        largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
        scale = (power[kept].mean() / len(values)).sqrt()
        projection = cls(values.shape[1], len(kept))
        projection.components.copy_(directions * largest.sign() / scale)  # by convention the largest is positive
        return projection

    @classmethod
    def choose(cls, values: Tensor, n_components: int | Literal["auto"] | None) -> Projection | None:
        """Fits the components that an option asks for; ``auto``: see `automatic_components`, None: no projection."""
        if n_components == "auto":
            n_components = automatic_components(*values.shape)
        return None if n_components is None else cls.fit(values, min(n_components, values.shape[1]))

    def forward(self, values: Tensor) -> Tensor:
        """Returns scores ``(n, n_components)``; an empty cell counts as the column's training mean."""
        return torch.nan_to_num(values) @ self.components.cpu()


def automatic_components(n_rows: int, n_columns: int) -> int | None:
    """Returns the number of components of ``auto``; None unless columns are > 32, and > 1 for two training rows."""
    is_wide = n_columns > MAX_COMPONENTS and 2 * n_columns > n_rows
    return max(1, min(MAX_COMPONENTS, n_rows // 3)) if is_wide else None
