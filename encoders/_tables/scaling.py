"""Scaling of numeric columns: fitted on training rows, applied once when rows are prepared.

`standard`: (x - centre) / spread, clipped to +-5, after log1p where a non-negative column is heavily skewed to the
right (counts, expression). `quantile`: the normal score of the rank, by linear interpolation between at most 255
quantiles of the training rows. The training mean is subtracted afterwards, so that 0 is the neutral value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from multimodn.encoders._reading import Floats, read_number_blocks
from multimodn.errors import DataError, raise_all

CLIP = 5.0  # bound of standard-scaled values, in training spreads
LARGEST = float(np.finfo(np.float32).max)
SAME, SAME_VALUE = 1e-6, 1e-8  # quantiles nearer than this share of the spread and of themselves are one value
MAX_KNOTS = 255
SKEWED = 2.0  # sample skewness above which a non-negative column enters as log1p (an exponential distribution has 2)

Scaling = Literal["quantile", "standard"]


@dataclass(frozen=True)
class NumericColumn:
    """Statistics of a numeric column in the training rows."""

    name: str  # the column
    minimum: float  # smallest value, in the column's unit; so are ``median`` and ``maximum``
    median: float
    maximum: float
    n_empty: int  # empty training cells
    is_log: bool = False  # whether log1p comes before centre and spread
    centre: float = 0.0  # subtracted first; after log1p if there is one
    spread: float = 1.0  # divided by next, > 0
    scaled_mean: float = 0.0  # mean of the scaled training values, subtracted last


def fit_column(name: str, numbers: Floats, scaling: Scaling, *, is_robust: bool) -> NumericColumn | None:
    """Fits one column on its training cells ``(n,)``, NaN = empty; None if they have fewer than two distinct values.

    With ``is_robust``, centre and spread are median and interquartile range, not mean and standard deviation.
    """
    seen = np.sort(numbers[~np.isnan(numbers)])
    if not len(seen) or seen[0] == seen[-1]:
        return None
    centre, spread = _centre_and_spread(seen, is_robust=is_robust)
    if spread == 0.0:  # values so close that their spread is below the smallest float
        return None
    low, high = float(seen[0]), float(seen[-1])
    column = NumericColumn(name, low, _sorted_quantile(seen, 0.5), high, len(numbers) - len(seen))
    if scaling == "standard" and is_robust and low >= 0.0 and _skewness(seen) > SKEWED:
        centre, spread = _centre_and_spread(np.log1p(seen), is_robust=True)
        return replace(column, is_log=True, centre=centre, spread=spread) if spread > 0.0 else None
    return replace(column, centre=centre, spread=spread)


def _sorted_quantile(ordered: Floats, probability: float) -> float:
    position = probability * (len(ordered) - 1)
    below, weight = int(position), position - int(position)
    return float(ordered[below] * (1.0 - weight) + ordered[min(below + 1, len(ordered) - 1)] * weight)


def _centre_and_spread(ordered: Floats, *, is_robust: bool) -> tuple[float, float]:
    unit = max(abs(float(ordered[0])), abs(float(ordered[-1])))  # squares of huge values would overflow
    relative = ordered / unit
    deviation = float(relative.std()) * unit
    if not is_robust:
        return float(relative.mean()) * unit, deviation
    lower, upper = (_sorted_quantile(relative, probability) for probability in (0.25, 0.75))
    gap = (upper - lower) * unit
    # quartiles coincide where most cells are equal, be it up to rounding; one huge cell alone does not do that
    coincide = gap <= min(SAME * deviation, SAME_VALUE * max(abs(lower), abs(upper)) * unit)
    # 1.349 = interquartile range of the standard normal
    return _sorted_quantile(ordered, 0.5), deviation if coincide else gap / 1.349


def _skewness(ordered: Floats) -> float:
    relative = ordered / ordered[-1]
    deviation = relative - relative.mean()
    variance = float((deviation**2).mean())
    return float((deviation**3).mean()) / variance**1.5 if variance > 0.0 else 0.0


class NumericScaler(nn.Module):
    """Scales the numeric columns of a table.

    The quantiles are a buffer in float32, relative to the column's centre and spread (float64, in the configuration):
    no precision is lost on large numbers, and devices without float64 can hold them.
    """

    knots: Tensor
    scores: Tensor

    def __init__(self, columns: list[NumericColumn], scaling: Scaling, n_knots: int) -> None:
        super().__init__()
        self.columns, self.scaling = list(columns), scaling
        shape = (len(columns), n_knots if scaling == "quantile" else 0)
        self.register_buffer("knots", torch.zeros(shape))
        self.register_buffer("scores", torch.zeros(shape))

    def fit(self, frame: pd.DataFrame) -> Tensor:
        """Fits quantiles and means from training rows that `fit_column` could read; returns them scaled."""
        if self.scaling == "quantile":
            for block, numbers in read_number_blocks(frame, [column.name for column in self.columns], [], ""):
                for index, cells in enumerate(self._standardise(block, numbers), block.start):
                    column = self.columns[index]
                    seen = cells[~np.isnan(cells)]
                    knots, scores = _quantile_knots(seen, self.knots.shape[1], column.centre / column.spread)
                    self.knots[index], self.scores[index] = torch.from_numpy(knots), torch.from_numpy(scores)
        scaled: Tensor = self(frame, "", "")
        means = [float(values.double().nanmean()) for values in scaled.T]
        self.columns = [replace(column, scaled_mean=mean) for column, mean in zip(self.columns, means, strict=True)]
        scaled -= torch.tensor(means)
        return scaled

    def _standardise(self, block: slice, numbers: Floats) -> NDArray[np.float32]:
        columns = self.columns[block]
        is_log = np.array([column.is_log for column in columns], dtype=np.bool_)
        if is_log.any():
            # training saw nothing below 0 there: such a cell counts as 0, like a cell beyond the clip
            numbers = numbers.copy()
            numbers[is_log] = np.log1p(np.maximum(numbers[is_log], 0.0))
        centre, spread = (np.array([[getattr(c, key)] for c in columns]) for key in ("centre", "spread"))
        with np.errstate(over="ignore"):  # infinity is clipped below
            relative = (numbers - centre) / spread
        clipped: NDArray[np.float32] = relative.clip(-LARGEST, LARGEST).astype(np.float32)
        return clipped

    def scale(self, block: slice, numbers: Floats) -> Floats:
        """Scales the cells ``(n_columns, n)`` of a block of `columns`; NaN stays NaN."""
        relative = self._standardise(block, numbers)
        if self.scaling == "standard":
            scaled = np.clip(relative.astype(np.float64), -CLIP, CLIP)
        else:  # tied knots have equal scores, so interpolation at a tie gives that score
            knots, scores = (buffer[block].float().cpu().numpy() for buffer in (self.knots, self.scores))
            scaled = np.array([np.interp(*row) for row in zip(relative, knots, scores, strict=True)])
        centred: Floats = scaled - np.array([[column.scaled_mean] for column in self.columns[block]])
        return centred

    def forward(self, frame: pd.DataFrame, repair: str, header: str) -> Tensor:
        """Scales all columns to float32 ``(n, n_columns)``, NaN = empty.

        Raises a DataError if cells are not finite numbers, naming all these columns; ``repair`` is the advice for text.
        """
        problems = list[str]()
        scaled = np.empty((len(frame), len(self.columns)), dtype=np.float32)
        for block, numbers in read_number_blocks(frame, [column.name for column in self.columns], problems, repair):
            scaled[:, block] = self.scale(block, numbers).T
        raise_all(problems, DataError, header)
        return torch.from_numpy(scaled)


def _quantile_knots(
    seen: NDArray[np.float32], n_knots: int, centre: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns quantiles and their normal scores; quantiles that are equal up to rounding share a mean score.

    ``centre``: the column's, in spreads.
    """
    probability = np.linspace(0.0, 1.0, n_knots)
    ordered = np.sort(seen).astype(np.float64)  # differences of the largest float32 overflow
    position = probability * (len(ordered) - 1)
    below = position.astype(np.int64)
    above = np.minimum(below + 1, len(ordered) - 1)
    knots = (ordered[below] + (ordered[above] - ordered[below]) * (position - below)).astype(np.float32)
    knots = np.maximum.accumulate(knots)  # rounding must not change their order
    edge = 0.5 / n_knots
    scores = torch.special.ndtri(torch.from_numpy(probability.clip(edge, 1.0 - edge))).numpy()
    values = np.abs(knots[1:].astype(np.float64) + centre)
    with np.errstate(over="ignore"):  # of the largest float32: their spacing and differences are infinite
        error = np.minimum(SAME, np.maximum(SAME_VALUE * values, 2 * np.spacing(np.abs(knots[1:]))))
        tie = np.concatenate([[0], np.cumsum(np.diff(knots) > error)])
    shared = np.bincount(tie, weights=scores) / np.bincount(tie)
    return knots, shared[tie].astype(np.float32)
