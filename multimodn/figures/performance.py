"""How well a model predicts: overall, after each step, by pattern and by subgroup, as forest plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from multimodn.errors import DataError, StudyError
from multimodn.figures.axes import new_figure
from multimodn.figures.forest import Panel, draw_panels, draw_rows, merge_rows, metric_panel
from multimodn.figures.picture import Picture
from multimodn.figures.selection import require_columns
from multimodn.figures.theme import Theme
from multimodn.figures.wording import metrics_words, not_shown, shorten, spanned
from multimodn.findings import findings
from multimodn.findings.frames import Patterns, PerformanceFrame
from multimodn.findings.names import CHANCE, metric_name, pattern_words
from multimodn.findings.numbers import counted, interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("task", "metric", "by", "group", "step", "value", "low", "high", "n")
MOST_ROWS, MOST_PANELS = 24, 12
INTERVAL = "95% intervals (bootstrap over patients), where patients and outcomes are enough"


def score_words(rows: pd.DataFrame, *, is_named: bool = True) -> list[str]:
    """Writes each row's value with its interval; with ``is_named``, after the metric: ``AUROC 0.79 (0.64 to 0.93)``."""
    columns = [rows["metric"].astype(str), *(rows[name].astype(float) for name in ("value", "low", "high"))]
    texts = [(metric, interval(*numbers)) for metric, *numbers in zip(*columns, strict=True)]
    return [f"{metric_name(metric)} {text}" if is_named else text for metric, text in texts]


def main_rows(performance: pd.DataFrame, by: str) -> pd.DataFrame:
    """Returns the rows ``by`` overall, step, pattern or subgroup, of the metric that sums each task up."""
    require_columns(performance, COLUMNS, "performance")
    return findings.main_rows(performance, by)


def overall_chart(performance: pd.DataFrame) -> Picture:
    """Draws the metric that sums up each task, over all patients."""
    every = main_rows(performance, "overall")
    rows = every.head(MOST_ROWS)
    if rows.empty:
        raise DataError("Nothing to draw: no task has labelled patients.")
    listed = [f"{task} {score}" for task, score in zip(rows["task"], score_words(rows), strict=True)]
    return Picture(
        "performance",
        "Performance by task",
        f"n = {spanned(rows['n'])} labelled patients. Points: {metrics_words(rows['metric'])}; lines: {INTERVAL}; "
        f"vertical line: chance.{not_shown(len(every) - len(rows), 'task')}",
        "; ".join(listed[:6]) + ".",
        lambda theme: _draw_overall(rows, theme),
        rows[["task", "metric", "value", "low", "high", "n"]].reset_index(drop=True),
    )


def _draw_overall(rows: pd.DataFrame, theme: Theme) -> Figure:
    parts = [part for _, part in rows.groupby(rows["metric"].map(CHANCE).fillna(-1), sort=False)]
    figure = new_figure(sum(0.28 * len(part) + 0.62 for part in parts) + 0.1)
    grid = figure.subplots(len(parts), 1, squeeze=False, height_ratios=[0.28 * len(part) + 0.4 for part in parts])
    for axes, part in zip(grid[:, 0], parts, strict=True):
        names = [f"{shorten(t)} ({metric_name(m)})" for t, m in zip(part["task"], part["metric"], strict=True)]
        scores = zip(names, score_words(part, is_named=False), part["n"], strict=True)
        notes = {name: f"{text}, n = {n:,}" for name, text, n in scores}
        draw_rows(axes, theme, metric_panel("", str(part["metric"].iloc[0]), part.assign(row=names), notes), names)
        axes.set_xlabel(metrics_words(part["metric"]))
    return figure


