"""Reads target columns of any dtype: class labels compare as text, numbers must be numbers.

The text of a label does not depend on how the table stored it: ``1``, ``1.0``, ``"1"`` and ``"1.0"`` are all ``1``;
``True``, ``"True"`` and ``"TRUE"`` are all ``true``; surrounding blanks are dropped and an empty text is no label.
Texts that differ in upper case, blanks or accents only are one label, called as most write it, unless a study names
them as two classes; other texts are taken as they stand (``01`` is not ``1``). Where all classes are words of a
yes-or-no answer, any word with the same answer stands for a class, so that ``positive: yes``, which YAML reads as true,
finds ``"yes"``, and a model fitted on true and false takes 1 and 0. `label_notes` tells what was read as another text.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.data.label_texts import as_number, as_text
from multimodn.data.outcome_words import fold, is_yes, positive_of, spellings
from multimodn.errors import DataError, DataWarning, did_you_mean, raise_all, shown

Label = bool | int | float | str  # A class as a study file may write it

_OPPOSITE = {"1": "0", "true": "false", "yes": "no", "on": "off", "y": "n", "t": "f"}
_OPPOSITE |= {no: yes for yes, no in _OPPOSITE.items()}
_LISTED = 8  # bad cells that a message shows


def check_unique(labels: Sequence[Label]) -> Sequence[Label]:
    """Returns ``labels`` if no two have the same text; pydantic shows the error of a validator.

    Raises:
        ValueError: If a text occurs twice.
    """
    texts = [as_text(label) for label in labels]
    repeated = sorted({text for text in texts if texts.count(text) > 1})
    if repeated:
        raise ValueError(f"each entry may be named once only, but these are repeated: {shown(repeated)}")
    return labels


def pick(task: str, frame: pd.DataFrame, column: str) -> pd.Series:
    """Returns one target column.

    Raises:
        DataError: If ``frame`` has no such column; the message names the nearest one.
    """
    if column not in frame.columns:
        hint = did_you_mean(column, [str(name) for name in frame.columns])
        raise DataError(f"Task '{task}': the targets have no column '{column}'.{hint}")
    return frame[column]


def read_labels(task: str, frame: pd.DataFrame, column: str) -> tuple[NDArray[np.int64], list[str]]:
    """Returns for each row the position of its label among the distinct texts, and those texts.

    The position is -1 where there is no label. Texts that are numbers are sorted as numbers, and before all others.

    Raises:
        DataError: If the column is missing.
    """
    codes, distinct = pd.factorize(pick(task, frame, column))
    texts = [as_text(label) for label in distinct]
    values = sorted({text for text in texts if text}, key=_sort_key)
    position = {text: i for i, text in enumerate(values)}
    lookup = np.array([*(position.get(text, -1) for text in texts), -1], dtype=np.int64)  # code -1 reads the last
    return lookup[codes], values


def _sort_key(text: str) -> tuple[bool, float, str]:
    number = as_number(text)
    return number is None, number or 0.0, text


def training_labels(task: str, frame: pd.DataFrame, column: str, *, are_answers: bool = False) -> list[str]:
    """Returns the distinct labels of training rows, each in its most frequent spelling, sorted as in `read_labels`.

    Raises:
        DataError: If the column is missing.
    """
    codes, values = read_labels(task, frame, column)
    counts = np.bincount(codes[codes >= 0], minlength=len(values)).tolist()
    usual = spellings(dict(zip(values, counts, strict=True)), are_answers=are_answers)
    return sorted(set(usual.values()), key=_sort_key)


def numeric_classes(task: str, frame: pd.DataFrame, column: str) -> list[str]:
    """Returns the distinct labels of training rows in the order of their numbers.

    Raises:
        DataError: If one is no number, so that the order is not known.
    """
    values = training_labels(task, frame, column)
    if any(as_number(value) is None for value in values):
        raise DataError(
            f"Task '{task}': column '{column}' has classes that are no numbers, so their order is unknown: "
            f"{shown(values)}. Give it, from low to high, with `classes: [...]`."
        )
    return values


def find_class(text: str, classes: Sequence[str]) -> int:
    """Returns the position of ``text`` among ``classes`` (-1 = none of them), see the rule of the module."""
    if text in classes:
        return classes.index(text)
    alike = [i for i, name in enumerate(classes) if name and fold(name) == fold(text)]
    if alike:
        return alike[0] if len(alike) == 1 else -1
    answers, answer = [is_yes(name) for name in classes], is_yes(text)
    return answers.index(answer) if answer is not None and None not in answers and answer in answers else -1


def encode(task: str, frame: pd.DataFrame, column: str, classes: Sequence[str]) -> NDArray[np.int64]:
    """Returns for each row the position of its label in ``classes``; -1 = no label.

    Raises:
        DataError: If the column is missing, or a label is none of ``classes``; the message names patient and label.
    """
    codes, values = read_labels(task, frame, column)
    lookup = np.array([*(find_class(value, classes) for value in values), -1], dtype=np.int64)
    found = lookup[codes]
    unknown = (found < 0) & (codes >= 0)
    problems = [
        f"column '{column}': {whose(frame, unknown & (codes == i))} has '{values[i]}', expected one of: "
        f"{shown(classes)}. Correct the cell, empty it, or fit on rows that have this class."
        for i in np.unique(codes[unknown])
    ]
    raise_all(problems, DataError, f"Task '{task}'")
    return found


def whose(frame: pd.DataFrame, rows: NDArray[np.bool_]) -> str:
    """Names the first patient of ``rows``, and says how many more there are."""
    patients = frame.index[rows]
    more = f" (and {len(patients) - 1} more)" if len(patients) > 1 else ""
    return f"patient '{patients[0]}'{more}"


def two_classes(
    task: str, frame: pd.DataFrame, column: str, positive: Label | None, key: str = "positive",
    several: str = "Empty the cells that are neither, or use `kind: multiclass`.",
) -> list[str]:  # fmt: skip
    """Returns the texts of the negative and the positive class of a yes-or-no column of training rows.

    Different words for yes, and for no, are one class each if all values are such words.

    Only one of the two need occur: whether that is enough is for the task to say. The other one is then the opposite
    word if there is one, else empty. ``positive`` None: the values answer yes or no; ``key`` is the option
    that gives it, and ``several`` the repair of more than two values, for messages.

    Raises:
        DataError: If there are no labels, more than two values, or it is not clear which one is positive.
    """
    values = training_labels(task, frame, column, are_answers=True)
    where = f"Task '{task}': column '{column}'"
    if not values:
        raise DataError(f"{where} has no labels in the training rows. Check the column and the patient key.")
    if len(values) > 2:
        raise DataError(f"{where} has {len(values)} values, expected 2: {shown(values)}. {several}")
    at = _positive_position(where, values, positive, key)
    word = values[at]
    rest = values[1 - at] if len(values) == 2 else _OPPOSITE.get(word.lower(), "")
    if positive is None and is_yes(word) is False:  # every training label is a no
        word, rest = rest, word
    return [rest, word]


def _positive_position(where: str, values: Sequence[str], positive: Label | None, key: str) -> int:
    if positive is not None:
        at = find_class(as_text(positive), values)
        if at < 0:
            hint = did_you_mean(as_text(positive), values)
            raise DataError(f"{where}: no training row has the value '{as_text(positive)}' of `{key}`.{hint}")
        return at
    answers = [is_yes(value) for value in values]
    if None in answers or (len(answers) == 2 and answers[0] == answers[1]):
        likely = positive_of(values)[0] if len(values) == 2 else None
        raise DataError(
            f"{where} has the values {shown(values)}: say which one is positive, for example "
            f"`{key}: {likely or values[-1]}`."
        )
    return answers.index(True) if True in answers else 0


def count_classes(task: str, column: str, codes: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.float64]:
    """Counts the training labels of each class; warns of classes seen once or never.

    Raises:
        DataError: If there are no labels, or labels of one class only.
    """
    counts = np.bincount(codes[codes >= 0], minlength=len(classes)).astype(np.float64)
    where = f"Task '{task}': column '{column}'"
    if counts.sum() == 0:
        raise DataError(f"{where} has no labels in the training rows. Check the column and the patient key.")
    if (counts > 0).sum() < 2:
        raise DataError(
            f"{where} has one class only in the training rows: all {counts.sum():.0f} labels are "
            f"'{classes[int(counts.argmax())]}'. Add patients of another class, or leave the task out."
        )
    rare = [f"'{classes[i]}' {('never', 'once')[int(counts[i])]}" for i in range(len(classes)) if counts[i] < 2]
    if rare:
        warnings.warn(
            f"{where}: some classes are hardly seen in the training rows: {shown(rare)}. "
            f"Nothing can be learned about them: merge classes, or add patients.",
            DataWarning,
            stacklevel=3,
        )
    return counts


def read_numbers(task: str, frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Returns a column as numbers; NaN = empty.

    Raises:
        DataError: If the column is missing or holds dates, or a cell is no finite number; the message names
            patient and value.
    """
    series = pick(task, frame, column)
    if series.dtype.kind in "mM":
        raise DataError(
            f"Task '{task}': column '{column}' holds dates or durations ({series.dtype}), expected numbers. "
            f"Convert it, for example to days."
        )
    cells = series.astype(object)
    cells = cells.mask(cells.isin([""]) | (cells.astype(str).str.strip() == ""), np.nan)
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    empty = cells.isna().to_numpy(dtype=bool)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is reported
        unusable = ~np.isfinite(numbers.astype(np.float32)) & ~empty
    problems = [
        f"column '{column}': patient '{patient}' has '{cell}', expected a finite number. Correct or empty the cell."
        for patient, cell in cells[unusable].head(_LISTED).items()
    ]
    if unusable.sum() > _LISTED:
        problems.append(f"column '{column}': {unusable.sum() - _LISTED} more cells like these.")
    raise_all(problems, DataError, f"Task '{task}'")
    return np.where(empty, np.nan, numbers)
