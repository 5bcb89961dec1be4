"""What modalities say only together: a map of their interactions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multimodn.figures.picture import Picture
from multimodn.figures.shared import (
    Chosen,
    Floats,
    calm,
    check,
    choose,
    digits_for,
    name_rows,
    new_figure,
    of_patient,
    shorten,
    slug,
)
from multimodn.figures.theme import Theme
from multimodn.findings.numbers import counted, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INTERACTIONS = ("task", "output", "modality", "other", "interaction")
SYNERGY = ("task", "output", "synergy", "low", "high", "n")
MOST_CELLS, MOST_NAMED = 16, 4


@dataclass(frozen=True)
class _Map:
    chosen: Chosen
    names: list[str]
    size: Floats
    n: Floats


def interaction_map(
    interactions: pd.DataFrame,
    task: str | None = None,
    output: str | None = None,
    *,
    synergy: pd.DataFrame | None = None,
    patient: object | None = None,
    most: int = MOST_CELLS,
) -> Picture:
    """Draws the mean |interaction| of each two modalities, and on the diagonal what is a modality's own.

    Args:
        interactions: The frame of `MultiModN.interactions`.
        task: Default: the first.
        output: Default: the first; of an ordinal task, the middle one.
        synergy: The frame of `MultiModN.synergy`; default: computed here.
        patient: Only this one's.
        most: Modalities that are drawn; those with the largest values.

    Raises:
        StudyError: If task or output is unknown.
        DataError: If there is nothing to draw, or the patient has no rows.
    """
    check(interactions, INTERACTIONS, "interactions")
    chosen = choose(interactions, task, output)
    if patient is not None:
        chosen = replace(chosen, rows=of_patient(chosen.rows, patient))
    if synergy is None:
        from multimodn.explain.interactions import synergy as computed

        synergy = computed(chosen.rows)
    check(synergy, SYNERGY, "synergy")
    of_output = (synergy["task"].astype(str) == chosen.task) & (synergy["output"].astype(str) == chosen.output)
    found = _map(chosen, most)
    n = chosen.rows.index.nunique()
    share = _share(synergy[of_output], n)
    pairs = _pairs(found)
    strongest = (
        f"The strongest pair is {pairs[0][0]} and {pairs[0][1]}, {pairs[0][2]:.2g}." if pairs else "There is no pair."
    )
    return Picture(
        slug("interactions", chosen.task, chosen.output, patient),
        f"{chosen.named(40)}: what modalities say only together",
        _map_caption(found, n, share, len(chosen.modalities) - len(found.names)),
        f"Interactions of {len(found.names)} modalities in {chosen.quantity}. {strongest} {share}",
        lambda theme: _draw_map(found, theme),
        pd.DataFrame(found.size, index=found.names, columns=found.names),
    )


def _map(chosen: Chosen, most: int) -> _Map:
    """Averages absolute values over the patients who have both, ``(M, M)``, lower triangle and diagonal."""
    rows = chosen.rows.assign(size=chosen.rows["interaction"].abs())
    cells = rows.groupby(["modality", "other"], sort=False)["size"].agg(["mean", "count"])
    names = chosen.modalities
    places = {name: k for k, name in enumerate(names)}
    one, other = (cells.index.get_level_values(k).astype(str).map(places).to_numpy(dtype=int) for k in (0, 1))
    size, n = np.full((len(names), len(names)), np.nan), np.zeros((len(names), len(names)))
    low, high = np.maximum(one, other), np.minimum(one, other)
    size[low, high], n[low, high] = cells["mean"].to_numpy(), cells["count"].to_numpy()
    whole = np.where(np.isnan(size), size.T, size)
    total = np.nansum(whole, axis=1)
    kept = np.sort(np.argsort(-total, kind="stable")[:most])  # in the model's order
    kept = kept[~np.isnan(whole[kept]).all(axis=1)]
    return _Map(chosen, [names[k] for k in kept], size[np.ix_(kept, kept)], n[np.ix_(kept, kept)])


def _pairs(found: _Map) -> list[tuple[str, str, float]]:
    """Lists pairs of modalities, the strongest first."""
    one, other = np.tril_indices(len(found.names), -1)
    known = np.isfinite(found.size[one, other])
    one, other = one[known], other[known]
    order = np.argsort(-found.size[one, other], kind="stable")
    return [
        (found.names[j], found.names[i], float(found.size[i, j])) for i, j in zip(one[order], other[order], strict=True)
    ]


def _share(synergy: pd.DataFrame, n: int) -> str:
    if not len(synergy) or np.isnan(synergy["synergy"].iloc[0]):
        return "Synergy is not defined, as nothing moves."
    value, low, high = (float(synergy[name].iloc[0]) for name in ("synergy", "low", "high"))
    interval = f" (95% interval {percent(low, 1)} to {percent(high, 1)})" if n > 1 else ""
    return f"Synergy, the share of all movement that is interaction: {percent(value, 1)}{interval}."


def _draw_map(found: _Map, theme: Theme) -> Figure:
    from matplotlib.patches import Rectangle

    n = len(found.names)
    cell = min(0.62, 5.2 / max(n, 1))
    figure = new_figure(max(cell * n, 0.6) + 1.15)
    axes = figure.add_subplot()
    calm(axes, theme, grid="")
    pairs = found.size[np.tril_indices(n, -1)]
    most_pair, most_own = (float(np.nanmax(part, initial=0.0)) or 1.0 for part in (pairs, np.diag(found.size)))
    digits = 3 if most_pair < 0.1 else max(2 - len(f"{most_own:.0f}") + 1, 0)
    for i in range(n):
        for j in range(i + 1):
            value, is_own = float(found.size[i, j]), i == j
            if np.isnan(value):
                fill, text, label = theme.paper, theme.faint, "n/a"
            elif is_own:
                fill, text, label = theme.paper, theme.ink, _short(value, digits)
            else:
                fill, text = theme.amount(value / most_pair)
                label = _short(value, digits)
            axes.add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, facecolor=fill, lw=0))
            if is_own:
                share = 0.0 if np.isnan(value) else value / most_own
                axes.add_patch(Rectangle((j - 0.47, i + 0.47), 0.94 * share, -0.13, facecolor=theme.faint, lw=0))
                axes.add_patch(Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, fill=False, edgecolor=theme.faint, lw=1.0))
            size = min(9.0, 19.5 * cell, 62 * cell / max(len(label), 1))
            axes.text(
                j, i, label, ha="center", va="center", size=size, color=text, weight="bold" if is_own else "normal"
            )
    name_rows(axes, found.names)
    axes.set_xlim(-0.6, max(n, 5.2 / cell * 0.95) - 0.4)
    axes.set_ylim(n - 0.45, -0.55)
    axes.set_xticks(
        np.arange(n), [shorten(name, 20) for name in found.names], rotation=40, ha="right", rotation_mode="anchor"
    )
    axes.set_aspect("equal", anchor="NW")
    _strongest(axes, found, theme)
    return figure


def _strongest(axes: Axes, found: _Map, theme: Theme) -> None:
    """Names the strongest pairs in the empty corner."""
    pairs = [pair for pair in _pairs(found)[:MOST_NAMED] if pair[2] > 0]
    if len(found.names) < 5 or not pairs:
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


def _map_caption(found: _Map, n: int, share: str, n_left_out: int) -> str:
    has = found.n[np.tril_indices(len(found.names))]
    has = has[has > 0]
    cells = f"{int(has.min()):,} to {int(has.max()):,}" if has.min() < has.max() else f"{int(has.max()):,}"
    text = (
        f"n = {counted(n, 'patient')}, {cells} in a cell. Mean absolute Shapley interaction on the "
        f"{found.chosen.scale or 'link'} scale: off the diagonal what two modalities say only together, the stronger "
        f"in colour the more; framed, with a bar of its own scale, what a modality says by itself. {share}"
    )
    return f"{text} {counted(n_left_out, 'modality')} with smaller values not drawn." if n_left_out > 0 else text
