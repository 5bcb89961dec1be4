"""Cross-validation that asks harder questions than chance does: new sites, and later patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.data.cohort import Cohort
from multimodn.data.splits import Ids, check_groups, check_patients, deal, folds, group_numbers, label_strata
from multimodn.errors import DataError, StudyError, did_you_mean, shown

By = Literal["random", "site", "time"]
Column: TypeAlias = "str | pd.Series[Any] | Sequence[Any] | NDArray[Any]"
"""``modality.column``, a Series indexed by patient, or a value for each patient in the cohort's order."""


def dealt_folds(
    cohort: Cohort,
    n_folds: int,
    repeats: int = 1,
    seed: int = 0,
    stratify: str | None = None,
    *,
    by: By = "random",
    column: Column | None = None,
) -> Iterator[tuple[Ids, Ids]]:
    """Yields the training and test patients of repeated cross-validation, ``repeats * n_folds`` times.

    Groups of the cohort stay together. Repeat r deals patients, or sites, by ``seed + r``; by time every repeat has the
    same parts. ``by`` is ``random`` (`folds`), ``site`` (`site_folds`) or ``time`` (`time_folds`), with the ``column``
    of each patient's site or time; ``stratify`` names a task whose labels are spread evenly, but by time.

    Raises:
        StudyError: If ``by`` is none of them, or asks for a column that is not given, or the other way round.
        DataError: If the patients cannot be dealt so.
    """
    if by not in get_args(By):
        raise StudyError(f"Cross-validation by '{by}' is unknown.{did_you_mean(by, get_args(By))}")
    if (column is None) != (by == "random"):
        said = "takes no column" if by == "random" else f"needs the column that holds each patient's {by}"
        raise StudyError(f"Cross-validation by '{by}' {said}.")
    if by == "site":
        return site_folds(cohort, patient_values(cohort, column, "site"), n_folds, repeats, seed, stratify)
    if by == "time":
        return time_folds(cohort, as_numbers(patient_values(cohort, column, "time")), n_folds, repeats)
    return folds(cohort, n_folds, repeats, seed, stratify)


def site_folds(
    cohort: Cohort, sites: pd.Series[Any], n_folds: int, repeats: int = 1, seed: int = 0, stratify: str | None = None
) -> Iterator[tuple[Ids, Ids]]:
    """Yields training and test patients so that each fold holds out whole sites, each site once a repeat.

    With as many folds as sites this is leave-one-site-out.

    Raises:
        DataError: If there are fewer sites than folds, or a group of the study (a person with two identifiers, a
            family) has patients at several sites.
    """
    numbers, names = pd.factorize(sites)
    _check_one_site(cohort, sites)
    if not 2 <= n_folds <= len(names):
        raise DataError(
            f"{n_folds} folds by site need at least 2 folds and as many sites; there are {len(names)}: "
            f"{shown(sorted(map(str, names)))}."
        )
    strata = label_strata(cohort, stratify)
    everyone = cohort.patients.to_numpy(dtype=object)
    for repeat in range(repeats):
        fold = deal(numbers.astype(np.int64), strata, n_folds, seed + repeat)
        for k in range(n_folds):
            yield _checked(cohort, everyone[fold != k], everyone[fold == k])


def time_folds(cohort: Cohort, times: NDArray[np.float64], n_folds: int, repeats: int = 1) -> Iterator[tuple[Ids, Ids]]:
    """Yields training and test patients in the order of time: every training patient is earlier than every tested one.

    The patients are cut into ``n_folds + 1`` stretches of about equal size, never between equal times. Fold k tests
    stretch k + 1 and trains on all before it; the first is never tested. Whoever belongs to the same group as a tested
    patient is left out of training.

    Raises:
        DataError: If there are too few different times, or a fold has nobody to train on.
    """
    distinct, which = np.unique(times, return_inverse=True)
    if not 1 <= n_folds < len(distinct):
        raise DataError(
            f"{n_folds} folds by time need at least 1 fold and {n_folds + 1} different times; there are "
            f"{len(distinct)}."
        )
    stretch = _stretches(np.bincount(which), n_folds + 1)[which]
    groups, everyone = group_numbers(cohort), cohort.patients.to_numpy(dtype=object)
    parts = []
    for k in range(1, n_folds + 1):
        train = (stretch < k) & ~np.isin(groups, groups[stretch == k])
        if not train.any():
            raise DataError(f"Fold {k} by time has nobody to train on: all earlier patients share a group with later.")
        parts.append(_checked(cohort, everyone[train], everyone[stretch == k]))
    for _ in range(repeats):
        yield from parts


