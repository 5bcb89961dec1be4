"""Decision curves: net benefit against the threshold probability from which on a patient is treated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.errors import DataError
from multimodn.figures.axes import new_figure, style_axes
from multimodn.figures.picture import Picture
from multimodn.figures.selection import OutputRows, pick_name, require_columns
from multimodn.figures.theme import Theme
from multimodn.figures.wording import not_shown, shorten, slug, spanned
from multimodn.findings.numbers import counted, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRATEGIES = ("model", "low", "high", "treat_all", "treat_none", "gain", "gain_low", "gain_high")
COLUMNS = ("task", "output", "threshold", *STRATEGIES, "prevalence", "n")
MOST_PANELS = 6
HEIGHT, ONE_HEIGHT, LEGEND = 2.35, 2.7, 0.3  # inches
SHARE_BELOW = 0.25  # of the prevalence, that the axis reaches below 0; the harm of treating all has no lower end
TABLE_STEP = 0.05
STYLES = {
    "model": ("low", "-", 2.0),
    "treat all": ("ink", (0, (5, 2)), 1.2),
    "treat none": ("faint", (0, (1, 1.6)), 1.6),
}


@dataclass(frozen=True)
class _DecisionPanel:
    title: str
    curve: pd.DataFrame
    ends: tuple[float, float]


def decision_chart(curve: pd.DataFrame, tasks: Sequence[str] | None = None, *, most: int = MOST_PANELS) -> Picture:
    """Draws the net benefit of treatment by the model beside treating all and none, a panel for each output.

    ``curve`` is the frame of `decision_curve`. Default: the first task; of more than ``most`` outputs, the most
    frequent. Vickers and Elkin (2006), https://doi.org/10.1177/0272989X06295361
    """
    require_columns(curve, COLUMNS, "a decision curve")
    wanted = [pick_name(curve["task"], task, "task") for task in tasks or [str(curve["task"].iloc[0])]]
    rows = curve[curve["task"].astype(str).isin(wanted) & curve["prevalence"].between(0, 1, inclusive="neither")]
    if rows.empty:
        raise DataError(f"Nothing to draw: all patients of task '{', '.join(wanted)}' have the same outcome.")
    curves = dict(list(rows.groupby(["task", "output"], sort=False)))
    frequent = sorted(curves, key=lambda key: -float(curves[key]["prevalence"].iloc[0]))[:most]
    panels = [_panel(str(key[0]), str(key[1]), curves[key]) for key in curves if key in frequent]
    sizes = pd.concat([panel.curve["n"] for panel in panels])
    return Picture(
        slug("decision", *wanted),
        f"{shorten(', '.join(wanted), 60)}: decision curve",
        f"n = {spanned(sizes)} labelled patients. Net benefit: true positives minus false positives, weighted by the "
        "odds of the threshold probability, per patient; the model is useful where its line is above both others. "
        "Band: 95% interval (bootstrap over patients), with at least five patients with and without the "
        f"event.{not_shown(len(curves) - len(panels), 'output')}",
        " ".join(map(_summary, panels)),
        lambda theme: _draw(panels, theme),
        pd.concat([_table(panel) for panel in panels], ignore_index=True),
    )


def _panel(task: str, output: str, curve: pd.DataFrame) -> _DecisionPanel:
    curve = curve.sort_values("threshold")
    matters = curve["threshold"][(curve["model"] != 0) | (curve["treat_all"] > 0)]
    end = float(matters.max()) + 0.05 if len(matters) else float(curve["threshold"].max())
    first = float(curve["threshold"].min())
    quantity = OutputRows(curve, task, output, "log-odds", []).quantity
    return _DecisionPanel(quantity, curve, (min(0.0, first), min(1.0, max(end, first + 0.05))))


def _summary(panel: _DecisionPanel) -> str:
    useful = panel.curve["threshold"][panel.curve["gain"] > 0]
    sure = panel.curve["threshold"][panel.curve["gain_low"] > 0]
    if not len(useful):
        return f"{panel.title}: at no threshold has the model more net benefit than treating all or none."
    certain = f", the whole interval at {_stretch(sure)}" if len(sure) else ", the whole interval at none"
    return f"{panel.title}: the model has more net benefit than treating all or none at {_stretch(useful)}{certain}."


def _stretch(thresholds: pd.Series[float]) -> str:
    low, high, n = float(thresholds.min()), float(thresholds.max()), len(thresholds)
    return f"{counted(n, 'threshold')}, {percent(low)} to {percent(high)}" if n > 1 else f"the threshold {percent(low)}"


def _table(panel: _DecisionPanel) -> pd.DataFrame:
    """The numbers that are drawn, at every twentieth."""
    rows = panel.curve[panel.curve["threshold"] <= panel.ends[1]]
    is_round = np.isclose(np.round(rows["threshold"] / TABLE_STEP) * TABLE_STEP, rows["threshold"])
    return rows[is_round if is_round.any() else np.ones(len(rows), dtype=bool)][[*COLUMNS]]


def _draw(panels: Sequence[_DecisionPanel], theme: Theme) -> Figure:
    n_columns = min(len(panels), 3)
    n_lines = -(-len(panels) // n_columns)
    height = ONE_HEIGHT if len(panels) == 1 else HEIGHT
    figure = new_figure(height * n_lines + LEGEND)
    grid = figure.add_gridspec(n_lines + 1, n_columns, height_ratios=[LEGEND, *[height] * n_lines])
    drawn = [figure.add_subplot(grid[1 + k // n_columns, k % n_columns]) for k in range(len(panels))]
    for k, axes in enumerate(drawn):
        _draw_panel(axes, panels[k], theme)
        axes.set_title(shorten(panels[k].title, 64 // n_columns), size=9)
        axes.set_ylabel("" if k % n_columns else "net benefit")
    key = figure.add_subplot(grid[0, :])  # an axes of its own: a title of the figure stands above it
    key.axis("off")
    labels = drawn[0].get_legend_handles_labels()
    key.legend(*labels, loc="center left", ncols=3, fontsize=8.5, handlelength=3.2, borderaxespad=0)
    return figure


def _draw_panel(axes: Axes, panel: _DecisionPanel, theme: Theme) -> None:
    style_axes(axes, theme, grid="y")
    columns = ["threshold", "model", "low", "high", "treat_all", "treat_none"]
    x, model, low, high, treat_all, treat_none = panel.curve[columns].to_numpy(dtype=np.float64).T
    axes.fill_between(x, low, high, color=theme.low, alpha=0.2, lw=0)
    for (name, (role, style, width)), y in zip(STYLES.items(), (model, treat_all, treat_none), strict=True):
        axes.plot(x, y, ls=style, lw=width, color=getattr(theme, role), label=name)
    top = float(np.nanmax(np.concatenate([model, high, treat_all, [0.0]])))
    axes.set_ylim(-SHARE_BELOW * float(panel.curve["prevalence"].iloc[0]), 1.06 * max(top, 1e-3))
    axes.set_xlim(panel.ends)
    axes.locator_params(nbins=5)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.tick_params(axis="y", labelsize=8, labelcolor=theme.faint)
    axes.set_xlabel("threshold probability")
