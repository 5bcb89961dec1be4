"""What a decision by the model is worth: net benefit against the threshold from which on a patient is treated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.errors import DataError
from multimodn.figures.picture import Picture
from multimodn.figures.shared import Chosen, Floats, calm, check, new_figure, pick, shorten, slug, spanned
from multimodn.figures.theme import Theme
from multimodn.findings.numbers import counted, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRATEGIES = ("model", "low", "high", "treat_all", "treat_none", "gain", "gain_low", "gain_high")
COLUMNS = ("task", "output", "threshold", *STRATEGIES, "prevalence", "n")
MOST_PANELS = 6
HEIGHT, ONE_HEIGHT, LEGEND = 2.35, 2.7, 0.3  # inches
SHARE_BELOW = 0.25
"""Of the prevalence: how far below no benefit the axis reaches; treating all in vain has no lower end."""
TABLE_STEP = 0.05
STYLES = {
    "the model decides": ("low", "-", 2.0),
    "treat everybody": ("ink", (0, (5, 2)), 1.2),
    "treat nobody": ("faint", (0, (1, 1.6)), 1.6),
}


@dataclass(frozen=True)
class _Panel:
    title: str
    curve: pd.DataFrame
    ends: tuple[float, float]


def decision_chart(curve: pd.DataFrame, tasks: Sequence[str] | None = None, *, most: int = MOST_PANELS) -> Picture:
    """Draws the net benefit of deciding by the model beside treating everybody and nobody, a panel for each output.

    Args:
        curve: The frame of `multimodn.evaluate.performance.decision_curve.decision_curve`.
        tasks: Default: the first.
        most: Outputs that are drawn; of more, the most frequent.

    Raises:
        StudyError: If a task is unknown.
        DataError: If there is nothing to draw.

    References:
        Vickers and Elkin (2006), https://doi.org/10.1177/0272989X06295361
    """
    check(curve, COLUMNS, "a decision curve")
    wanted = [pick(curve["task"], task, "task") for task in tasks or [str(curve["task"].iloc[0])]]
    rows = curve[curve["task"].astype(str).isin(wanted) & curve["prevalence"].between(0, 1, inclusive="neither")]
    if rows.empty:
        raise DataError(f"Nothing to draw: all patients of task '{', '.join(wanted)}' have the same outcome.")
    curves = dict(list(rows.groupby(["task", "output"], sort=False)))
    frequent = sorted(curves, key=lambda key: -float(curves[key]["prevalence"].iloc[0]))[:most]
    panels = [_panel(str(key[0]), str(key[1]), curves[key]) for key in curves if key in frequent]
    left_out = f" {counted(len(curves) - len(panels), 'output')} more not drawn." if len(curves) > len(panels) else ""
    sizes = pd.concat([panel.curve["n"] for panel in panels])
    return Picture(
        slug("decision", *wanted),
        f"{shorten(', '.join(wanted), 60)}: is a decision by the model worth more than treating all or none?",
        f"n = {spanned(sizes)} labelled patients. Net benefit: the share of patients who have the outcome and are "
        f"treated, less the share who are treated in vain times the odds of the threshold, from which predicted chance "
        f"on a patient is treated. A threshold of 10% says that nine treated in vain are not too many for one treated "
        f"rightly. The model helps at thresholds at which its line is above both others. Band: 95% interval over "
        f"patients (bootstrap); none with fewer than five patients of either outcome.{left_out}",
        " ".join(_said(panel) for panel in panels),
        lambda theme: _draw(panels, theme),
        pd.concat([_table(panel) for panel in panels], ignore_index=True),
    )


def _panel(task: str, output: str, curve: pd.DataFrame) -> _Panel:
    curve = curve.sort_values("threshold")
    matters = curve["threshold"][(curve["model"] != 0) | (curve["treat_all"] > 0)]
    end = float(matters.max()) + 0.05 if len(matters) else float(curve["threshold"].max())
    first = float(curve["threshold"].min())
    return _Panel(
        Chosen(curve, task, output, "log-odds", []).quantity, curve, (min(0.0, first), min(1.0, max(end, first + 0.05)))
    )


def _said(panel: _Panel) -> str:
    useful = panel.curve["threshold"][panel.curve["gain"] > 0]
    sure = panel.curve["threshold"][panel.curve["gain_low"] > 0]
    if not len(useful):
        return f"{panel.title}: at no threshold is the model worth more than treating all or none."
    surely = f", beyond the interval at {_stretch(sure)}" if len(sure) else ", at none beyond the interval"
    return f"{panel.title}: the model is worth more than treating all or none at {_stretch(useful)}{surely}."


def _stretch(thresholds: pd.Series[float]) -> str:
    low, high = float(thresholds.min()), float(thresholds.max())
    n = len(thresholds)
    return f"{counted(n, 'threshold')}, {percent(low)} to {percent(high)}" if n > 1 else f"the threshold {percent(low)}"


def _table(panel: _Panel) -> pd.DataFrame:
    """The numbers that are drawn, at every twentieth."""
    rows = panel.curve[panel.curve["threshold"] <= panel.ends[1]]
    is_round = np.isclose(np.round(rows["threshold"] / TABLE_STEP) * TABLE_STEP, rows["threshold"])
    return rows[is_round if is_round.any() else np.ones(len(rows), dtype=bool)][[*COLUMNS]]


def _draw(panels: Sequence[_Panel], theme: Theme) -> Figure:
    n_columns = min(len(panels), 3)
    n_lines = -(-len(panels) // n_columns)
    height = ONE_HEIGHT if len(panels) == 1 else HEIGHT
    figure = new_figure(height * n_lines + LEGEND)
    grid = figure.add_gridspec(n_lines + 1, n_columns, height_ratios=[LEGEND, *[height] * n_lines])
    drawn = [figure.add_subplot(grid[1 + k // n_columns, k % n_columns]) for k in range(len(panels))]
    for k, axes in enumerate(drawn):
        _draw_panel(axes, panels[k], theme, is_first=k % n_columns == 0, longest=64 // n_columns)
    words = figure.add_subplot(grid[0, :])  # an axes of its own: a title of the figure stands above it
    words.axis("off")
    handles, names = drawn[0].get_legend_handles_labels()
    words.legend(handles, names, loc="center left", ncols=3, fontsize=8.5, handlelength=3.2, borderaxespad=0)
    return figure


def _draw_panel(axes: Axes, panel: _Panel, theme: Theme, *, is_first: bool, longest: int) -> None:
    calm(axes, theme, grid="y")
    x, model, low, high, everybody, nobody = (
        _numbers(panel, name) for name in ("threshold", "model", "low", "high", "treat_all", "treat_none")
    )
    axes.fill_between(x, low, high, color=theme.low, alpha=0.2, lw=0)
    for (name, (role, style, width)), y in zip(STYLES.items(), (model, everybody, nobody), strict=True):
        axes.plot(x, y, ls=style, lw=width, color=getattr(theme, role), label=name)
    top = float(np.nanmax(np.concatenate([model, high, everybody, [0.0]])))
    axes.set_ylim(-SHARE_BELOW * float(panel.curve["prevalence"].iloc[0]), 1.06 * max(top, 1e-3))
    axes.set_xlim(panel.ends)
    axes.locator_params(nbins=5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.tick_params(axis="y", labelsize=8, labelcolor=theme.faint)
    axes.set_title(shorten(panel.title, longest), size=9)
    axes.set_xlabel("threshold")
    if is_first:
        axes.set_ylabel("net benefit")


def _numbers(panel: _Panel, name: str) -> Floats:
    found: Floats = panel.curve[name].to_numpy(dtype=np.float64)
    return found
