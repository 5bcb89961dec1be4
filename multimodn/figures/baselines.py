"""A trained model beside strong simple ones: how well each predicts, and by how much they differ, as forest plots."""

from __future__ import annotations

import pandas as pd

from multimodn.errors import DataError
from multimodn.figures.forest import Panel, draw_panels, metric_panel
from multimodn.figures.performance import INTERVAL
from multimodn.figures.picture import Picture
from multimodn.figures.selection import require_columns
from multimodn.figures.wording import metrics_words, not_shown, spanned
from multimodn.findings.frames import ComparisonFrame
from multimodn.findings.names import OURS, arm_name, metric_name
from multimodn.findings.numbers import counted, interval

COLUMNS = ("task", "arm", "metric", "by", "group", "value", "low", "high")
DIFFERENCES = ("difference", "difference_low", "difference_high", "p_value", "p_adjusted", "n")
MOST_PANELS = 12


def baselines_chart(comparison: pd.DataFrame) -> Picture:
    """Draws how well this model and each baseline predict each task, from the frame of `compare_with_baselines`."""
    rows = _overall(comparison)
    parts = list(rows.groupby("task", sort=False))
    panels = [metric_panel(str(task), str(part["metric"].iloc[0]), part) for task, part in parts[:MOST_PANELS]]
    names = list(dict.fromkeys(rows["row"]))
    shown = rows[rows["task"].isin([panel.title for panel in panels])]
    ours = shown[shown["arm"] == OURS].groupby("task", sort=False)
    scores = [f"{task} {interval(*part[['value', 'low', 'high']].iloc[0])}" for task, part in ours]
    columns = ("task", "model", "metric", "value", "low", "high", "n")
    return Picture(
        "baselines",
        "This model and simple models",
        f"n = {spanned(rows['n'])} labelled test patients. Points: {metrics_words(rows['metric'])}; lines: {INTERVAL}"
        f"; vertical line: chance.{_trained(comparison)}{_left_out(comparison)}"
        f"{not_shown(len(parts) - len(panels), 'task')}",
        f"This model: {'; '.join(scores[:6])}.",
        lambda theme: draw_panels(theme, panels, names),
        shown.rename(columns={"row": "model"})[[*columns]].reset_index(drop=True),
    )


def differences_chart(comparison: pd.DataFrame) -> Picture:
    """Draws by how much this model is better than each baseline, with paired intervals; see `baselines_chart`."""
    rows = _overall(comparison)
    rows = rows[(rows["arm"] != OURS) & rows["difference"].notna()]
    if rows.empty:
        raise DataError("Nothing to draw: no baseline was compared with this model.")
    ends = {"difference": "value", "difference_low": "low", "difference_high": "high"}
    differences = rows.drop(columns=list(ends.values())).rename(columns=ends).assign(mark="")
    parts = list(differences.groupby("task", sort=False))
    panels = []
    for task, part in parts[:MOST_PANELS]:
        axis = f"difference in {metric_name(part['metric'].iloc[0])}"
        panels.append(Panel(str(task), axis, part, reach=0.05, is_centred=True, scale="difference"))
    names = list(dict.fromkeys(rows["row"]))
    shown = rows[rows["task"].isin([panel.title for panel in panels])]
    n_intervals = int(shown["difference_low"].notna().sum())
    n_clear = int(((shown["difference_low"] > 0) | (shown["difference_high"] < 0)).sum())
    exclude = f"{n_clear} of {counted(n_intervals, 'interval')} {'excludes' if n_clear == 1 else 'exclude'} 0"
    return Picture(
        "baselines-differences",
        "Difference between this model and simple models",
        f"n = {spanned(rows['n'])} labelled test patients. Points: {metrics_words(rows['metric'])} of this model "
        "minus that of the other (right of the line: this model is better); lines: 95% intervals (paired bootstrap "
        f"over patients). {exclude}; {int((shown['p_adjusted'] < 0.05).sum())} with p < 0.05 after Holm's "
        f"correction.{_left_out(comparison)}{not_shown(len(parts) - len(panels), 'task')}",
        f"{exclude}.",
        lambda theme: draw_panels(theme, panels, names),
        shown[["task", "row", "metric", *DIFFERENCES]].rename(columns={"row": "compared with"}).reset_index(drop=True),
    )


def _overall(comparison: pd.DataFrame) -> pd.DataFrame:
    require_columns(comparison, (*COLUMNS, *DIFFERENCES), "the comparison with baselines")
    rows = comparison[comparison["by"] == "overall"]
    if rows.empty:
        raise DataError("Nothing to draw: the frame has no rows over all patients.")
    return rows.assign(row=rows["arm"].map(arm_name))


def _trained(comparison: pd.DataFrame) -> str:
    """Writes on how many patients all were trained, and which single modality is the best one."""
    about = ComparisonFrame.of(comparison)
    text = f" All models were trained on the same {counted(about.n_training, 'patient')}." if about.n_training else ""
    listed = ", ".join(f"{arm.removeprefix('single:')} ({task})" for task, arm in about.best_single.items())
    return text + (f" The best single modality was chosen on them: {listed}." if listed else "")


def _left_out(comparison: pd.DataFrame) -> str:
    about = ComparisonFrame.of(comparison)
    text = f" Baselines use tables and embeddings only, not {', '.join(about.left_out)}." if about.left_out else ""
    return text + (f" Not trainable on these data: {', '.join(map(arm_name, about.failed))}." if about.failed else "")
