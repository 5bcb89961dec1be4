"""A report in a browser: what it asks for, what axe says, how it fits a small screen, and its button."""

import shutil

import pytest

from multimodn.report.html.page import render
from multimodn.report.sections.all_sections import page_of
from tests.report._findings import make_findings

sync = pytest.importorskip("playwright.sync_api", exc_type=ImportError)
axe = pytest.importorskip("axe_playwright_python.sync_playwright", exc_type=ImportError)
CHROMIUM = shutil.which("chromium")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
schemes = pytest.mark.parametrize("scheme", ["light", "dark"])


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render(page_of(make_findings(4, 2, 60, n_shown_alone=2), "1 May 2024")), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, url):
    contexts = []

    def open_page(listen=lambda page: None, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        listen(page)
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()


def ground(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


PAPER, NIGHT = "rgb(255, 255, 255)", "rgb(20, 23, 28)"


@schemes
def test_the_page_asks_for_nothing_but_itself_and_says_nothing_on_the_console(visit, url, scheme):
    asked, said = [], []

    def listen(page):
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))

    page = visit(listen, color_scheme=scheme)
    page.click("nav a >> nth=3")
    assert asked == [url]
    assert said == []


@schemes
def test_axe_finds_nothing(visit, scheme):
    page = visit(color_scheme=scheme, bypass_csp=True)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:120]) for one in found] == []


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
def test_the_page_never_scrolls_sideways(visit, width):
    page = visit(viewport={"width": width, "height": 800})
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_policy_keeps_a_request_out(visit):
    said = []
    page = visit(lambda page: page.on("console", lambda message: said.append(message.text)))
    page.evaluate("const one = new Image(); one.src = 'https://example.org/x.png'; document.body.append(one)")
    page.wait_for_timeout(200)
    assert any("Content Security Policy" in text for text in said)


def test_the_button_goes_round_and_is_remembered(visit):
    page = visit(color_scheme="light")
    seen = [(page.inner_text("#theme"), ground(page))]
    for _ in range(3):
        page.click("#theme")
        seen.append((page.inner_text("#theme"), ground(page)))
    assert seen == [("Theme: auto", PAPER), ("Theme: light", PAPER), ("Theme: dark", NIGHT), ("Theme: auto", PAPER)]
    page.click("#theme")
    page.click("#theme")
    page.reload()
    assert (page.inner_text("#theme"), ground(page)) == ("Theme: dark", NIGHT)


@schemes
def test_without_script_the_reader_still_chooses(visit, scheme):
    page = visit(color_scheme=scheme, java_script_enabled=False)
    assert not page.is_visible("#theme")
    path = page.screenshot(clip={"x": 2, "y": 2, "width": 1, "height": 1})
    assert path == page.screenshot(clip={"x": 4, "y": 4, "width": 1, "height": 1})
    assert page.locator("svg").first.is_visible()


def test_on_paper_it_is_light_and_shows_no_buttons(visit):
    page = visit(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert ground(page) == PAPER
    assert not page.is_visible("#theme")
    assert not page.is_visible("nav")


def test_every_drawing_can_be_reached_by_the_keyboard_where_it_scrolls(visit):
    page = visit(viewport={"width": 360, "height": 800})
    stops = page.evaluate(
        "[...document.querySelectorAll('.drawing')].map(b => [b.scrollWidth > b.clientWidth + 1, b.tabIndex])"
    )
    assert len(stops) > 10
    assert all(is_stop == (0 if scrolls else -1) for scrolls, is_stop in stops)
