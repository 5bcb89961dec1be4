"""Comparison of a batch of patients with the reference of the training patients, column by column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from multimodn.errors import shown
from multimodn.monitor.counts import ALPHA_FAMILY, Differences, Floats, compare, count, simes
from multimodn.monitor.reference import ModalityReference
from multimodn.monitor.summaries import (
    Categories,
    Directions,
    NumberColumns,
    along,
    as_numbers,
    as_texts,
    counted,
    padded,
    text_lengths,
)

MOST_NAMED = 5
NEAR = 0.5  # distance beyond the range of the training patients from which a number is reported, in ranges


@dataclass(frozen=True)
class ColumnDrift:
    """The comparison of one column; see `multimodn.monitor.drift.drift` for the fields."""

    kind: str
    modality: str
    column: str
    statistic: str
    value: float
    p_value: float
    n: int
    n_reference: int
    reference: float
    batch: float
    note: str = ""


def compare_modality(reference: ModalityReference, rows: pd.DataFrame) -> Iterator[ColumnDrift]:
    """Compares the columns of those patients who have a modality, one row each."""
    values = as_numbers(rows, reference.numbers.names)
    if reference.directions is None:
        yield from compare_numbers(reference.name, reference.numbers, values)
    elif reference.numbers.names:
        yield _most_different(reference.name, reference.numbers, values)
        yield from compare_directions(reference.name, reference.directions, values)
    if reference.lengths.names:
        for drift in compare_numbers(reference.name, reference.lengths, text_lengths(rows, reference.lengths.names)):
            yield replace(drift, column=f"length of {drift.column}")
    for column in reference.categories:
        texts = as_texts(rows[column.name])
        yield compare_categories("input", reference.name, column, counted(texts, column), _unseen(texts, column))


def compare_directions(modality: str, reference: Directions, values: Floats) -> Iterator[ColumnDrift]:
    """Compares the projections of patients ``(n, P)`` on the directions of a wide modality."""
    yield from compare_numbers(modality, reference.along, along(reference, values))


def compare_numbers(modality: str, reference: NumberColumns, values: Floats) -> Iterator[ColumnDrift]:
    """Compares columns of numbers ``(n, P)``, NaN = empty."""
    differences = _differences(reference, values)
    counts = (~np.isnan(values)).sum(0)
    sums = np.nan_to_num(values).sum(0)
    means = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    for k, name in enumerate(reference.names):
        note = _number_note(reference, k, values[:, k])
        yield ColumnDrift(
            "input", modality, name, "psi", float(differences.psi[k]), float(differences.p_value[k]), len(values),
            _n_reference(reference, k), _or_nan(reference.mean[k]), float(means[k]), note,
        )  # fmt: skip


def compare_counted(
    kind: str, task: str, reference: NumberColumns, counts: Floats, means: Floats
) -> Iterator[ColumnDrift]:
    """Compares columns without empty cells by given counts and means, such as predictions."""
    no_rare = np.zeros((len(counts), 0))
    differences = compare(padded(reference.counts, 0.0, counts.shape[1]), counts, no_rare, no_rare)
    for k, name in enumerate(reference.names):
        before, now = _or_nan(reference.mean[k]), float(means[k])
        yield ColumnDrift(
            kind, task, name, "psi", float(differences.psi[k]), float(differences.p_value[k]),
            round(float(counts[k].sum())), round(sum(reference.counts[k])), before, now,
            f"{name}: mean {_number(before)} to {_number(now)}",
        )  # fmt: skip


def compare_categories(
    kind: str, modality: str, reference: Categories, batch: Categories, note: str = ""
) -> ColumnDrift:
    """Compares a column of categories; rare categories and empty cells are tested separately."""
    before, now = (np.array([c.counts], dtype=np.float64).reshape(1, -1) for c in (reference, batch))
    rare, rare_now = (np.array([[c.rest, c.empty]], dtype=np.float64) for c in (reference, batch))
    differences = compare(before, now, rare, rare_now)
    m, n = int(before.sum() + rare.sum()), int(now.sum() + rare_now.sum())
    names = [*reference.values, "(any other)", "(empty)"]
    old, new = (np.hstack(pair)[0] / max(total, 1) for pair, total in (((before, rare), m), ((now, rare_now), n)))
    most = int(np.argmax(np.abs(new - old)))
    change = f"{names[most]}: {old[most]:.0%} to {new[most]:.0%}"
    change = f"{change}; {note}" if note else change
    return ColumnDrift(
        kind, modality, reference.name if kind == "input" else kind, "psi", float(differences.psi[0]),
        float(differences.p_value[0]), n, m, float(old[most]), float(new[most]), change,
    )  # fmt: skip


def _differences(reference: NumberColumns, values: Floats) -> Differences:
    edges = padded(reference.edges, np.inf)
    empty = np.array(reference.empty, dtype=np.float64)[:, None]
    now = np.isnan(values).sum(0).astype(np.float64)[:, None]
    return compare(padded(reference.counts, 0.0, edges.shape[1] + 1), count(values, edges), empty, now)


def _most_different(modality: str, reference: NumberColumns, values: Floats) -> ColumnDrift:
    """Returns the column that differs most of many, with the p-value of all of them."""
    from scipy.stats import false_discovery_control

    differences = _differences(reference, values)
    adjusted = false_discovery_control(differences.p_value)
    ordered = np.lexsort([-differences.psi, differences.p_value])
    differing = [reference.names[k] for k in ordered if adjusted[k] <= ALPHA_FAMILY]
    first = int(ordered[0])
    note = f"{len(differing)} of {len(reference.names)} differ"
    note += f": {shown(differing, MOST_NAMED)}" if differing else ""
    now = values[:, first]
    mean = float(np.nanmean(now)) if (~np.isnan(now)).any() else np.nan
    return ColumnDrift(
        "input", modality, f"(most different of {len(reference.names)} columns: {reference.names[first]})", "psi",
        float(differences.psi[first]), simes(differences.p_value), len(values), _n_reference(reference, first),
        _or_nan(reference.mean[first]), mean, note,
    )  # fmt: skip


def _number_note(reference: NumberColumns, k: int, values: Floats) -> str:
    low, high = reference.lowest[k], reference.highest[k]
    notes = []
    if low is not None and high is not None:
        beyond = int((values < low - NEAR * (high - low)).sum() + (values > high + NEAR * (high - low)).sum())
        if beyond:
            notes.append(f"{beyond} far outside the range of the training patients, {low:g} to {high:g}")
    before = reference.empty[k] / max(_n_reference(reference, k), 1)
    now = float(np.isnan(values).mean()) if len(values) else 0.0
    if abs(now - before) >= 0.05:
        notes.append(f"empty: {before:.0%} to {now:.0%}")
    return "; ".join(notes)


def _unseen(texts: pd.Series[Any], reference: Categories) -> str:
    others = texts[~texts.isin(reference.values) & texts.notna()].value_counts()
    if others.empty:
        return ""
    ordered = sorted(others.items(), key=lambda pair: (-pair[1], str(pair[0])))
    return f"rare or unknown in training: {shown([f'{value} ({n})' for value, n in ordered], MOST_NAMED)}"


def _n_reference(reference: NumberColumns, k: int) -> int:
    return round(sum(reference.counts[k])) + reference.empty[k]


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _number(value: float) -> str:
    return "unknown" if np.isnan(value) else f"{value:.3g}"
