"""A page of sections as one HTML file that asks nothing of anybody: no script, font or picture from elsewhere.

A page is a tree of blocks; what a block looks like is said once, in ``templates/``. All text is escaped, wherever it
comes from. Figures are inline SVG whose colours are CSS variables, so that they follow the reader's light or dark mode.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, ClassVar, Literal

import pandas as pd

from multimodn.figures.picture import Picture, css_variables
from multimodn.figures.theme import DARK, LIGHT
from multimodn.report.html.tables import TextTable, table

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES = files("multimodn.report") / "templates"
MOST_BYTES = 4_300_000  # of inline figures and pictures; a figure that would go beyond is a link to its file


@dataclass(frozen=True)
class Prose:
    """A paragraph; ``caution`` stands out, ``absent`` says why something is not here."""

    text: str
    tone: Literal["plain", "caution", "absent"] = "plain"
    kind: ClassVar[str] = "prose"


@dataclass(frozen=True)
class Listing:
    """Sentences, one below the other; each may end with a link."""

    items: Sequence[str]
    links: Mapping[str, str] = field(default_factory=dict)
    kind: ClassVar[str] = "listing"


@dataclass(frozen=True)
class FactList:
    """Short facts with their names."""

    pairs: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Terms:
    """Words and what they mean, one below the other."""

    pairs: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "terms"


@dataclass(frozen=True)
class DataTable:
    """A table; the first column names the rows."""

    caption: str
    frame: pd.DataFrame
    is_folded: bool = False
    kind: ClassVar[str] = "numbers"

    @property
    def table(self) -> TextTable:
        """The cells as text."""
        return table(self.frame)


@dataclass(frozen=True)
class Code:
    """A text that is shown as it is, folded."""

    title: str
    text: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Drawing:
    """A figure with its caption and numbers."""

    picture: Picture
    kind: ClassVar[str] = "drawing"

    @property
    def table(self) -> TextTable | None:
        """Its numbers as text."""
        frame = self.picture.table
        return None if frame is None or frame.empty else table(frame)


@dataclass(frozen=True)
class Photo:
    """A picture of pixels."""

    name: str
    title: str
    caption: str
    alt: str
    png: bytes
    kind: ClassVar[str] = "photo"

    @property
    def source(self) -> str:
        """The picture as a URI."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Subsection:
    """Blocks under a heading within a section."""

    name: str
    title: str
    blocks: Sequence[Block]
    kind: ClassVar[str] = "part"


Block = Prose | Listing | FactList | Terms | DataTable | Code | Drawing | Photo | Subsection


@dataclass(frozen=True)
class Section:
    """A section of the page; its name is its anchor."""

    name: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """What the file says."""

    title: str  # its heading
    lead: str  # one sentence below it
    facts: Sequence[tuple[str, str]]  # What, when, by which versions
    sections: Sequence[Section]  # in order
    footer: str  # the last line

    def pictures(self) -> Iterator[Picture]:
        """Yields every figure, in order."""
        for section in self.sections:
            yield from (block.picture for block in _leaves(section.blocks) if isinstance(block, Drawing))


def render(page: Page, *, folder: str = "figures", most_bytes: int = MOST_BYTES) -> str:
    """Returns a page as HTML, one file that needs no other.

    Args:
        page: What it says.
        folder: Where the files of the figures are, relative to the page.
        most_bytes: Size of all inline figures and pictures; figures beyond are links.
    """
    page = replace(page, sections=_unique(page.sections))
    colours = {"light": css_variables(LIGHT), "dark": css_variables(DARK)}
    code = {kind: (TEMPLATES / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")}
    return _template().render(page=page, folder=folder, drawings=_drawn(page, most_bytes), **colours, **code)


def _drawn(page: Page, most_bytes: int) -> dict[str, str]:
    """Inline SVG by the name of the figure, as far as there is room."""
    leaves = (block for section in page.sections for block in _leaves(section.blocks))
    drawings, left = {}, most_bytes - sum(len(photo.source) for photo in leaves if isinstance(photo, Photo))
    for picture in page.pictures():
        text = re.sub(r">\s+<", "><", picture.inline_svg())  # without indentation
        if len(text) <= left:
            drawings[picture.name] = text
            left -= len(text)
    return drawings


def _leaves(blocks: Sequence[Block]) -> Iterator[Block]:
    """Yields blocks in order, those of subsections in the place of the subsections."""
    for block in blocks:
        if isinstance(block, Subsection):
            yield from _leaves(block.blocks)
        else:
            yield block


def _unique(sections: Sequence[Section]) -> list[Section]:
    """Gives figures of the same name different ones, as they become ids of the page."""
    seen: dict[str, int] = {}

    def walk(block: Block) -> Block:
        if isinstance(block, Subsection):
            return replace(block, blocks=[walk(one) for one in block.blocks])
        if isinstance(block, Drawing):
            name = block.picture.name
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > 1:
                return Drawing(replace(block.picture, name=f"{name}-{seen[name]}"))
        return block

    return [replace(section, blocks=[walk(block) for block in section.blocks]) for section in sections]


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("multimodn.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")
