"""Bars and lines of words for a terminal; whatever they show is in a number beside them too, colours add nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from multimodn.figures.wording import shorten
from multimodn.findings.numbers import signed

EIGHTHS = " ▏▎▍▌▋▊▉"
INDENT = 2
LONGEST = 24  # letters of a modality's name


@dataclass(frozen=True)
class BarLine:
    """A line of a table: what it is about, a value, and a contribution."""

    name: str  # such as a modality
    shown: str = ""  # the value as text, such as the prediction then; empty = none
    share: float | None = None  # the value from 0 to 1, for its bar; None = none
    size: float | None = None  # the contribution; None = none
    error: float = 0.0  # its standard error; 0 = exact
    total: float | None = None  # instead of a contribution, a sum of them; None = none

    @property
    def number(self) -> str:
        """The contribution or the sum in figures."""
        value = self.total if self.size is None else self.size
        return "" if value is None else signed(round(value, 2) + 0.0)

    @property
    def interval(self) -> str:
        """The standard error in figures."""
        return f" ± {self.error:.2f}" if self.error >= 0.005 else ""


def show_lines(
    console: Console, heads: tuple[str, str], lines: Sequence[BarLine], largest: float, *, is_bar: bool = True
) -> None:
    """Prints lines under the heads of the values and of the contributions, at the width of the console.

    ``largest`` is the contribution that fills half a bar. A value is a bar from 0, as a probability is, or a dot.
    """
    longest = min(LONGEST, max(8, console.width // 3))
    names = [shorten(line.name, longest) for line in lines]
    texts = ("shown", "number", "interval")
    shown, number, interval = (max(len(getattr(line, text)) for line in lines) for text in texts)
    free = min(console.width, 120) - INDENT - max(map(len, names)) - shown - number - interval - 8
    first = max(5, min(20, round(free * 0.35))) if any(line.share is not None for line in lines) else 0
    half = max(3, min(18, (free - first) // 2))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    if shown:
        table.add_column(Text(heads[0]), width=max(shown + 1 + first, min(len(heads[0]), 8)))
    table.add_column(Text(heads[1]), width=2 * half + 2 + number + interval)
    for name, line in zip(names, lines, strict=True):
        value = Text(f"{line.shown:>{shown}} ")
        if line.share is not None:
            value.append(bar(line.share, first) if is_bar else dot(line.share, first), style="blue")
        moved = diverging(line.size / (largest or 1.0), half) if line.size is not None else Text(" " * (2 * half + 1))
        moved.append(f" {line.number:>{number}}{line.interval}")
        cells = [Text(name), value, moved] if shown else [Text(name), moved]
        table.add_row(*cells, style="" if line.total is None else "bold")
    console.print(Padding(table, (0, 0, 0, INDENT), expand=False))


def say(console: Console, text: str | Text, indent: int = INDENT, style: str = "") -> None:
    """Prints words, wrapped and indented; nothing in them is markup."""
    words = Text(text, style=style) if isinstance(text, str) else text
    console.print(Padding(words, (0, 0, 0, indent), expand=False), highlight=False)


def bar(share: float, width: int) -> str:
    """A bar from the left, ``width`` characters at a share of 1, to an eighth of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8]).strip() or "▏"


def dot(share: float, width: int) -> str:
    """A dot on a line of ``width`` characters."""
    place = round(min(max(share, 0.0), 1.0) * (width - 1))
    return "─" * place + "●" + "─" * (width - 1 - place)


def diverging(share: float, half: int) -> Text:
    """A bar to the left or right of a middle line, ``half`` characters at a share of 1, to half a character."""
    full, rest = divmod(round(min(abs(share), 1.0) * half * 2), 2)
    left = ("▐" if rest else "") + "█" * full if share < 0 else ""
    right = "█" * full + ("▌" if rest else "") if share > 0 else ""
    return Text.assemble((f"{left:>{half}}", "magenta"), "│", (f"{right:<{half}}", "cyan"))
