"""The features of a bag of codes: frequent codes and prefixes, to which rare and unknown codes fold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.encoders._codes.rows import CodeRows
from multimodn.encoders._reading import Floats, Integers

Level = int | Literal["full"]
Weight = Literal["count", "recency"]

MORE = "\u2026"  # an ellipsis: codes may end with asterisks, daggers and hyphens, but not with this
ROOT = "(any code)"  # the first feature: the prefix of no letter, which every code has


@dataclass(frozen=True)
class Feature:
    """A code or prefix that enough training patients have."""

    name: str  # folded; a prefix ends with `MORE`
    level: int  # its place among the levels, from 0 = any code
    n_patients: int  # training patients who have it
    mean: float  # of its weight over training patients
    spread: float  # standard deviation, 0 if all are the same


def prefixes(codes: Sequence[str], levels: Sequence[Level]) -> list[list[str]]:
    """Returns for each level, the root first, the name of the feature of each code; a short code has its own alone."""
    names = [[ROOT] * len(codes)]
    for level in levels:
        if level == "full":
            names.append(list(codes))
        else:
            names.append([code[:level] + MORE if len(code) > level else code for code in codes])
    return names


def feature_numbers(codes: Sequence[str], levels: Sequence[Level], names: Sequence[str]) -> Integers:
    """Returns the number among the features ``names`` of each code at each level, ``(n_codes, n_levels + 1)``.

    -1 = the code has none there: it is too rare, or unknown, and counts by its prefixes only. A code that is a feature
    at two levels, because it is short, has it once.
    """
    index = pd.Index(list(names), dtype=object)
    numbers = np.stack([index.get_indexer(pd.Index(of_level, dtype=object)) for of_level in prefixes(codes, levels)], 1)
    for k in range(2, numbers.shape[1]):
        numbers[(numbers[:, :k] == numbers[:, k : k + 1]).any(1), k] = -1
    return numbers.astype(np.int64)


def code_amounts(rows: CodeRows, weight: Weight, half_life: float, since: float | None) -> CodeBag:
    """Adds up the occurrences of each code of a patient: their amounts, or the recency of the latest.

    The recency of an occurrence is 2^(-age / half-life): 1 now, 1/2 after a half-life, and 0 = never. Its age is its
    time before ``rows.since``, or before ``since``, or before the latest time of the patient.
    """
    key = rows.patient * max(len(rows.codes), 1) + rows.code
    order = np.lexsort((rows.amount, key))  # so that the last digits of sums do not depend on the order of rows
    pairs, inverse = np.unique(key[order], return_inverse=True)
    patient, code = pairs // max(len(rows.codes), 1), pairs % max(len(rows.codes), 1)
    if weight == "count":
        total = np.bincount(inverse, rows.amount[order], len(pairs)).astype(np.float64)
        return CodeBag(patient, code, total, np.full(len(pairs), np.nan))
    latest = np.full(len(rows.patients), -np.inf)
    np.maximum.at(latest, rows.patient, rows.time)
    start = rows.since if not np.isnan(rows.since).all() else latest[rows.patient] if since is None else since
    age = np.full(len(pairs), np.inf)
    np.minimum.at(age, inverse, (start - rows.time)[order])
    return CodeBag(patient, code, np.exp2(-age / half_life), age)


@dataclass(frozen=True)
class CodeBag:
    """The distinct codes of each patient, those of a patient one after another."""

    patient: Integers  # ``(n,)``, as the others
    code: Integers  # its number among the codes of the rows
    amount: Floats  # what all its occurrences amount to
    age: Floats  # of the latest occurrence; NaN where amounts are counted


def bag(codes: CodeBag, numbers: Integers, n_features: int, weight: Weight) -> tuple[Integers, Integers, Floats]:
    """Returns patient, feature and weight of every feature that a patient has, in this order.

    The weight is log(1 + the amounts of all its codes), or the largest recency.
    """
    own = numbers[codes.code]
    place, level = np.nonzero(own >= 0)
    key = codes.patient[place] * n_features + own[place, level]
    pairs, inverse = np.unique(key, return_inverse=True)
    amount = np.zeros(len(pairs))
    if weight == "count":
        amount = np.log1p(np.bincount(inverse, codes.amount[place], len(pairs)))
    else:
        np.maximum.at(amount, inverse, codes.amount[place])
    return pairs // n_features, pairs % n_features, amount


def fit_features(
    rows: CodeRows, codes: CodeBag, levels: Sequence[Level], min_patients: int, weight: Weight
) -> list[Feature]:
    """Returns the features that at least ``min_patients`` training patients have, the root first, then by level."""
    names = [sorted(set(of_level)) for of_level in prefixes(rows.codes, levels)]
    every = list(dict.fromkeys(name for of_level in names for name in of_level))
    at = {name: k for k, of_level in reversed(list(enumerate(names))) for name in of_level}
    numbers = feature_numbers(rows.codes, levels, every)
    _, feature, amount = bag(codes, numbers, len(every), weight)
    order = np.lexsort((amount, feature))
    feature, amount = feature[order], amount[order]
    n, n_all = np.bincount(feature, amount > 0, len(every)).astype(np.int64), len(rows.patients)
    mean = np.bincount(feature, amount, len(every)) / n_all
    square = np.bincount(feature, (amount - mean[feature]) ** 2, len(every))
    n_rows = np.bincount(feature, minlength=len(every))
    spread = np.sqrt((square + (n_all - n_rows) * mean**2) / n_all)
    spread[spread <= 1e-9 * np.abs(mean)] = 0.0
    kept = (n >= min_patients) | (np.arange(len(every)) == 0)
    return [Feature(every[k], at[every[k]], int(n[k]), float(mean[k]), float(spread[k])) for k in np.flatnonzero(kept)]


def vector_features(features: Sequence[Feature], most: int) -> NDArray[np.int64]:
    """Returns the numbers of the features, at most ``most``, whose weights vary most among training patients.

    A code that is the only one of its prefix is left out: the prefix says the same.
    """
    spread = np.array([feature.spread for feature in features])
    by_name = {feature.name: feature for feature in features}
    lengths = sorted({len(name) - 1 for name in by_name if name.endswith(MORE)})
    chosen: list[int] = []
    for k in np.argsort(-spread, kind="stable").tolist():
        code = features[k].name.removesuffix(MORE)
        parents = [by_name[code[:n] + MORE] for n in lengths if n < len(code) and code[:n] + MORE in by_name]
        if spread[k] > 0 and not any(_are_equal(parent, features[k]) for parent in parents):
            chosen.append(k)
        if len(chosen) == most:
            break
    return np.sort(np.array(chosen, dtype=np.int64))


def _are_equal(parent: Feature, child: Feature) -> bool:
    """Says whether no other code adds to a prefix than one: weights of the prefix are never smaller."""
    return parent.n_patients == child.n_patients and bool(np.isclose(parent.mean, child.mean, rtol=1e-9, atol=0.0))


def code_hashes(codes: Sequence[str]) -> Integers:
    """Returns a hash of each code, by which known codes are recognised without their names in the model."""
    digests = (hashlib.blake2b(code.encode(), digest_size=8).digest() for code in codes)
    return np.frombuffer(b"".join(digests), dtype=np.int64)
