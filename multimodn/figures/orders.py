"""How much modalities say only together, and how much the order of reading them matters, task by task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.figures.interactions import SYNERGY
from multimodn.figures.panels import Panel, draw_panels
from multimodn.figures.picture import Picture
from multimodn.figures.shared import (
    LONGEST,
    MOST_ROWS,
    Chosen,
    calm,
    check,
    digits_for,
    expit,
    limits,
    name_rows,
    new_figure,
    pick,
    slug,
    spanned,
)
from multimodn.figures.theme import Theme
from multimodn.findings.frames import DescribedFrame
from multimodn.findings.numbers import counted, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORDERS = ("task", "output", "n_orders", "spread", "low", "high", "prediction")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def synergy_chart(synergy: pd.DataFrame, task: str | None = None) -> Picture:
    """Draws which share of the predictions' movement is interaction, a row for each task and output.

    Args:
        synergy: The frame of `MultiModN.synergy`.
        task: Default: all.

    Raises:
        StudyError: If the task is unknown.
        DataError: If there is nothing to draw.
    """
    check(synergy, SYNERGY, "synergy")
    rows = synergy if task is None else synergy[synergy["task"].astype(str) == pick(synergy["task"], task, "task")]
    names = [
        Chosen(rows, str(t), str(o), "", []).named(LONGEST) for t, o in zip(rows["task"], rows["output"], strict=True)
    ]
    points = pd.DataFrame(
        {"row": names, "mark": "", "value": 100 * rows["synergy"], "low": 100 * rows["low"], "high": 100 * rows["high"]}
    )
    notes = {name: percent(value, 1) for name, value in zip(names, rows["synergy"], strict=True)}
    panel = Panel(lambda longest: "", "synergy, % of the movement", points, notes=notes)
    known = [f"{name} {percent(value)}" for name, value in zip(names, rows["synergy"], strict=True)]
    return Picture(
        slug("synergy", task),
        "How much modalities say only together",
        f"n = {spanned(rows['n'])} patients. Synergy is the mean absolute interaction of all pairs, divided by that "
        f"plus the mean absolute own part of all modalities: 0% where each speaks for itself. Lines are 95% intervals "
        f"over patients (bootstrap).",
        f"Synergy: {', '.join(known[:6])}.",
        lambda theme: draw_panels(theme, [panel], names, [""], is_stem=True),
        rows,
    )


def order_spread(order_sensitivity: pd.DataFrame, task: str | None = None, *, most: int = MOST_ROWS) -> Picture:
    """Draws how far predictions depend on the order in which modalities are read, a row for each task and output.

    Args:
        order_sensitivity: The frame of `MultiModN.order_sensitivity`.
        task: Default: all.
        most: Rows that are drawn.

    Raises:
        StudyError: If the task is unknown.
        DataError: If there is nothing to draw.
    """
    check(order_sensitivity, ORDERS, "sensitivity to order")
    frame = order_sensitivity.assign(
        task=order_sensitivity["task"].astype(str), output=order_sensitivity["output"].astype(str)
    )
    if task is not None:
        frame = frame[frame["task"] == pick(frame["task"], task, "task")]
    rows = []
    for (name, output), part in frame.groupby(["task", "output"], sort=False):
        scale = DescribedFrame.of(order_sensitivity).link_scales.get(str(name), "")
        spread = part["spread"].dropna().to_numpy(dtype=np.float64)
        cut = np.quantile(spread, QUANTILES) if len(spread) else np.full(len(QUANTILES), np.nan)
        sides = int(((part["low"] < 0) & (part["high"] > 0)).sum())
        quantity = Chosen(part, str(name), str(output), scale, []).named(LONGEST)
        rows.append((name, output, quantity, scale, len(spread), *cut, sides))
    columns = ["task", "output", "quantity", "scale", "n", "q05", "q25", "median", "q75", "q95", "crosses"]
    table = pd.DataFrame(rows, columns=columns)
    n, n_orders = frame.index.nunique(), int(frame["n_orders"].max())
    return Picture(
        slug("order-spread", task),
        "How much the order of reading matters",
        _orders_caption(table, n, n_orders, max(len(table) - most, 0)),
        "Median spread over orders: "
        + ", ".join(f"{r.quantity} {r.median:.2g}" for r in table.head(6).itertuples())
        + ".",
        lambda theme: _draw_orders(table.head(most), theme),
        table,
    )


def _draw_orders(table: pd.DataFrame, theme: Theme) -> Figure:
    figure = new_figure(0.3 * len(table) + 0.8)
    axes = figure.add_subplot()
    calm(axes, theme)
    axes.axvline(0, color=theme.faint, lw=1.0, zorder=1)
    rows = np.arange(len(table))
    q05, q25, q50, q75, q95 = (
        table[name].to_numpy(dtype=np.float64) for name in ("q05", "q25", "median", "q75", "q95")
    )
    axes.hlines(rows, q05, q95, color=theme.low, lw=1.4, alpha=0.6)
    axes.hlines(rows, q25, q75, color=theme.low, lw=6, alpha=0.35)
    axes.plot(q50, rows, "o", ms=5, mew=0, color=theme.low)
    digits = digits_for(q50)
    for k, row in enumerate(table.itertuples()):
        note = f"{row.median:.{digits}f}"
        if row.scale == "log-odds":
            note += f"   crosses 50%: {row.crosses:,} of {row.n:,}"
        axes.annotate(
            note, (np.nan_to_num(q95[k]), k), (7, 0), textcoords="offset points", va="center", size=8, color=theme.faint
        )
    axes.set_xlim(limits(np.append(q95, 0.0), 0.02, 0.75))
    name_rows(axes, table["quantity"].tolist())
    axes.set_xlabel("standard deviation of a patient's prediction over orders, on the link scale")
    return figure


def _orders_caption(table: pd.DataFrame, n: int, n_orders: int, n_left_out: int) -> str:
    text = (
        f"n = {counted(n, 'patient')}, {counted(n_orders, 'order')} each. Point and number: median over patients of "
        f"the standard deviation over orders; thick bar: the middle half of the patients; thin line: nine tenths of "
        f"them. 0 = the order does not matter."
    )
    if (table["scale"] == "log-odds").any():
        points = 100 * float(expit(0.1) - 0.5)
        text += (
            f" Near a probability of 50%, 0.1 log-odds are {points:.1f} percentage points. Crosses 50%: patients for "
            f"whom some orders say more and some less than 50%."
        )
    return f"{text} {counted(n_left_out, 'row')} more not drawn." if n_left_out else text
