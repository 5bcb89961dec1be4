"""How well a model predicts: overall, after each step, by pattern and by subgroup, as forest plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from multimodn.errors import DataError, StudyError
from multimodn.figures.forest import Forest, draw_forests, forest, merged, note
from multimodn.figures.picture import Picture
from multimodn.figures.shared import check, new_figure, shorten, spanned
from multimodn.figures.theme import Theme
from multimodn.findings.frames import Patterns, PerformanceFrame
from multimodn.findings.names import CHANCE, metric_name, pattern_words
from multimodn.findings.numbers import counted, interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("task", "metric", "by", "group", "step", "value", "low", "high", "n")
MOST_ROWS, MOST_PANELS = 24, 12
INTERVAL = "95% intervals over patients (bootstrap); none where patients or outcomes are too few"


def score_words(rows: pd.DataFrame, *, is_named: bool = True) -> list[str]:
    """Writes each row's value with its interval; with ``is_named``, after the metric: ``AUROC 0.79 (0.64 to 0.93)``."""
    columns = [rows["metric"].astype(str), *(rows[name].astype(float) for name in ("value", "low", "high"))]
    found = [(metric, interval(*numbers)) for metric, *numbers in zip(*columns, strict=True)]
    return [f"{metric_name(metric)} {text}" if is_named else text for metric, text in found]


def main_rows(performance: pd.DataFrame, by: str) -> pd.DataFrame:
    """Returns the rows of one kind of group, of the metric that sums each task up.

    Args:
        performance: The frame of `multimodn.evaluate.performance.performance.performance`.
        by: ``overall``, ``step``, ``pattern`` or ``subgroup``.
    """
    check(performance, COLUMNS, "performance")
    main = PerformanceFrame.of(performance).main_metric
    first = performance.drop_duplicates("task").set_index("task")["metric"]
    wanted = performance["task"].map(lambda task: main.get(task, first[task]))
    return performance[(performance["metric"] == wanted) & (performance["by"] == by)]


def overall_chart(performance: pd.DataFrame) -> Picture:
    """Draws the metric that sums up each task, over all patients.

    Args:
        performance: See `main_rows`.

    Raises:
        DataError: If there is nothing to draw.
    """
    rows = main_rows(performance, "overall").head(MOST_ROWS)
    if rows.empty:
        raise DataError("Nothing to draw: no task has labelled patients.")
    n_out = main_rows(performance, "overall").shape[0] - len(rows)
    left_out = f" {counted(n_out, 'task')} more not drawn." if n_out else ""
    listed = [f"{task} {score}" for task, score in zip(rows["task"], score_words(rows), strict=True)]
    return Picture(
        "performance",
        "How well each outcome is predicted",
        f"n = {spanned(rows['n'])} labelled patients. Dots: {_named(rows['metric'])}. Lines: {INTERVAL}. The vertical "
        f"line is what predictions without any knowledge reach.{left_out}",
        "; ".join(listed[:6]) + ".",
        lambda theme: _draw_overall(rows, theme),
        rows[["task", "metric", "value", "low", "high", "n"]].reset_index(drop=True),
    )


def _named(metrics: Sequence[str] | pd.Series[str]) -> str:
    return " or ".join(dict.fromkeys(metric_name(metric) for metric in metrics))


def _draw_overall(rows: pd.DataFrame, theme: Theme) -> Figure:
    parts = [part for _, part in rows.groupby(rows["metric"].map(CHANCE).fillna(-1), sort=False)]
    figure = new_figure(sum(0.28 * len(part) + 0.62 for part in parts) + 0.1)
    grid = figure.subplots(len(parts), 1, squeeze=False, height_ratios=[0.28 * len(part) + 0.4 for part in parts])
    for axes, part in zip(grid[:, 0], parts, strict=True):
        names = [
            f"{shorten(task)} ({metric_name(metric)})"
            for task, metric in zip(part["task"], part["metric"], strict=True)
        ]
        forest(axes, theme, part.assign(row=names), names, str(part["metric"].iloc[0]), size=6.0)
        for k, (text, n) in enumerate(zip(score_words(part, is_named=False), part["n"], strict=True)):
            note(axes, k, f"{text}, n = {n:,}", theme.ink, 8.5)
        axes.set_xlabel(_named(part["metric"]))
    return figure


