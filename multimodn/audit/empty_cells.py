"""Whether empty cells, of columns of a table or variables of a series, depend on the outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from multimodn.audit.findings import CellAudit, CellDependence, PresenceAuroc, Test, is_high
from multimodn.audit.independence import ALPHA, CHUNK, Bools, Counts, Floats, emptiness_tests, matters, presence_auroc
from multimodn.base.encoder import Encoder
from multimodn.base.kinds import load_kind
from multimodn.data.cohort import Cohort
from multimodn.errors import DataError, raise_all
from multimodn.statistics.multiple_testing import holm
from multimodn.study.study import Study

MOST_KEPT = 100  # columns of a modality in the findings of a task, the strongest
MOST_INDICATORS = 500  # of more columns, as many principal components of their emptiness predict the outcome


@dataclass(frozen=True, eq=False)
class EmptyCells:
    """Which cells of a modality are empty; columns that are empty in the same patients are one."""

    modality: str
    hidden_from: tuple[str, ...]  # tasks that do not see the modality
    patients: Counts  # who have it, positions in the cohort ``(m,)``
    columns: list[tuple[str, ...]]  # D groups of columns that are empty in the same patients, some of them
    empty: Bools  # ``(m, D)``
    n_columns: int  # of the modality


def read_empty_cells(study: Study, cohort: Cohort) -> list[EmptyCells]:
    """Reads the cells of every modality in which some but not all cells of some column are empty.

    Raises:
        DataError: If a frame lacks a column that its encoder needs; every problem is listed.
    """
    found, problems = [], []
    for name, spec in study.steps.items():
        kind: type[Encoder] = load_kind("encoders", spec.kind)
        try:
            cells = kind.empty_cells(cohort.modalities[name], spec.options)
        except DataError as error:
            problems.append(f"modality '{name}': {error}")
            continue
        columns, empty = _distinct(list(map(str, cells.columns)), cells.to_numpy(np.bool_))
        if columns:
            rows, hidden = cohort.patients.get_indexer(cells.index), tuple(spec.exclude_for)
            found.append(EmptyCells(name, hidden, rows, columns, empty, len(cells.columns)))
    raise_all(problems, DataError, f"Study '{study.name}' cannot be audited")
    return found


def _distinct(names: Sequence[str], empty: Bools) -> tuple[list[tuple[str, ...]], Bools]:
    """Groups columns that are empty in the same patients; leaves out those that are empty in all or in none."""
    n_empty = empty.sum(axis=0)
    varied = np.flatnonzero((n_empty > 0) & (n_empty < len(empty)))
    if not len(varied):
        return [], empty[:, :0]
    packed = np.ascontiguousarray(np.packbits(empty[:, varied], axis=0).T)
    _, first, group = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # in the order of the table
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    columns: list[list[str]] = [[] for _ in order]
    for k, j in zip(place[group.ravel()].tolist(), varied.tolist(), strict=True):
        columns[k].append(names[j])
    return [tuple(each) for each in columns], empty[:, varied[first[order]]]


@dataclass(frozen=True, eq=False)
class _Tables:
    """The tables of one modality and task: labelled patients who have it, by stratum and emptiness."""

    cells: EmptyCells
    task: str
    stratum: Counts  # of the patients who have it and a label ``(k,)``
    labelled: Bools  # which of those who have it these are ``(m,)``
    counts: Counts  # of those with an empty cell ``(D, K)``
    strata: Counts  # of all ``(K,)``

    @classmethod
    def of(cls, cells: EmptyCells, task: str, stratum: Counts, n_strata: int) -> _Tables:
        """Counts; ``stratum``: of each patient of the cohort, -1 = no label."""
        own = stratum[cells.patients]
        labelled = own >= 0
        is_of = (own[labelled, None] == np.arange(n_strata)).astype(np.float32)
        n, step = cells.empty.shape[1], max(1, CHUNK // max(1, len(cells.empty)))
        parts = [cells.empty[labelled, k : k + step].T.astype(np.float32) @ is_of for k in range(0, n, step)]
        counts = np.concatenate(parts).round().astype(np.int64)
        return cls(cells, task, own[labelled], labelled, counts, np.bincount(own[labelled], minlength=n_strata))

    @property
    def tested(self) -> Counts:
        """The columns with some but not all cells empty in these patients, where there are outcomes to compare."""
        n_empty = self.counts.sum(axis=1)
        some: Bools = (n_empty > 0) & (n_empty < self.strata.sum()) & ((self.strata > 0).sum() > 1)
        return np.flatnonzero(some)


def audit_cells(
    cells: Sequence[EmptyCells], strata: Mapping[str, tuple[Counts, int]], seed: int = 0
) -> dict[str, tuple[CellAudit, ...]]:
    """Tests for each task and modality whether a cell is empty for a reason that has to do with the outcome.

    A modality that is hidden from a task is left out there. p is corrected for all columns of all modalities and tasks
    (Holm); ones that are empty in the same patients count once.

    Args:
        cells: The modalities with empty cells.
        strata: By task the stratum of each patient of the cohort ``(n,)``, -1 = no label, and how many strata it has.
        seed: Seed of folds, bootstrap and random tables.
    """
    tables = [
        _Tables.of(each, task, stratum, n_strata)
        for task, (stratum, n_strata) in strata.items()
        for each in cells
        if task not in each.hidden_from
    ]
    tables = [table for table in tables if len(table.tested)]
    n_tests = sum(len(table.tested) for table in tables)
    results = [_test(table, n_tests, seed) for table in tables]
    found: dict[str, list[CellAudit]] = {task: [] for task in strata}
    corrected = holm(np.concatenate([p for _, p, _ in results])) if results else np.zeros(0)
    for table, (tests, p, v) in zip(tables, results, strict=True):
        own, corrected = np.split(corrected, [len(p)])
        found[table.task].append(_cell_audit(table, tests, p, own, v, seed))
    return {task: tuple(each) for task, each in found.items()}


def _high(n_strata: int) -> Bools:
    return np.array([is_high(k, n_strata) for k in range(n_strata)], dtype=np.bool_)


def _test(table: _Tables, n_tests: int, seed: int) -> tuple[list[Test], Floats, Floats]:
    occurs, counts = table.strata > 0, table.counts[table.tested]
    both = np.stack([table.strata - counts, counts], axis=2)[:, occurs]
    return emptiness_tests(both, _high(len(table.strata))[occurs], n_tests, seed)


def _cell_audit(
    table: _Tables, tests: Sequence[Test], p: Floats, p_corrected: Floats, v: Floats, seed: int
) -> CellAudit:
    counts, strata, tested = table.counts[table.tested], table.strata, table.tested
    high, occurs = _high(len(strata)), strata > 0
    shares = [counts[:, half].sum(axis=1) / n if (n := strata[half].sum()) else None for half in (~high, high)]
    never, always = (counts == 0) & occurs, (counts == strata) & occurs
    numbers = [[None] * len(tested) if share is None else share.tolist() for share in shares]
    alarm = np.array(
        [
            q < ALPHA and matters(strength, up - low if low is not None and up is not None else 0.0)
            for q, strength, low, up in zip(p_corrected.tolist(), v.tolist(), *numbers, strict=True)
        ],
        dtype=np.bool_,
    )
    size = np.array([len(table.cells.columns[k]) for k in tested])
    kept = np.lexsort((-v, p, ~alarm))[:MOST_KEPT]
    return CellAudit(
        task=table.task,
        modality=table.cells.modality,
        strata=tuple(strata.tolist()),
        n_columns=table.cells.n_columns,
        n_tested=int(size.sum()),
        n_tests=len(tested),
        n_alarms=int(size[alarm].sum()),
        n_unidentifiable=int(size[(never | always).any(axis=1)].sum()),
        auroc=_auroc(table, seed),
        cells=tuple(
            CellDependence(
                table.task, table.cells.modality, table.cells.columns[tested[k]], tuple(counts[k].tolist()),
                numbers[0][k], numbers[1][k],
                tuple(np.flatnonzero(never[k]).tolist()), tuple(np.flatnonzero(always[k]).tolist()),
                tests[k], float(p[k]), float(p_corrected[k]), float(v[k]), bool(alarm[k]),
            )
            for k in kept.tolist()
        ),
    )  # fmt: skip


def _auroc(table: _Tables, seed: int) -> PresenceAuroc:
    """Predicts the outcome from which cells are empty, by a ridge logistic regression on patients left out."""
    empty = table.cells.empty[table.labelled][:, table.tested]
    patterns, pattern = np.unique(np.packbits(empty, axis=1), axis=0, return_inverse=True)
    rows = np.unpackbits(patterns, axis=1, count=empty.shape[1]).astype(np.float64)
    if rows.shape[1] > MOST_INDICATORS:
        from sklearn.decomposition import PCA

        n = min(MOST_INDICATORS, len(rows))
        rows = PCA(n, svd_solver="randomized", random_state=seed).fit_transform(rows)
    high = _high(len(table.strata))[table.stratum]
    return presence_auroc(pattern.ravel(), rows, high, seed, n_repeats=1, alike="all have the same empty cells")
