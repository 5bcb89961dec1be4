"""Splits into training, validation and test patients; a group of patients is never in two parts."""

from __future__ import annotations

import hashlib
import itertools
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.data.cohort import Cohort
from multimodn.data.shares import are_near, nearest_division
from multimodn.data.sources import read_patients
from multimodn.errors import DataError, DataWarning, did_you_mean, raise_all, shown
from multimodn.study.study import ColumnSplit, FileSplit, RandomSplit, Study

BINS = 5  # quantiles of a continuous label
PARTS = ("train", "validation", "test")
SHARE: float = RandomSplit.model_fields["validation"].default  # of training patients drawn for validation
LEAST_FOLD = 10  # test patients of a fold that a split names
PART_LIKE = re.compile("train(ing)?|val(id|idation)?|dev(elopment)?|test(ing)?", re.IGNORECASE)

Ids = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Split:
    """Patient identifiers of the three parts; a patient in two of them raises a DataError."""

    train: Ids
    validation: Ids
    test: Ids
    # whether `with_validation` drew the validation patients from given training patients
    is_validation_drawn: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        for part in PARTS:
            object.__setattr__(self, part, np.asarray(getattr(self, part), dtype=object))
        ids = pd.Index(np.concatenate([getattr(self, part) for part in PARTS]))
        twice = ids[ids.duplicated()].unique()
        if len(twice):
            raise DataError(f"{len(twice)} patient(s) are in the split twice: {shown(list(twice))}.")

    def __repr__(self) -> str:
        return f"Split({', '.join(f'{part} {len(getattr(self, part))}' for part in PARTS)})"

    def hash(self) -> str:
        """Returns a SHA-256 of the three sets of identifiers, whatever their order."""
        texts = ["\0".join(sorted(map(str, getattr(self, part)))) for part in PARTS]
        return hashlib.sha256("\0\0".join(texts).encode()).hexdigest()


def make_split(study: Study, cohort: Cohort) -> Split:
    """Splits a cohort as its study specifies; see `with_validation` for a split that names no validation patients.

    Raises:
        DataError: If a group is in two parts, a patient is unknown, or there are no training patients.
    """
    if isinstance(study.split, RandomSplit):
        split = _split_at_random(study.split, cohort)
    elif (named := named_folds(study, cohort)) is not None:
        split = _split_by_fold(study.split, named)
    elif isinstance(study.split, ColumnSplit):
        split = _split_by_column(study.split, cohort)
    else:
        split = _split_by_files(study, study.split, cohort)
    if not len(split.train):
        raise DataError("The split leaves no patients to train on.")
    check_groups(cohort, {part: getattr(split, part) for part in PARTS})
    return split if isinstance(study.split, RandomSplit) else with_validation(study, cohort, split)


def with_validation(study: Study, cohort: Cohort, split: Split) -> Split:
    """Draws validation patients from the training patients of a split that was given without any, and warns.

    Without them nothing would stop the training, and nothing would be calibrated. A fifth is drawn, in whole groups,
    evenly by ``split.stratify`` or else the first task, with the seed of training. The split stays as it is if there
    are fewer than five groups, with several ``members`` (each leaves out a fold), and where a study asks for
    ``validation: 0``.

    Warns:
        DataWarning: How many were drawn.
    """
    n_members = study.training.n_members(len(split.train) + len(split.validation))
    is_unwanted = n_members > 1 or getattr(study.split, "validation", SHARE) == 0
    rows = cohort.patients.get_indexer(pd.Index(split.train, dtype=object))
    groups = group_numbers(cohort)[rows]
    n_parts = round(1 / SHARE)
    if len(split.validation) or is_unwanted or (rows < 0).any() or len(np.unique(groups)) < n_parts:
        return split
    stratify, seed = stratifying_task(study), study.training.seed
    strata = label_strata(cohort, stratify if stratify in cohort.targets else None)[rows]  # without labels fit refuses
    fold = deal(groups, strata, n_parts, seed)
    sizes, wanted = np.bincount(fold, minlength=n_parts), len(rows) / n_parts
    is_near = are_near(sizes[:1], np.array([wanted]))  # the first is, unless groups are unequal
    drawn = fold == (0 if is_near else int(np.argmin(np.abs(sizes - wanted))))
    apart = "" if cohort.groups is None else "in whole groups and "
    warnings.warn(
        f"The split has no validation part: {int(drawn.sum())} of its {len(drawn)} training patients, drawn {apart}"
        f"evenly by '{stratify}' (seed {seed}), choose the epoch and calibrate. Name a validation part to choose them "
        f"yourself; with training.members above 1 none is needed.",
        DataWarning,
        stacklevel=2,
    )
    return Split(split.train[~drawn], split.train[drawn], split.test, is_validation_drawn=True)