def patient_values(cohort: Cohort, column: Any, what: str) -> pd.Series[Any]:
    """Reads one value a patient, in the cohort's order; ``what`` the values are is for messages.

    The column is ``modality.column``, a Series indexed by patient, or values in the cohort's order.

    Raises:
        DataError: If a patient has none or several different ones, or the column does not exist.
    """
    check_patients(cohort)
    values = _given(cohort, column, what)
    pairs = pd.DataFrame({"patient": values.index, "value": values.to_numpy()}).dropna().drop_duplicates()
    pairs = pairs[pairs["patient"].isin(cohort.patients)]
    several = pairs[pairs["patient"].duplicated(keep=False)]
    if len(several):
        listed = [f"{patient} ({shown(list(part['value']))})" for patient, part in several.groupby("patient")]
        raise DataError(
            f"{len(listed)} patient(s) have several values of {what}: {shown(listed)}. "
            f"Leave them out, or give a Series with one {what} for each."
        )
    found = pairs.set_index("patient")["value"].reindex(cohort.patients)
    unknown = cohort.patients[found.isna().to_numpy()]
    if len(unknown):
        raise DataError(
            f"{len(unknown)} of {len(cohort)} patients have no {what}: {shown(list(unknown))}. "
            f"Leave them out (cohort.subset), or give a Series that says it."
        )
    return found


def as_numbers(values: pd.Series[Any]) -> NDArray[np.float64]:
    """Turns numbers, dates or texts of either kind (ISO 8601) into numbers that order them.

    Raises:
        DataError: If a text is neither.
    """
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return np.asarray(values.astype("int64"), dtype=np.float64)
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().all():
        return np.asarray(numbers, dtype=np.float64)
    dates = pd.to_datetime(values.astype(str), errors="coerce", format="ISO8601", utc=True)
    wrong = values[dates.isna()]
    if len(wrong):
        raise DataError(
            f"{len(wrong)} time(s) are neither numbers nor dates such as 2026-11-26: patient '{wrong.index[0]}' has "
            f"'{wrong.iloc[0]}'."
        )
    return np.asarray(dates.astype("int64"), dtype=np.float64)


def _given(cohort: Cohort, column: Any, what: str) -> pd.Series[Any]:
    if isinstance(column, pd.Series):
        return column.set_axis(column.index.astype(cohort.patients.dtype))
    if not isinstance(column, str):
        values = np.asarray(column)
        if values.shape != (len(cohort),):
            raise DataError(
                f"Expected one {what} for each of {len(cohort)} patients, found values of shape {values.shape}."
            )
        return pd.Series(values, cohort.patients)
    modality, _, name = column.partition(".")
    if modality not in cohort.modalities:
        raise DataError(f"'{column}': unknown modality '{modality}'.{did_you_mean(modality, cohort.modalities)}")
    frame = cohort.modalities[modality]
    if name not in frame:
        raise DataError(f"Modality '{modality}' has no column '{name}'.{did_you_mean(name, map(str, frame.columns))}")
    return frame[name]


def _stretches(counts: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Numbers the times, counted from the first, by which of n stretches they are in; no stretch is empty."""
    middle = (counts.cumsum() - counts / 2) / counts.sum()
    wanted = np.minimum((middle * n).astype(np.int64), n - 1)
    last = np.arange(len(counts))
    # A time with very many patients may swallow a stretch: each still begins somewhere, and in order.
    starts = np.searchsorted(wanted, np.arange(n))
    starts = np.maximum.accumulate(starts - np.arange(n)) + np.arange(n)
    starts = np.minimum(starts, len(counts) - n + np.arange(n))
    return np.searchsorted(starts, last, side="right") - 1


def _check_one_site(cohort: Cohort, sites: pd.Series[Any]) -> None:
    groups = pd.Series(group_numbers(cohort), cohort.patients)
    n_sites = sites.groupby(groups).nunique()
    for_each = groups.isin(n_sites.index[n_sites > 1]).to_numpy()
    if for_each.any():
        table = pd.DataFrame({"site": sites[for_each], "group": groups[for_each]})
        listed = [
            f"{shown(list(part.index))} ({shown(list(part['site'].unique()))})" for _, part in table.groupby("group")
        ]
        raise DataError(
            f"{len(listed)} group(s) have patients at several sites: {shown(listed)}. "
            f"Leave them out, or give their sites one name."
        )


def _checked(cohort: Cohort, train: Ids, test: Ids) -> tuple[Ids, Ids]:
    check_groups(cohort, {"train": train, "test": test})
    return train, test
