"""The page and the figure of a stress test, made of its table of scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from multimodn.evaluate.crossval.crossval import paired
from multimodn.evaluate.results import markdown
from multimodn.figures.forest import Panel, draw_panels, merge_rows
from multimodn.figures.picture import Picture
from multimodn.findings.names import metric_name

FIRST = ("auroc", "cindex", "r2")  # a task is compared by the first of these that it has
PROBABILITY = ("brier", "ece")
CONDITIONS = {"complete": "nothing missing", "same": "same mechanism", "flipped": "flipped mechanism"}


def first_metric(scores: pd.DataFrame, task: str) -> str:
    """Returns the metric that a task is compared by."""
    have = set(scores.loc[scores["task"] == task, "metric"])
    return next(metric for metric in FIRST if metric in have)


def means(scores: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    """Averages one metric over folds: a row for each arm, a column for each condition but the subsets.

    The column ``worst subset`` is the lowest mean over the subsets that were tested, if any were.
    """
    chosen = scores[(scores["task"] == task) & (scores["metric"] == metric)]
    wide = chosen.pivot_table("value", "arm", "condition", sort=False)
    subsets = [name for name in wide if str(name).startswith("subset:")]
    table = wide.drop(columns=subsets)
    return table.assign(**{"worst subset": wide[subsets].min(axis=1)}) if subsets else table


def page(scores: pd.DataFrame, task: str, reference: str = "oracle") -> str:
    """Writes one task's results as Markdown: means, and how far each arm is from the oracle, paired by fold."""
    metric = first_metric(scores, task)
    table = means(scores, task, metric)
    parts = [f"{metric_name(metric)} of {task}, means over folds.", "", markdown(table.reset_index())]
    if reference in table.index:
        rows = []
        for condition in [str(name) for name in table if _kind(name) in CONDITIONS]:
            some = scores[(scores["condition"] == condition) & (scores["metric"] == metric) & (scores["task"] == task)]
            for arm in table.index.drop(reference):
                difference = paired(some, str(arm), reference).iloc[0]
                rows.append((condition, arm, *difference[["difference", "low", "high"]]))
        columns = ["condition", "arm", f"minus {reference}", "low", "high"]
        how = f"Difference to the {reference} on the same folds, with 95% intervals (corrected resampled t)."
        parts += ["", how, "", markdown(pd.DataFrame(rows, columns=columns))]
    errors = _errors(scores, task)
    if len(errors):
        parts += ["", "Error of predicted probabilities, means over folds.", "", markdown(errors.reset_index())]
    return "\n".join(parts) + "\n"


def _errors(scores: pd.DataFrame, task: str) -> pd.DataFrame:
    """Averages Brier score and calibration error over folds: a row for each arm; empty without probabilities."""
    columns: dict[str, pd.Series[float]] = {}
    for metric in PROBABILITY:
        if metric in set(scores.loc[scores["task"] == task, "metric"]):
            table = means(scores, task, metric)
            conditions = [condition for condition in table if _kind(condition) in CONDITIONS]
            columns |= {f"{metric_name(metric)}, {condition}": table[condition] for condition in conditions}
    return pd.DataFrame(columns)


def stress_chart(scores: pd.DataFrame, tasks: Sequence[str], title: str, name: str = "stress") -> Picture:
    """Draws the performance of each arm with nothing missing, under the same and under the flipped mechanism.

    A neutral model has its three points together; one that relies on missingness has them far apart. A panel for each
    task in the ``scores`` of `stress`.
    """
    panels = []
    for task in tasks:
        metric = first_metric(scores, task)
        table = means(scores, task, metric)
        table = table.rename(columns=lambda condition: CONDITIONS.get(_kind(condition), condition))
        table = table[[words for words in CONDITIONS.values() if words in table]]
        points = table.rename_axis("row").melt(var_name="mark", ignore_index=False).reset_index()
        points = points.assign(low=np.nan, high=np.nan, task=task)
        panels.append(Panel(task, metric_name(metric), points, reference=None))
    rows = merge_rows([[str(row) for row in dict.fromkeys(panel.points["row"])] for panel in panels])
    marks = [words for words in CONDITIONS.values() if any((panel.points["mark"] == words).any() for panel in panels)]
    n_folds = scores[["repeat", "fold"]].drop_duplicates().shape[0]
    return Picture(
        name,
        title,
        f"Points: means over {n_folds} folds, one trained model for each arm and fold; no interval.",
        f"{panels[0].axis} of {panels[0].title} for {len(rows)} arms.",
        lambda theme: draw_panels(theme, panels, rows, marks, is_range=True, row_height=0.27),
        pd.concat([panel.points for panel in panels], ignore_index=True),
    )


def _kind(condition: object) -> str:
    return str(condition).split(":")[0]
