"""Differences between the patients of a batch and of a reference, in the counts of many columns at once.

Bins are quantiles of the reference. Counts are compared by the chi-square test of homogeneity, as the reference is a
sample too, over bins with at least five expected patients of the batch; rare cells, such as empty ones, by Fisher's
exact test. The size of the difference is the population stability index (PSI),

    sum over bins of (batch share - reference share) * log(batch share / reference share),

minus its expectation by chance, (bins - 1) * (1 / n + 1 / m) for n patients and m in the reference.

References:
    Its usual limits of .1 and .25: Siddiqi (2006), Credit risk scorecards, Wiley; its distribution by chance: Yurdakul
    and Naranjo (2020), Statistical properties of the population stability index, Journal of Risk Model Validation
    14(4), https://EconPapers.repec.org/RePEc:rsk:journ5:7725371
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST = 5  # fewest patients behind any stored number of the reference; and fewest expected patients in a bin
ALPHA_FAMILY = 0.05  # adjusted p-value up to which one of many columns is named
COLUMNS_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Differences:
    """How the batch differs from the reference in each of P columns."""

    psi: Floats  # population stability index minus its expectation by chance, from 0, ``(P,)``
    p_value: Floats  # p-value of the tests, ``(P,)``; 1 where nothing could be compared


def as_floats(values: Any) -> Floats:
    """Returns numbers as float64 rounded to float32, so that they do not depend on the file format."""
    with np.errstate(over="ignore"):
        rounded: Floats = np.asarray(values, dtype=np.float64).astype(np.float32).astype(np.float64)
    return np.where(np.isfinite(rounded), rounded, np.nan)


def fit_edges(values: Floats, n_bins: int) -> Floats:
    """Returns rounded quantiles that divide columns ``(m, P)`` into bins of `FEWEST` or more, ``(P, n_bins - 1)``.

    Edges are interpolated and rounded to a thousandth of the column's range, so that none is a patient's value by
    construction; those that are not needed are infinite.
    """
    n_columns = values.shape[1]
    edges = np.full((n_columns, max(n_bins - 1, 0)), np.inf)
    usable = np.flatnonzero((~np.isnan(values)).sum(0) >= 2 * FEWEST)
    if not len(usable) or n_bins < 2:
        return edges
    for some in np.array_split(usable, -(-len(usable) // COLUMNS_AT_ONCE)):
        part = values[:, some]
        quantiles = np.nanquantile(part, np.arange(1, n_bins) / n_bins, axis=0).T
        edges[some] = np.sort(_rounded(quantiles, np.nanmax(part, 0) - np.nanmin(part, 0)), axis=1)
    edges[:, 1:][edges[:, 1:] == edges[:, :-1]] = np.inf
    edges.sort(axis=1)
    return _with_full_bins(edges, count(values, edges))


def count(values: Floats, edges: Floats) -> Floats:
    """Counts the cells of columns ``(n, P)`` in the bins between edges ``(P, E)``: ``(P, E + 1)``; NaN is in none."""
    n_columns, n_edges = edges.shape
    counts = np.zeros((n_columns, n_edges + 1))
    for start in range(0, n_columns, COLUMNS_AT_ONCE):
        some = slice(start, start + COLUMNS_AT_ONCE)
        is_filled = ~np.isnan(values[:, some])
        bins = (values[:, some, None] > edges[None, some]).sum(2)
        for b in range(n_edges + 1):
            counts[some, b] = ((bins == b) & is_filled).sum(0)
    return counts


def compare(reference: Floats, batch: Floats, rare: Floats, rare_batch: Floats) -> Differences:
    """Compares counts in bins ``(P, B)`` of a batch with those of the reference, column by column.

    The ``rare`` counts ``(P, R)``, such as those of empty cells, are tested one by one. A p-value is the smallest of
    the tests of a column, times their number.
    """
    from scipy.stats import chi2

    group = _groups(reference, batch.sum(1))
    observed, expected = _grouped(batch, group), _grouped(reference, group)
    n, m = observed.sum(1), expected.sum(1)
    both = observed + expected
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(m / n)[:, None]
        statistic = np.nansum((ratio * observed - expected / ratio) ** 2 / both, axis=1)
    freedom = (both > 0).sum(1) - 1
    tested = (freedom > 0) & (n > 0) & (m > 0)
    p_values = [np.where(tested, chi2.sf(statistic, np.maximum(freedom, 1)), np.nan)]
    all_reference, all_batch = m + rare.sum(1), n + rare_batch.sum(1)
    for one, one_batch in zip(rare.T, rare_batch.T, strict=True):
        p_values.append(np.where(one + one_batch > 0, exact(one, all_reference, one_batch, all_batch), np.nan))
    every = np.stack(p_values)
    n_tests = (~np.isnan(every)).sum(0)
    least = np.where(np.isnan(every), 1.0, every).min(0)
    psi = stability_index(np.hstack([expected, rare]), np.hstack([observed, rare_batch]))
    return Differences(psi, np.minimum(1.0, least * np.maximum(n_tests, 1)))


def stability_index(reference: Floats, batch: Floats) -> Floats:
    """Returns the PSI of counts ``(P, B)``, plus half a patient each, minus its expectation by chance, from 0."""
    used = reference + batch > 0
    bins = used.sum(1, keepdims=True)
    m, n = reference.sum(1, keepdims=True), batch.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_reference, of_batch = ((x + 0.5) / (total + bins / 2) for x, total in ((reference, m), (batch, n)))
        index = np.where(used, (of_batch - of_reference) * np.log(of_batch / of_reference), 0.0).sum(1)
        expected = (bins - 1) * (1 / n + 1 / m)
    excess: Floats = np.where((m > 0) & (n > 0), index[:, None] - expected, 0.0)[:, 0]
    return np.maximum(excess, 0.0)


def exact(reference: Floats, n_reference: Floats, batch: Floats, n_batch: Floats) -> Floats:
    """Returns p-values of Fisher's exact test of two shares (twice the smaller tail), for whole counts ``(P,)``."""
    from scipy.stats import hypergeom

    either = hypergeom(n_reference + n_batch, reference + batch, n_batch)
    p_values: Floats = np.minimum(1.0, 2 * np.minimum(either.cdf(batch), either.sf(batch - 1)))
    return p_values


