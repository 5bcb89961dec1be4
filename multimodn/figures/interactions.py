"""Interactions between modalities: a map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multimodn.figures.axes import Floats, name_rows, new_figure, style_axes
from multimodn.figures.picture import Picture
from multimodn.figures.selection import OutputRows, require_columns, rows_of_patient, select_output
from multimodn.figures.theme import Theme
from multimodn.figures.wording import digits_for, not_shown, shorten, slug, spanned
from multimodn.findings.numbers import counted, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INTERACTIONS = ("task", "output", "modality", "other", "interaction")
SYNERGY = ("task", "output", "synergy", "low", "high", "n")
MOST_CELLS, MOST_NAMED = 16, 4


@dataclass(frozen=True)
class _Map:
    chosen: OutputRows
    names: list[str]
    size: Floats
    n: Floats


def interaction_map(
    interactions: pd.DataFrame,
    task: str | None = None,
    output: str | None = None,
    *,
    synergy: pd.DataFrame,
    patient: object | None = None,
    most: int = MOST_CELLS,
) -> Picture:
    """Draws the mean |interaction| of each two modalities, and on the diagonal their main effects.

    ``synergy`` is that of the patients that are drawn. Default: all patients, the first task and output (of an ordinal
    task, the middle one), and of more than ``most`` modalities those with the largest values.
    """
    require_columns(interactions, INTERACTIONS, "interactions")
    chosen = select_output(interactions, task, output)
    if patient is not None:
        chosen = replace(chosen, rows=rows_of_patient(chosen.rows, patient))
    require_columns(synergy, SYNERGY, "synergy")
    of_output = (synergy["task"].astype(str) == chosen.task) & (synergy["output"].astype(str) == chosen.output)
    cells = _map(chosen, most)
    n, pairs = chosen.rows.index.nunique(), _pairs(cells)
    share = _share(synergy[of_output], n)
    strongest = f"Strongest pair: {pairs[0][0]} and {pairs[0][1]}, {pairs[0][2]:.2g}." if pairs else "There is no pair."
    has = cells.n[np.tril_indices(len(cells.names))]
    return Picture(
        slug("interactions", chosen.task, chosen.output, patient),
        f"{chosen.named(40)}: interactions of modalities",
        f"n = {counted(n, 'patient')}, {spanned(pd.Series(has[has > 0]))} in a cell. Mean absolute Shapley "
        f"interaction ({chosen.scale or 'link'} scale); framed, with a bar: main effect of a modality. {share}"
        f"{not_shown(len(chosen.modalities) - len(cells.names), 'modality', 'with smaller values')}",
        f"Interactions of {len(cells.names)} modalities in {chosen.quantity}. {strongest} {share}",
        lambda theme: _draw_map(cells, theme),
        pd.DataFrame(cells.size, index=cells.names, columns=cells.names),
    )


def _map(chosen: OutputRows, most: int) -> _Map:
    """Averages absolute values over the patients who have both, ``(M, M)``, lower triangle and diagonal."""
    rows = chosen.rows.assign(size=chosen.rows["interaction"].abs())
    means = rows.groupby(["modality", "other"], sort=False)["size"].agg(["mean", "count"])
    names = chosen.modalities
    places = {name: k for k, name in enumerate(names)}
    one, other = (means.index.get_level_values(k).astype(str).map(places).to_numpy(dtype=int) for k in (0, 1))
    size, n = np.full((len(names), len(names)), np.nan), np.zeros((len(names), len(names)))
    low, high = np.maximum(one, other), np.minimum(one, other)
    size[low, high], n[low, high] = means["mean"].to_numpy(), means["count"].to_numpy()
    whole = np.where(np.isnan(size), size.T, size)
    total = np.nansum(whole, axis=1)
    kept = np.sort(np.argsort(-total, kind="stable")[:most])  # in the model's order
    kept = kept[~np.isnan(whole[kept]).all(axis=1)]
    return _Map(chosen, [names[k] for k in kept], size[np.ix_(kept, kept)], n[np.ix_(kept, kept)])


def _pairs(cells: _Map) -> list[tuple[str, str, float]]:
    """Lists pairs of modalities, the strongest first."""
    size = cells.size[np.tril_indices(len(cells.names), -1)]
    rows, columns = (places[np.isfinite(size)] for places in np.tril_indices(len(cells.names), -1))
    order = np.argsort(-cells.size[rows, columns], kind="stable")
    pairs = zip(rows[order], columns[order], strict=True)
    return [(cells.names[j], cells.names[i], float(cells.size[i, j])) for i, j in pairs]


def _share(synergy: pd.DataFrame, n: int) -> str:
    if not len(synergy) or np.isnan(synergy["synergy"].iloc[0]):
        return "Synergy is not defined, as nothing moves."
    value, low, high = synergy[["synergy", "low", "high"]].iloc[0].astype(float)
    interval = f" (95% interval {percent(low, 1)} to {percent(high, 1)})" if n > 1 else ""
    return f"Synergy, the share of all movement that is interaction: {percent(value, 1)}{interval}."


def _draw_map(cells: _Map, theme: Theme) -> Figure:
    from matplotlib.patches import Rectangle

    n = len(cells.names)
    cell = min(0.62, 5.2 / max(n, 1))
    figure = new_figure(max(cell * n, 0.6) + 1.15)
    axes = figure.add_subplot()
    style_axes(axes, theme, grid="")
    pairs = cells.size[np.tril_indices(n, -1)]
    most_pair, most_own = (float(np.nanmax(part, initial=0.0)) or 1.0 for part in (pairs, np.diag(cells.size)))
    digits = 3 if most_pair < 0.1 else max(2 - len(f"{most_own:.0f}") + 1, 0)
    for i in range(n):
        for j in range(i + 1):
            value, is_own = float(cells.size[i, j]), i == j
            if np.isnan(value):
                fill, text, label = theme.paper, theme.faint, "n/a"
            elif is_own:
                fill, text, label = theme.paper, theme.ink, _short(value, digits)
            else:
                fill, text, label = *theme.amount(value / most_pair), _short(value, digits)
            axes.add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, facecolor=fill, lw=0))
            if is_own:
                share = 0.0 if np.isnan(value) else value / most_own
                axes.add_patch(Rectangle((j - 0.47, i + 0.47), 0.94 * share, -0.13, facecolor=theme.faint, lw=0))
                axes.add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, fill=False, edgecolor=theme.faint, lw=1.0))
            size = min(9.0, 19.5 * cell, 62 * cell / max(len(label), 1))
            weight = "bold" if is_own else "normal"
            axes.text(j, i, label, ha="center", va="center", size=size, color=text, weight=weight)
    name_rows(axes, cells.names)
    axes.set_xlim(-0.6, max(n, 5.2 / cell * 0.95) - 0.4)
    axes.set_ylim(n - 0.45, -0.55)
    below = [shorten(name, 20) for name in cells.names]
    axes.set_xticks(np.arange(n), below, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_aspect("equal", anchor="NW")
    _strongest(axes, cells, theme)
    return figure


def _strongest(axes: Axes, cells: _Map, theme: Theme) -> None:
    """Names the strongest pairs in the empty corner."""
    pairs = [pair for pair in _pairs(cells)[:MOST_NAMED] if pair[2] > 0]
    if len(cells.names) < 5 or not pairs:
        return
    digits = digits_for(np.array([pair[2] for pair in pairs]))
    lines = [f"{shorten(one, 15)} + {shorten(other, 15)}  {size:.{digits}f}" for one, other, size in pairs]
    for k, line in enumerate(["strongest pairs", *lines]):
        weight, colour = ("normal", theme.ink) if k else ("bold", theme.faint)
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "va": "top"}
        axes.annotate(line, (1, 1), (-4, -4 - 14 * k), size=8, weight=weight, color=colour, **place)


def _short(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.removeprefix("0") if float(text) else "0"
