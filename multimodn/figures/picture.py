"""A figure with what belongs to it: a name, a title, a caption, and words for those who cannot see it."""

from __future__ import annotations

import html
import io
import re
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from multimodn.figures.theme import DARK, LIGHT, Theme
from multimodn.files import make_folder, replacing, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
COLUMNS_PER_INCH, TITLE_PER_INCH = 17.5, 10.3  # letters of a caption and of a title
LINE_INCHES, TITLE_INCHES = 0.15, 0.25
WIDE = "\u00a0\u00a0"
FONTS = "'DejaVu Sans', Verdana, Arial, sans-serif"
MOST_MARKS, DOT_PATHS = 20, 4
_PLACES = re.compile(r' (?:x|y|d|x1|x2|y1|y2|transform|points)="[^"]*"')
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_CIRCLE = re.compile(r'<path id="(\w+)" d="M 0 ([\d.]+) \nC')
_DOTS = re.compile(
    r'<use xlink:href="#(?P<name>\w+)" x="[^"]*" y="[^"]*" style="(?P<style>[^"]*)"/>'
    r'(?:\s*<use xlink:href="#(?P=name)" x="[^"]*" y="[^"]*" style="(?P=style)"/>)+'
)
_VARIABLES = {colour.lower(): f"var(--{role})" for role, colour in LIGHT.roles()}


@dataclass(frozen=True)
class Picture:
    """A figure that can be drawn in any theme."""

    name: str  # stem of its files and of its ids: lower case, digits and hyphens
    title: str  # what it is, a few words; not drawn into the figure
    caption: str  # what it shows, of how many patients, and what its intervals are
    alt: str  # its message in one or two sentences, for a screen reader
    draw: Callable[[Theme], Figure]  # with the colours of a theme, and no others
    table: pd.DataFrame | None = None  # the numbers that are drawn

    def figure(self, theme: Theme = LIGHT, *, is_titled: bool = False) -> Figure:
        """Draws the figure; with ``is_titled``, title and caption stand in it, for where nothing else says them."""
        import matplotlib

        with matplotlib.rc_context(theme.style()):
            figure = self.draw(theme)
            if is_titled:
                columns = int(figure.get_figwidth() * COLUMNS_PER_INCH)
                title = textwrap.fill(self.title, int(figure.get_figwidth() * TITLE_PER_INCH), break_on_hyphens=False)
                figure.suptitle(title, x=0.01, ha="left", size=11, weight="bold", color=theme.ink)
                caption = textwrap.fill(self.caption, columns, break_on_hyphens=False)
                figure.supxlabel(caption, x=0.01, ha="left", size=7.5, color=theme.faint, linespacing=1.4)
                room = (1 + title.count("\n")) * TITLE_INCHES + (2 + caption.count("\n")) * LINE_INCHES
                figure.set_figheight(figure.get_figheight() + room)
            figure.draw_without_rendering()  # ticks are made when drawn, with the settings of that moment
            return figure

    def svg(self, theme: Theme = LIGHT) -> str:
        """Draws the figure as SVG text; the same figure gives the same text."""
        import matplotlib

        buffer = io.StringIO()
        with matplotlib.rc_context(theme.style() | {"svg.hashsalt": self.name}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # the reader's font has it
            self.draw(theme).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", buffer.getvalue(), count=1, flags=re.DOTALL)
        text = text.replace("<svg ", '<svg style="stroke-linejoin: round; stroke-linecap: butt" ', 1)
        # A page makes one of two spaces.
        text = re.sub(r">[^<]*</text>", lambda content: content[0].replace("  ", WIDE), text)
        return _smaller(text.replace("'DejaVu Sans'", FONTS))

    def inline_svg(self) -> str:
        """Draws the figure for a page: its colours are CSS variables, ``var(--ink)``, and its ids are its own.

        The page defines the variables for light and dark ground; see `css_variables`.
        """
        text = self.svg(LIGHT)
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        # Tags only: a name may hold what looks alike.
        text = re.sub(r"<[^>]*>", lambda tag: self._of_page(tag[0]), text)
        return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(self.alt)}" ', 1)

    def _of_page(self, tag: str) -> str:
        tag = re.sub(r'\bid="', f'id="{self.name}-', tag)
        tag = re.sub(r'href="#', f'href="#{self.name}-', tag)
        tag = re.sub(r"url\(#", f"url(#{self.name}-", tag)
        return re.sub(r"#[0-9a-fA-F]{6}\b", lambda colour: _VARIABLES.get(colour[0].lower(), colour[0]), tag)

    def save(self, folder: Path) -> list[Path]:
        """Writes ``name.svg``, ``name.png`` and ``name-dark.png``."""
        make_folder(folder)
        write_text(folder / f"{self.name}.svg", self.svg())
        return [folder / f"{self.name}.svg", *self.save_png(folder)]

    def save_png(self, folder: Path, *, is_titled: bool = False) -> list[Path]:
        """Writes ``name.png`` and ``name-dark.png``; see `figure`."""
        files = [folder / f"{self.name}.png", folder / f"{self.name}-dark.png"]
        for file, theme in zip(files, (LIGHT, DARK), strict=True):
            with replacing(file) as temporary:
                self.figure(theme, is_titled=is_titled).savefig(temporary, format="png", dpi=DPI)
        return files


def css_variables(theme: Theme) -> str:
    """Returns the colours of a theme as CSS declarations, one a line."""
    return "\n".join(f"  --{role}: {colour};" for role, colour in theme.roles())


def _smaller(svg: str) -> str:
    """Writes places to a hundredth of a point, and many dots of one kind as few paths: a tenth of the size."""
    svg = re.sub(r"<[^>]*>", lambda tag: _PLACES.sub(lambda place: _DECIMALS.sub(r"\1", place[0]), tag[0]), svg)
    sizes = {name: float(radius) for name, radius in _CIRCLE.findall(svg)}
    return _DOTS.sub(lambda run: _dots(run, sizes), svg)


def _dots(run: re.Match[str], sizes: dict[str, float]) -> str:
    """Draws filled circles as round ends of lines without a length; several paths, so that dots show through dots."""
    places = re.findall(r' x="([^"]+)" y="([^"]+)"', run[0])
    if run["name"] not in sizes or "stroke" in run["style"] or len(places) < MOST_MARKS:
        return run[0]
    style = run["style"].replace("fill", "stroke")
    style += f"; fill: none; stroke-width: {2 * sizes[run['name']]:g}; stroke-linecap: round"
    parts = ["".join(f"M{x} {y}h0" for x, y in places[k::DOT_PATHS]) for k in range(DOT_PATHS)]
    return "\n".join(f'<path d="{part}" style="{style}"/>' for part in parts)
