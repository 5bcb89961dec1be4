"""Tests of independence in tables of counts, and what presence alone predicts.

Everything works on counts of patients who are alike, so that a cohort of any size costs what its patterns cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodn.audit.findings import PresenceAuroc, Test
from multimodn.metrics.classification import ranked_pairs

ALPHA = 0.01  # of a corrected p: one cohort in a hundred without any dependence raises a false alarm
NEGLIGIBLE = 0.1  # effects below this are negligible, see `matters`
FEWEST = 5  # expected patients in a cell for which the chi-squared distribution is trusted
FIRST_DRAWS, MORE_DRAWS, MOST_DRAWS = 999, 500, 99_999
N_FOLDS, N_REPEATS, N_BOOTSTRAP = 5, 3, 500
CHUNK = 4_000_000  # numbers held at once

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Independence:
    """The result of a test of independence: how p was found, p, and Cramér's V in [0, 1]."""

    test: Test
    p: float
    cramers_v: float


def independence(table: Counts, n_tests: int = 1, seed: int = 0) -> Independence:
    """Tests whether rows and columns of a table of counts ``(r, c)`` are independent; empty ones are left out.

    The chi-squared test where it is to be trusted: at least `FEWEST` patients expected in each cell. Otherwise Fisher's
    exact test of a table of two by two, and for larger ones the chi-squared statistic among random tables with the same
    margins: so many that p can be small enough to be corrected for ``n_tests``.
    """
    from scipy import stats

    table = table[table.any(axis=1)][:, table.any(axis=0)]
    if min(table.shape) < 2:
        return Independence("none", 1.0, 0.0)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    statistic = _chi_squared(table, expected)
    v = float(np.sqrt(statistic / (table.sum() * (min(table.shape) - 1))))
    if expected.min() >= FEWEST:
        n_free = (table.shape[0] - 1) * (table.shape[1] - 1)
        return Independence("chi-squared", float(stats.chi2.sf(statistic, n_free)), v)
    if table.shape == (2, 2):
        return Independence("fisher", float(stats.fisher_exact(table).pvalue), v)
    return Independence("permutation", _permuted_p(table, expected, statistic, n_tests, seed), v)


def emptiness_tests(tables: Counts, high: Bools, n_tests: int, seed: int = 0) -> tuple[list[Test], Floats, Floats]:
    """Tests many tables of outcome strata (rows) and emptiness (columns), each as `independence` does.

    Chi-squared tests are computed together, other ones once for equal tables. With so many tests that random tables
    could never give a p that is small enough to be corrected, those of more than two strata compare the halves of the
    strata, exactly.

    Args:
        tables: Patients ``(D, K, 2)``, no row or column without any; how many each stratum has is the same in all.
        high: Whether each stratum is in the upper half ``(K,)``.
        n_tests: For how many tests p will be corrected.
        seed: Seed of random tables.

    Returns:
        For each table how p was found, p, and Cramér's V.
    """
    if not len(tables) or tables.shape[1] < 2:
        return ["none"] * len(tables), np.ones(len(tables)), np.zeros(len(tables))
    from scipy import stats

    expected = tables.sum(axis=2, keepdims=True) * tables.sum(axis=1, keepdims=True) / tables[0].sum()
    is_sparse = (expected < FEWEST).any(axis=(1, 2))
    statistic = _chi_squared(tables, expected)
    tests: list[Test] = ["chi-squared"] * len(tables)
    p, v = stats.chi2.sf(statistic, tables.shape[1] - 1), np.sqrt(statistic / tables[0].sum())
    sparse = tables[is_sparse]
    if tables.shape[1] > 2 and n_tests * MORE_DRAWS > MOST_DRAWS and high.any() and not high.all():
        sparse = np.stack([sparse[:, ~high].sum(axis=1), sparse[:, high].sum(axis=1)], axis=1)
    different, which = np.unique(sparse.reshape(len(sparse), 2 * sparse.shape[1]), axis=0, return_inverse=True)
    results = [independence(table.reshape(-1, 2), n_tests, seed) for table in different]
    for place, k in zip(np.flatnonzero(is_sparse).tolist(), which.ravel().tolist(), strict=True):
        tests[place], p[place], v[place] = results[k].test, results[k].p, results[k].cramers_v
    return tests, p, v


def _chi_squared(table: NDArray[Any], expected: Floats) -> Floats:
    return np.asarray(((table - expected) ** 2 / expected).sum(axis=(-2, -1)))


