"""The heat map of a slide: the slide, tile scores laid over it, and the tiles with the highest scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from multimodn.errors import DataError
from multimodn.figures.theme import LIGHT, Theme
from multimodn.files import replacing
from multimodn.slides.heatmaps.marks import INK, draw_marks
from multimodn.slides.reader.slide import Slide

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

DPI = 130
THUMBNAIL, LARGEST_TILE = 1400, 512  # pixels
WIDTH, SIDE, GAP, BAR = 11.0, 0.35, 0.35, 0.95  # inches: figure, margins, between panels, colour bar with its numbers
TALLEST, WIDE = 6.2, 0.6  # inches of a panel; height over width below which panels stand one under the other
TOP, BELOW, STRIP, CAPTION = 0.95, 0.42, 0.42, 0.72  # inches: title, scale bar, title and scores of tiles, caption
MOST_IN_A_ROW = 6
COVER = 0.6  # how much of a colour lies over the grey slide
TAIL = 0.01  # share of the scores at either end that may lie beyond the colours
BADGE = 0.105  # inches: radius of a number


@dataclass(frozen=True)
class _TileScores:
    """What is drawn."""

    coords: NDArray[np.int64]  # upper left corners, level-0 pixels
    extent: int  # side of a tile, level-0 pixels
    downsample: float  # level-0 pixels per pixel of the picture
    values: Floats  # scores
    top: NDArray[np.int64]  # the highest tiles
    colours: Any  # of scores


def draw_heatmap(
    slide: Slide,
    coords: NDArray[np.int64],
    extent: int,
    scores: NDArray[Any],
    file: Path | str,
    title: str | None = None,
    top_k: int = 6,
    palette: Theme = LIGHT,
    score_name: str = "score",
) -> None:
    """Draws scores of tiles over their slide, into a PNG file.

    Left the slide; right the slide in grey under the scores (the mean where tiles overlap); below the tiles with the
    highest scores, of overlapping ones the higher, at full resolution, with their numbers. Colours run from dark to
    light (viridis: even steps of lightness, visible to colour-blind readers); of scores of both signs from blue over
    grey (zero) to orange. Single tiles far from the others do not set their range, see `colour_limits`.

    Args:
        slide: An open slide.
        coords: Upper left corners of the tiles ``(n, 2)``, level-0 pixels.
        extent: Side of a tile, level-0 pixels.
        scores: ``(n,)``.
        file: The PNG file to write.
        title: Default: the name of the slide file.
        top_k: Number of tiles shown.
        palette: `multimodn.figures.theme.LIGHT` or ``DARK``.
        score_name: The name of the score, for colour bar and caption.

    Raises:
        DataError: If there are no tiles, not as many scores as tiles, one is not finite, or a tile lies off the slide.
        OSError: If the file cannot be written.

    References:
        Smith & van der Walt (2015), viridis, https://bids.github.io/colormap/
    """
    import matplotlib
    from matplotlib.figure import Figure

    picture = slide.thumbnail(THUMBNAIL)
    drawn = _tile_scores(slide, coords, extent, scores, top_k, palette, slide.width / picture.shape[1])
    shape, corners = _layout(slide.height / slide.width)
    across = min(max(len(drawn.top), 3), MOST_IN_A_ROW)
    tile = (WIDTH - 2 * SIDE - (across - 1) * 0.16) / MOST_IN_A_ROW
    rows = math.ceil(len(drawn.top) / MOST_IN_A_ROW)
    strip = STRIP + rows * (tile + 0.32) if rows else 0.0
    body = corners[1][1] + shape[1]
    total = body + BELOW + strip + CAPTION
    style: Any = {"text.color": palette.ink, "font.size": 9, "font.family": "DejaVu Sans", "text.parse_math": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH, total), facecolor=palette.paper)

        def axes(left: float, top: float, width: float, tall: float) -> Axes:
            made = figure.add_axes((left / WIDTH, 1 - (top + tall) / total, width / WIDTH, tall / total))
            made.set_axis_off()
            return made

        figure.text(SIDE / WIDTH, 1 - 0.26 / total, title or slide.path.name, size=14, weight="bold", va="top")
        headings = ("The slide", f"{score_name[:1].upper()}{score_name[1:]}, {len(drawn.values):,} tiles")
        for (left, top), heading in zip(corners, headings, strict=True):
            y = 1 - (top - 0.1) / total
            figure.text(left / WIDTH, y, heading, size=10.5, weight="bold", va="bottom")
        _panels([axes(*corner, *shape) for corner in corners], picture, drawn, shape[0] / picture.shape[1])
        _colour_bar(figure, drawn, palette, (corners[1][0] + shape[0] + 0.16, corners[1][1]), shape[1], total)
        _scale_bar(axes(SIDE, body, WIDTH - 2 * SIDE, BELOW), slide, shape[0], palette)
        for k, i in enumerate(drawn.top.tolist()):
            row, column = divmod(k, MOST_IN_A_ROW)
            place = axes(SIDE + column * (tile + 0.16), body + BELOW + STRIP + row * (tile + 0.32), tile, tile)
            _tile(place, slide, drawn, k, i, palette, tile)
        if rows:
            y = 1 - (body + BELOW + 0.14) / total
            figure.text(SIDE / WIDTH, y, f"Highest {score_name}", size=10.5, weight="bold", va="top")
        text = _caption(slide, drawn, score_name)
        figure.text(SIDE / WIDTH, 0.16 / total, text, size=8, color=palette.faint, va="bottom", linespacing=1.45)
        with replacing(Path(file)) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI)


def _layout(aspect: float) -> tuple[tuple[float, float], list[tuple[float, float]]]:
    """Returns width and height of both panels, and their upper left corners, in inches, for height over width."""
    whole = WIDTH - 2 * SIDE - BAR
    if aspect < WIDE:
        width = min(whole, TALLEST / 2 / aspect)
        return (width, width * aspect), [(SIDE, TOP), (SIDE, TOP + width * aspect + BELOW)]
    width = min((whole - GAP) / 2, TALLEST / aspect)
    return (width, width * aspect), [(SIDE, TOP), (SIDE + width + GAP, TOP)]


def score_map(
    coords: NDArray[np.int64], extent: int, scores: NDArray[Any], downsample: float, shape: tuple[int, int]
) -> Floats:
    """Returns the mean score of the tiles over each pixel of a thumbnail ``shape``, NaN where there is no tile.

    Corners ``(n, 2)`` and side of tiles are in level-0 pixels, of which ``downsample`` make a thumbnail pixel.
    """
    first = np.rint(coords / downsample).astype(np.int64)
    last = np.maximum(np.rint((coords + extent) / downsample).astype(np.int64), first + 1)
    limit = np.array(shape[::-1])
    first, last = np.minimum(first, limit - 1), np.minimum(last, limit)
    # Each tile is a step up at its upper left and lower right corner, and down at the others: two sums fill it.
    steps = np.zeros((2, shape[0] + 1, shape[1] + 1))
    for x, y, sign in ((first, first, 1.0), (last, last, 1.0), (first, last, -1.0), (last, first, -1.0)):
        np.add.at(steps[0], (y[:, 1], x[:, 0]), sign * scores.astype(np.float64))
        np.add.at(steps[1], (y[:, 1], x[:, 0]), sign)
    total, n = steps.cumsum(axis=1).cumsum(axis=2)[:, :-1, :-1]
    n = np.rint(n)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _tile_scores(
    slide: Slide, coords: Any, extent: int, scores: NDArray[Any], top_k: int, palette: Theme, downsample: float
) -> _TileScores:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize, TwoSlopeNorm

    coords, values = np.asarray(coords, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    if coords.ndim != 2 or coords.shape[1:] != (2,) or values.shape != coords.shape[:1] or not len(values):
        raise DataError(f"{slide.path}: corners {coords.shape} and scores {values.shape}; expected (n, 2) and (n,).")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise DataError(f"{slide.path}: the scores of {len(bad)} tiles are not finite, first of tile {bad[0]}.")
    off = np.flatnonzero((coords < 0).any(axis=1) | (coords >= (slide.width, slide.height)).any(axis=1))
    if len(off):
        raise DataError(
            f"{slide.path}: {len(off)} tiles lie off the slide ({slide.width} x {slide.height} pixels), first tile "
            f"{off[0]} at {tuple(coords[off[0]].tolist())}. Are these the tiles of another slide?"
        )
    low, high = colour_limits(values)
    if low < 0 < high:
        diverging = LinearSegmentedColormap.from_list("low to high", (palette.low, "#b8bcc2", palette.high))
        colours = ScalarMappable(TwoSlopeNorm(0, -max(-low, high), max(-low, high)), diverging)
    else:
        spread = (low, high) if high > low else (low - 0.5, high + 0.5)
        colours = ScalarMappable(Normalize(*spread), colormaps["viridis"])
    return _TileScores(coords, int(extent), downsample, values, _highest(coords, int(extent), values, top_k), colours)


def colour_limits(values: Floats) -> tuple[float, float]:
    """Returns the scores of the darkest and the lightest colour.

    That is the least and the highest score, but for single tiles far from the others: where the least or highest
    hundredth (one tile at least) more than doubles the range of the rest, it has the colour of the end.
    """
    ordered = np.sort(values)
    n_ends = min(math.ceil(TAIL * len(ordered)), (len(ordered) - 1) // 2)
    low, high = float(ordered[n_ends]), float(ordered[len(ordered) - 1 - n_ends])
    least, most = float(ordered[0]), float(ordered[-1])
    if high == low:  # most scores are equal
        return least, most
    return (low if low - least > high - low else least), (high if most - high > high - low else most)


def _highest(coords: NDArray[np.int64], extent: int, values: Floats, k: int) -> NDArray[np.int64]:
    """Returns the tiles with the highest scores, highest first, without those that overlap a higher one."""
    left, chosen = values.copy(), list[int]()
    while len(chosen) < k and left.max() > -np.inf:
        chosen.append(int(left.argmax()))
        left[(np.abs(coords - coords[chosen[-1]]) < extent).all(axis=1)] = -np.inf
    return np.array(chosen, dtype=np.int64)


def _panels(panels: list[Axes], picture: NDArray[np.uint8], drawn: _TileScores, inches: float) -> None:
    """Draws the slide, and the slide in grey under its scores; ``inches`` is the side of a pixel of the picture."""
    values = score_map(drawn.coords, drawn.extent, drawn.values, drawn.downsample, picture.shape[:2])
    grey = np.repeat((picture @ np.array([0.299, 0.587, 0.114]))[..., None], 3, axis=2) / 255
    colours = drawn.colours.to_rgba(np.nan_to_num(values))[..., :3]
    covered = np.where(np.isnan(values)[..., None], 0.5 + 0.5 * grey, (1 - COVER) * grey + COVER * colours)
    size, side = (picture.shape[1], picture.shape[0]), drawn.extent / drawn.downsample
    for axes, image in zip(panels, (picture, covered), strict=True):
        axes.imshow(image, interpolation="antialiased", aspect="auto")
        draw_marks(axes, drawn.coords[drawn.top] / drawn.downsample, side, size, BADGE / inches)


def _colour_bar(
    figure: Any, drawn: _TileScores, palette: Theme, corner: tuple[float, float], height: float, total: float
) -> None:
    tall = min(height, 2.6)
    axes = figure.add_axes((corner[0] / WIDTH, 1 - (corner[1] + tall) / total, 0.14 / WIDTH, tall / total))
    limits = drawn.colours.get_clim()
    below, above = drawn.values.min() < limits[0], drawn.values.max() > limits[1]
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[bool(below), bool(above)]
    bar = figure.colorbar(drawn.colours, cax=axes, alpha=COVER, extend=extend)
    axes.set_facecolor("#ffffff")  # as on the glass of the slide
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, colors=palette.faint, labelsize=8, pad=4)
    if drawn.values.min() == drawn.values.max():
        bar.set_ticks([float(drawn.values[0])])


def _scale_bar(axes: Axes, slide: Slide, shown: float, palette: Theme) -> None:
    """Draws a bar of a round length, at most a quarter of the slide, under its left corner."""
    microns = slide.width * slide.mpp
    power = 10.0 ** math.floor(math.log10(microns / 4))
    length = max(step * power for step in (1, 2, 5) if step * power <= microns / 4)
    inches = length / microns * shown
    axes.set_xlim(0, WIDTH - 2 * SIDE)
    axes.set_ylim(BELOW, 0)
    axes.plot([0, inches], [0.16, 0.16], color=palette.ink, lw=2.2, solid_capstyle="butt")
    axes.text(inches + 0.09, 0.16, f"{length:,.4g} µm", size=8, color=palette.ink, va="center_baseline")


def _tile(axes: Axes, slide: Slide, drawn: _TileScores, k: int, i: int, palette: Theme, inches: float) -> None:
    from matplotlib.patches import Circle, Rectangle

    n = min(drawn.extent, LARGEST_TILE)
    x, y = drawn.coords[i].tolist()
    axes.imshow(slide.read(x, y, n, n, slide.mpp * drawn.extent / n), extent=(0, 1, 1, 0), interpolation="antialiased")
    axes.set_xlim(0, 1)
    axes.set_ylim(1, 0)
    colour = drawn.colours.to_rgba(drawn.values[i])
    axes.add_patch(Rectangle((0, 0), 1, 1, fill=False, ec=colour, lw=3.0, clip_on=False))
    radius = BADGE / inches
    centre = (1.9 * radius, 1.9 * radius)
    axes.add_patch(Circle(centre, radius, fc="#ffffff", ec=INK, lw=0.9))
    axes.text(*centre, str(k + 1), size=7.5, color=INK, ha="center", va="center_baseline")
    axes.text(0.0, 1 + 0.09 / inches, f"{drawn.values[i]:#.3g}", size=8.5, color=palette.ink, va="top")


def _caption(slide: Slide, drawn: _TileScores, score_name: str) -> str:
    side = drawn.extent * slide.mpp
    caption = (
        f"{slide.path.name}: {slide.width:,} x {slide.height:,} pixels of {slide.mpp:.3g} µm; tiles of {side:,.0f} µm. "
        f"Where tiles overlap, their mean is shown; where there is no colour, there is no tile."
    )
    limits = drawn.colours.get_clim()
    n_beyond = int(((drawn.values < limits[0]) | (drawn.values > limits[1])).sum())
    if n_beyond:
        caption += f"\nScores of {n_beyond} tiles lie beyond the colours; these have the colour of the end."
    highest = (
        f"\nBelow, at full resolution: the {len(drawn.top)} highest tiles that do not overlap, each with its number "
        f"above and its {score_name} beneath, framed in its colour."
    )
    return caption + highest if len(drawn.top) else caption
