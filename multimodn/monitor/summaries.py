"""What columns hold, as counts that identify nobody: bins of numbers, frequent categories, lengths of texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from multimodn.monitor.counts import FEWEST, Floats, as_floats, count, fit_edges

BINS = 10
BINS_OF_MANY = 5
"""Bins of a column where there are more than `MOST_COLUMNS`."""
MOST_COLUMNS = 60
"""Columns of numbers that are looked at one by one; more are a family, with directions through all of them."""
MOST_VALUES = 10
"""A number with at most so many values is a category."""
MOST_CATEGORIES = 30
DIRECTIONS = 4
FARTHEST = 5.0
"""Spreads from the mean at which a standardised number is cut off."""


@dataclass(frozen=True)
class Numbers:
    """Columns of numbers.

    Attributes:
        names: P names.
        edges: For each the numbers between its bins.
        counts: Reference patients in each of its bins.
        empty: Those with an empty cell.
        lowest: The mean of the five lowest numbers, NaN = unknown.
        highest: The mean of the five highest.
        mean: The mean.
    """

    names: tuple[str, ...]
    edges: tuple[tuple[float, ...], ...]
    counts: tuple[tuple[float, ...], ...]
    empty: tuple[int, ...]
    lowest: tuple[float | None, ...]
    highest: tuple[float | None, ...]
    mean: tuple[float | None, ...]


@dataclass(frozen=True)
class Categories:
    """A column of categories.

    Attributes:
        name: Its name.
        values: The categories of five patients or more, the most frequent first.
        counts: Patients with each.
        rest: Those with any other category.
        empty: Those with an empty cell.
    """

    name: str
    values: tuple[str, ...]
    counts: tuple[int, ...]
    rest: int
    empty: int


@dataclass(frozen=True)
class Directions:
    """Summaries of all columns of a wide modality: how patients lie along them.

    Columns are standardised by ``mean`` and ``spread`` (0: hardly anybody differs, the column does not count). The
    directions are sums of all columns with signs that a hash of their names draws, their plain mean, and the mean
    distance from 0. No direction is fitted, so that it means the same for patients whom the reference has not seen.

    References:
        Two distributions of many columns that differ do so along a random direction: Cuesta-Albertos, Fraiman and
        Ransford (2007), https://doi.org/10.1007/s10959-007-0060-7; random signs: Achlioptas (2003),
        https://doi.org/10.1016/S0022-0000(03)00025-4
    """

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    along: Numbers


def padded(rows: Sequence[Sequence[float]], fill: float, width: int | None = None) -> Floats:
    """Lays rows of different lengths out as a matrix."""
    found = np.full((len(rows), max((len(row) for row in rows), default=0) if width is None else width), fill)
    for k, row in enumerate(rows):
        found[k, : len(row)] = row
    return found


def summarise_numbers(names: Sequence[str], values: Floats, n_bins: int = BINS) -> Numbers:
    """Counts columns ``(m, P)``, NaN = empty; with few patients there are fewer bins."""
    m = len(values)
    edges = fit_edges(values, max(1, min(n_bins, m // (2 * FEWEST))))
    return summary(names, values, edges, count(values, edges))


def summary(names: Sequence[str], values: Floats, edges: Floats, counts: Floats) -> Numbers:
    """Joins edges and counts of columns to what is kept of them, means of five patients or more among it."""
    known = (~np.isnan(values)).sum(0)
    enough = known >= FEWEST
    ordered = np.sort(values[:, enough], axis=0)  # NaN last
    at = known[enough] - FEWEST + np.arange(FEWEST)[:, None]
    low, high, mean = (np.full(len(names), np.nan) for _ in range(3))
    if enough.any():
        low[enough] = ordered[:FEWEST].mean(0)
        high[enough] = np.take_along_axis(ordered, at, 0).mean(0)
        mean[enough] = np.nanmean(values[:, enough], 0)
    kept = np.isfinite(edges)
    return Numbers(
        tuple(names),
        tuple(tuple(row[ok].tolist()) for row, ok in zip(edges, kept, strict=True)),
        tuple(tuple(np.round(row[: ok.sum() + 1], 3).tolist()) for row, ok in zip(counts, kept, strict=True)),
        tuple((len(values) - known).tolist()),
        *(_short(each) for each in (low, high, mean)),
    )


def summarise_categories(texts: pd.Series[Any]) -> Categories:
    """Counts a column of texts, NaN = empty; categories of fewer than five patients are not told apart."""
    counts = texts.value_counts()
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
    kept = [(str(value), int(n)) for value, n in ordered if n >= FEWEST][:MOST_CATEGORIES]
    rest = int(counts.sum()) - sum(n for _, n in kept)
    values, numbers = tuple(value for value, _ in kept), tuple(n for _, n in kept)
    return Categories(str(texts.name), values, numbers, rest, int(texts.isna().sum()))


def counted(texts: pd.Series[Any], known: Categories) -> Categories:
    """Counts other patients in the categories of the reference."""
    counts = texts.value_counts()
    numbers = tuple(int(counts.get(value, 0)) for value in known.values)
    return Categories(known.name, known.values, numbers, int(counts.sum()) - sum(numbers), int(texts.isna().sum()))


def as_texts(column: pd.Series[Any]) -> pd.Series[Any]:
    """Writes the cells of a column as text: numbers the same way whatever their type, empty ones as NaN."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        numbers = as_floats(column.to_numpy(dtype=float, na_value=np.nan))
        distinct = {float(value): f"{value:.6g}" for value in np.unique(numbers[~np.isnan(numbers)])}
        found = pd.Series(numbers, column.index).map(distinct, na_action="ignore")
    else:
        found = column.astype(object).map(lambda cell: str(cell).strip(), na_action="ignore")
    cells = found.to_numpy(dtype=object)
    cells = np.where(found.isna().to_numpy() | (cells == ""), np.nan, cells)
    return pd.Series(cells, column.index, dtype=object, name=column.name)


