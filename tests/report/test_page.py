import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from multimodn.figures.picture import Picture
from multimodn.findings.numbers import DASH, INFINITY, MINUS
from multimodn.report.html.page import (
    Code,
    DataTable,
    Drawing,
    FactList,
    Listing,
    Page,
    Photo,
    Prose,
    Section,
    Subsection,
    Terms,
    render,
)
from multimodn.report.html.tables import table

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;"
VOID = {"meta", "img", "br", "hr", "input", "link", "use", "path", "rect"}


class Tree(HTMLParser):
    """Elements of a page with their attributes, and the text of each."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.stray = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.stray.append(tag)

    def of(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def draw(theme):
    figure = Figure(figsize=(6, 2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1.23456789], color=theme.low)
    axes.set_title(HOSTILE, size=5)
    return figure


def picture(name="one", table=None):
    return Picture(name, HOSTILE, HOSTILE, HOSTILE, draw, table)


def frame(text=HOSTILE):
    return pd.DataFrame({text: [text, "b"], "value": [1.5, np.nan]})


def every_block():
    return [
        Prose(HOSTILE),
        Prose(HOSTILE, "caution"),
        Prose(HOSTILE, "absent"),
        Listing([HOSTILE], {HOSTILE: "https://doi.org/1"}),
        FactList([(HOSTILE, HOSTILE)]),
        Terms([(HOSTILE, HOSTILE)]),
        DataTable(HOSTILE, frame()),
        DataTable(HOSTILE, frame(), is_folded=True),
        Code(HOSTILE, HOSTILE),
        Drawing(picture(table=frame())),
        Photo("photo", HOSTILE, HOSTILE, HOSTILE, b"png"),
        Subsection("part", HOSTILE, [Prose(HOSTILE), Drawing(picture())]),
    ]


def make_page(blocks=None):
    blocks = every_block() if blocks is None else blocks
    sections = [Section("first", HOSTILE, blocks), Section("second", "Two", [Prose("Nothing.", "absent")])]
    return Page(HOSTILE, HOSTILE, [(HOSTILE, HOSTILE)], sections, HOSTILE)


@pytest.fixture(scope="module")
def text():
    return render(make_page())


@pytest.fixture(scope="module")
def tree(text):
    return Tree(text)


def test_no_text_becomes_an_element_or_an_attribute(tree):
    assert len(tree.of("script")) == 1  # the page's own
    assert [attrs["src"][:15] for attrs in tree.of("img")] == ["data:image/png;"]
    assert not [name for _, attrs in tree.elements for name in attrs if name.startswith("on")]


def test_hostile_text_can_still_be_read(text):
    body = text.split("<body>")[1]
    assert body.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 30
    assert "<script" not in body


def test_every_element_is_closed(tree):
    assert tree.open == []
    assert tree.stray == []


def test_nothing_is_fetched(text, tree):
    policy = next(attrs["content"] for attrs in tree.of("meta") if "http-equiv" in attrs)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    assert not tree.of("link") + tree.of("iframe") + tree.of("object")
    assert not re.search(r"@import|url\((?!#)", text)


def test_ids_are_unique_and_links_within_the_page_lead_somewhere(tree):
    ids = [attrs["id"] for _, attrs in tree.elements if "id" in attrs]
    assert max(Counter(ids).values()) == 1
    targets = [attrs["href"][1:] for attrs in tree.of("a") if attrs["href"].startswith("#")]
    assert {"main", "first", "second"} <= set(targets) <= set(ids)
    labels = [attrs["aria-labelledby"] for _, attrs in tree.elements if "aria-labelledby" in attrs]
    assert labels
    assert set(labels) <= set(ids)


def test_landmarks_language_and_headings_are_in_order(tree):
    tags = [tag for tag, _ in tree.elements]
    assert tree.of("html") == [{"lang": "en"}]
    assert all(tags.count(tag) == 1 for tag in ("nav", "header", "main", "footer", "h1"))
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert tree.of("a")[0] == {"class": "skip", "href": "#main"}


def test_tables_have_captions_and_scopes_and_figures_have_names(tree):
    assert len(tree.of("table")) == len(tree.of("caption")) == 3
    assert all(attrs.get("scope") in ("row", "col") for attrs in tree.of("th"))
    drawn = [attrs for attrs in tree.of("svg") if attrs.get("role") == "img"]
    assert len(drawn) == 2
    assert all(attrs["aria-label"] == HOSTILE for attrs in drawn)


def test_without_script_the_theme_is_the_readers(text, tree):
    assert "@media (prefers-color-scheme: dark)" in text
    assert text.count("--paper: #ffffff") == 2  # light, and for print
    assert text.count("--paper: #14171c") == 2  # by preference, and by the button
    assert next(attrs for attrs in tree.of("button"))["hidden"] is None


def test_figures_of_the_same_name_get_different_ids(tree):
    assert [attrs["id"] for attrs in tree.of("figure") if "id" in attrs] == [
        "figure-one",
        "figure-photo",
        "figure-one-2",
    ]


def test_a_figure_for_which_there_is_no_room_is_a_link(text):
    size = len(picture().inline_svg())
    short = render(make_page([Drawing(picture("one")), Drawing(picture("two"))]), most_bytes=size)
    assert 'id="figure-two"' in short
    assert short.count('role="img"') == 1
    assert '<a href="figures/two.svg">figures/two.svg</a>' in short


def test_pictures_of_pixels_take_room_from_figures():
    blocks = [Photo("photo", "t", "c", "a", bytes(10_000)), Drawing(picture("one"))]
    size = len(picture().inline_svg())
    assert 'role="img"' in render(make_page(blocks), most_bytes=size + 14_000)
    assert 'role="img"' not in render(make_page(blocks), most_bytes=size + 1_000)


def test_coordinates_are_short_and_text_is_not_cut():
    long = picture("one")
    long = Picture(long.name, "t", "c", "It is 0.123456.", lambda theme: draw(theme))
    page = render(make_page([Drawing(long)]))
    assert "It is 0.123456." in page
    assert not re.search(r'd="[^"]*\.\d{3}', page)


def test_a_long_table_says_how_much_it_leaves_out():
    found = table(pd.DataFrame({"a": range(100)}), most=60)
    assert (len(found.rows), found.n_left_out) == (60, 40)
    assert "40 rows more are not shown." in render(make_page([DataTable("c", pd.DataFrame({"a": range(100)}))]))


def test_a_named_index_is_a_column():
    found = table(pd.DataFrame({"a": [1]}, pd.Index(["x"], name="some_patient")))
    assert [name for name, _ in found.columns] == ["some patient", "a"]
    assert found.rows == [["x", "1"]]


@given(st.floats(-1e8, 1e8))
@example(0.00051)
@example(-0.00149)
def test_numbers_keep_three_digits(value):
    (cell,) = table(pd.DataFrame({"a": [value]})).rows[0]
    read = float(cell.replace(",", "").replace(MINUS, "-"))
    assert read == pytest.approx(value, rel=5.1e-3, abs=1e-300)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, DASH),
        (np.nan, DASH),
        (pd.NA, DASH),
        ("", DASH),
        (True, "yes"),
        (np.inf, INFINITY),
        (-3, f"{MINUS}3"),
        (12345, "12,345"),
    ],
)
def test_what_is_no_plain_number_reads_well(value, shown):
    assert table(pd.DataFrame({"a": pd.Series([value], dtype=object)})).rows == [[shown]]
