"""Modules that moved: their names of before still import, with a `DeprecationWarning`, until the next release.

``moved.txt`` holds a line for each: the old name, and the modules where its contents are now.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


@cache
def _moved() -> dict[str, list[str]]:
    lines = Path(__file__).with_suffix(".txt").read_text().splitlines()
    return {old: new for old, *new in map(str.split, lines)}


def forward(old: str) -> Callable[[str], Any]:
    """Returns the ``__getattr__`` of a module whose contents moved."""

    def attribute(name: str) -> Any:
        for place in () if name.startswith("__") else _moved()[old]:
            try:
                value = getattr(import_module(place), name)
            except AttributeError:
                continue
            warnings.warn(f"{old}.{name} is now {place}.{name}.", DeprecationWarning, stacklevel=3)
            return value
        raise AttributeError(f"module '{old}' has no attribute '{name}'")

    return attribute


class _Finder(MetaPathFinder, Loader):
    """Finds modules by their old names, after every real module was looked for."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname.startswith("multimodn.") and fullname in _moved() else None

    def exec_module(self, module: ModuleType) -> None:
        module.__getattr__ = forward(module.__name__)  # type: ignore[method-assign]


def install() -> None:
    """Lets old names be imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
