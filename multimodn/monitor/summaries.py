"""Summaries of columns as counts that identify nobody: bins of numbers, frequent categories, lengths of texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from multimodn.monitor.counts import FEWEST, Floats, as_floats, count, fit_edges

BINS = 10
BINS_OF_MANY = 5  # bins of a column where there are more than `MOST_COLUMNS`
MOST_COLUMNS = 60
"""Largest number of numeric columns that are compared one by one; of more, the most different and some directions."""
MOST_VALUES = 10  # a number with at most so many distinct values is a category
MOST_CATEGORIES = 30
DIRECTIONS = 4
ROWS, DISTANCE = "(rows of a patient)", "(distance from the mean patient)"
FARTHEST = 5.0  # limit of standardised numbers, in standard deviations


@dataclass(frozen=True)
class NumberColumns:
    """Columns of numbers."""

    names: tuple[str, ...]  # P names
    edges: tuple[tuple[float, ...], ...]  # edges between the bins of each column
    counts: tuple[tuple[float, ...], ...]  # reference patients in each bin
    empty: tuple[int, ...]  # reference patients with an empty cell
    lowest: tuple[float | None, ...]  # mean of the five lowest numbers, None = unknown
    highest: tuple[float | None, ...]  # mean of the five highest numbers
    mean: tuple[float | None, ...]


@dataclass(frozen=True)
class Categories:
    """A column of categories."""

    name: str
    values: tuple[str, ...]  # the categories of five patients or more, the most frequent first
    counts: tuple[int, ...]  # patients with each category
    rest: int  # patients with any other category
    empty: int  # patients with an empty cell


@dataclass(frozen=True)
class Directions:
    """Projections of all columns of a wide modality on a few directions.

    Columns are standardised by ``mean`` and ``spread`` (0 = nearly constant: the column is left out). The directions
    are sums of all columns with signs from a hash of their names, their plain mean, and the mean distance from 0. None
    is fitted, so that it means the same for new patients.

    References:
        Two distributions of many columns that differ do so along a random direction: Cuesta-Albertos, Fraiman and
        Ransford (2007), https://doi.org/10.1007/s10959-007-0060-7; random signs: Achlioptas (2003),
        https://doi.org/10.1016/S0022-0000(03)00025-4
    """

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    along: NumberColumns


def padded(rows: Sequence[Sequence[float]], fill: float, width: int | None = None) -> Floats:
    """Returns rows of different lengths as a matrix."""
    matrix = np.full((len(rows), max((len(row) for row in rows), default=0) if width is None else width), fill)
    for k, row in enumerate(rows):
        matrix[k, : len(row)] = row
    return matrix


def summarise_numbers(names: Sequence[str], values: Floats, n_bins: int = BINS) -> NumberColumns:
    """Summarises columns ``(m, P)``, NaN = empty; few patients have fewer bins."""
    edges = fit_edges(values, max(1, min(n_bins, len(values) // (2 * FEWEST))))
    return summary(names, values, edges, count(values, edges))


def summary(names: Sequence[str], values: Floats, edges: Floats, counts: Floats) -> NumberColumns:
    """Returns edges, counts, and means of five patients or more."""
    n_filled = (~np.isnan(values)).sum(0)
    enough = n_filled >= FEWEST
    ordered = np.sort(values[:, enough], axis=0)  # NaN last
    at = n_filled[enough] - FEWEST + np.arange(FEWEST)[:, None]
    low, high, mean = (np.full(len(names), np.nan) for _ in range(3))
    if enough.any():
        low[enough] = ordered[:FEWEST].mean(0)
        high[enough] = np.take_along_axis(ordered, at, 0).mean(0)
        mean[enough] = np.nanmean(values[:, enough], 0)
    kept = np.isfinite(edges)
    return NumberColumns(
        tuple(names),
        tuple(tuple(row[ok].tolist()) for row, ok in zip(edges, kept, strict=True)),
        tuple(tuple(np.round(row[: ok.sum() + 1], 3).tolist()) for row, ok in zip(counts, kept, strict=True)),
        tuple((len(values) - n_filled).tolist()),
        *(tuple(None if np.isnan(v) else float(f"{v:.4g}") for v in each.tolist()) for each in (low, high, mean)),
    )


def summarise_categories(texts: pd.Series[Any]) -> Categories:
    """Counts a column of texts, NaN = empty; categories of fewer than five patients are pooled."""
    counts = texts.value_counts()
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
    kept = [(str(value), int(n)) for value, n in ordered if n >= FEWEST][:MOST_CATEGORIES]
    rest = int(counts.sum()) - sum(n for _, n in kept)
    values, numbers = tuple(value for value, _ in kept), tuple(n for _, n in kept)
    return Categories(str(texts.name), values, numbers, rest, int(texts.isna().sum()))


def counted(texts: pd.Series[Any], reference: Categories) -> Categories:
    """Counts other patients in the categories of the reference."""
    counts = texts.value_counts()
    n = tuple(int(counts.get(value, 0)) for value in reference.values)
    return replace(reference, counts=n, rest=int(counts.sum()) - sum(n), empty=int(texts.isna().sum()))


def as_texts(column: pd.Series[Any]) -> pd.Series[Any]:
    """Returns the cells of a column as text: numbers in one format for all types, empty cells as NaN."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        numbers = as_floats(column.to_numpy(dtype=float, na_value=np.nan))
        distinct = {float(value): f"{value:.6g}" for value in np.unique(numbers[~np.isnan(numbers)])}
        texts = pd.Series(numbers, column.index).map(distinct, na_action="ignore")
    else:
        texts = column.astype(object).map(lambda cell: str(cell).strip(), na_action="ignore")
    cells = texts.to_numpy(dtype=object)
    cells = np.where(texts.isna().to_numpy() | (cells == ""), np.nan, cells)
    return pd.Series(cells, column.index, dtype=object, name=column.name)


