"""The network of irregular time series: a token for each measurement, and attention among a patient's tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from multimodn.base.ragged import Ragged, softmax, total


class NumberInput(nn.Module):
    """Embeds one number by a small layer of tanh units, as STraTS does ("continuous value embedding")."""

    def __init__(self, output_size: int) -> None:
        super().__init__()
        n_units = max(4, round(output_size**0.5))
        self.layers = nn.Sequential(nn.Linear(1, n_units), nn.Tanh(), nn.Linear(n_units, output_size, bias=False))

    def forward(self, numbers: Tensor) -> Tensor:
        """Maps ``(n,)`` to ``(n, output_size)``."""
        embedded: Tensor = self.layers(numbers[:, None])
        return embedded


class MeasurementTransformer(nn.Module):
    """Maps the measurements of each patient to one vector.

    A measurement's token is the sum of embeddings of its variable, its value and its time. The tokens of a patient
    attend to each other in a transformer with layer normalisation first, and are added up by attention weights.
    Patients do not meet: padding is masked, and no layer takes statistics of a batch.

    References:
        Tipirneni and Reddy (2022), Self-supervised transformer for sparse and irregularly sampled multivariate clinical
        time-series (STraTS), sections 4.2 to 4.4, https://arxiv.org/abs/2107.14293
    """

    def __init__(self, n_variables: int, size: int, n_heads: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        self.size = size
        self.variable = nn.Embedding(n_variables, size)
        nn.init.normal_(self.variable.weight, std=0.5)
        self.value, self.time = NumberInput(size), NumberInput(size)
        # torch's fused path for predictions knows relu and gelu only; so training and prediction run the same code
        silu = cast(Callable[[Tensor], Tensor], nn.functional.silu)
        layer = nn.TransformerEncoderLayer(size, n_heads, 2 * size, dropout, silu, batch_first=True, norm_first=True)
        self.attention = nn.TransformerEncoder(layer, n_layers, nn.LayerNorm(size), enable_nested_tensor=False)
        self.score = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 1, bias=False))

    def forward(self, values: Ragged) -> Tensor:
        """Maps n patients, items ``(n_measurements, 3)`` = time, variable's number, value, to ``(n, size)``."""
        time, code, value = values.items.unbind(1)
        tokens: Tensor = self.variable(code.long()) + self.value(value) + self.time(time)
        if not len(values):
            return tokens
        rows, lengths = values.rows, values.lengths
        place = torch.arange(len(tokens), device=rows.device) - (lengths.cumsum(0) - lengths)[rows]
        is_padding = torch.arange(int(lengths.max()), device=rows.device) >= lengths[:, None]
        padded = tokens.new_zeros(*is_padding.shape, self.size).index_put((rows, place), tokens)
        tokens = self.attention(padded, src_key_padding_mask=is_padding)[rows, place]
        weights = softmax(self.score(tokens), rows, len(values))
        return total(weights * tokens, rows, len(values))


def statistics(values: Ragged, n_variables: int) -> Tensor:
    """Returns first, last, mean, least and greatest value of each variable, ``(n, 5 * n_variables)``; NaN without any.

    Items as in `summaries`.
    """
    n_cells = len(values) * n_variables
    cell = values.rows * n_variables + values.items[:, 1].long()
    value = values.items[:, 2]
    counts = total(torch.ones_like(value), cell, n_cells)
    place = torch.arange(len(value), device=cell.device)
    padded = torch.cat([value, value.new_full((1,), torch.nan)])  # where there is none, the place is the last one
    nowhere = torch.full((n_cells,), len(value), device=cell.device)
    ends = [nowhere.scatter_reduce(0, cell, place, how, include_self=False) for how in ("amin", "amax")]
    extremes = [
        value.new_full((n_cells,), torch.nan).scatter_reduce(0, cell, value, how, include_self=False)
        for how in ("amin", "amax")
    ]
    columns = [*(padded[end] for end in ends), total(value, cell, n_cells) / counts, *extremes]
    return torch.cat([column.view(len(values), n_variables) for column in columns], 1)


def summaries(values: Ragged, n_variables: int) -> Tensor:
    """Returns the last and the mean value of each variable, ``(n, 2 * n_variables)``; 0 where there is none.

    Items ``(n_measurements, 3)`` are time, variable's number and scaled value, those of a patient by time. Among
    values of one time the last one counts as the last.
    """
    n_cells = len(values) * n_variables
    cell = values.rows * n_variables + values.items[:, 1].long()
    value = values.items[:, 2]
    counts = total(torch.ones_like(value), cell, n_cells)
    mean = total(value, cell, n_cells) / counts.clamp(min=1.0)
    place = torch.arange(len(value), device=cell.device)
    last = torch.full((n_cells,), -1, device=cell.device).scatter_reduce(0, cell, place, "amax")
    padded = torch.cat([value, value.new_zeros(1)])  # -1, where there is none, takes the last entry
    return torch.cat([numbers.view(len(values), n_variables) for numbers in (padded[last], mean)], 1)
