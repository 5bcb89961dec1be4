"""Words that several sections of a report share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ParamSpec

from multimodn.errors import DataError
from multimodn.report.page import Block, Drawing, Prose
from multimodn.report.picture import Picture

P = ParamSpec("P")

MOST_NAMED = 8
MOST_TASKS = 10
"""Tasks that have figures of their own in a section."""


def joined(names: Iterable[str], most: int = MOST_NAMED) -> str:
    """Writes ``a``, ``a and b``, ``a, b and c``; of many names, some and how many more."""
    listed = list(names)
    if len(listed) > most:
        return f"{', '.join(listed[:most])} and {len(listed) - most} more"
    return " and ".join([", ".join(listed[:-1]), listed[-1]]) if len(listed) > 1 else "".join(listed)


def drawn(make: Callable[P, Picture], *args: P.args, **options: P.kwargs) -> Block:
    """Makes a figure, or says why there is nothing to draw."""
    try:
        return Drawing(make(*args, **options))
    except DataError as error:
        return Prose(str(error).partition(". ")[0].rstrip(".") + ".", "absent")


def left_out(names: Sequence[str], most: int = MOST_TASKS) -> list[Block]:
    """Says which tasks have no figures of their own."""
    if len(names) <= most:
        return []
    return [Prose(f"Figures are drawn for the first {most} of {len(names)} tasks, in the study's order.", "absent")]
