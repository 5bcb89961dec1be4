"""Opens a report in Chromium: pictures of it, and what a browser and axe find wrong with it.

    python experiments/report/check.py run/report.html --out pictures

Needs `pip install playwright axe-playwright-python` and Debian's chromium. Exit status 1 if anything is wrong: a
request to anything but the file, a message of the console, a violation of accessibility rules in light or dark mode, or
a page that scrolls sideways on a screen of 360 pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

CHROMIUM = "/usr/bin/chromium"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TALL = 4000
"""Pixels of a picture of a page."""
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


def check(file: Path, out: Path) -> list[str]:
    """Opens a page in light and dark, wide and narrow, and prints it; returns what is wrong."""
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        for scheme in ("light", "dark"):
            for name, size in (("wide", WIDE), ("narrow", NARROW)):
                where = f"{scheme}, {name}"
                page = open_page(browser, file, scheme, size, problems, where)
                photograph(page, out, f"{scheme}-{name}", size)
                beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                if beyond > 0:
                    problems.append(f"{where}: the page scrolls sideways by {beyond} pixels.")
                if scheme == "light" and name == "wide":
                    page.pdf(path=out / "print.pdf", format="A4", prefer_css_page_size=True)
                page.context.close()
            problems += accessibility(browser, file, scheme)
        browser.close()
    return problems


def photograph(page: Any, out: Path, name: str, size: dict[str, int]) -> None:
    """Takes pictures of a page from top to bottom, each as tall as Chromium surely takes."""
    for old in out.glob(f"{name}-*.png"):
        old.unlink()
    height = int(page.evaluate("document.documentElement.scrollHeight"))
    for k, top in enumerate(range(0, height, TALL)):
        clip = {"x": 0, "y": top, "width": size["width"], "height": min(TALL, height - top)}
        page.screenshot(path=out / f"{name}-{k + 1:02d}.png", full_page=True, clip=clip)


def open_page(browser: Any, file: Path, scheme: str, size: dict[str, int], problems: list[str], where: str) -> Any:
    """Opens the page as a reader would, and listens."""
    page = browser.new_context(viewport=size, color_scheme=scheme).new_page()
    url = file.resolve().as_uri()
    page.on("console", lambda message: problems.append(f"{where}: console: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"{where}: error: {error}"))
    page.on("request", lambda request: _asked(request.url, url, problems, where))
    page.goto(url)
    return page


def _asked(asked: str, url: str, problems: list[str], where: str) -> None:
    if asked.partition("#")[0] != url and not asked.startswith("data:"):
        problems.append(f"{where}: request to {asked}")


def accessibility(browser: Any, file: Path, scheme: str) -> list[str]:
    """Runs axe, which the page's own policy would keep out, with all details open."""
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(viewport=WIDE, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(file.resolve().as_uri())
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    found = Axe().run(page).response["violations"]
    context.close()
    return [
        f"{scheme}: axe {one['id']} ({one['impact']}), {len(one['nodes'])} times: {one['nodes'][0]['html'][:160]}"
        for one in found
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="A report.")
    parser.add_argument("--out", type=Path, default=Path("report-pictures"), help="Folder for the pictures.")
    given = parser.parse_args()
    problems = check(given.file, given.out)
    print("\n".join(problems) or "Nothing wrong.")
    raise SystemExit(bool(problems))


if __name__ == "__main__":
    main()