def simes(p_values: Floats) -> float:
    """Combines the p-values of a family to one: the smallest after Benjamini and Hochberg's adjustment.

    References:
        Simes (1986), https://doi.org/10.1093/biomet/73.3.751
    """
    ordered = np.sort(p_values)
    return float(np.min(ordered * len(ordered) / np.arange(1, len(ordered) + 1), initial=1.0))


def _rounded(numbers: Floats, spread: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        step = 10.0 ** np.floor(np.log10(spread / 1000))[:, None]
        rounded: Floats = np.where(step > 0, np.round(numbers / step) * step, numbers)
    return rounded


def _with_full_bins(edges: Floats, counts: Floats) -> Floats:
    """Removes edges until every bin has `FEWEST` patients of the reference."""
    kept, running = edges.copy(), np.zeros(len(edges))
    last = np.full(len(edges), -1)
    for e in range(edges.shape[1]):
        running = running + counts[:, e]
        enough = (running >= FEWEST) & np.isfinite(edges[:, e])
        kept[~enough, e] = np.inf
        last = np.where(enough, e, last)
        running = np.where(enough, 0.0, running)
    short = np.flatnonzero((running + counts[:, -1] < FEWEST) & (last >= 0))
    kept[short, last[short]] = np.inf
    kept.sort(axis=1)
    return kept


def _groups(reference: Floats, n: Floats) -> NDArray[np.int64]:
    """Numbers groups of neighbouring bins with five expected patients of a batch of n, ``(P, B)``."""
    total = reference.sum(1)
    expected = reference * np.divide(n, total, out=np.zeros_like(n), where=total > 0)[:, None]
    group = np.zeros(reference.shape, dtype=np.int64)
    current, running = np.zeros(len(reference), dtype=np.int64), np.zeros(len(reference))
    for b in range(reference.shape[1]):
        group[:, b] = current
        running = running + expected[:, b]
        full = running >= FEWEST - 1e-9
        current, running = current + full, np.where(full, 0.0, running)
    return np.minimum(group, np.maximum(current - 1, 0)[:, None])


def _grouped(counts: Floats, group: NDArray[np.int64]) -> Floats:
    sums = np.zeros_like(counts)
    np.add.at(sums, (np.arange(len(counts))[:, None], group), counts)
    return sums
