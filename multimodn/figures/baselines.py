"""A trained model beside strong simple ones: how well each predicts, and by how much they differ, as forest plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.errors import DataError
from multimodn.figures.forest import Forest, draw_forests
from multimodn.figures.performance import INTERVAL
from multimodn.figures.picture import Picture
from multimodn.figures.shared import check, spanned
from multimodn.figures.theme import Theme
from multimodn.findings.frames import ComparisonFrame
from multimodn.findings.names import arm_name, metric_name
from multimodn.findings.numbers import counted, interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("task", "arm", "metric", "by", "group", "value", "low", "high")
DIFFERENCES = ("difference", "difference_low", "difference_high", "p_value", "p_adjusted", "n")
MOST_PANELS = 12
OURS = "ours"


def baselines_chart(comparison: pd.DataFrame) -> Picture:
    """Draws how well this model and each baseline predict each task.

    Args:
        comparison: The frame of `multimodn.evaluate.baselines.compare.compare_with_baselines`.

    Raises:
        DataError: If there is nothing to draw.
    """
    rows = _overall(comparison)
    panels, n_out = _panels(rows)
    names = list(dict.fromkeys(rows["row"]))
    shown = rows[rows["task"].isin([panel.task for panel in panels])]
    best = [
        f"{task} {interval(*ours[['value', 'low', 'high']].iloc[0])}"
        for task, ours in shown[shown["arm"] == OURS].groupby("task", sort=False)
    ]
    return Picture(
        "baselines",
        "This model beside simple ones",
        f"n = {spanned(rows['n'])} labelled test patients. Dots: {_named(rows)}. Lines: {INTERVAL}. The vertical line "
        f"is what predictions without any knowledge reach.{_trained(comparison)}{_left_out(comparison, n_out)}",
        f"This model: {'; '.join(best[:6])}.",
        lambda theme: draw_forests(panels, names, theme),
        shown[["task", "row", "metric", "value", "low", "high", "n"]]
        .rename(columns={"row": "model"})
        .reset_index(drop=True),
    )


def differences_chart(comparison: pd.DataFrame) -> Picture:
    """Draws by how much this model is better than each baseline, with paired intervals.

    Args:
        comparison: See `baselines_chart`.

    Raises:
        DataError: If there is nothing to draw.
    """
    rows = _overall(comparison)
    rows = rows[(rows["arm"] != OURS) & rows["difference"].notna()]
    if rows.empty:
        raise DataError("Nothing to draw: no baseline was compared with this model.")
    ends = {"difference": "value", "difference_low": "low", "difference_high": "high"}
    panels, n_out = _panels(rows.drop(columns=list(ends.values())).rename(columns=ends))
    names = list(dict.fromkeys(rows["row"]))
    shown = rows[rows["task"].isin([panel.task for panel in panels])]
    n_intervals = int(shown["difference_low"].notna().sum())
    n_clear = int(((shown["difference_low"] > 0) | (shown["difference_high"] < 0)).sum())
    n_kept = int((shown["p_adjusted"] < 0.05).sum())
    return Picture(
        "baselines-differences",
        "By how much this model is better than simple ones",
        f"n = {spanned(rows['n'])} labelled test patients. Dots: {_named(rows)} of this model less that of the other; "
        f"right of the line this model is better. Lines: 95% intervals of the difference, both scored on the same "
        f"resampled patients (bootstrap); none where patients or outcomes are too few. Of "
        f"{counted(n_intervals, 'interval')}, {n_clear} leave out 0; after Holm's adjustment {n_kept} differ at 5%."
        f"{_left_out(comparison, n_out)}",
        f"{n_clear} of {counted(n_intervals, 'interval')} of a difference leave out 0.",
        lambda theme: _draw_differences(panels, names, theme),
        shown[["task", "row", "metric", *DIFFERENCES]].rename(columns={"row": "compared with"}).reset_index(drop=True),
    )


def groups_table(comparison: pd.DataFrame) -> pd.DataFrame:
    """Lists the differences in groups of patients: ``task``, ``group``, ``compared with``, the difference, ``n``.

    Args:
        comparison: See `baselines_chart`.
    """
    check(comparison, (*COLUMNS, *DIFFERENCES), "the comparison with baselines")
    rows = comparison[(comparison["by"] != "overall") & (comparison["arm"] != OURS)]
    rows = rows.assign(**{"compared with": rows["arm"].map(arm_name)})
    return rows[["task", "by", "group", "compared with", "metric", *DIFFERENCES]].reset_index(drop=True)


def _overall(comparison: pd.DataFrame) -> pd.DataFrame:
    check(comparison, (*COLUMNS, *DIFFERENCES), "the comparison with baselines")
    rows = comparison[comparison["by"] == "overall"]
    if rows.empty:
        raise DataError("Nothing to draw: the frame has no rows over all patients.")
    return rows.assign(row=rows["arm"].map(arm_name))


def _panels(rows: pd.DataFrame) -> tuple[list[Forest], int]:
    """A panel for each task, and how many are left out."""
    parts = list(rows.groupby("task", sort=False))
    panels = [Forest(str(task), str(part["metric"].iloc[0]), part) for task, part in parts[:MOST_PANELS]]
    return panels, len(parts) - len(panels)


def _draw_differences(panels: list[Forest], names: list[str], theme: Theme) -> Figure:
    """Draws around 0: "difference" is no metric, so that no line of chance is drawn."""
    figure = draw_forests([Forest(each.task, "difference", each.points) for each in panels], names, theme)
    reach = np.nanmax(
        np.abs(np.concatenate([each.points[["value", "low", "high"]].to_numpy(float) for each in panels]))
    )
    for axes, panel in zip(figure.axes, panels, strict=False):
        axes.axvline(0.0, color=theme.faint, lw=1.0, zorder=1)
        axes.set_xlim(-1.08 * max(reach, 0.05), 1.08 * max(reach, 0.05))
        axes.set_xlabel(f"difference in {metric_name(panel.metric)}")
    return figure


def _named(rows: pd.DataFrame) -> str:
    return " or ".join(dict.fromkeys(metric_name(str(metric)) for metric in rows["metric"]))


def _trained(comparison: pd.DataFrame) -> str:
    """Who trained them, and which single modality is the best one, by patients who are not scored."""
    about = ComparisonFrame.of(comparison)
    n, best = about.n_training, about.best_single
    found = f" All were trained on the same {counted(n, 'patient')}." if n else ""
    if not best:
        return found
    listed = ", ".join(f"{modality} ({task})" for task, modality in best.items())
    return f"{found} The best single modality was chosen among them: {listed.replace('single:', '')}."


def _left_out(comparison: pd.DataFrame, n_out: int) -> str:
    names = ComparisonFrame.of(comparison).left_out
    found = f" Baselines read tables and embeddings only, not {', '.join(map(str, names))}." if names else ""
    failed = [arm_name(arm) for arm in ComparisonFrame.of(comparison).failed]
    found += f" Not trained, as these data cannot carry it: {', '.join(failed)}." if failed else ""
    return found + (f" {counted(n_out, 'task')} more not drawn." if n_out else "")
