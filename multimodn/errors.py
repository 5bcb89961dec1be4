"""The exceptions of the package, and the wording that messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any


class MultiModNError(Exception):
    """Base of every error that this package raises on purpose."""


class StudyError(MultiModNError, ValueError):
    """The study file asks for something that does not exist or does not fit."""


class DataError(MultiModNError, ValueError):
    """The data do not fit the study; the message names source, column, patient and the repair."""


class UnreadableError(DataError):
    """Files or texts of some patients cannot be read; a study may call such patients absent (``on_error: absent``)."""

    def __init__(self, header: str, patients: Mapping[str, str]) -> None:
        self.patients = dict(patients)  # for each such patient what is wrong, and with which file
        named = [f"patient '{patient}': {problem}" for patient, problem in patients.items()]
        listed = named[0] if len(named) == 1 else f"{len(named)} patients\n" + "\n".join(f"  - {n}" for n in named)
        repair = "Repair or remove these, or write `on_error: absent` to go on without them."
        super().__init__(f"{header}: {listed}\n{repair}")


class MissingExtraError(MultiModNError, ImportError):
    """A part of the package needs libraries that its plain installation leaves out."""

    def __init__(self, what: str, extra: str, error: ImportError) -> None:
        super().__init__(f"{what} needs the extra '{extra}': pip install \"multimodn[{extra}]\". ({error})")


def import_extra(library: str, what: str, extra: str) -> Any:
    """Imports a library that a plain installation leaves out, else raises a MissingExtraError."""
    try:
        return import_module(library)
    except ImportError as error:
        raise MissingExtraError(what, extra, error) from None


class ShapeError(MultiModNError, ValueError):
    """A tensor has another shape or dtype than the module takes."""


class BundleError(MultiModNError, ValueError):
    """A saved model cannot be trusted: truncated, edited, or of another schema."""


class NotFittedError(MultiModNError, AttributeError):
    """The model was asked for something that it knows only after `fit` or `load`."""


class DataWarning(UserWarning):
    """A note on the data that does not stop training."""


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """Returns `` Did you mean 'x'? Valid: ...`` for a mistyped ``word`` (empty if nothing is valid)."""
    names = sorted({str(name) for name in valid})
    if not names:
        return ""
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"{hint} Valid: {shown(names)}."


def did_you_mean_file(path: Path) -> str:
    """Returns `did_you_mean` for a path that does not exist, over the files beside it."""
    return did_you_mean(path.name, [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else [])


def shown(names: Sequence[object], limit: int = 8) -> str:
    """Joins ``names`` for a message, and says how many more there are."""
    head = ", ".join(str(name) for name in names[:limit])
    return head if len(names) <= limit else f"{head}, ... ({len(names) - limit} more)"


def raise_all(problems: Sequence[str], kind: type[MultiModNError], header: str) -> None:
    """Raises one error of class ``kind`` that lists every problem; does nothing if there is none."""
    if len(problems) == 1:
        raise kind(f"{header}: {problems[0]}")
    if problems:
        listed = "\n".join(f"  {i}. {problem}" for i, problem in enumerate(problems, 1))
        raise kind(f"{header}: {len(problems)} problems\n{listed}")
