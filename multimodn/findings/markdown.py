"""Markdown that no column name, class or user's word can break."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# Characters that Markdown reads as more than text; an underscore inside a word is text.
SPECIAL = re.compile(r"[\\`*\[\]<|~]|&(?=#|\w+;)|(?<![^\W_])_|_(?![^\W_])")
# What makes a heading, a list or a rule of a line that starts with it.
LEADING = re.compile(r"^(?:#{1,6}(?=\s|$)|>|[+-](?=\s|$)|-{2,}|=+|\d{1,9}(?=[.)](?:\s|$)))")


class Markup(str):
    """Text that is Markdown already and is not escaped again."""

    __slots__ = ()


def escaped(text: object) -> Markup:
    r"""Returns any text as one line of Markdown that shows it as it is; what is `Markup` stays so.

    Example:
        >>> print(escaped("a|b *c* copy_number"))
        a\|b \*c\* copy_number
    """
    if isinstance(text, Markup):
        return text
    line = " ".join(str(text).split())
    found = LEADING.match(line)
    head = found.group() if found else ""
    rest = SPECIAL.sub(r"\\\g<0>", line[len(head) :])
    if head.isdigit():
        return Markup(f"{head}\\{rest}")
    return Markup(f"\\{head}{rest}" if head else rest)


def inline(text: object) -> Markup:
    """Returns the same for text that does not start a line, such as a cell of a table."""
    return text if isinstance(text, Markup) else Markup(SPECIAL.sub(r"\\\g<0>", " ".join(str(text).split())))


def code(text: object) -> Markup:
    """Returns a short text in code style; one with a backtick or a pipe is escaped instead."""
    line = " ".join(str(text).split())
    return escaped(line) if not line or set(line) & set("`|\\") else Markup(f"`{line}`")


def listed(names: Iterable[object], most: int = 12) -> Markup:
    """Joins names, and says how many more there are."""
    every = [inline(name) for name in names]
    head = ", ".join(every[:most])
    return Markup(head if len(every) <= most else f"{head} and {len(every) - most} more")


def table(header: Sequence[str], rows: Iterable[Sequence[object]], n_text: int = 1) -> list[str]:
    """Writes a table as lines, an empty one last; none if there are no rows. Cells that are no `Markup` are escaped.

    The first ``n_text`` columns hold text; the others, numbers, are aligned to the right.
    """
    lines = [_line([inline(cell) for cell in row], len(header)) for row in rows]
    if not lines:
        return []
    rule = ["---" if k < n_text else "---:" for k in range(len(header))]
    return [_line([inline(name) for name in header], len(header)), _line(rule, len(header)), *lines, ""]


def _line(cells: Sequence[str], width: int) -> str:
    assert len(cells) == width, f"{len(cells)} cells in a table of {width} columns"
    return f"| {' | '.join(cell or ' ' for cell in cells)} |"


def heading(text: object, level: int = 2) -> list[str]:
    """Writes a heading and an empty line."""
    return [f"{'#' * level} {inline(text)}", ""]


def prose(*sentences: str) -> list[str]:
    """Writes one paragraph; empty sentences are left out. User's words in it have to be escaped."""
    text = " ".join(sentence for sentence in sentences if sentence)
    return [text, ""] if text else []


def items(texts: Iterable[str]) -> list[str]:
    """Writes a list; user's words in it have to be escaped."""
    lines = [f"- {text}" for text in texts]
    return [*lines, ""] if lines else []
