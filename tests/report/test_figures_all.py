import re

import pytest
from hypothesis import given, settings
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from multimodn.errors import DataError
from multimodn.figures.theme import DARK, LIGHT
from tests.report._frames_for_figures import PICTURES, Case, cases

HEX = re.compile(r"#[0-9a-fA-F]{6}\b")
every = pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)


def colours(svg):
    tags = "".join(re.findall(r"<[^>]*>", re.sub(r'aria-label="[^"]*"', "", svg)))
    return {colour.lower() for colour in HEX.findall(tags)}


@every
@settings(max_examples=settings.default.max_examples // 12)  # each is drawn
@given(cases)
def test_any_numbers_are_drawn_in_the_colours_of_the_theme(draw, case):
    picture = draw(case)
    theme = (LIGHT, DARK)[case.seed % 2]
    assert colours(picture.svg(theme)) <= {colour for _, colour in theme.roles()}


@every
def test_a_page_can_hold_it(draw):
    picture = draw(Case())
    svg = picture.inline_svg()
    assert not colours(svg)
    ids = re.findall(r'<[^>]* id="([^"]*)"', svg)
    assert len(ids) == len(set(ids)) > 3
    assert all(name.startswith(f"{picture.name}-") for name in ids)
    assert set(re.findall(r'href="#([^"]*)"', svg)) <= set(ids)
    assert re.fullmatch(r"[a-z0-9-]+", picture.name)


@every
def test_a_caption_says_of_how_many_and_what_an_interval_is(draw):
    picture = draw(Case())
    assert re.search(r"\bn = [0-9]", picture.caption)
    assert "interval" in picture.caption or "bands hold" in picture.caption or "thick bar" in picture.caption
    assert picture.table is not None
    assert picture.alt.endswith(".")


def boxes(figure):
    """Every text that is drawn, with the box that it takes in pixels."""
    found, drawn, canvas = {}, Text.draw, FigureCanvasAgg(figure)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", lambda text, renderer: (found.update({text: 0}), drawn(text, renderer)))
        canvas.draw()
    shown = [text for text in found if text.get_text().strip()]
    return [
        (text.get_text(), text.get_rotation(), Text.get_window_extent(text, canvas.get_renderer())) for text in shown
    ]


def overlap(one, other):
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width > 1.5 and height > 2.5


@every
def test_no_text_is_cut_off_or_lies_on_another(draw):
    figure = draw(Case(n_modalities=13, n_patients=12)).figure(LIGHT, is_titled=True)
    texts, (width, height) = boxes(figure), figure.get_size_inches() * figure.dpi
    for text, _, box in texts:
        assert box.x0 > -1, text
        assert box.y0 > -1, text
        assert box.x1 < width + 1, text
        assert box.y1 < height + 1, text
    level = [(text, box) for text, rotation, box in texts if rotation == 0]
    found = [(a, b) for k, (a, one) in enumerate(level) for b, other in level[:k] if overlap(one, other)]
    assert not found
    assert 6.5 <= width / figure.dpi <= 7.5


@pytest.mark.parametrize("name", ["waterfall", "beeswarm", "trajectory fan", "interaction map", "value"])
def test_forty_modalities_fit_a_page(name):
    figure = PICTURES[name](Case(n_modalities=40)).figure(LIGHT)
    assert figure.get_figheight() < 12
    assert 6.5 <= figure.get_figwidth() <= 7.5


@pytest.mark.parametrize(
    "name",
    [
        "contributions",
        "summary",
        "trajectory",
        "interactions",
        "synergy",
        "orders",
        "value",
        "next",
        "attributions",
        "words",
        "training",
    ],
)
def test_nothing_to_draw_is_an_error(name, monkeypatch):
    monkeypatch.setattr(Case, name, (lambda made: lambda case: made(case).iloc[:0])(getattr(Case, name)))
    for draw in PICTURES.values():
        try:
            draw(Case())
        except DataError as error:
            assert str(error).startswith("Nothing to draw: ")  # noqa: PT017
            return
    pytest.fail("drawn from nothing")