def stratifying_task(study: Study) -> str:
    """Names the task by which patients are spread evenly: ``split.stratify``, or else the first."""
    return getattr(study.split, "stratify", None) or study.tasks[0].name


def folds(
    cohort: Cohort, n_folds: int, repeats: int = 1, seed: int = 0, stratify: str | None = None
) -> Iterator[tuple[Ids, Ids]]:
    """Yields the training and test patients of repeated cross-validation, ``repeats * n_folds`` times.

    Args:
        cohort: Its groups stay together.
        n_folds: Number of folds; each is the test part once in a repeat.
        repeats: How often the folds are drawn anew.
        seed: Of the first repeat; repeat r uses ``seed + r``.
        stratify: A task whose labels are spread evenly: numbers by quantile, missing labels as a class.

    Raises:
        DataError: If there are fewer groups than folds, a patient is in the cohort twice, or the task is unknown.
    """
    check_patients(cohort)
    groups = group_numbers(cohort)
    n_groups = int(groups.max()) + 1
    if not 2 <= n_folds <= n_groups:
        raise DataError(f"{n_folds} folds need at least 2 folds and as many groups; there are {n_groups} groups.")
    strata = label_strata(cohort, stratify)
    ids = cohort.patients.to_numpy(dtype=object)
    for repeat in range(repeats):
        fold = deal(groups, strata, n_folds, seed + repeat)
        for k in range(n_folds):
            train, test = ids[fold != k], ids[fold == k]
            check_groups(cohort, {"train": train, "test": test})
            yield train, test


def named_folds(study: Study, cohort: Cohort) -> dict[str, Ids] | None:
    """Returns the test patients of each fold that a study's split names, by name; None if it names no folds.

    A split column names folds if it holds at least three values, none of which is train, validation, test or a word
    for them; a list of split files names one fold a file. A patient without a fold is in no part.

    Raises:
        DataError: If there is only one fold, one has fewer than `LEAST_FOLD` patients, a group is in two, or a file
            cannot be read.
    """
    spec = study.split
    if isinstance(spec, FileSplit) and isinstance(spec.files, list):
        named, where = _listed(study, {Path(file).stem: file for file in spec.files}, cohort), "The split files name"
    elif isinstance(spec, ColumnSplit) and cohort.split is not None:
        values, where = _split_values(cohort.split), f"Split column '{spec.column}' names"
        distinct = sorted({str(value) for value in values.dropna().unique()}, key=_in_order)
        are_parts = any(PART_LIKE.fullmatch(value) for value in distinct) or len(distinct) == 2
        if are_parts or not distinct:
            return None
        ids = cohort.patients.to_numpy(dtype=object)
        named = {name: ids[(values == name).fillna(False).to_numpy(dtype=bool)] for name in distinct}
    else:
        return None
    if len(named) == 1:
        raise DataError(f"{where} one fold only, {next(iter(named))}: cross-validation needs at least two.")
    few = [f"{name} ({len(ids)})" for name, ids in named.items() if len(ids) < LEAST_FOLD]
    if few:
        raise DataError(
            f"{where} folds of fewer than {LEAST_FOLD} patients: {shown(few)}. That is too few to test: merge "
            f"them with others, or correct the names."
        )
    check_groups(cohort, named)
    return named


def fold_pairs(named: dict[str, Ids]) -> list[tuple[Ids, Ids]]:
    """Returns for each fold the patients of all others, and its own; a patient listed twice raises a DataError."""
    nobody = np.array([], dtype=object)
    pairs = []
    for name, test in named.items():
        split = Split(np.concatenate([ids for other, ids in named.items() if other != name]), nobody, test)
        pairs.append((split.train, split.test))
    return pairs


def _in_order(name: str) -> tuple[int, str]:
    """Orders whole numbers by value, and before texts."""
    return (int(name), "") if name.isdecimal() else (10**9, name)


def group_numbers(cohort: Cohort) -> NDArray[np.int64]:
    """Numbers the groups of patients; a patient without a group forms one."""
    if cohort.groups is None:
        return np.arange(len(cohort))
    numbers, distinct = pd.factorize(cohort.groups)
    ungrouped = numbers < 0
    numbers[ungrouped] = len(distinct) + np.arange(int(ungrouped.sum()))
    return numbers.astype(np.int64)