def _permuted_p(table: Counts, expected: Floats, statistic: Floats, n_tests: int, seed: int) -> float:
    """The share of random tables that are at least as far from independence; more are drawn where it is small."""
    from scipy import stats

    generator = np.random.default_rng(seed)
    tables = stats.random_table(table.sum(axis=1), table.sum(axis=0))
    n_drawn = n_beyond = 0
    for n_wanted in (FIRST_DRAWS, min(MOST_DRAWS, MORE_DRAWS * n_tests)):
        while n_drawn < n_wanted:
            n = min(n_wanted - n_drawn, max(1, CHUNK // table.size))
            drawn = _chi_squared(tables.rvs(n, random_state=generator), expected)
            n_beyond += int((drawn >= statistic * (1 - 1e-9)).sum())
            n_drawn += n
        if n_beyond / n_drawn > 5 * ALPHA:
            break
    return (n_beyond + 1) / (n_drawn + 1)


def matters(cramers_v: float, difference: float = 0.0) -> bool:
    """Returns whether a dependence is more than negligible: Cramér's V or a difference of shares of at least .1.

    V = .1 is the usual bound of a small effect; for an outcome that half of the patients have and a modality that half
    of them have, it is a difference in presence of 10 points, and presence alone then predicts with AUROC .55. V
    shrinks as an outcome gets rare (20 points at a prevalence of 5 % are V = .09) although the shortcut stays as good,
    hence the difference itself as well. Without this rule any difference raises an alarm in a large enough cohort.
    """
    return cramers_v >= NEGLIGIBLE or abs(difference) >= NEGLIGIBLE


def presence_auroc(
    pattern: Counts,
    patterns: Bools | Floats,
    high: Bools,
    seed: int = 0,
    n_repeats: int = N_REPEATS,
    alike: str = "all labelled patients have the same modalities",
) -> PresenceAuroc:
    """Predicts the outcome from presence alone, by logistic regression in repeated stratified cross-validation.

    Pairs of patients are compared within a fold, where one model scored both: between folds, patients of one pattern
    would differ by their folds' outcomes. The interval is of a bootstrap over patients that keeps the models. In
    simulated cohorts of 600 it covered true values of .575 and .7 in about 95 %, but .5 in about 80 % only, since
    models of nothing vary most: an interval just beside .5 is no finding, which the tests of `independence` are for.

    Args:
        pattern: The pattern of each labelled patient, ``(n,)`` positions in `patterns`.
        patterns: Presence in each pattern ``(P, M)``, or principal components of it.
        high: Whether each patient has the event ``(n,)``, or an outcome in the upper half.
        seed: Seed of folds and bootstrap.
        n_repeats: Of the cross-validation.
        alike: What is said where all patients have one pattern.
    """
    n_folds = int(min(N_FOLDS, high.sum(), (~high).sum()))
    if n_folds < 2:
        return PresenceAuroc(None, None, None, "fewer than two patients in one half of the outcomes")
    if len(np.unique(patterns[np.unique(pattern)], axis=0)) == 1:
        return PresenceAuroc(0.5, 0.5, 0.5, alike)
    fold = _deal(high, n_folds, n_repeats, seed)
    radix = np.ravel_multi_index((pattern, high.astype(np.int64), *fold), (len(patterns), 2, *[n_folds] * len(fold)))
    _, first, n_alike = np.unique(radix, return_index=True, return_counts=True)
    fold = fold[:, first]
    score = np.stack([_scores(pattern[first], patterns, high[first], row, n_alike, n_folds) for row in fold])
    value = _auroc(n_alike[None, :].astype(np.float64), fold, score, high[first])[0]
    generator = np.random.default_rng(seed)
    draws: list[Floats] = []
    chunk = max(1, CHUNK // len(first))
    for start in range(0, N_BOOTSTRAP, chunk):
        n = min(chunk, N_BOOTSTRAP - start)
        drawn = generator.multinomial(len(high), n_alike / len(high), size=n).astype(np.float64)
        draws.append(_auroc(drawn, fold, score, high[first]))
    low, top = np.nanquantile(np.concatenate(draws), [0.025, 0.975])
    return PresenceAuroc(float(value), float(low), float(top))


def _deal(high: Bools, n_folds: int, n_repeats: int, seed: int) -> Counts:
    """The fold of each patient in each repeat, ``(repeats, n)``."""
    from sklearn.model_selection import RepeatedStratifiedKFold

    fold = np.empty((n_repeats, len(high)), dtype=np.int64)
    dealer = RepeatedStratifiedKFold(n_splits=n_folds, n_repeats=n_repeats, random_state=seed)
    for k, (_, rows) in enumerate(dealer.split(high, high)):
        fold[k // n_folds, rows] = k % n_folds
    return fold


def _scores(
    pattern: Counts, patterns: Bools | Floats, high: Bools, fold: Counts, n_alike: Counts, n_folds: int
) -> Floats:
    """The score that the other folds' model gives each kind of patients."""
    from sklearn.linear_model import LogisticRegression

    shape = (n_folds, len(patterns), 2)
    flat = np.ravel_multi_index((fold, pattern, high.astype(np.int64)), shape)
    counts = np.bincount(flat, weights=n_alike, minlength=int(np.prod(shape))).reshape(shape)
    score = np.empty(shape[:2])
    rows, outcome = np.repeat(patterns, 2, axis=0).astype(np.float64), np.tile([0, 1], len(patterns))
    for k in range(n_folds):
        weights = (counts.sum(axis=0) - counts[k]).ravel()
        model = LogisticRegression().fit(rows[weights > 0], outcome[weights > 0], weights[weights > 0])
        score[k] = model.decision_function(patterns.astype(np.float64))
    scores: Floats = score[fold, pattern]
    return scores


def _auroc(weights: Floats, fold: Counts, score: Floats, high: Bools) -> Floats:
    """The share of rightly ordered pairs within folds, ties counting a half, ``(B,)``.

    Of kinds of patients: how many are in each resample, ``weights`` ``(B, kinds)``; in each repeat their ``fold`` and
    their ``score`` there ``(repeats, kinds)``; ``high``: whether they have the event ``(kinds,)``.
    """
    right, total = np.zeros(len(weights)), np.zeros(len(weights))
    for folds, scores in zip(fold, score, strict=True):
        for k in np.unique(folds):
            members = folds == k
            pairs = ranked_pairs(scores[members], high[members])(weights[:, members])
            right, total = right + pairs[0], total + pairs[1]
    with np.errstate(invalid="ignore"):  # a resample without a pair has no value
        auroc: Floats = right / total
    return auroc
