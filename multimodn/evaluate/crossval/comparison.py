"""Is one arm better than another? Paired differences of a task's main metric, with intervals and adjusted p-values.

Two intervals answer two questions. ``low, high``: what would other patients to test change, the models being as they
are? ``t_low, t_high``: what would other training patients, folds and seeds change, as far as folds differ? One arm is
called better than another only where both leave 0 out, so by their outer ends; else the two are tied. Patients are
taken to be independent.

References:
    Efron and Tibshirani (1993), An introduction to the bootstrap, https://doi.org/10.1201/9780429246593
    Holm (1979), A simple sequentially rejective multiple test procedure, https://www.jstor.org/stable/4615733
    Nadeau and Bengio (2003), https://doi.org/10.1023/A:1024068626366 (the corrected resampled t)
    Bengio and Grandvalet (2004), https://www.jmlr.org/papers/v5/grandvalet04a.html (why it is not exact)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd

from multimodn.errors import StudyError, did_you_mean
from multimodn.evaluate.crossval.bootstrap import cell_values, interval, resampled, two_sided
from multimodn.evaluate.crossval.out_of_fold import Answers, OutOfFold
from multimodn.findings.findings import Rival, Standing
from multimodn.metrics.ties import tied
from multimodn.statistics.bootstrap import Floats
from multimodn.statistics.delong import AurocDifference, delong_over_folds
from multimodn.statistics.multiple_testing import holm
from multimodn.statistics.resampled_t import corrected_resampled_t

COLUMNS = [
    *("task", "metric", "arm", "reference", "difference", "low", "high", "t_low", "t_high"),
    *("p_value", "p_adjusted", "verdict", "method", "n"),
]
ENDS = ("low", "high", "t_low", "t_high")
Method = Literal["bootstrap", "delong"]


def compare(
    found: OutOfFold,
    arm: str | Sequence[str],
    reference: str | Sequence[str],
    *,
    tasks: Sequence[str] | None = None,
    method: Method = "bootstrap",
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compares arms by their out-of-fold predictions, paired by patient.

    The metric is computed in each test fold and averaged over folds and repeats: predictions of different folds come
    from models with different calibration, and are not ranked against each other.

    - ``bootstrap``: patients are resampled, the same for both arms, each with the predictions of all repeats; 95 %
      percentile interval, and the p-value that goes with it.
    - ``delong``: DeLong's test over folds (`multimodn.statistics.delong`), where the metric is the AUROC of one column
      and every fold has two patients of each class; elsewhere the bootstrap, as the column ``method`` tells.

    Beside it stands the corrected resampled t-interval over folds (`multimodn.statistics.resampled_t`). It takes all
    patients of a repeat who are not tested in a fold as trained on: by time, where fewer are, it is too narrow.

    Args:
        found: Of `multimodn.evaluate.crossval.crossval.cross_predict`.
        arm: One arm or several.
        reference: What each is compared with, one or several; an arm is not compared with itself.
        tasks: Default: all.
        method: How to judge a difference.
        n_resamples: Bootstrap resamples.
        seed: Their seed.

    Returns:
        A row for each task, arm and reference: ``task, metric, arm, reference, difference`` (arm minus reference),
        ``low, high`` (over patients), ``t_low, t_high`` (over folds), ``p_value`` (the larger of the two),
        ``p_adjusted`` (Holm, over all rows of this table), ``verdict`` (``better`` or ``worse``: both intervals leave 0
        out on the same side; ``tied``: one holds it; ``unknown``: one is undefined), ``method, n`` (labelled patients).

    Raises:
        StudyError: If an arm, task or method is unknown.
    """
    if method not in get_args(Method):
        raise StudyError(f"Unknown method '{method}'.{did_you_mean(method, get_args(Method))}")
    arms, references = ([one] if isinstance(one, str) else list(one) for one in (arm, reference))
    pairs = [(one, other) for one in arms for other in references if one != other]
    rows = []
    for task in found.tasks if tasks is None else tasks:
        answers = {name: found.answers(name, task) for name in dict.fromkeys([*arms, *references])}
        rows += compared(task, answers, pairs, method, n_resamples, seed)
    return adjusted(pd.DataFrame(rows, columns=COLUMNS))


