import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from multimodn.errors import DataError
from multimodn.figures.theme import DARK, LIGHT
from multimodn.slides.heatmaps import heatmap, marks
from multimodn.slides.heatmaps.heatmap import draw_heatmap, score_map
from multimodn.slides.reader.open import open_slide
from tests.slides._slides import picture, write_slide

REAL = Path(__file__).parent / "data" / "cmu_small_region.svs"


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    with open_slide(write_slide(tmp_path_factory.mktemp("slide") / "a$b.tif", picture(900, 600))) as slide:
        yield slide


@pytest.fixture(autouse=True)
def _few_dots(monkeypatch):
    """Most of the time goes into pixels."""
    monkeypatch.setattr(heatmap, "DPI", 40)


def grid(n=6, step=100):
    return np.array([(x * step, y * step) for y in range(n - 1) for x in range(n)])


@given(
    coords=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 70)), min_size=1, max_size=12),
    extent=st.integers(1, 40),
    downsample=st.sampled_from([1.0, 2.5, 8.0]),
)
def test_a_pixel_has_the_mean_score_of_the_tiles_over_it(coords, extent, downsample):
    coords, shape = np.array(coords), (math.ceil(75 / downsample), math.ceil(100 / downsample))
    scores = np.random.default_rng(len(coords)).normal(size=len(coords))
    over = [[[] for _ in range(shape[1])] for _ in range(shape[0])]
    for (x, y), score in zip(coords.tolist(), scores.tolist(), strict=True):
        first = [min(round(v / downsample), limit - 1) for v, limit in ((x, shape[1]), (y, shape[0]))]
        last = [max(round((v + extent) / downsample), low + 1) for v, low in zip((x, y), first, strict=True)]
        for row in over[first[1] : last[1]]:
            for cell in row[first[0] : last[0]]:
                cell.append(score)
    expected = [[np.mean(cell) if cell else np.nan for cell in row] for row in over]
    np.testing.assert_allclose(score_map(coords, extent, scores, downsample, shape), expected, atol=1e-12)


@given(st.integers(0, 99), st.integers(1, 8))
def test_the_highest_tiles_are_those_that_overlap_no_higher_one(seed, k):
    rng = np.random.default_rng(seed)
    coords, values = rng.integers(0, 300, (40, 2)), rng.normal(size=40)
    chosen = heatmap._highest(coords, 60, values, k)
    apart = np.abs(coords[chosen][:, None] - coords[chosen]).max(axis=2)
    assert (apart[~np.eye(len(chosen), dtype=bool)] >= 60).all()
    assert (np.diff(values[chosen]) <= 0).all()
    left_out = np.setdiff1d(np.flatnonzero(values > values[chosen[-1]]), chosen)
    for i in left_out.tolist():
        higher = chosen[values[chosen] > values[i]]
        assert (np.abs(coords[higher] - coords[i]).max(axis=1) < 60).any()


@pytest.mark.parametrize("side", [8.0, 100.0])
def test_numbers_cover_neither_each_other_nor_small_tiles(side):
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    axes = Figure().add_subplot()
    corners = np.array([(300.0 + side * x, 200.0 + side * y) for y in range(2) for x in range(4)])
    marks.draw_marks(axes, corners, side, (1000, 800), 15.0)
    numbers = np.array([patch.center for patch in axes.patches if isinstance(patch, Circle)])
    apart = np.hypot(*(numbers[:, None] - numbers).transpose(2, 0, 1))
    assert len(numbers) == 8
    assert (apart[~np.eye(8, dtype=bool)] > 30).all()
    if side < 45:
        from_tiles = np.hypot(*(numbers[:, None] - corners - side / 2).transpose(2, 0, 1))
        assert (from_tiles > 15 + side / 2).all()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (np.linspace(0, 1, 30), (0, 1)),
        (np.append(np.linspace(0, 1, 29), 21.0), (0, 1)),
        (np.append(np.linspace(0.5, 1.5, 500), [21.0, 30.0, -40.0]), (0.5, 1.5)),
        (np.append(np.linspace(-1, 1, 40), -90.0), (-1, 1)),
        (np.array([1.0, 1.0, 1.0, 1.0, 5.0]), (1, 5)),
        (np.array([1.0, 2.0]), (1, 2)),
        (np.array([3.0]), (3, 3)),
    ],
)
def test_one_tile_far_from_the_others_does_not_flatten_the_colours(scores, expected):
    assert heatmap.colour_limits(scores) == pytest.approx(expected, abs=0.06)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300))
def test_few_scores_lie_beyond_the_colours(scores):
    low, high = heatmap.colour_limits(np.array(scores))
    assert min(scores) <= low <= high <= max(scores)
    beyond = sum(score < low or score > high for score in scores)
    assert beyond <= 2 * math.ceil(0.01 * len(scores))


def test_a_heat_map_with_a_tile_beyond_its_colours_is_drawn(tmp_path, slide):
    draw_heatmap(slide, grid(), 100, np.append(np.linspace(0, 1, 29), 21.0), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("scores", "palette"), [(np.linspace(0, 1, 30), LIGHT), (np.linspace(-2, 1, 30), DARK), (np.full(30, 0.5), LIGHT)]
)
def test_a_heat_map_is_a_picture_on_the_palettes_paper(tmp_path, slide, scores, palette):
    draw_heatmap(slide, grid(), 100, scores, tmp_path / "a.png", title="50 % of $x", palette=palette)
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] == heatmap.WIDTH * heatmap.DPI
    assert "#{:02x}{:02x}{:02x}".format(*pixels[0, 0]) == palette.paper
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_real_slide_is_drawn(tmp_path):
    with open_slide(REAL) as real:
        draw_heatmap(real, grid(9, 224), 224, np.arange(72.0), tmp_path / "a.png", top_k=3)
    with Image.open(tmp_path / "a.png") as image:
        assert image.height > image.width * 0.8


def test_a_wide_slide_is_drawn_with_its_panels_one_under_the_other():
    (width, height), (upper, lower) = heatmap._layout(0.25)
    assert upper[0] == lower[0]
    assert lower[1] >= upper[1] + height
    (width, _), (left, right) = heatmap._layout(1.4)
    assert left[1] == right[1]
    assert right[0] >= left[0] + width


def test_no_highest_tiles_are_drawn_if_none_are_asked_for(tmp_path, slide):
    heights = []
    for k in (0, 6, 7):
        draw_heatmap(slide, grid(), 100, np.arange(30), tmp_path / "a.png", top_k=k)
        with Image.open(tmp_path / "a.png") as image:
            heights.append(image.height)
    assert heights[0] < heights[1] < heights[2]


@pytest.mark.parametrize(
    ("coords", "scores", "message"),
    [
        (grid(), np.arange(29), r"corners \(30, 2\) and scores \(29,\)"),
        (np.zeros((0, 2)), np.zeros(0), r"corners \(0, 2\)"),
        (grid(), np.where(np.arange(30) == 7, np.nan, 1), r"of 1 tiles are not finite, first of tile 7"),
        (
            grid(step=200),
            np.arange(30),
            r"15 tiles lie off the slide \(900 x 600 pixels\), first tile 5 at \(1000, 0\)",
        ),
    ],
)
def test_scores_that_do_not_fit_the_slide_are_refused(tmp_path, slide, coords, scores, message):
    with pytest.raises(DataError, match=message):
        draw_heatmap(slide, coords, 100, scores, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
