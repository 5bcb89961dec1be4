"""What having a modality is worth, and how training went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.figures.panels import Panel, draw_panels
from multimodn.figures.picture import Picture
from multimodn.figures.shared import (
    MOST_ROWS,
    Floats,
    apart,
    calm,
    check,
    limits,
    new_figure,
    pick,
    shorten,
    slug,
    spanned,
)
from multimodn.figures.theme import Theme
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
    """Draws how much better predictions are with each modality than without it, a panel for each task and metric.

    Args:
        value: The frame of `MultiModN.value_of`.
        task: Default: all.
        metric: Default: all.
        most: Modalities that are drawn.

    Raises:
        StudyError: If task or metric is unknown.
        DataError: If there is nothing to draw.
    """
    check(value, VALUE, "the value of modalities")
    rows = value.assign(**{name: value[name].astype(str) for name in ("task", "metric", "modality")})
    for column, wanted in (("task", task), ("metric", metric)):
        if wanted is not None:
            rows = rows[rows[column] == pick(rows[column], wanted, column)]
    sizes = rows.groupby("modality", sort=False)["value"].mean().sort_values(ascending=False, kind="stable")
    names = sizes.index.tolist()
    parts = list(rows.groupby(["task", "metric"], sort=False))
    is_weighted = not np.allclose(rows["value"], rows["unweighted"], equal_nan=True)
    marks = [WEIGHTED, UNWEIGHTED] if is_weighted else [""]
    panels = [_panel(str(key[0]), str(key[1]), part, marks) for key, part in parts[:MOST_PANELS]]
    return Picture(
        slug("value", task, metric),
        "What a modality is worth" + (f": {shorten(task, 40)}" if task else ""),
        _value_caption(rows, max(len(names) - most, 0), max(len(parts) - MOST_PANELS, 0), is_weighted=is_weighted),
        "Mean gain by having a modality, largest first: "
        + ", ".join(f"{name} {signed(sizes[name], 3)}" for name in names[:4])
        + ".",
        lambda theme: draw_panels(theme, panels, names[:most], marks),
        rows,
    )


def _panel(task: str, metric: str, part: pd.DataFrame, marks: Sequence[str]) -> Panel:
    points = pd.DataFrame({"row": part["modality"], "mark": marks[0]}).assign(
        value=part["value"], low=part["low"], high=part["high"]
    )
    if len(marks) > 1:
        plain = pd.DataFrame({"row": part["modality"], "mark": marks[1], "value": part["unweighted"]})
        points = pd.concat([points, plain.assign(low=np.nan, high=np.nan)])
    return Panel(
        lambda longest: _title(task, metric, longest),
        "◀ worse    better ▶",
        points,
        metric,
    )


def _title(task: str, metric: str, longest: int) -> str:
    whole = f"{task}: {metric}"
    return whole if len(whole) <= longest else f"{shorten(task, longest)}\n{shorten(metric, longest)}"


def _value_caption(rows: pd.DataFrame, n_rows_out: int, n_panels_out: int, *, is_weighted: bool) -> str:
    text = (
        f"How much better predictions are with a modality than without it, among labelled patients who have it (n = "
        f"{spanned(rows['n'])}); right of 0: it helps. Lines are 95% intervals over patients (bootstrap)."
    )
    if is_weighted:
        text += (
            f" Dots: patients weighted by one over their chance of having the modality, so that they stand for "
            f"everybody (as informative as {spanned(rows['n_effective'].round())} unweighted patients). Open "
            f"diamonds: without weights."
        )
    else:
        text += " All patients count alike: weights would change nothing here."
    if n_rows_out:
        text += f" {counted(n_rows_out, 'modality')} of smaller value not drawn."
    return f"{text} {counted(n_panels_out, 'panel')} more not drawn: name a task." if n_panels_out else text


def training_curves(training: pd.DataFrame) -> Picture:
    """Draws the loss of every member by epoch, on its validation and its training patients.

    Args:
        training: ``member``, ``epoch``, ``validation_loss``, ``training_loss``.

    Raises:
        DataError: If there is nothing to draw.
    """
    check(training, TRAINING, "training curves")
    members = [part.sort_values("epoch", kind="stable") for _, part in training.groupby("member", sort=True)]
    known = [part.dropna(subset=["validation_loss"]) for part in members]
    best = [int(part["epoch"].iloc[part["validation_loss"].argmin()]) for part in known if len(part)]
    at = spanned(pd.Series(best)) if best else "unknown"
    return Picture(
        "training",
        "How training went",
        f"n = {counted(len(members), 'member')} of the ensemble, a line each: solid on validation patients, dashed on "
        f"training patients. A dot marks the epoch of the lowest validation loss (epochs {at}), whose weights are "
        f"kept. There is no interval.",
        f"Loss by epoch of {counted(len(members), 'member')}; the lowest validation losses are at epochs {at}.",
        lambda theme: _draw_curves(members, theme),
        training,
    )


def _draw_curves(members: Sequence[pd.DataFrame], theme: Theme) -> Figure:
    figure = new_figure(3.2)
    axes = figure.add_subplot()
    calm(axes, theme, grid="y")
    labels: dict[str, tuple[float, float]] = {}
    for column, style, colour in (("training_loss", (0, (3, 2)), theme.high), ("validation_loss", "-", theme.low)):
        ends: list[tuple[float, float]] = []
        for part in members:
            known = part[part[column].notna()]
            epochs, loss = (known[name].to_numpy(dtype=np.float64) for name in ("epoch", column))
            axes.plot(epochs, loss, ls=style, color=colour, lw=1.1, alpha=0.7)
            if not len(loss):
                continue
            ends.append((float(epochs[-1]), float(loss[-1])))
            if column == "validation_loss":
                k = int(np.argmin(loss))
                axes.plot(epochs[k], loss[k], "o", ms=4.5, mew=0, color=colour)
        if ends:
            labels[column.removesuffix("_loss")] = (
                max(end[0] for end in ends),
                float(np.mean([end[1] for end in ends])),
            )
    low, high = _loss_ends(members)
    heights = apart(np.array([place[1] for place in labels.values()]), 0.06 * (high - low))
    for (name, (epoch, _)), height in zip(labels.items(), heights, strict=True):
        axes.annotate(
            name, (epoch, height), (6, 0), textcoords="offset points", va="center", size=8.5, annotation_clip=False
        )
    axes.set_ylim(low, high)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.locator_params(axis="x", integer=True)
    return figure


def _loss_ends(members: Sequence[pd.DataFrame]) -> tuple[float, float]:
    losses: Floats = pd.concat([part[["validation_loss", "training_loss"]] for part in members]).to_numpy(
        dtype=np.float64
    )
    return limits(losses.ravel())
