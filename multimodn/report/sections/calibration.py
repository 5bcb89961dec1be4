"""Whether the predictions of a report's model mean what they say, and what a decision by them is worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from multimodn.figures.calibration import MOST_OUTPUTS, calibration_chart
from multimodn.figures.decision import decision_chart
from multimodn.findings.numbers import MINUS, interval, joined
from multimodn.report.findings import Findings
from multimodn.report.html.page import Block, Numbers, Part, Prose, Section
from multimodn.report.sections.sets import sets_part
from multimodn.report.sections.words import MOST_TASKS, drawn, few_rows, has_words, left_out, more_rows

CALIBRATION = (
    "A model is calibrated if of the patients with a predicted chance of 30%, 30% have the outcome. A slope below 1 "
    "says that predictions are too extreme, above 1 that they are too timid; an intercept above 0 that outcomes are "
    "more frequent than predicted. The calibration error is the mean distance from the diagonal; with few patients it "
    "is above 0 by chance alone: beside it stands how large it would be on average if the chances were right."
)
DECISION = (
    "A decision curve asks whether it is worth treating, or testing further, the patients whose predicted chance lies "
    "above a threshold, rather than everybody or nobody. The threshold says how many treated in vain one would accept "
    "for one treated rightly; it is chosen by people, not by the model."
)
DEPARTURES = {
    "extreme": "too extreme (high ones too high, low ones too low)",
    "timid": "too timid",
    "low": "too low on average",
    "high": "too high on average",
}


def calibration_section(found: Findings) -> Section:
    """Compares predictions with what was observed, and tells what decisions and sets are worth."""
    curve, predicted, slopes = found.get("calibration"), found.get("predicted"), found.get("slopes")
    if curve is None or predicted is None:
        blocks: list[Block] = [Prose(found.why_not("calibration"), "absent")]
    else:
        blocks = [Prose(CALIBRATION), *(Prose(text) for text in calibration_words(found))]
        blocks += _curves(curve, predicted)
        if slopes is not None:
            caption = "Slope, intercept and calibration error with 95% intervals."
            blocks.append(Numbers(caption, _slopes(slopes)))
        blocks += _by_pattern(found)
    return Section("calibration", "Calibration and decisions", [*blocks, _decisions(found), sets_part(found)])


def _curves(curve: pd.DataFrame, predicted: pd.DataFrame) -> list[Block]:
    sizes = curve.groupby("task", sort=False)["output"].nunique()
    tasks = [str(task) for task in sizes.index]
    shown = tasks[:MOST_TASKS]
    single = [task for task in shown if sizes[task] == 1]
    groups = [single[k : k + MOST_OUTPUTS] for k in range(0, len(single), MOST_OUTPUTS)]
    groups += [[task] for task in shown if sizes[task] > 1]
    return [*(drawn(calibration_chart, curve, predicted, group) for group in groups), *left_out(tasks)]


def _by_pattern(found: Findings) -> list[Block]:
    """The same numbers by what patients have, where any pattern is frequent enough."""
    rows = found.get("calibration_by_pattern")
    if rows is None or rows["pattern"].str.startswith("other patterns").all():
        text = "No pattern of modalities is frequent enough among these patients for a calibration of its own."
        return [Prose(text, "absent")]
    shown = few_rows(rows)
    table = _slopes(shown)
    table.insert(2, "patients with", [has_words(str(name), found.names) for name in shown["pattern"]])
    caption = "Slope, intercept and calibration error by what patients have."
    return [Numbers(caption, table, is_folded=True), *more_rows(rows, shown)]


def _decisions(found: Findings) -> Part:
    curve, tasks = found.get("decision"), [task.name for task in found.tasks if task.scale == "log-odds"]
    name, title = "calibration-decisions", "Is a decision by the model worth it?"
    if not tasks:
        text = "No task predicts chances of classes, on which a decision could be based."
        return Part(name, title, [Prose(text, "absent")])
    if curve is None:
        return Part(name, title, [Prose(found.why_not("decision"), "absent")])
    known = [task for task in tasks if (curve["task"] == task).any()]
    drawings = [drawn(decision_chart, curve, [task]) for task in known[:MOST_TASKS]]
    return Part(name, title, [Prose(DECISION), *drawings, *left_out(known)])


def _slopes(slopes: pd.DataFrame) -> pd.DataFrame:
    slope, intercept = _with_interval(slopes, "slope"), _with_interval(slopes, "intercept")
    both = zip(slope, intercept, strict=True)
    found = pd.DataFrame(
        {
            "task": slopes["task"],
            "output": slopes["output"],
            "slope": [one or ("predictions alike" if other else "too few outcomes") for one, other in both],
            "intercept": [text or "too few outcomes" for text in intercept],
            "calibration error": slopes["ece"],
        }
    )
    if "ece_chance" in slopes:
        found["by chance alone"] = slopes["ece_chance"]
    return found.assign(n=slopes["n"])


def _with_interval(slopes: pd.DataFrame, name: str) -> list[str]:
    columns = [slopes[f"{name}{end}"].astype(float) for end in ("", "_low", "_high")]
    return ["" if np.isnan(one[0]) else interval(*one) for one in zip(*columns, strict=True)]


def departures(slopes: pd.DataFrame) -> dict[str, str]:
    """Names for each task in which way its predictions clearly depart from what was observed.

    Args:
        slopes: The frame of `multimodn.evaluate.performance.performance.calibration_summary`.

    Returns:
        For each task words; empty = no clear departure, ``unknown`` = there is no interval to tell by. A task of which
        only some outputs have intervals is named with how many.
    """
    found = {}
    for task, rows in slopes.groupby("task", sort=False):
        ends = {f"{name}{end}": _column(rows, f"{name}{end}") for name in ("slope", "intercept") for end in ENDS}
        said = [
            DEPARTURES["extreme"] * bool((ends["slope_high"] < 1).any()),
            DEPARTURES["timid"] * bool((ends["slope_low"] > 1).any()),
            DEPARTURES["low"] * bool((ends["intercept_low"] > 0).any()),
            DEPARTURES["high"] * bool((ends["intercept_high"] < 0).any()),
        ]
        n_known = int(pd.DataFrame(ends).notna().any(axis=1).sum())
        name = str(task) if n_known in (0, len(rows)) else f"{task} ({n_known} of {len(rows)} outputs)"
        found[name] = joined([text for text in said if text]) if n_known else "unknown"
    return found


ENDS = ("_low", "_high")


def _column(rows: pd.DataFrame, name: str) -> pd.Series[float]:
    return rows[name].astype(float) if name in rows else pd.Series(np.nan, rows.index)


def calibration_words(found: Findings) -> list[str]:
    """Says in one sentence for which tasks predictions mean what they say, as far as these patients tell."""
    slopes = found.get("slopes")
    if slopes is None:
        return []
    by_words: dict[str, list[str]] = {}
    for task, words in departures(slopes).items():
        by_words.setdefault(words, []).append(task)
    said = [
        f"predictions of {joined(tasks)} are {words}"
        for words, tasks in by_words.items()
        if words not in ("", "unknown")
    ]
    said += _calm(by_words.get("", [])) + _unknown(by_words.get("unknown", []))
    return [f"Calibration: {'; '.join(said)}.{_spread(slopes)}"] if said else []


def _spread(slopes: pd.DataFrame) -> str:
    """The slopes themselves: no clear departure does not say that there is none."""
    known = _column(slopes, "slope").dropna()
    if known.empty:
        return ""
    ends = [f"{value:.2f}".replace("-", MINUS) for value in (known.min(), known.max())]
    return f" Slopes (1 is perfect): {' to '.join(dict.fromkeys(ends))}."


def _calm(tasks: Sequence[str]) -> list[str]:
    if not tasks:
        return []
    return [f"for {joined(tasks)} predictions do not depart from what was observed by more than chance would explain"]


def _unknown(tasks: Sequence[str]) -> list[str]:
    return [f"for {joined(tasks)} there are too few outcomes to tell"] if tasks else []
