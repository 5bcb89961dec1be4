"""What the checklists share: items, and words for what a user told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from multimodn.card.wording import missing
from multimodn.findings.markdown import Markup, listed

AUTHORS = "for the authors to write"
WRITTEN = "given by the user"


@dataclass(frozen=True)
class Item:
    """An item of a checklist.

    Attributes:
        number: As in the statement.
        applies: ``D``, ``E`` or both.
        topic: What it asks for, in our words.
        known: What the package knows of it.
        where: Where it stands.
    """

    number: str
    applies: str
    topic: str
    known: str
    where: str = ""


def at(section: int) -> str:
    """Names a section of the card."""
    return f"section {section}"


def said(text: str | None, key: str) -> str:
    """Says that the user told, or which key is missing."""
    return WRITTEN if text and text.strip() else missing(key)


def said_of(words: Mapping[str, str], names: list[str], key: str) -> str:
    """Says for how many of some names the user told something."""
    lacking = [name for name in names if not words.get(name, "").strip()]
    if not lacking:
        return WRITTEN
    if len(lacking) == len(names):
        return missing(f"{key}.NAME")
    return Markup(f"{WRITTEN}, but of {listed(lacking)}: {missing(f'{key}.NAME')}")


def both(known: str, told: str) -> str:
    """Joins what the package and what the user tells."""
    return Markup(f"{known}; {told}")
