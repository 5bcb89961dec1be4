import io
import re
from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from multimodn.figures.picture import Picture, css_variables
from multimodn.figures.theme import DARK, LIGHT, N_DIVERGING, N_SEQUENTIAL

themes = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
TRICKY = 'a<b> & $x_1$ id="q"    #0b5fa5 url(#z)'


def draw(theme):
    figure = Figure(figsize=(4, 2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], marker="o")
    axes.text(0.1, 0.5, TRICKY)
    return figure


@pytest.fixture
def picture():
    return Picture("a-name", "A title", "What it shows, n = 2.", 'Rises "<always>".', draw)


def brightness(colour):
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)


@themes
def test_no_colour_has_two_meanings(theme):
    names, colours = zip(*theme.roles(), strict=True)
    assert len(set(colours)) == len(colours)
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)
    assert css_variables(theme).count("--") == len(colours)


@themes
def test_text_can_be_read_and_lines_be_seen(theme):
    for colour in (theme.ink, theme.faint, theme.low, theme.high):
        assert contrast(colour, theme.paper) >= 4.5
    for colour in theme.series:
        assert contrast(colour, theme.paper) >= 3


@themes
def test_numbers_on_cells_can_be_read(theme):
    cells = [theme.amount(k / (N_SEQUENTIAL - 1)) for k in range(N_SEQUENTIAL)]
    cells += [theme.leaning(2 * k / (N_DIVERGING - 1) - 1) for k in range(N_DIVERGING)]
    assert {fill for fill, _ in cells} == {*theme.sequential, *theme.diverging}
    assert all(contrast(fill, text) >= 4.5 for fill, text in cells)


def test_amounts_beyond_the_ends_have_the_colours_of_the_ends():
    assert LIGHT.amount(7.0) == LIGHT.amount(1.0)
    assert LIGHT.leaning(-7.0)[0] == LIGHT.diverging[0]


def test_the_same_picture_gives_the_same_text(picture):
    assert picture.svg(DARK) == picture.svg(DARK)
    assert picture.svg(DARK) != picture.svg(LIGHT)


def test_a_name_stays_as_it_is_whatever_it_looks_like(picture):
    assert 'a&lt;b&gt; &amp; $x_1$ id="q"\u00a0\u00a0\u00a0\u00a0#0b5fa5 url(#z)' in picture.inline_svg()


def test_a_page_gives_the_colours_and_can_hold_several(picture):
    one, other = picture.inline_svg(), replace(picture, name="other").inline_svg()
    ids = [set(re.findall(r'<[^>]* id="([^"]+)"', svg)) for svg in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert "var(--series-0)" in one
    assert "<style" not in one  # it would hold for the whole page
    assert 'role="img" aria-label="Rises &quot;&lt;always&gt;&quot;."' in one
    assert "sans-serif" in one


def test_a_figure_keeps_its_colours_wherever_it_is_drawn(picture):
    figure = picture.figure(DARK)
    figure.savefig(io.BytesIO(), format="png")  # outside the settings of the theme
    labels = figure.axes[0].get_xticklabels()
    assert len(labels) > 2
    assert {label.get_color() for label in labels} == {DARK.faint}
    assert not any(label.get_parse_math() for label in labels)


def test_a_title_and_a_caption_make_a_figure_taller(picture):
    plain, titled = picture.figure(), picture.figure(is_titled=True)
    assert titled.get_suptitle() == "A title"
    assert titled.get_supxlabel() == "What it shows, n = 2."
    assert titled.get_figheight() > plain.get_figheight() == 2


def test_files_are_written_whole(picture, tmp_path):
    files = picture.save(tmp_path / "some" / "folder")
    assert sorted(file.name for file in files[0].parent.iterdir()) == ["a-name-dark.png", "a-name.png", "a-name.svg"]
    light, dark = (imread(file) for file in files[1:])
    assert light[0, 0, :3].mean() > 0.9 > 0.2 > dark[0, 0, :3].mean()


@pytest.mark.filterwarnings("error")
def test_letters_that_matplotlib_lacks_are_left_to_the_page(picture):
    def other(theme):
        figure = draw(theme)
        figure.axes[0].set_title("日本語")
        return figure

    assert "日本語" in replace(picture, draw=other).inline_svg()


def test_many_dots_are_few_paths_at_the_same_places(picture):
    def scattered(n):
        def draw(theme):
            figure = Figure(figsize=(4, 2))
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set_axis_off()
            axes.set_xlim(0, 288)
            axes.set_ylim(144, 0)
            axes.plot(range(n), range(n), ".", ms=5, mew=0, alpha=0.5, color=theme.low)
            return figure

        return replace(picture, draw=draw).svg()

    assert scattered(9).count("<use") == 9
    many = scattered(99)
    assert "<use" not in many
    dots = sorted((float(x), float(y)) for x, y in re.findall(r"M([0-9.]+) ([0-9.]+)h0", many))
    assert dots == [(k, k) for k in range(99)]
    assert "stroke-opacity: 0.5" in many
    assert "stroke-width: 2.5" in many
