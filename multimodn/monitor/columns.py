"""Compares what a batch of patients holds, column by column, with what a reference tells of the training patients."""

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
    Numbers,
    along,
    as_numbers,
    as_texts,
    counted,
    padded,
    text_lengths,
)

MOST_NAMED = 5
NEAR = 0.5
"""How far beyond the range of the training patients a number may lie before it is told, in ranges."""


@dataclass(frozen=True)
class Line:
    """One comparison; see `multimodn.monitor.drift.drift` for what stands where."""

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

    def row(self) -> dict[str, Any]:
        """Returns the columns of the frame."""
        return dict(self.__dict__)

    def named(self, column: str) -> Line:
        """Returns the line under another name of its column."""
        return replace(self, column=column)


def compare_modality(known: ModalityReference, rows: pd.DataFrame) -> Iterator[Line]:
    """Compares the columns of those patients who have a modality, one row each.

    Args:
        known: The reference.
        rows: Their cells.
    """
    values = as_numbers(rows, known.numbers.names)
    if known.directions is None:
        yield from compare_numbers(known.name, known.numbers, values)
    elif known.numbers.names:
        yield _family(known.name, known.numbers, values)
        yield from compare_directions(known.name, known.directions, values)
    if known.lengths.names:
        for line in compare_numbers(known.name, known.lengths, text_lengths(rows, known.lengths.names)):
            yield line.named(f"length of {line.column}")
    for column in known.categories:
        texts = as_texts(rows[column.name])
        found = counted(texts, column)
        yield compare_categories("input", known.name, column, found, _unseen(texts, column))


def compare_directions(modality: str, known: Directions, values: Floats) -> Iterator[Line]:
    """Compares where patients ``(n, P)`` lie along the directions of a wide modality."""
    yield from compare_numbers(modality, known.along, along(known, values))


def compare_numbers(modality: str, known: Numbers, values: Floats) -> Iterator[Line]:
    """Compares columns of numbers ``(n, P)``, empty cells among them; constant columns have no line."""
    found = _differences(known, values)
    n = len(values)
    filled = np.nan_to_num(values)
    counts = (~np.isnan(values)).sum(0)
    means = np.divide(filled.sum(0), counts, out=np.full(len(counts), np.nan), where=counts > 0)
    for k, name in enumerate(known.names):
        note = _number_note(known, k, values[:, k])
        yield Line(
            "input", modality, name, "psi", float(found.psi[k]), float(found.p_value[k]), n,
            _n_reference(known, k), _or_nan(known.mean[k]), float(means[k]), note,
        )  # fmt: skip


def compare_counted(kind: str, task: str, known: Numbers, counts: Floats, means: Floats) -> Iterator[Line]:
    """Compares counts that were made elsewhere, such as of predictions; nothing is empty among them."""
    none = np.zeros((len(counts), 0))
    found = compare(padded(known.counts, 0.0, counts.shape[1]), counts, none, none)
    for k, name in enumerate(known.names):
        before, now = _or_nan(known.mean[k]), float(means[k])
        yield Line(
            kind, task, name, "psi", float(found.psi[k]), float(found.p_value[k]), round(float(counts[k].sum())),
            round(sum(known.counts[k])), before, now, f"{name}: mean {_number(before)} to {_number(now)}",
        )  # fmt: skip


def compare_categories(kind: str, modality: str, known: Categories, found: Categories, note: str = "") -> Line:
    """Compares a column of categories, of which rare ones and empty cells are tested apart."""
    before, now = (np.array([c.counts], dtype=np.float64).reshape(1, -1) for c in (known, found))
    rare, rare_now = (np.array([[c.rest, c.empty]], dtype=np.float64) for c in (known, found))
    result = compare(before, now, rare, rare_now)
    m, n = int(before.sum() + rare.sum()), int(now.sum() + rare_now.sum())
    names = [*known.values, "(any other)", "(empty)"]
    shares = [np.hstack(pair)[0] / max(total, 1) for pair, total in (((before, rare), m), ((now, rare_now), n))]
    most = int(np.argmax(np.abs(shares[1] - shares[0]))) if names else 0
    told = f"{names[most]}: {shares[0][most]:.0%} to {shares[1][most]:.0%}"
    told = f"{told}; {note}" if note else told
    value, p_value = float(result.psi[0]), float(result.p_value[0])
    return Line(
        kind, modality, known.name if kind == "input" else kind, "psi", value, p_value, n, m,
        float(shares[0][most]), float(shares[1][most]), told,
    )  # fmt: skip


def _differences(known: Numbers, values: Floats) -> Differences:
    edges = padded(known.edges, np.inf)
    reference = padded(known.counts, 0.0, edges.shape[1] + 1)
    empty = np.array(known.empty, dtype=np.float64)[:, None]
    now = np.isnan(values).sum(0).astype(np.float64)[:, None]
    return compare(reference, count(values, edges), empty, now)


def _family(modality: str, known: Numbers, values: Floats) -> Line:
    """One line for many columns: the one that differs most, and how sure it is given how many there are."""
    from scipy.stats import false_discovery_control

    found = _differences(known, values)
    adjusted = false_discovery_control(found.p_value)
    ordered = np.lexsort([-found.psi, found.p_value])
    differing = [known.names[k] for k in ordered if adjusted[k] <= ALPHA_FAMILY]
    first = int(ordered[0])
    note = f"{len(differing)} of {len(known.names)} differ"
    note += f": {shown(differing, MOST_NAMED)}" if differing else ""
    now = values[:, first]
    mean = float(np.nanmean(now)) if (~np.isnan(now)).any() else np.nan
    return Line(
        "input", modality, f"(most different of {len(known.names)} columns: {known.names[first]})", "psi",
        float(found.psi[first]), simes(found.p_value), len(values), _n_reference(known, first),
        _or_nan(known.mean[first]), mean, note,
    )  # fmt: skip


def _number_note(known: Numbers, k: int, values: Floats) -> str:
    low, high = known.lowest[k], known.highest[k]
    notes = []
    if low is not None and high is not None:
        beyond = int((values < low - NEAR * (high - low)).sum() + (values > high + NEAR * (high - low)).sum())
        if beyond:
            notes.append(f"{beyond} far outside {low:g} to {high:g}, where the training patients lie")
    m, n = _n_reference(known, k), len(values)
    before, now = known.empty[k] / max(m, 1), float(np.isnan(values).mean()) if n else 0.0
    if abs(now - before) >= 0.05:
        notes.append(f"empty: {before:.0%} to {now:.0%}")
    return "; ".join(notes)


def _unseen(texts: pd.Series[Any], known: Categories) -> str:
    others = texts[~texts.isin(known.values) & texts.notna()].value_counts()
    if others.empty:
        return ""
    ordered = sorted(others.items(), key=lambda pair: (-pair[1], str(pair[0])))
    return f"rare or unknown in training: {shown([f'{value} ({n})' for value, n in ordered], MOST_NAMED)}"


def _n_reference(known: Numbers, k: int) -> int:
    return round(sum(known.counts[k])) + known.empty[k]


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _number(value: float) -> str:
    return "unknown" if np.isnan(value) else f"{value:.3g}"