def averages(found: OutOfFold, n_resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Averages the main metric over folds and repeats, with a 95 % bootstrap interval over patients.

    The metric is computed in each test fold, see `compare`; the resamples are the same for all arms.

    Returns:
        ``arm, task, metric, mean, low, high, n``.
    """
    rows = []
    for task in found.tasks:
        answers = [found.answers(arm, task) for arm in found.arms]
        values, drawn = resampled(answers, n_resamples, seed)
        for arm, one, value, again in zip(found.arms, answers, values, drawn, strict=True):
            rows.append((arm, task, one.metric, float(value), *interval(again), len(one.patients)))
    return pd.DataFrame(rows, columns=["arm", "task", "metric", "mean", "low", "high", "n"])


def adjusted(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Returns comparisons with ``p_adjusted`` by Holm's method over all rows."""
    return comparisons.assign(p_adjusted=holm(comparisons["p_value"].to_numpy(np.float64)))


def standings(
    found: OutOfFold, *, tasks: Sequence[str] | None = None, n_resamples: int = 2000, seed: int = 0
) -> list[Standing]:
    """Says for each task which arm has the highest mean, and from which others it is not told apart; see `compare`.

    `multimodn.findings.sentences.standing` puts one into words.
    """
    means, places = averages(found, 1), []
    for task in found.tasks if tasks is None else tasks:
        ranked = means[means["task"] == task].dropna(subset="mean").sort_values("mean", ascending=False, kind="stable")
        if ranked.empty:
            continue
        first, *others = ranked["arm"]
        value, metric = float(ranked["mean"].iloc[0]), str(ranked["metric"].iloc[0])
        rows = compare(found, first, others, tasks=[task], n_resamples=n_resamples, seed=seed)
        rivals = [
            Rival(row["reference"], row["difference"], *outer(*(row[end] for end in ENDS)), row["verdict"])
            for row in rows.to_dict("records")
        ]
        places.append(Standing(str(task), metric, str(first), value, tuple(rivals)))
    return places


def outer(low: float, high: float, t_low: float, t_high: float) -> tuple[float, float]:
    """Returns the outer ends of two intervals; NaN where one is undefined."""
    return float(np.minimum(low, t_low)), float(np.maximum(high, t_high))


def compared(
    task: str,
    answers: dict[str, Answers],
    pairs: Sequence[tuple[str, str]],
    method: Method,
    n_resamples: int,
    seed: int,
) -> list[tuple[object, ...]]:
    """Compares pairs of arms on one task: rows of `COLUMNS`, ``p_adjusted`` being NaN; see `compare`."""
    tested = {(one, other): _delong(answers[one], answers[other]) for one, other in pairs if method == "delong"}
    names = list(dict.fromkeys(name for pair in pairs if tested.get(pair) is None for name in pair))
    values: dict[str, tuple[float, Floats]] = {}
    if names:
        found = zip(*resampled([answers[name] for name in names], n_resamples, seed), strict=True)
        values = {name: (float(value), drawn) for name, (value, drawn) in zip(names, found, strict=True)}
    by_cell = {name: cell_values(answers[name]) for name in dict.fromkeys(name for pair in pairs for name in pair)}
    rows: list[tuple[object, ...]] = []
    for one, other in pairs:
        test = tested.get((one, other))
        if test is not None:
            difference, low, high, p_value = test.difference, test.low, test.high, test.p_value
        else:
            apart, difference = values[one][1] - values[other][1], values[one][0] - values[other][0]
            (low, high), p_value = interval(apart), two_sided(apart)
        over_folds = corrected_resampled_t(by_cell[one] - by_cell[other], _test_to_train(answers[one]))
        ends = (low, high, over_folds.low, over_folds.high)
        judged = (*ends, float(np.maximum(p_value, over_folds.p_value)), np.nan, _verdict(*outer(*ends)))
        how = "bootstrap" if test is None else "delong"
        rows.append((task, answers[one].metric, one, other, difference, *judged, how, len(answers[one].patients)))
    return rows


def _verdict(low: float, high: float) -> str:
    if np.isnan(low) or np.isnan(high):
        return "unknown"
    return "better" if low > 0 else "worse" if high < 0 else "tied"


def _test_to_train(answers: Answers) -> float:
    """The patients tested by those trained on, averaged over folds."""
    sizes = pd.Series([len(cell.patients) for cell in answers.cells])
    everyone = sizes.groupby([cell.repeat for cell in answers.cells]).transform("sum")
    return float((sizes / (everyone - sizes).clip(lower=1)).mean())


def _delong(one: Answers, other: Answers) -> AurocDifference | None:
    """The test, or None where it does not apply."""
    if one.metric != "auroc" or len(one.outputs) != 1:
        return None
    folds = [
        (mine.patients, np.stack([tied(mine.link[:, 0]), tied(theirs.link[:, 0])], axis=1), mine.truth[:, 0] > 0)
        for mine, theirs in zip(one.cells, other.cells, strict=True)
    ]
    fewest = min(min(int(positive.sum()), int((~positive).sum())) for _, _, positive in folds)
    return delong_over_folds(folds, len(one.patients)) if fewest >= 2 else None
