"""The page and the picture of a stress test, drawn from its table of scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from multimodn.audit.figure import DARK, LIGHT, Palette
from multimodn.evaluate.crossval.crossval import paired
from multimodn.evaluate.results import markdown
from multimodn.files import replacing

FIRST = {"auroc": "AUROC", "cindex": "c-index", "r2": "R2"}
"""The metric that a task is compared by: the first of these that it has."""
CHANCE = {"brier": "Brier score", "ece": "ECE"}
MARKERS = {"same": ("s", "same mechanism"), "complete": ("o", "nothing missing"), "flipped": ("D", "flipped")}


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
    parts = [f"{FIRST[metric]} of {task}, means over folds.", "", markdown(table.reset_index())]
    if reference in table.index:
        rows = []
        for condition in [str(name) for name in table if _kind(name) in MARKERS]:
            some = scores[(scores["condition"] == condition) & (scores["metric"] == metric) & (scores["task"] == task)]
            for arm in table.index.drop(reference):
                found = paired(some, str(arm), reference).iloc[0]
                rows.append((condition, arm, found["difference"], found["low"], found["high"]))
        columns = ["condition", "arm", f"minus {reference}", "low", "high"]
        how = f"Difference to the {reference} on the same folds, 95 % bootstrap interval over folds."
        parts += ["", how, "", markdown(pd.DataFrame(rows, columns=columns))]
    errors = _errors(scores, task)
    if len(errors):
        parts += ["", "How far predicted chances are off, means over folds.", "", markdown(errors.reset_index())]
    return "\n".join(parts) + "\n"


def _errors(scores: pd.DataFrame, task: str) -> pd.DataFrame:
    """Averages Brier score and calibration error over folds: a row for each arm; empty without chances."""
    columns: dict[str, pd.Series[float]] = {}
    for metric, name in CHANCE.items():
        if metric in set(scores.loc[scores["task"] == task, "metric"]):
            table = means(scores, task, metric)
            columns |= {f"{name}, {condition}": table[condition] for condition in table if _kind(condition) in MARKERS}
    return pd.DataFrame(columns)


def draw_all(scores: pd.DataFrame, tasks: Sequence[str], title: str, file: Path) -> list[Path]:
    """Draws ``file`` and, beside it, ``-dark``; see `draw`."""
    files = [file, file.with_name(f"{file.stem}-dark{file.suffix}")]
    for place, palette in zip(files, (LIGHT, DARK), strict=True):
        with replacing(place) as temporary:
            draw(scores, tasks, title, temporary, palette)
    return files


def draw(scores: pd.DataFrame, tasks: Sequence[str], title: str, file: Path, palette: Palette = LIGHT) -> None:
    """Draws for each task a line of dots an arm: the same mechanism, nothing missing, flipped.

    A neutral model has its three dots together; one that leans on missingness has them far apart.
    """
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {"text.color": palette.ink, "font.size": 9, "font.family": "DejaVu Sans"}
    with matplotlib.rc_context(style):
        tables = [means(scores, task, first_metric(scores, task)) for task in tasks]
        height = 1.7 + 0.27 * max(len(table) for table in tables)
        figure = Figure(figsize=(3.0 + 4.2 * len(tasks), height), facecolor=palette.paper, layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", weight="bold")
        n_folds = scores[["repeat", "fold"]].drop_duplicates().shape[0]
        figure.supxlabel(f"Means over {n_folds} folds; one trained model an arm and fold.", size=8, color=palette.faint)
        for number, (task, table) in enumerate(zip(tasks, tables, strict=True)):
            axes = figure.add_subplot(1, len(tasks), number + 1, facecolor=palette.paper)
            _dots(axes, table, palette, named=number == 0)
            axes.set_xlabel(f"{FIRST[first_metric(scores, task)]}, {task}", color=palette.ink)
        figure.savefig(file, dpi=150, format="png")


def _dots(axes: Any, table: pd.DataFrame, palette: Palette, *, named: bool) -> None:
    rows = list(range(len(table)))[::-1]
    found = {_kind(name): name for name in table if _kind(name) in MARKERS}
    spread = table[list(found.values())]
    axes.hlines(rows, spread.min(axis=1), spread.max(axis=1), color=palette.grid, linewidth=3, zorder=1)
    colours = {"same": palette.high[0], "complete": palette.faint, "flipped": palette.low[0]}
    for kind, condition in found.items():
        marker, label = MARKERS[kind]
        axes.scatter(table[condition], rows, marker=marker, color=colours[kind], label=label, s=34, zorder=2)
    axes.set_yticks(rows, [str(arm) for arm in table.index] if named else [""] * len(table))
    axes.tick_params(colors=palette.ink, length=0)
    axes.grid(axis="x", color=palette.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    if named:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, labelcolor=palette.ink)


def _kind(condition: object) -> str:
    return str(condition).split(":")[0]