def label_strata(cohort: Cohort, stratify: str | None) -> NDArray[np.int64]:
    """Numbers the strata of patients in each registry: classes, quantiles of numbers, and one without a label."""
    strata = np.zeros(len(cohort), dtype=np.int64)
    if cohort.registry is not None:
        strata = pd.factorize(cohort.registry)[0].astype(np.int64)
    if stratify is None:
        return strata
    if stratify not in cohort.targets:
        raise DataError(f"Unknown task '{stratify}' to stratify by.{did_you_mean(stratify, cohort.targets)}")
    targets = cohort.targets[stratify]
    for values in (targets[name] for name in targets.columns):
        if pd.api.types.is_numeric_dtype(values.dtype) and values.nunique() > 2 * BINS:
            values = pd.qcut(values, BINS, labels=False, duplicates="drop")
        codes = pd.factorize(values)[0] + 1
        strata = pd.factorize(strata * (int(codes.max()) + 1) + codes)[0]
    return strata


def deal(groups: NDArray[np.int64], strata: NDArray[np.int64], n_folds: int, seed: int) -> NDArray[np.int64]:
    """Deals patients into folds; exactly stratified where no two patients share a group."""
    fold = np.empty(len(groups), dtype=np.int64)
    if len(np.unique(groups)) == len(groups):  # stratum by stratum, in random order within each
        order = np.random.default_rng(seed).permutation(len(groups))
        order = order[np.argsort(strata[order], kind="stable")]
        fold[order] = np.arange(len(groups)) % n_folds
        return fold
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    # scikit-learn warns of strata smaller than the number of folds: they are merged with the largest
    counts = np.bincount(strata)
    merged = np.where(counts[strata] < n_folds, counts.argmax(), strata)
    dealers: list[Any] = [GroupKFold(n_folds, shuffle=True, random_state=seed)]
    if len(np.unique(merged)) > 1:
        dealers.insert(0, StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed))
    for dealer in dealers:  # with few groups the stratified one may leave a fold empty
        for k, (_, rows) in enumerate(dealer.split(groups, merged, groups)):
            fold[rows] = k
        if len(np.unique(fold)) == n_folds:
            break
    return fold


def _split_at_random(spec: RandomSplit, cohort: Cohort) -> Split:
    groups, strata = group_numbers(cohort), label_strata(cohort, spec.stratify)
    part = np.zeros(len(cohort), dtype=np.int64)
    generator = np.random.default_rng(spec.seed)
    for number, share in ((2, spec.test), (1, spec.validation)):
        part[_draw(groups, strata, part == 0, share * len(cohort), generator)] = number
    part = _near_the_shares(spec, groups, strata, part)
    ids = cohort.patients.to_numpy(dtype=object)
    return Split(*(ids[part == number] for number in range(3)))


