"""Input columns that nearly tell a target column by themselves.

A sample of the patients shows which columns may: all of a table at once, by one sort of each column. These few are then
judged on all patients. Where so many columns are looked at that one of them may tell the classes by chance, none is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import comb, log
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.base.column_blocks import column_blocks
from multimodn.data.checks import are_numeric, numbers_of

SAMPLE = 512  # labelled patients that must show a near copy before all are looked at
FEWEST = 20  # patients with both values
RAREST = 5  # patients of the rarest class
MOST_CLASSES = 10
MOST_VALUES = 20  # different values up to which a column is taken for categories
AUROC, AGREEMENT, KAPPA, CORRELATION = 0.99, 0.97, 0.9, 0.995
CHANCE = 1e4  # a column must be so much less likely by chance than one in all columns
FOLDS = 5

Floats = NDArray[np.float64]


def near_copies(frame: pd.DataFrame, label: pd.Series[Any], known: Collection[str] = ()) -> dict[str, str]:
    """Finds input columns that nearly tell a label, and says how nearly.

    They are columns whose values alone part two classes with an AUROC above .99, agree with the classes in more than
    97 % of the patients (categories; by those of other folds), are filled for one of two classes only, or are (nearly)
    a multiple of a number.

    Args:
        frame: Inputs, one row for each patient.
        label: The label of some of these patients, none empty.
        known: Columns that are left out.

    Returns:
        For each such column how it was found, such as ``AUROC .996``.
    """
    if len(label) < FEWEST:
        return {}
    codes, classes = pd.factorize(label, sort=False)
    sizes = np.bincount(codes)
    if 2 <= len(classes) <= MOST_CLASSES:
        if sizes.min() < RAREST or log(comb(len(codes), int(sizes.min()))) < log(CHANCE * frame.shape[1]):
            return {}
        judge, truth, rows = _of_classes, codes.astype(np.float64), _of_each_class(codes, len(classes))
    elif pd.api.types.is_numeric_dtype(label.dtype):
        judge, truth = _of_numbers, label.to_numpy(dtype=np.float64)
        rows = np.unique(np.linspace(0, len(label) - 1, SAMPLE).astype(int))
    else:
        return {}
    places = frame.index.get_indexer(label.index)
    found = {}
    for name in _candidates(frame, places[rows], truth[rows], is_number=judge is _of_numbers):
        if name not in known and (how := judge(frame[name].iloc[places], truth)):
            found[str(name)] = how
    return found


def _of_each_class(codes: NDArray[np.intp], n_classes: int) -> NDArray[np.intp]:
    most = SAMPLE // n_classes
    return np.sort(np.concatenate([np.flatnonzero(codes == k)[:most] for k in range(n_classes)]))


def _candidates(frame: pd.DataFrame, rows: NDArray[np.intp], truth: Floats, *, is_number: bool) -> Iterator[Any]:
    """Yields the columns that a sample does not rule out."""
    is_numeric = are_numeric(frame)
    yield from (name for name in frame.columns[~is_numeric] if not is_number)
    numeric = np.flatnonzero(is_numeric)
    some = frame.iloc[rows]
    for block in column_blocks(len(rows), len(numeric)):
        cells = numbers_of(some, numeric[block])
        with np.errstate(all="ignore"):  # columns of one value, and sums beyond the largest number
            may = _may_be_number(cells, truth) if is_number else _may_be_classes(cells, truth)
        yield from frame.columns[numeric[block][may]]


def _may_be_number(cells: Floats, truth: Floats) -> NDArray[np.bool_]:
    is_filled = ~np.isnan(cells)
    n = is_filled.sum(axis=1)
    same = (np.isclose(cells, truth, rtol=1e-6) & is_filled).sum(axis=1) >= 0.9 * n
    x, y = np.where(is_filled, cells, 0.0), np.where(is_filled, truth, 0.0)
    x, y = ((z - (z.sum(axis=1) / n)[:, None]) * is_filled for z in (x, y))
    r = (x * y).sum(axis=1) / np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    answer: NDArray[np.bool_] = (n >= 3) & (same | (np.abs(r) > 0.99))
    return answer


def _may_be_classes(cells: Floats, truth: Floats) -> NDArray[np.bool_]:
    """Tells which columns may part the classes: by their order, by few values of their own, or by being filled."""
    order = np.argsort(cells, axis=1, kind="stable")
    values, labels = np.take_along_axis(cells, order, axis=1), truth[order]
    is_empty = np.isnan(values)
    is_new = np.ones(values.shape, dtype=bool)
    is_new[:, 1:] = (values[:, 1:] != values[:, :-1]) & ~(is_empty[:, 1:] & is_empty[:, :-1])
    starts = np.flatnonzero(is_new)
    column = starts // values.shape[1]
    is_filled = ~is_empty.ravel()
    n_classes = int(truth.max()) + 1
    # patients of each class in each run of equal values
    counts = np.stack(
        [np.add.reduceat((labels.ravel() == k) & is_filled, starts, dtype=float) for k in range(n_classes)]
    )
    totals = np.stack([np.bincount(column, one, len(cells)) for one in counts])
    shares = np.nan_to_num(counts / totals[:, column])
    recall = np.bincount(column, shares.max(axis=0), len(cells)) / n_classes
    may: NDArray[np.bool_] = (np.bincount(column, minlength=len(cells)) <= MOST_VALUES) & (recall > 0.9)
    if n_classes == 2:
        before = np.cumsum(counts[0]) - counts[0]
        before -= before[np.searchsorted(column, column)]
        area = np.bincount(column, counts[1] * (before + counts[0] / 2), len(cells)) / (totals[0] * totals[1])
        filled = totals / np.bincount(truth.astype(int), minlength=2)[:, None]
        may |= (np.maximum(area, 1 - area) > AUROC - 0.02) | (np.abs(filled[0] - filled[1]) > 0.85)
    return may


def _of_numbers(values: pd.Series[Any], truth: Floats) -> str:
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    is_filled = ~np.isnan(numbers)
    numbers, truth = numbers[is_filled], truth[is_filled]
    if len(numbers) < FEWEST or numbers.min() == numbers.max() or truth.min() == truth.max():
        return ""
    same = float(np.isclose(numbers, truth, rtol=1e-6).mean())
    if same > AGREEMENT:
        return f"equal in {same:.1%}"
    with np.errstate(all="ignore"):
        r = float(np.corrcoef(numbers, truth)[0, 1])
    return f"correlation {r:.4f}" if abs(r) > CORRELATION else ""


def _of_classes(values: pd.Series[Any], truth: Floats) -> str:
    labels = truth.astype(np.int64)
    n_classes, is_filled = int(labels.max()) + 1, values.notna().to_numpy()
    if n_classes == 2 and _agrees(is_filled.astype(np.int64), labels, 2):
        return "filled for one class only"
    own, some = labels[is_filled], values[is_filled]
    sizes = np.bincount(own, minlength=n_classes)
    if len(own) < FEWEST or sizes.min() < RAREST:
        return ""
    codes, distinct = pd.factorize(some)
    if len(distinct) <= MOST_VALUES and (share := _agrees(codes.astype(np.int64), own, n_classes)):
        return f"agrees in {share:.1%}"
    if n_classes == 2 and pd.api.types.is_numeric_dtype(values.dtype):
        ranks = some.rank().to_numpy(dtype=np.float64)
        area = (ranks[own == 1].sum() - sizes[1] * (sizes[1] + 1) / 2) / (sizes[0] * sizes[1])
        area = max(area, 1 - area)
        return f"AUROC {np.floor(area * 1000) / 1000:.3f}" if area > AUROC else ""
    return ""


def _agrees(codes: NDArray[np.int64], labels: NDArray[np.int64], n_classes: int) -> float:
    """Returns the share of patients whose class is the usual one of their value in other folds; 0 if not high."""
    fold = np.random.default_rng(0).permutation(len(codes)) % FOLDS
    counts = np.zeros((FOLDS, int(codes.max()) + 1, n_classes))
    np.add.at(counts, (fold, codes, labels), 1)
    others = counts.sum(axis=0) - counts
    others += 1e-6 * others.sum(axis=1, keepdims=True)  # a value that others do not have: the usual class
    guess = others[fold, codes].argmax(axis=1)
    share = float((guess == labels).mean())
    by_chance = float((np.bincount(guess, minlength=n_classes) * np.bincount(labels, minlength=n_classes)).sum())
    by_chance /= len(labels) ** 2
    return share if share > AGREEMENT and share - by_chance > KAPPA * (1 - by_chance) else 0.0
