"""Names for arms, which are functions: the same name for the same arm in every process."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

DEPTH = 6
PLAIN = (str, bytes, int, float, complex, bool, type(None), Path)


def arm_key(run: Any) -> str:
    """Names an arm for a file: its function's name, and a hash of its code and of what it closes over.

    The hash covers an arm's own code, defaults, closure and attributes, functions among them by their code too, but
    not what these call in turn.
    """
    name = getattr(run, "__name__", type(run).__name__)
    return f"{re.sub('[^A-Za-z0-9_]+', '_', name)}-{hashlib.sha256(_described(run, DEPTH).encode()).hexdigest()[:12]}"


def _described(thing: Any, depth: int) -> str:
    kind = f"{type(thing).__module__}.{type(thing).__qualname__}"
    if isinstance(thing, PLAIN):
        return f"{kind}={thing!r}"
    if depth == 0:
        return kind
    if isinstance(thing, type):
        return f"{thing.__module__}.{thing.__qualname__}"
    return f"{kind}({', '.join(_described(part, depth - 1) for part in _parts(thing))})"


def _parts(thing: Any) -> list[Any]:
    """What tells a thing from others of its type."""
    if isinstance(thing, FunctionType):
        closed = [cell.cell_contents for cell in thing.__closure__ or ()]
        return [thing.__module__, thing.__qualname__, thing.__code__, thing.__defaults__, thing.__kwdefaults__, *closed]
    if isinstance(thing, CodeType):
        return [thing.co_code, *thing.co_names, *thing.co_consts]
    if isinstance(thing, MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, functools.partial):
        return [thing.func, thing.args, thing.keywords]
    if isinstance(thing, Mapping):
        return [part for key in sorted(thing, key=str) for part in (key, thing[key])]
    if isinstance(thing, (set, frozenset)):
        return sorted(thing, key=str)
    if isinstance(thing, (list, tuple)):
        return list(thing)
    return [part for key, value in sorted(getattr(thing, "__dict__", {}).items()) for part in (key, value)]
