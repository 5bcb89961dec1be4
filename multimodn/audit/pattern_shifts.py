"""Whether presence patterns differ between the parts of the split, or between groups such as sites."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from multimodn.audit.findings import Shift
from multimodn.audit.independence import ALPHA, FEWEST, Counts, independence, matters
from multimodn.audit.pattern_counts import Patterns
from multimodn.data.cohort import Cohort
from multimodn.data.splits import PARTS, Split
from multimodn.errors import DataError, shown
from multimodn.statistics.multiple_testing import holm

SMALLEST_GROUP = 20  # groups with fewer patients are joined into one
PATIENTS_PER_GROUP = 5  # with fewer on average, groups are taken for families and not compared
MOST_COMPARED = 30  # patterns; the others are joined


def find_shifts(cohort: Cohort, split: Split | None, patterns: Patterns, seed: int = 0) -> tuple[Shift, ...]:
    """Compares the patterns of the parts of the split, and of the groups, as far as there are any.

    A patient in none of the parts is left out.

    Raises:
        DataError: If the split names patients that the cohort does not have.
    """
    shifts = []
    if split is not None:
        part, names = _parts(cohort, split)
        shifts.append(_shift("split", part, names, patterns, seed))
    if cohort.groups is not None:
        group, names, note = _groups(cohort.groups)
        shifts.append(Shift("group", note=note) if note else _shift("group", group, names, patterns, seed))
    tested = [i for i, shift in enumerate(shifts) if shift.test != "none"]
    for i, p in zip(tested, holm(np.array([shifts[i].p for i in tested])).tolist(), strict=True):
        shifts[i] = replace(shifts[i], p_corrected=p, shifted=p < ALPHA and matters(shifts[i].cramers_v))
    return tuple(shifts)


def _parts(cohort: Cohort, split: Split) -> tuple[Counts, list[str]]:
    """The part of each patient ``(n,)``, -1 = none, and the names of the parts that are not empty."""
    part = np.full(len(cohort), -1)
    names: list[str] = []
    for name in PARTS:
        ids = pd.Index(getattr(split, name), dtype=object)
        if not len(ids):
            continue
        rows = cohort.patients.get_indexer(ids)
        if (rows < 0).any():
            unknown = list(ids[rows < 0])
            raise DataError(
                f"The split's part '{name}' names {len(unknown)} patient(s) that are not in the cohort: "
                f"{shown(unknown)}. Make the split from this cohort."
            )
        part[rows] = len(names)
        names.append(name)
    return part, names


def _groups(groups: pd.Series[Any]) -> tuple[Counts, list[str], str]:
    """The group of each patient ``(n,)``, -1 = none, names, and why groups are not compared."""
    group, distinct = pd.factorize(groups)
    n = int((group >= 0).sum())
    if len(distinct) * PATIENTS_PER_GROUP > n:
        families = f"{len(distinct)} groups of {n} patients are taken for families, each too small."
        return group, [], f"Groups are not compared: {families}"
    names = [str(name) for name in distinct]
    sizes = np.bincount(group[group >= 0], minlength=len(names))
    small = sizes < SMALLEST_GROUP
    if small.sum() > 1:  # one small group stays itself
        place = np.where(small, (~small).sum(), np.cumsum(~small) - 1)
        names = [name for name, joined in zip(names, small, strict=True) if not joined]
        names.append(f"({int(small.sum())} small groups)")
        group = np.where(group >= 0, place[group], -1)
    return group.astype(np.int64), names, "" if len(names) > 1 else "Groups are not compared: there is one only."


def _shift(by: Literal["split", "group"], part: Counts, names: list[str], patterns: Patterns, seed: int) -> Shift:
    has_part, n_parts, n_patterns = part >= 0, len(names), len(patterns.codes)
    flat = np.bincount(part[has_part] * n_patterns + patterns.of_patient[has_part], minlength=n_parts * n_patterns)
    whole = flat.reshape(n_parts, n_patterns)
    shares = (whole @ patterns.presence.astype(np.int64)) / whole.sum(axis=1, keepdims=True)
    frequent = whole.sum(axis=0) >= FEWEST * n_parts
    frequent[MOST_COMPARED:] = False  # the largest patterns come first
    counts, labels = whole[:, frequent], [patterns.name(code) for code in patterns.codes[frequent]]
    if not frequent.all():
        counts = np.column_stack([counts, whole[:, ~frequent].sum(axis=1)])
        labels.append("(other patterns)")
    result = independence(counts, n_tests=2, seed=seed)
    return Shift(
        by=by,
        parts=tuple(names),
        n=tuple(whole.sum(axis=1).tolist()),
        patterns=tuple(labels),
        counts=tuple(tuple(row) for row in counts.tolist()),
        presence=tuple(zip(patterns.names, map(tuple, shares.T.tolist()), strict=True)),
        test=result.test,
        p=result.p,
        cramers_v=result.cramers_v,
        note="" if result.test != "none" else "Everyone has the same modalities, or there is one part only.",
    )