def steps_chart(performance: pd.DataFrame) -> Picture:
    """Draws how well each task is predicted after every step.

    Args:
        performance: See `main_rows`.

    Raises:
        DataError: If there is nothing to draw.
    """
    rows = main_rows(performance, "step")
    if rows.empty:
        raise DataError("Nothing to draw: the frame has no rows by step.")
    read = [PerformanceFrame.of(performance).patterns.get(group, (group,)) for group in rows["group"]]
    rows = rows.assign(row=[f"+ {names[-1]}" if names else "before any" for names in read])
    panels = _panels(rows)
    names = merged([panel.points["row"].tolist() for panel in panels])[:MOST_ROWS]
    ends = [
        f"{panel.task} {panel.points['value'].iloc[0]:.2f} to {panel.points['value'].iloc[-1]:.2f}" for panel in panels
    ]
    return Picture(
        "performance-steps",
        "How well each outcome is predicted after every step",
        f"n = {spanned(rows['n'])} labelled patients, the same after every step: who lacks a modality keeps the "
        f"prediction of the step before. From top to bottom one modality more is read. Dots: "
        f"{_named(rows['metric'])}. Lines: {INTERVAL}.{_left_out(performance, panels, names, rows)}",
        f"From the first step to the last: {'; '.join(ends[:6])}.",
        lambda theme: draw_forests(panels, names, theme, is_connected=True),
        rows[["task", "metric", "step", "row", "value", "low", "high", "n"]].reset_index(drop=True),
    )


def groups_chart(performance: pd.DataFrame, by: str, modalities: Sequence[str] = ()) -> Picture:
    """Draws how well each task is predicted in parts of the patients, beside all of them.

    Args:
        performance: See `main_rows`.
        by: ``pattern`` or ``subgroup``.
        modalities: All modalities, by which patterns are written shortly.

    Raises:
        StudyError: If ``by`` is neither.
        DataError: If there is nothing to draw.
    """
    words = {"pattern": ("what they have", "A row for each set of modalities"), "subgroup": ("subgroup", "A row each")}
    if by not in words:
        raise StudyError(f"Cannot draw performance by '{by}'; expected pattern or subgroup.")
    rows = main_rows(performance, by)
    if rows.empty:
        raise DataError(f"Nothing to draw: the frame has no rows by {by}.")
    patterns = PerformanceFrame.of(performance).patterns
    named = rows["group"].map(_subgroup if by == "subgroup" else lambda group: _pattern(group, patterns, modalities))
    rows = rows.assign(row=named)
    everybody = main_rows(performance, "overall").assign(row="all patients")
    panels = _panels(pd.concat([everybody, rows]))
    names = merged([panel.points["row"].tolist() for panel in panels])[:MOST_ROWS]
    known = rows.dropna(subset=["value"]).sort_values("value")
    lowest = (
        f" Lowest: {known['task'].iloc[0]}, {known['row'].iloc[0]}, {known['value'].iloc[0]:.2f}." if len(known) else ""
    )
    return Picture(
        f"performance-{by}",
        f"How well each outcome is predicted, by {words[by][0]}",
        f"n = {spanned(rows['n'])} labelled patients of a row, given at its right end. {words[by][1]}, below all "
        f"patients. Dots: {_named(rows['metric'])}. Lines: {INTERVAL}. Rows are compared without correction for how "
        f"many they are.{_left_out(performance, panels, names, rows)}",
        f"{_named(rows['metric'])} of {counted(len(panels), 'task')} in {len(names) - 1} groups.{lowest}",
        lambda theme: draw_forests(panels, names, theme, has_sizes=True),
        rows[["task", "metric", "row", "value", "low", "high", "n"]].reset_index(drop=True),
    )


def _subgroup(group: str) -> str:
    """Leaves the modality out of ``modality.column = value``."""
    return group.partition(".")[2] or group


def _pattern(group: str, patterns: Patterns, modalities: Sequence[str]) -> str:
    return pattern_words(patterns[group], modalities) if group in patterns and modalities else group


def _left_out(performance: pd.DataFrame, panels: Sequence[Forest], names: Sequence[str], rows: pd.DataFrame) -> str:
    n_tasks = performance["task"].nunique() - len(panels)
    n_rows = rows["row"].nunique() - sum(name in set(rows["row"]) for name in names)
    text = f" {counted(n_tasks, 'task')} more not drawn." if n_tasks > 0 else ""
    return text + (f" {counted(n_rows, 'row')} more not drawn." if n_rows > 0 else "")


def _panels(rows: pd.DataFrame) -> list[Forest]:
    groups = list(rows.groupby("task", sort=False))[:MOST_PANELS]
    return [Forest(str(task), str(part["metric"].iloc[0]), part.drop_duplicates("row")) for task, part in groups]
