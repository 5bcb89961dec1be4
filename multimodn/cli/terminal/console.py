"""The consoles of the command line: whatever is printed may be data, so nothing in a text is markup."""

from __future__ import annotations

import codecs
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

ERRORS = "multimodn.drawn"  # the name of `drawn_in_ascii` among the handlers of `codecs`
PLAIN = dict.fromkeys("█▉▊▋▌▍▎▐", "#") | dict.fromkeys("▏│┃", "|")
PLAIN |= dict.fromkeys("─━\u2013\u2014\u2212\u2011", "-") | dict.fromkeys("\u2018\u2019", "'")
PLAIN |= {"●": "o", "±": "+/-", "\xd7": "x", "≥": ">=", "≤": "<=", "→": "->", "…": "...", "\xa0": " "}


def plain_console(*, stderr: bool = False) -> Console:
    """Returns a console that prints square brackets and colons of identifiers, columns and classes as they are.

    Styles are given as `rich.text.Text`.
    """
    return Console(stderr=stderr, markup=False, emoji=False)


@contextmanager
def working(console: Console, text: str) -> Iterator[Callable[[str], None]]:
    """Shows a spinner with a text; yields a function that changes the text."""
    with console.status(Text(text)) as status:
        yield lambda text: status.update(Text(text))


def print_everywhere() -> None:
    """Lets standard output and error print any text, whatever the encoding of the terminal."""
    codecs.register_error(ERRORS, drawn_in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors=ERRORS)


def drawn_in_ascii(error: UnicodeError) -> tuple[str, int]:
    r"""Replaces what an encoding cannot express: bars and signs by similar ones, letters by escapes like ``\xe9``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    texts = [_plain(letter) for letter in error.object[error.start : error.end]]
    return "".join(texts), error.end


def _plain(letter: str) -> str:
    if letter in PLAIN:
        return PLAIN[letter]
    if "\u2800" <= letter <= "\u28ff":  # the dots of a spinner
        return "*"
    digit = unicodedata.normalize("NFKC", letter) if unicodedata.category(letter) == "No" else ""
    if digit.isascii() and digit:  # such as the 2 of R squared
        return digit
    return letter.encode("ascii", "backslashreplace").decode("ascii")
