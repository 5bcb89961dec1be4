"""Names, values and comments that stand in one line of a study file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from multimodn.study.sources import check_name
from multimodn.study.yaml_file import write_yaml, write_yaml_text


def valid_name(column: str, taken: Collection[str] = ()) -> str:
    """Returns a valid name near that of a column or file, and none of those ``taken``."""
    name = re.sub(r"[^\w-]", "_", column) or "_"
    try:
        check_name(name)
    except ValueError:  # reserved by torch
        name = f"{name}_"
    k, unique = 2, name
    while unique in taken:
        unique, k = f"{name}_{k}", k + 1
    return unique


def scalar(value: Any) -> str:
    """Writes a value as YAML in one line, in quotes where a plain text would be read as another value."""
    text = write_yaml([value])[2:].strip()
    return write_yaml_text(value) if isinstance(value, str) and set("\n,[]{}") & set(text) else text


def listed(values: Iterable[Any]) -> str:
    """Writes values as a list of YAML in one line."""
    return f"[{', '.join(map(scalar, values))}]"


def comment(text: str) -> str:
    """Returns a text in one line, with signs that YAML refuses as in Python."""
    signs = (sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in " ".join(text.split()))
    return "".join(signs)