def as_numbers(frame: pd.DataFrame, names: Sequence[str]) -> Floats:
    """Reads columns as numbers ``(n, P)``; what is none counts as empty."""
    found = np.full((len(frame), len(names)), np.nan)
    for k, name in enumerate(names):
        column = frame[name]
        if not pd.api.types.is_numeric_dtype(column.dtype):
            column = pd.to_numeric(column.astype(object), errors="coerce")
        found[:, k] = as_floats(column.to_numpy(dtype=float, na_value=np.nan))
    return found


def text_lengths(frame: pd.DataFrame, names: Sequence[str]) -> Floats:
    """Returns how many letters the cells hold, ``(n, P)``; NaN = empty."""
    texts = [as_texts(frame[name]).str.len() for name in names]
    found: Floats = np.full((len(frame), len(names)), np.nan)
    for k, text in enumerate(texts):
        found[:, k] = text.to_numpy(dtype=float, na_value=np.nan)
    return found


def one_row_each(frame: pd.DataFrame) -> pd.DataFrame:
    """Sums several rows of a patient up: the number of rows, means of numbers, the most frequent text."""
    grouped = frame.groupby(level=0, sort=False)
    found = {}
    for name in frame.columns:
        if pd.api.types.is_numeric_dtype(frame[name].dtype):
            found[name] = grouped[name].mean()
        else:  # of equally frequent ones the first in the alphabet, so that the order of rows does not matter
            pairs = frame[name].dropna().astype(str).to_frame(name).rename_axis("patient").reset_index()
            counts = pairs.groupby(["patient", name]).size().reset_index(name="n")
            counts = counts.sort_values(["patient", "n", name], ascending=[True, False, True])
            found[name] = counts.drop_duplicates("patient").set_index("patient")[name]
    rows = pd.DataFrame(found, index=grouped.size().index)
    return rows.assign(**{ROWS: grouped.size()})


ROWS = "(rows of a patient)"


def fit_directions(columns: Sequence[str], values: Floats) -> Directions:
    """Summarises all columns ``(m, P)``, each patient standardised by the others, as later patients will be."""
    known = ~np.isnan(values)
    n = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0).sum(0) / n
    apart = np.where(known, values - mean, 0)
    squares = (apart**2).sum(0)
    others = np.maximum(n - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_others = np.sqrt(np.maximum(squares - apart**2 * n / others, 0) / others)
        z = np.where(of_others > 0, apart * n / others / of_others, 0)
    varied = _n_apart(values) >= FEWEST  # else the spread is that of a few patients, and of the others none
    spread = np.where(varied, np.sqrt(squares / n), 0.0)
    scores = _along(columns, np.where(known & varied, z, 0))
    kept = summarise_numbers(_direction_names(), scores)
    return Directions(tuple(columns), _short_numbers(mean), _short_numbers(spread), kept)


def _n_apart(values: Floats) -> Floats:
    """Counts the patients whose number is not the middle one, which is that of most of them if there is such a one."""
    middle = np.sort(values, axis=0)[np.maximum((~np.isnan(values)).sum(0) - 1, 0) // 2, np.arange(values.shape[1])]
    found: Floats = ((values != middle) & ~np.isnan(values)).sum(0).astype(np.float64)
    return found


def along(directions: Directions, values: Floats) -> Floats:
    """Returns where patients ``(n, P)`` lie along the directions of a reference, ``(n, DIRECTIONS + 2)``."""
    mean, spread = np.array(directions.mean), np.array(directions.spread)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(spread > 0, (values - mean) / spread, 0)
    return _along(directions.columns, np.where(np.isnan(z), 0, z))


def _along(columns: Sequence[str], z: Floats) -> Floats:
    z = np.clip(z, -FARTHEST, FARTHEST)
    projected = z @ _signs(columns) / max(len(columns), 1) ** 0.5
    return np.hstack([projected, z.mean(1, keepdims=True), np.abs(z).mean(1, keepdims=True)])


def _signs(columns: Iterable[str]) -> Floats:
    """Returns a sign for each column and direction from a hash of its name: no version of a library changes it."""
    bits = [int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) for name in columns]
    return np.array([[1.0 if bit >> j & 1 else -1.0 for j in range(DIRECTIONS)] for bit in bits]).reshape(
        -1, DIRECTIONS
    )


def _direction_names() -> list[str]:
    return [*(f"(all columns, direction {j + 1})" for j in range(DIRECTIONS)), "(mean of all columns)", DISTANCE]


DISTANCE = "(distance from the mean patient)"


def _short(values: Floats) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else float(f"{value:.4g}") for value in values.tolist())


def _short_numbers(values: Floats) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values.tolist())
