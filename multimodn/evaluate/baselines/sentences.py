"""Says in plain sentences whether fusion helped, for which task and for whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from multimodn.errors import DataError
from multimodn.findings.frames import ComparisonFrame
from multimodn.findings.names import BEST, LATE, arm_name

METRICS = {"auroc": "AUROC", "cindex": "C-index", "r2": "R²"}
MINUS = "\u2212"
MOST_NAMED = 4
"""Groups that a sentence names."""
CHANCE = 0.05
CLOSE = 0.05
"""Difference below which two values of a metric are as good as each other, if the whole interval is below it."""


def sentences(frame: pd.DataFrame) -> list[str]:
    """Says for each task whether fusion helped, whether a ridge regression does as well, and for whom.

    "Helped", "better" and "clearly" mean that the 95 % interval of the paired difference leaves out 0; where Holm's
    adjustment for all comparisons takes that back, the sentence says so. Arms that are neither late ridge fusion nor
    the best single modality are named only if they clearly differ.

    Args:
        frame: What `multimodn.evaluate.baselines.compare.compare_with_baselines` returned.

    Returns:
        A sentence for each task.

    Raises:
        DataError: If the frame has no rows or lacks columns.
    """
    lacking = [name for name in ("task", "arm", "by", "difference", "p_adjusted") if name not in frame]
    if lacking or frame.empty:
        fault = f"lacks {', '.join(lacking)}" if lacking else "has no rows"
        raise DataError(f"No verdict: the frame {fault}. Give the one of compare_with_baselines, with all its columns.")
    about = ComparisonFrame.of(frame)
    return [
        _of_task(str(task), rows, str(about.best_single.get(str(task), "")), about.seen.get(str(task), []))
        for task, rows in frame.groupby("task", sort=False)
    ]


def _of_task(task: str, rows: pd.DataFrame, best: str, every: Sequence[str]) -> str:
    overall = {str(row["arm"]): row for _, row in rows[rows["by"] == "overall"].iterrows()}
    ours, baselines = overall["ours"], {arm: row for arm, row in overall.items() if arm != "ours"}
    metric = METRICS.get(str(ours["metric"]), str(ours["metric"]))
    start = f"{task}: {metric} {_number(ours['value'])} in {int(ours['n']):,} test patients"
    if not baselines:
        return f"{start}; no baseline could predict this task."
    if all(np.isnan(row["difference_low"]) for row in baselines.values()):
        return f"{start}; too few of them, or of their outcomes, to say whether fusion helped."
    found = []
    if BEST in baselines:
        found.append(_fusion(baselines[BEST], best.removeprefix("single:")))
    if LATE in baselines:
        found.append(_ridge(baselines[LATE]))
    for arm, row in baselines.items():
        if arm not in {BEST, LATE} and _side(row):
            word = "better" if _side(row) > 0 else "worse"
            found.append(f"it is {word} than {arm_name(arm)} ({_gap(row)})")
    return "; ".join([start, *found, *_groups(rows, every)]) + "."


def _side(row: pd.Series[Any]) -> int:
    """1: ours is better by more than the interval, -1: worse, 0: neither."""
    return int(row["difference_low"] > 0) - int(row["difference_high"] < 0)


def _fusion(row: pd.Series[Any], best: str) -> str:
    single = f"the best single modality ({best})" if best else "the best single modality"
    if np.isnan(row["difference_low"]):
        return f"whether fusion helped beyond {single} cannot be said"
    is_close = max(-row["difference_low"], row["difference_high"]) < CLOSE
    said = {
        1: f"multimodal fusion {'may have helped' if _is_lost(row) else 'helped'}: better than",
        0: f"multimodal fusion made no clear difference: {'as good as' if is_close else 'not told apart from'}",
        -1: "multimodal fusion did not help: worse than",
    }[_side(row)]
    return f"{said} {single} with {_gap(row)}"


def _ridge(row: pd.Series[Any]) -> str:
    if np.isnan(row["difference_low"]):
        return "it cannot be compared with late ridge fusion"
    said = {
        1: "better than late ridge fusion with",
        0: "a ridge regression does as well, as far as these patients can tell: late ridge fusion has",
        -1: "a ridge regression does better: late ridge fusion has",
    }[_side(row)]
    return f"{said} {_gap(row)}"


def _gap(row: pd.Series[Any]) -> str:
    low, high = (_number(row[name], is_signed=True) for name in ("difference_low", "difference_high"))
    text = f"{_number(row['value'])}, difference {_number(row['difference'], is_signed=True)} ({low} to {high})"
    return f"{text}, no longer clear after adjustment for all comparisons" if _is_lost(row) else text


def _is_lost(row: pd.Series[Any]) -> bool:
    """Whether a difference is clear by itself and not after adjustment."""
    return bool(_side(row)) and bool(row["p_adjusted"] >= CHANCE)


def _groups(rows: pd.DataFrame, every: Sequence[str]) -> list[str]:
    """For whom ours clearly differs from the two that matter."""
    in_groups = rows[rows["arm"].isin([BEST, LATE]) & (rows["by"] != "overall")]
    looked = in_groups[in_groups["difference_low"].notna()]
    if looked.empty:
        return ["no group of them is large enough to look at alone"]
    n_groups = looked["group"].nunique()
    whom = "either" if looked["arm"].nunique() > 1 else arm_name(str(looked["arm"].iloc[0]))
    sides = looked.apply(_side, axis=1)
    if not sides.any():
        return [f"no group in which it clearly differs from {whom}, of {_counted(n_groups)} looked at"]
    found = []
    for side, word in ((1, "better"), (-1, "worse")):
        for arm in (LATE, BEST):
            those = looked[(sides == side) & (looked["arm"] == arm)]
            if len(those):
                found.append(f"clearly {word} than {arm_name(arm)} in {_named(those, every)}")
    kept = int(((looked["p_adjusted"] < CHANCE) & (sides != 0)).sum())
    n_clear = int((sides != 0).sum())
    found[-1] += (
        f" ({len(looked)} comparisons in {_counted(n_groups)}, of which one in twenty would be clear by chance; "
        f"{kept} of {n_clear} remain after adjustment)"
    )
    return found


def _named(rows: pd.DataFrame, every: Sequence[str]) -> str:
    listed = [
        f"{_group(str(row['by']), str(row['group']), every)} (n = {int(row['n']):,})"
        for _, row in rows.head(MOST_NAMED).iterrows()
    ]
    more = len(rows) - len(listed)
    return "; ".join(listed) + (f" and {more} more" if more else "")


def _group(by: str, group: str, every: Sequence[str]) -> str:
    """Names a group shortly: ``patients with all 13``, ``patients without protein``."""
    if by != "pattern" or group.startswith("other patterns"):
        return group
    lacking = [name for name in every if name not in group.split("+")]
    if every and not lacking:
        return f"patients with all {len(every)}"
    return f"patients without {', '.join(lacking)}" if 2 * len(lacking) < len(every) else f"patients with {group}"


def _counted(n: int) -> str:
    return f"{n} group{'s' * (n > 1)}"


def _number(value: float, *, is_signed: bool = False) -> str:
    if np.isnan(value):
        return "an unknown value"
    return f"{round(value, 9):{'+' if is_signed else ''}.2f}".replace("-", MINUS)
