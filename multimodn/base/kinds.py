"""Kinds of encoders and tasks, looked up among entry points."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from multimodn.errors import StudyError, did_you_mean


def kinds(group: str) -> list[str]:
    """Lists the kinds declared under ``multimodn.encoders`` or ``multimodn.tasks`` by any installed package."""
    return sorted(_declared(group))


def load_kind(group: str, kind: str) -> Any:
    """Returns the class that an installed package declares for ``kind`` in ``group`` (``encoders``, ``tasks``)."""
    entry = _declared(group).get(kind)
    if entry is None:
        raise StudyError(f"Unknown kind '{kind}' among {group}.{did_you_mean(kind, kinds(group))}")
    return entry.load()


@cache
def _declared(group: str) -> Mapping[str, EntryPoint]:
    """Returns the declared kinds by name; cached, as reading the installed packages is slow."""
    return {entry.name: entry for entry in reversed(tuple(entry_points(group=f"multimodn.{group}")))}
