"""Parts of whole groups of patients that are as near to their shares as the groups allow."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.1  # share of its wanted size by which a part may differ
MOST_ENUMERATED = 10  # groups up to which every division is looked at
MOST_SWAPPED = 200  # groups up to which two may change places
WEIGHT = 1e-6  # of strata against sizes: they decide between divisions of the same sizes

Rows = NDArray[np.int64]
Counts = NDArray[np.float64]


def are_near(sizes: NDArray[np.int64], wanted: NDArray[np.float64]) -> bool:
    """Says whether no part is empty, or a tenth of its ``wanted`` size and a whole patient away from it."""
    off = np.abs(sizes - wanted)
    return bool(((off <= TOLERANCE * wanted) | (off < 1)).all() and (sizes[wanted > 0] > 0).all())


def nearest_division(groups: Rows, strata: Rows, part: Rows, shares: Sequence[float], seed: int) -> Rows:
    """Divides whole groups so that the sizes of the parts are as near to their shares as can be.

    Sizes count first, then the shares of each stratum, then the seed. Up to `MOST_ENUMERATED` groups every division
    is looked at. More are dealt in random order, stratum by stratum, each to the part that lacks most of its share;
    then one group moves, or two change places, as long as that brings parts nearer.

    Args:
        groups: The group of each patient, 0 to n_groups - 1, ``(n,)``.
        strata: The stratum of each, 0 to n_strata - 1, ``(n,)``.
        part: A division to start from, ``(n,)``; it is returned where none is nearer.
        shares: Of the parts; they add up to 1. A part with a share gets at least one group.
        seed: Decides between divisions that are equally near.

    Returns:
        The part of each patient, ``(n,)``; a part is empty only where there are fewer groups than parts.
    """
    counts = np.zeros((int(groups.max()) + 1, int(strata.max()) + 1))
    np.add.at(counts, (groups, strata), 1)
    order = np.random.default_rng(seed).permutation(len(counts))
    own = np.zeros(len(counts), dtype=np.int64)
    own[groups] = part
    counts, start = counts[order], own[order]
    wanted = np.asarray(shares)[:, None] * counts.sum(0)  # patients of each stratum, (n_parts, n_strata)
    parts = np.flatnonzero(np.asarray(shares) > 0)
    if len(counts) <= MOST_ENUMERATED:
        found = np.array(list(itertools.product(parts, repeat=len(counts))), dtype=np.int64)
    else:
        found = _improved(counts, wanted, _dealt(counts, wanted, parts), parts)[None]
    found = np.concatenate([start[None], found])
    losses = _loss(np.stack([(found == k) @ counts for k in range(len(shares))], axis=1), wanted)
    division = np.empty(len(counts), dtype=np.int64)
    division[order] = found[int(np.argmin(np.round(losses, 9)))]
    divided: Rows = division[groups]
    return divided


def _loss(found: Counts, wanted: Counts) -> Counts:
    """Returns how far patients by part and stratum ``(..., n_parts, n_strata)`` are from those wanted."""
    sizes, shares = found.sum(-1), wanted.sum(-1)
    n_empty = ((sizes == 0) & (shares > 0)).sum(-1)
    by_stratum = np.abs(found - wanted).sum((-1, -2))
    loss: Counts = np.abs(sizes - shares).sum(-1) + WEIGHT * by_stratum + 1e9 * n_empty
    return loss


def _dealt(counts: Counts, wanted: Counts, parts: Rows) -> Rows:
    """Deals groups ``(n_groups, n_strata)``: first those larger than a part, then stratum by stratum."""
    sizes, shares = counts.sum(1), wanted.sum(1)
    is_large = sizes > shares[parts].min()
    lacking, division = shares.copy(), np.zeros(len(counts), dtype=np.int64)
    for group in np.lexsort((counts.argmax(1), np.where(is_large, -sizes, 0))):
        left = lacking[parts] if is_large[group] else lacking[parts] / shares[parts]
        division[group] = parts[np.argmax(left)]
        lacking[division[group]] -= sizes[group]
    return division


def _improved(counts: Counts, wanted: Counts, division: Rows, parts: Rows) -> Rows:
    """Moves or exchanges groups, each time those that bring most, until nothing is gained."""
    division, n = division.copy(), len(counts)
    found = np.stack([(division == k) @ counts for k in range(len(wanted))])
    loss = float(_loss(found, wanted))
    while True:
        one, to = np.repeat(np.arange(n), len(parts)), np.tile(parts, n)
        other = np.full(len(one), -1)  # no group comes back
        if n <= MOST_SWAPPED:
            first, second = np.nonzero(np.triu(division[:, None] != division[None, :]))
            one, other = np.append(one, first), np.append(other, second)
            to = np.append(to, division[second])
        shift = counts[one] - np.where(other[:, None] >= 0, counts[other], 0.0)
        changed = np.repeat(found[None], len(one), axis=0)
        rows = np.arange(len(one))
        np.subtract.at(changed, (rows, division[one]), shift)
        np.add.at(changed, (rows, to), shift)
        losses = _loss(changed, wanted)
        best = int(np.argmin(losses))
        if losses[best] >= loss - 1e-9:
            return division
        if other[best] >= 0:
            division[other[best]] = division[one[best]]
        division[one[best]] = to[best]
        found, loss = changed[best], float(losses[best])
