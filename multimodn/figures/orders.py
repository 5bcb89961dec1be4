"""The synergy between modalities, and how sensitive predictions are to their order, task by task."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit

from multimodn.figures.axes import MOST_ROWS
from multimodn.figures.forest import Panel, draw_panels
from multimodn.figures.interactions import SYNERGY
from multimodn.figures.picture import Picture
from multimodn.figures.selection import OutputRows, pick_name, require_columns
from multimodn.figures.wording import LONGEST, digits_for, not_shown, slug, spanned
from multimodn.findings.frames import DescribedFrame
from multimodn.findings.numbers import counted, percent

ORDERS = ("task", "output", "n_orders", "spread", "low", "high", "prediction")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def synergy_chart(synergy: pd.DataFrame, task: str | None = None) -> Picture:
    """Draws which share of the predictions' movement is interactions, a row for each task and output."""
    require_columns(synergy, SYNERGY, "synergy")
    rows = synergy if task is None else synergy[synergy["task"].astype(str) == pick_name(synergy["task"], task, "task")]
    pairs = list(zip(rows["task"].astype(str), rows["output"].astype(str), strict=True))
    names = [OutputRows(rows, task, output, "", []).named(LONGEST) for task, output in pairs]
    points = rows.assign(row=names, mark="", value=rows["synergy"])
    points[["value", "low", "high"]] *= 100
    notes = {name: percent(value, 1) for name, value in zip(names, rows["synergy"], strict=True)}
    panel = Panel("", "synergy (% of the movement)", points, notes=notes)
    return Picture(
        slug("synergy", task),
        "Synergy between modalities",
        f"n = {spanned(rows['n'])} patients. Synergy: mean absolute interactions of all pairs, as a share of these "
        "plus the mean absolute main effects (0%: no interaction). Lines: 95% intervals (bootstrap over patients).",
        f"Synergy: {', '.join(f'{n} {percent(value)}' for n, value in zip(names[:6], rows['synergy'], strict=False))}.",
        lambda theme: draw_panels(theme, [panel], names, is_stem=True),
        rows,
    )


def order_spread(order_sensitivity: pd.DataFrame, task: str | None = None, *, most: int = MOST_ROWS) -> Picture:
    """Draws how far predictions depend on the order of modalities, a row for each task and output."""
    require_columns(order_sensitivity, ORDERS, "sensitivity to order")
    frame = order_sensitivity.assign(**{name: order_sensitivity[name].astype(str) for name in ("task", "output")})
    if task is not None:
        frame = frame[frame["task"] == pick_name(frame["task"], task, "task")]
    rows = []
    for (name, output), part in frame.groupby(["task", "output"], sort=False):
        scale = DescribedFrame.of(order_sensitivity).link_scales.get(str(name), "")
        spread = part["spread"].dropna().to_numpy(dtype=np.float64)
        cut = np.quantile(spread, QUANTILES) if len(spread) else np.full(len(QUANTILES), np.nan)
        sides = int(((part["low"] < 0) & (part["high"] > 0)).sum())
        quantity = OutputRows(part, str(name), str(output), scale, []).named(LONGEST)
        rows.append((name, output, quantity, scale, len(spread), *cut, sides))
    columns = ["task", "output", "quantity", "scale", "n", "q05", "q25", "median", "q75", "q95", "crosses"]
    table = pd.DataFrame(rows, columns=columns)
    n, n_orders = frame.index.nunique(), int(frame["n_orders"].max())
    shown, medians = table.head(most), [f"{row.quantity} {row.median:.2g}" for row in table.head(6).itertuples()]
    return Picture(
        slug("order-spread", task),
        "Sensitivity to the order of modalities",
        _orders_caption(table, n, n_orders) + not_shown(len(table) - most, "row"),
        f"Median standard deviation over orders: {', '.join(medians)}.",
        lambda theme: draw_panels(theme, [_orders_panel(shown)], shown["quantity"].tolist(), row_height=0.3),
        table,
    )


def _orders_panel(table: pd.DataFrame) -> Panel:
    names = {"quantity": "row", "median": "value", "q05": "low", "q95": "high", "q25": "inner_low", "q75": "inner_high"}
    digits = digits_for(table["median"].to_numpy(dtype=np.float64))
    notes = {
        str(row.quantity): f"{row.median:.{digits}f}"
        + (f"   crosses 50%: {row.crosses:,} of {row.n:,}" if row.scale == "log-odds" else "")
        for row in table.itertuples()
    }
    axis = "standard deviation of a patient's prediction over orders (link scale)"
    return Panel("", axis, table.rename(columns=names).assign(mark=""), notes=notes)


def _orders_caption(table: pd.DataFrame, n: int, n_orders: int) -> str:
    text = (
        f"n = {counted(n, 'patient')}, {counted(n_orders, 'order')} each. Point: median over patients; thick bar: "
        "middle 50%; thin line: middle 90%. 0: the order does not matter."
    )
    if (table["scale"] == "log-odds").any():
        points = 100 * float(expit(0.1) - 0.5)
        text += (
            f" Near 50%, 0.1 log-odds are {points:.1f} percentage points. Crosses 50%: patients with predictions "
            "above and below 50%, depending on the order."
        )
    return text