def steps_chart(performance: pd.DataFrame) -> Picture:
    """Draws how well each task is predicted after every step."""
    rows = main_rows(performance, "step")
    if rows.empty:
        raise DataError("Nothing to draw: the frame has no rows by step.")
    steps = [PerformanceFrame.of(performance).patterns.get(group, (group,)) for group in rows["group"]]
    rows = rows.assign(row=[f"+ {names[-1]}" if names else "prior" for names in steps])
    panels = _panels(rows)
    names = merge_rows([panel.points["row"].tolist() for panel in panels])[:MOST_ROWS]
    values = [(panel.title, panel.points["value"]) for panel in panels]
    ends = [f"{title} {value.iloc[0]:.2f} to {value.iloc[-1]:.2f}" for title, value in values]
    return Picture(
        "performance-steps",
        "Performance after each step",
        f"n = {spanned(rows['n'])} labelled patients at every step; from top to bottom one modality more is used, and "
        f"patients who lack it keep their prediction. Points: {metrics_words(rows['metric'])}; lines: {INTERVAL}"
        f".{_not_shown(performance, panels, names, rows)}",
        f"From the first step to the last: {'; '.join(ends[:6])}.",
        lambda theme: draw_panels(theme, panels, names, is_connected=True),
        rows[["task", "metric", "step", "row", "value", "low", "high", "n"]].reset_index(drop=True),
    )


def groups_chart(performance: pd.DataFrame, by: str, modalities: Sequence[str] = ()) -> Picture:
    """Draws how well each task is predicted by ``pattern`` or ``subgroup``, beside all patients.

    ``modalities`` are all of them, by which patterns are written shortly.
    """
    words = {"pattern": "available modalities", "subgroup": "subgroup"}
    if by not in words:
        raise StudyError(f"Cannot draw performance by '{by}'; expected pattern or subgroup.")
    rows = main_rows(performance, by)
    if rows.empty:
        raise DataError(f"Nothing to draw: the frame has no rows by {by}.")
    patterns = PerformanceFrame.of(performance).patterns
    rows = rows.assign(row=[_group_words(by, group, patterns, modalities) for group in rows["group"]])
    panels = _panels(pd.concat([main_rows(performance, "overall").assign(row="all patients"), rows]), has_sizes=True)
    names = merge_rows([panel.points["row"].tolist() for panel in panels])[:MOST_ROWS]
    scored = rows.dropna(subset=["value"]).sort_values("value").head(1)
    lowest = "".join(f" Lowest: {one.task}, {one.row}, {one.value:.2f}." for one in scored.itertuples())
    return Picture(
        f"performance-{by}",
        f"Performance by {words[by]}",
        f"n = {spanned(rows['n'])} labelled patients in a row (right end). Points: {metrics_words(rows['metric'])}; "
        f"lines: {INTERVAL}, not corrected for multiple comparisons.{_not_shown(performance, panels, names, rows)}",
        f"{metrics_words(rows['metric'])} of {counted(len(panels), 'task')} in {len(names) - 1} groups.{lowest}",
        lambda theme: draw_panels(theme, panels, names),
        rows[["task", "metric", "row", "value", "low", "high", "n"]].reset_index(drop=True),
    )


def _group_words(by: str, group: str, patterns: Patterns, modalities: Sequence[str]) -> str:
    if by == "subgroup":
        return group.partition(".")[2] or group  # without the modality of ``modality.column = value``
    return pattern_words(patterns[group], modalities) if group in patterns and modalities else group


def _not_shown(performance: pd.DataFrame, panels: Sequence[Panel], names: Sequence[str], rows: pd.DataFrame) -> str:
    n_rows = rows["row"].nunique() - sum(name in set(rows["row"]) for name in names)
    return not_shown(performance["task"].nunique() - len(panels), "task") + not_shown(n_rows, "row")


def _panels(rows: pd.DataFrame, *, has_sizes: bool = False) -> list[Panel]:
    panels = []
    for task, part in list(rows.groupby("task", sort=False))[:MOST_PANELS]:
        part = part.drop_duplicates("row")
        notes = {str(row): f"n {n:,}" for row, n in zip(part["row"], part["n"], strict=True)} if has_sizes else None
        panels.append(metric_panel(str(task), str(part["metric"].iloc[0]), part, notes))
    return panels