def as_numbers(frame: pd.DataFrame, names: Sequence[str]) -> Floats:
    """Reads columns as numbers ``(n, P)``; other cells are empty."""
    values = np.full((len(frame), len(names)), np.nan)
    for k, name in enumerate(names):
        column = frame[name]
        if not pd.api.types.is_numeric_dtype(column.dtype):
            column = pd.to_numeric(column.astype(object), errors="coerce")
        values[:, k] = as_floats(column.to_numpy(dtype=float, na_value=np.nan))
    return values


def text_lengths(frame: pd.DataFrame, names: Sequence[str]) -> Floats:
    """Returns the number of letters of cells, ``(n, P)``; NaN = empty."""
    lengths: Floats = np.full((len(frame), len(names)), np.nan)
    for k, name in enumerate(names):
        lengths[:, k] = as_texts(frame[name]).str.len().to_numpy(dtype=float, na_value=np.nan)
    return lengths


def one_row_each(frame: pd.DataFrame) -> pd.DataFrame:
    """Aggregates several rows of a patient: the number of rows, means of numbers, the most frequent text."""
    grouped = frame.groupby(level=0, sort=False)
    columns = {}
    for name in frame.columns:
        if pd.api.types.is_numeric_dtype(frame[name].dtype):
            columns[name] = grouped[name].mean()
        else:  # of equally frequent ones the first in the alphabet, so that the order of rows does not matter
            pairs = frame[name].dropna().astype(str).to_frame(name).rename_axis("patient").reset_index()
            counts = pairs.groupby(["patient", name]).size().reset_index(name="n")
            counts = counts.sort_values(["patient", "n", name], ascending=[True, False, True])
            columns[name] = counts.drop_duplicates("patient").set_index("patient")[name]
    rows = pd.DataFrame(columns, index=grouped.size().index)
    return rows.assign(**{ROWS: grouped.size()})


def fit_directions(columns: Sequence[str], values: Floats) -> Directions:
    """Summarises all columns ``(m, P)``, each patient standardised by the others, as new patients will be."""
    is_filled = ~np.isnan(values)
    n = np.maximum(is_filled.sum(0), 1)
    mean = np.where(is_filled, values, 0).sum(0) / n
    deviation = np.where(is_filled, values - mean, 0)
    squares = (deviation**2).sum(0)
    others = np.maximum(n - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_others = np.sqrt(np.maximum(squares - deviation**2 * n / others, 0) / others)
        z = np.where(of_others > 0, deviation * n / others / of_others, 0)
    varied = _n_off_median(values) >= FEWEST  # else the spread is that of a few patients, and 0 without them
    spread = np.where(varied, np.sqrt(squares / n), 0.0)
    scores = _along(columns, np.where(is_filled & varied, z, 0))
    names = [*(f"(all columns, direction {j + 1})" for j in range(DIRECTIONS)), "(mean of all columns)", DISTANCE]
    centre, scale = (tuple(float(f"{value:.6g}") for value in each.tolist()) for each in (mean, spread))
    return Directions(tuple(columns), centre, scale, summarise_numbers(names, scores))


def _n_off_median(values: Floats) -> Floats:
    """Counts the patients whose number is not the lower median."""
    middle = np.sort(values, axis=0)[np.maximum((~np.isnan(values)).sum(0) - 1, 0) // 2, np.arange(values.shape[1])]
    counts: Floats = ((values != middle) & ~np.isnan(values)).sum(0).astype(np.float64)
    return counts


def along(directions: Directions, values: Floats) -> Floats:
    """Returns the projections of patients ``(n, P)`` on the directions of a reference, ``(n, DIRECTIONS + 2)``."""
    mean, spread = np.array(directions.mean), np.array(directions.spread)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(spread > 0, (values - mean) / spread, 0)
    return _along(directions.columns, np.where(np.isnan(z), 0, z))


def _along(columns: Sequence[str], z: Floats) -> Floats:
    z = np.clip(z, -FARTHEST, FARTHEST)
    projected = z @ _signs(columns) / max(len(columns), 1) ** 0.5
    return np.hstack([projected, z.mean(1, keepdims=True), np.abs(z).mean(1, keepdims=True)])


def _signs(columns: Iterable[str]) -> Floats:
    """Returns a sign for each column and direction from a hash of its name, which no library version changes."""
    bits = [int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) for name in columns]
    signs = [[1.0 if bit >> j & 1 else -1.0 for j in range(DIRECTIONS)] for bit in bits]
    return np.array(signs).reshape(-1, DIRECTIONS)
