"""A figure with what belongs to it: a name, a title, a caption, and words for those who cannot see it."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from multimodn.report.theme import DARK, LIGHT, Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150


@dataclass(frozen=True)
class Picture:
    """A figure that can be drawn in any theme.

    Attributes:
        name: Stem of its files and of its ids: lower case, digits and hyphens.
        title: What it is, a few words; not drawn into the figure.
        caption: What it shows, of how many patients, and what its intervals are.
        alt: Its message in one or two sentences, for a screen reader.
        draw: Draws it with the colours of a theme, and no others.
        table: The numbers that are drawn.
    """

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[Theme], Figure]
    table: pd.DataFrame | None = None

    def figure(self, theme: Theme = LIGHT) -> Figure:
        """Draws the figure."""
        import matplotlib

        with matplotlib.rc_context(theme.style()):
            return self.draw(theme)

    def svg(self, theme: Theme = LIGHT) -> str:
        """Draws the figure as SVG text; the same figure gives the same text."""
        import matplotlib

        buffer = io.StringIO()
        with matplotlib.rc_context(theme.style() | {"svg.hashsalt": self.name}):
            self.draw(theme).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        return buffer.getvalue()

    def inline_svg(self) -> str:
        """Draws the figure for a page: its colours are CSS variables, ``var(--ink)``, and its ids are its own.

        The page defines the variables for light and dark ground; see `css_variables`.
        """
        text = self.svg(LIGHT)
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r'\bid="', f'id="{self.name}-', text)
        text = re.sub(r'href="#', f'href="#{self.name}-', text)
        text = re.sub(r"url\(#", f"url(#{self.name}-", text)
        for role, colour in LIGHT.roles():
            text = re.sub(re.escape(colour), f"var(--{role})", text, flags=re.IGNORECASE)
        return text

    def save(self, folder: Path) -> list[Path]:
        """Writes ``name.svg``, ``name.png`` and ``name-dark.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{self.name}.svg", folder / f"{self.name}.png", folder / f"{self.name}-dark.png"]
        _write(files[0], self.svg().encode())
        for file, theme in zip(files[1:], (LIGHT, DARK), strict=True):
            buffer = io.BytesIO()
            self.figure(theme).savefig(buffer, format="png", dpi=DPI)
            _write(file, buffer.getvalue())
        return files


def css_variables(theme: Theme) -> str:
    """Returns the colours of a theme as CSS declarations, one a line."""
    return "\n".join(f"  --{role}: {colour};" for role, colour in theme.roles())


def _write(file: Path, content: bytes) -> None:
    temporary = file.with_name(f".{file.name}.partial")
    temporary.write_bytes(content)
    os.replace(temporary, file)
