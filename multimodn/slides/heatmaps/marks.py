"""Outlines and numbers of the tiles of a heat map."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
INK = "#14171c"  # on the slide, which is light in every theme


def draw_marks(axes: Axes, corners: Floats, side: float, size: tuple[int, int], radius: float) -> None:
    """Outlines tiles ``(k, 2)`` and numbers them, each number at a free place near its tile.

    Upper left corners and side of tiles, size (width, height) of the picture and radius of numbers are in its pixels.
    """
    from matplotlib.patches import Circle, Rectangle

    (width, height), middles, taken = size, corners + side / 2, list[tuple[float, float]]()
    for x, y in corners.tolist():
        for colour, line in (("#ffffff", 2.6), (INK, 1.2)):
            axes.add_patch(Rectangle((x, y), side, side, fill=False, ec=colour, lw=line))
    for k, middle in enumerate(middles):
        places = _places(middle, side, radius)
        inside = [p for p in places if radius <= p[0] <= width - radius and radius <= p[1] <= height - radius] or places
        centre = next((place for place in inside if _is_free(place, taken, middles, side, radius)), inside[0])
        taken.append(centre)
        if math.dist(centre, middle) > side:
            axes.plot([centre[0], middle[0]], [centre[1], middle[1]], color=INK, lw=0.8, zorder=1.5)
        axes.add_patch(Circle(centre, radius, fc="#ffffff", ec=INK, lw=0.9, zorder=4))
        axes.text(*centre, str(k + 1), size=7.5, color=INK, ha="center", va="center_baseline", zorder=5)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _places(middle: Floats, side: float, radius: float) -> list[tuple[float, float]]:
    """Returns possible places of a number, the best first: on a corner of a tile that stays visible, or around it."""
    half = side / 2
    turns = [k * math.pi / 4 for k in (5, 7, 3, 1, 4, 0, 6, 2)]  # y points down
    corners = [(math.copysign(half, math.cos(t)), math.copysign(half, math.sin(t))) for t in turns[:4]]
    rings = [half + (1.5 + ring) * radius for ring in range(8)]
    around = [(away * math.cos(t), away * math.sin(t)) for away in rings for t in turns]
    offsets = (corners if side > 3 * radius else []) + around
    return [(float(middle[0] + x), float(middle[1] + y)) for x, y in offsets]


def _is_free(
    place: tuple[float, float], taken: list[tuple[float, float]], middles: Floats, side: float, radius: float
) -> bool:
    """Returns whether a number covers neither another number nor a small tile."""
    if any(math.dist(place, other) < 2.15 * radius for other in taken):
        return False
    return side > 3 * radius or bool((np.hypot(*(middles - place).T) > radius + 0.8 * side).all())
