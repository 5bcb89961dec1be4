"""The value of having a modality, and the training curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.figures.axes import MOST_ROWS, axis_limits, label_point, new_figure, spread_labels, style_axes
from multimodn.figures.forest import Panel, draw_panels
from multimodn.figures.picture import Picture
from multimodn.figures.selection import pick_name, require_columns
from multimodn.figures.theme import Theme
from multimodn.figures.wording import not_shown, shorten, slug, spanned
from multimodn.findings.names import metric_name
from multimodn.findings.numbers import counted, signed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VALUE = ("task", "metric", "modality", "n", "n_effective", "value", "low", "high", "unweighted")
TRAINING = ("member", "epoch", "validation_loss", "training_loss")
WEIGHTED, UNWEIGHTED = "weighted", "unweighted"
MOST_PANELS = 12


def value_chart(
    value: pd.DataFrame, task: str | None = None, metric: str | None = None, *, most: int = MOST_ROWS
) -> Picture:
    """Draws how much better predictions are with each modality than without it, a panel for each task and metric."""
    require_columns(value, VALUE, "the value of modalities")
    rows = value.assign(**{name: value[name].astype(str) for name in ("task", "metric", "modality")})
    for column, wanted in (("task", task), ("metric", metric)):
        if wanted is not None:
            rows = rows[rows[column] == pick_name(rows[column], wanted, column)]
    sizes = rows.groupby("modality", sort=False)["value"].mean().sort_values(ascending=False, kind="stable")
    names = sizes.index.tolist()
    parts = list(rows.groupby(["task", "metric"], sort=False))
    is_weighted = not np.allclose(rows["value"], rows["unweighted"], equal_nan=True)
    marks = [WEIGHTED, UNWEIGHTED] if is_weighted else [""]
    panels = [_panel(str(key[0]), str(key[1]), part, marks) for key, part in parts[:MOST_PANELS]]
    largest = [f"{name} {signed(sizes[name], 3)}" for name in names[:4]]
    weights = " Weights would not change the result."
    if is_weighted:
        weights = (
            " Filled: patients weighted by the inverse probability of having the modality (effective n = "
            f"{spanned(rows['n_effective'].round())}); open: without weights."
        )
    return Picture(
        slug("value", task, metric),
        "Value of each modality" + (f": {shorten(task, 40)}" if task else ""),
        "Gain in performance with a modality against without it, in labelled patients who have it (n = "
        f"{spanned(rows['n'])}); right of 0: better with it. Lines: 95% intervals (bootstrap over patients).{weights}"
        f"{not_shown(len(names) - most, 'modality', 'of smaller value')}{not_shown(len(parts) - MOST_PANELS, 'panel')}",
        f"Mean gain by a modality, largest first: {', '.join(largest)}.",
        lambda theme: draw_panels(theme, panels, names[:most], marks),
        rows,
    )


def _panel(task: str, metric: str, part: pd.DataFrame, marks: Sequence[str]) -> Panel:
    points = part[["value", "low", "high"]].assign(row=part["modality"], mark=marks[0])
    if len(marks) > 1:
        points = pd.concat([points, points.assign(mark=marks[1], value=part["unweighted"], low=np.nan, high=np.nan)])
    words = metric_name(metric)
    return Panel(f"{task}: {words}", "◀ worse    better ▶", points, title_lines=(task, words), scale=metric)


def training_curves(training: pd.DataFrame) -> Picture:
    """Draws the loss of every member by epoch, on its validation and its training patients."""
    require_columns(training, TRAINING, "training curves")
    members = [part.sort_values("epoch", kind="stable") for _, part in training.groupby("member", sort=True)]
    validated = [part.dropna(subset=["validation_loss"]) for part in members]
    best = [int(part["epoch"].iloc[part["validation_loss"].argmin()]) for part in validated if len(part)]
    epochs = spanned(pd.Series(best)) if best else "unknown"
    return Picture(
        "training",
        "Training curves",
        f"n = {counted(len(members), 'member')} of the ensemble. Solid: loss on validation patients, dashed: on "
        f"training patients. Points: lowest validation loss (epoch {epochs}), where weights are kept; no interval.",
        f"Loss by epoch of {counted(len(members), 'member')}; lowest validation loss at epoch {epochs}.",
        lambda theme: _draw_curves(members, theme),
        training,
    )


def _draw_curves(members: Sequence[pd.DataFrame], theme: Theme) -> Figure:
    figure = new_figure(3.2)
    axes = figure.add_subplot()
    style_axes(axes, theme, grid="y")
    labels: dict[str, tuple[float, float]] = {}
    for column, style, colour in (("training_loss", (0, (3, 2)), theme.high), ("validation_loss", "-", theme.low)):
        ends: list[tuple[float, float]] = []
        for part in members:
            epochs, loss = part.loc[part[column].notna(), ["epoch", column]].to_numpy(dtype=np.float64).T
            axes.plot(epochs, loss, ls=style, color=colour, lw=1.1, alpha=0.7)
            if not len(loss):
                continue
            ends.append((float(epochs[-1]), float(loss[-1])))
            if column == "validation_loss":
                k = int(np.argmin(loss))
                axes.plot(epochs[k], loss[k], "o", ms=4.5, mew=0, color=colour)
        if ends:
            labels[column.removesuffix("_loss")] = max(end[0] for end in ends), float(np.mean([end[1] for end in ends]))
    losses = pd.concat([part[["validation_loss", "training_loss"]] for part in members]).to_numpy(dtype=np.float64)
    low, high = axis_limits(losses.ravel())
    heights = spread_labels(np.array([place[1] for place in labels.values()]), 0.06 * (high - low))
    for (name, (epoch, _)), height in zip(labels.items(), heights, strict=True):
        label_point(axes, name, (epoch, height), 6, size=8.5, annotation_clip=False)
    axes.set_ylim(low, high)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.locator_params(axis="x", integer=True)
    return figure