def _near_the_shares(
    spec: RandomSplit, groups: NDArray[np.int64], strata: NDArray[np.int64], part: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Returns the drawn parts ``(n,)``, or nearer ones where few or unequal groups took them far from their shares.

    Raises:
        DataError: If a part would be empty.
    """
    shares = np.array([1 - spec.validation - spec.test, spec.validation, spec.test])
    if not are_near(np.bincount(part, minlength=3), shares * len(part)):
        part = nearest_division(groups, strata, part, shares.tolist(), spec.seed)
    empty = [PARTS[k] for k in np.flatnonzero((np.bincount(part, minlength=3) == 0) & (shares > 0))]
    if empty:
        n_groups, n_parts = len(np.unique(groups)), int((shares > 0).sum())
        who = f"{len(part)} patients" if n_groups == len(part) else f"{n_groups} groups, which stay together,"
        raise DataError(
            f"The split leaves nobody to the {' and '.join(empty)} part: {who} cannot be divided into {n_parts} parts. "
            f"Ask for fewer parts, as by `validation: 0` or `test: 0`, or name a finer `group`."
        )
    return part


def _draw(
    groups: NDArray[np.int64], strata: NDArray[np.int64], free: NDArray[np.bool_], n: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draws whole groups of about ``n`` free patients in all, spread over their strata."""
    table = pd.DataFrame({"group": groups[free], "stratum": strata[free]})
    grouped = table.groupby("group", sort=True).agg(stratum=("stratum", "first"), n=("stratum", "size"))
    grouped = grouped.iloc[rng.permutation(len(grouped))].sort_values("stratum", kind="stable")
    share = min(1.0, n / max(1, int(free.sum())))
    # the group at which the running total passes a whole number is taken: each stretch of groups gives its share
    total = grouped["n"].cumsum() * share / max(1.0, float(grouped["n"].mean()))
    taken = np.diff(np.floor(total.to_numpy() + rng.uniform()), prepend=0.0) >= 1
    return free & np.isin(groups, grouped.index[taken].to_numpy())


def _split_values(column: pd.Series[Any]) -> pd.Series[Any]:
    """Returns the values of a split column as text; 1.0, of a column with empty cells, as 1."""
    if pd.api.types.is_float_dtype(column.dtype) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    values = column.astype("string").str.strip()
    return values.where(values != "")


def _split_by_column(spec: ColumnSplit, cohort: Cohort) -> Split:
    if cohort.split is None:
        raise DataError(f"The cohort was loaded without the split column '{spec.column}'.")
    values = _split_values(cohort.split)
    wrong = sorted({str(value) for value in values.dropna().unique()} - set(PARTS))
    if wrong:
        folds_too = " Names of folds need at least three different values."
        raise DataError(f"Split column '{spec.column}' holds '{wrong[0]}'.{did_you_mean(wrong[0], PARTS)}{folds_too}")
    if spec.test is not None:
        raise DataError(f"Split column '{spec.column}' names parts, not folds: remove `test: {spec.test}`.")
    ids = cohort.patients.to_numpy(dtype=object)
    return Split(*(ids[(values == part).fillna(False).to_numpy(dtype=bool)] for part in PARTS))


def _split_by_fold(spec: ColumnSplit | FileSplit, named: dict[str, Ids]) -> Split:
    if spec.test is None:
        raise DataError(
            f"The split names {len(named)} folds ({shown(list(named))}), and cross-validation tests each once. To "
            f"train one model, name the fold that is tested, such as `test: {next(iter(named))}`."
        )
    tested = str(spec.test)
    if tested not in named:
        raise DataError(f"The split names no fold '{tested}'.{did_you_mean(tested, named)}")
    train, test = fold_pairs(named)[list(named).index(tested)]
    return Split(train, np.array([], dtype=object), test)


def _split_by_files(study: Study, spec: FileSplit, cohort: Cohort) -> Split:
    files = {part: getattr(spec.files, part) for part in PARTS}
    parts = _listed(study, {part: file for part, file in files.items() if file is not None}, cohort)
    return Split(*(parts.get(part, np.array([], dtype=object)) for part in PARTS))


def _listed(study: Study, files: dict[str, str], cohort: Cohort) -> dict[str, Ids]:
    """Reads the patients that files list, by the names of parts or folds."""
    problems, parts = list[str](), dict[str, Ids]()
    for part, file in files.items():
        try:
            ids = pd.Index(read_patients(study.folder / file, study.cohort.patient), dtype=object)
        except DataError as error:
            problems.append(f"{part}: {error}")
            continue
        unknown = list(ids[~ids.isin(cohort.patients)])
        if unknown:
            problems.append(f"{part}: {len(unknown)} patient(s) of {file} are not in the cohort: {shown(unknown)}.")
        parts[part] = ids.to_numpy()
    raise_all(problems, DataError, "The split files cannot be used")
    return parts


def check_patients(cohort: Cohort) -> None:
    """Refuses a cohort with a patient twice, who could end up in both training and test part."""
    if not cohort.patients.is_unique:
        twice = cohort.patients[cohort.patients.duplicated()].unique()
        raise DataError(f"{len(twice)} patient(s) are in the cohort twice: {shown(list(twice))}.")


def check_groups(cohort: Cohort, parts: dict[str, Ids]) -> None:
    """Refuses a group that is in two parts; a patient without a group forms one."""
    numbers = group_numbers(cohort)
    rows_of = {part: cohort.patients.get_indexer(pd.Index(ids, dtype=object)) for part, ids in parts.items()}
    seen = {part: set(numbers[rows].tolist()) for part, rows in rows_of.items()}
    for one, other in itertools.combinations(parts, 2):
        both = sorted(seen[one] & seen[other])
        if both:
            rows = [int(np.flatnonzero(numbers == number)[0]) for number in both[:8]]
            names = [cohort.patients[i] if cohort.groups is None else cohort.groups.iloc[i] for i in rows]
            raise DataError(f"{len(both)} group(s) are both in {one} and in {other}: {shown(names)}.")
