"""Reads reports from cells or files, and has a frozen network encode those whose outputs are not on disk yet."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodn.base.cache import OutputCache, content_hash
from multimodn.encoders._reading import Series, check_columns
from multimodn.encoders._texts.transformer import TextVectors
from multimodn.errors import DataError, DataWarning, UnreadableError, shown

CHARACTERS_AT_ONCE = 1_000_000
"""Texts are handed to the network in parts of about this size, and kept on disk after each."""

N_COUNTS = 3
"""Numbers that are kept behind each vector: its weight, the tokens of its text, and those read."""

_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters but tab and line ends, and halves of characters, which no tokenizer takes."""


def clean(text: str) -> str:
    """Returns a text of the same length with blanks for control characters and lone surrogates."""
    return _UNREADABLE.sub(" ", text)


class Reports:
    """The reports of a frame, one a row, of which only one is in memory at a time where they are files.

    Args:
        frame: Rows of patients, indexed by patient.
        column: Its column of texts or paths.
        encoding: The encoding of the files; None = the cells are the texts.
        header: Begins error messages.

    Raises:
        DataError: If the column is missing, or a cell is no text.
    """

    def __init__(self, frame: pd.DataFrame, column: str, encoding: str | None, header: str) -> None:
        check_columns(frame, [column], header)
        self.column, self.encoding, self.header = column, encoding, header
        rows, self.patients = pd.factorize(frame.index)
        has_report = frame[column].notna().to_numpy()
        self.cells: list[str] = frame.loc[has_report, column].tolist()
        self.rows = rows[has_report]
        self._check(frame.loc[has_report, column])

    def _check(self, filled: Series) -> None:
        wrong = [i for i, cell in enumerate(self.cells) if not isinstance(cell, str)]
        if wrong:
            what = "texts" if self.encoding is None else "paths of text files"
            cells = [f"{self.cells[i]!r} (patient '{filled.index[i]}')" for i in wrong]
            raise DataError(
                f"{self.header}: column '{self.column}' holds {filled.dtype}, expected {what}: {shown(cells, 3)}. "
                f"Name the right column."
            )

    def read(self, report: int) -> str:
        """Returns a report, cleaned.

        Raises:
            ValueError: Saying what is wrong with it.
        """
        cell = self.cells[report]
        if self.encoding is None:
            text, where = cell, f"the text in column '{self.column}'"
        else:
            text, where = _read_file(cell, self.encoding), f"the file {cell}"
        text = clean(text)
        if not text.strip():
            raise ValueError(f"{where} is empty or holds blanks only.")
        return text

    def keys(self) -> list[str]:
        """Returns a hash of each report.

        Raises:
            UnreadableError: Naming all patients with a report that cannot be read, or without any.
        """
        keys, problems = list[str](), dict[int, str]()
        for report in range(len(self.cells)):
            try:
                keys.append(content_hash(self.read(report)))
            except ValueError as error:
                keys.append("")
                problems[report] = str(error)
        self.raise_unreadable(problems)
        return keys

    def raise_unreadable(self, problems: dict[int, str]) -> None:
        """Raises one error for the problems of some reports and for patients without any report.

        Raises:
            UnreadableError: If there are such.
        """
        of_patient: dict[int, list[str]] = {}
        for patient in np.setdiff1d(np.arange(len(self.patients)), self.rows).tolist():
            of_patient[patient] = [f"there is no report: column '{self.column}' is empty."]
        for report, problem in problems.items():
            of_patient.setdefault(int(self.rows[report]), []).append(problem)
        if of_patient:
            listed = {str(self.patients[patient]): " ".join(found) for patient, found in sorted(of_patient.items())}
            raise UnreadableError(self.header, listed)


def _read_file(path: str, encoding: str) -> str:
    # the mark that some editors write before the first character is no part of the text
    codec = "utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"the file {path} cannot be read: {error.strerror or error}.") from None
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        # codecs with a mark count from behind it
        offset = error.start + len(data) - len(error.object)
        raise ValueError(
            f"the file {path} is not {encoding}: byte {offset} is 0x{data[offset]:02x} ({error.reason}). Save it as "
            f"UTF-8, or name its encoding, such as `encoding: latin-1`."
        ) from None


def patient_vectors(reports: Reports, encode: Callable[[Sequence[str]], TextVectors], cache: OutputCache) -> Tensor:
    """Returns the mean vector of each patient's reports, weighted by tokens.

    Args:
        reports: At least one.
        encode: Called for reports that are not in the cache, some at a time.
        cache: Of the network and the way in which texts are cut.

    Returns:
        Float64 ``(n_patients, size)``.

    Raises:
        UnreadableError: Naming all patients with a report that cannot be read or has no token.
        DataError: If the network answers something that is no finite number.

    Warns:
        DataWarning: If the end of reports is left out.
    """
    keys = reports.keys()
    outputs = {key: output for key in dict.fromkeys(keys) if (output := cache.get(key)) is not None}
    for part in _parts(reports, {key: report for report, key in enumerate(keys) if key not in outputs}):
        found = encode(list(part.values()))
        counts = torch.stack([found.weights, found.n_tokens, found.n_read], 1)
        for key, output in zip(part, torch.cat([found.vectors, counts.double()], 1).float().numpy(), strict=True):
            if not np.isfinite(output).all():
                raise DataError(f"{reports.header}: the network answers numbers that are not finite; use another one.")
            cache.put(key, output)
            outputs[key] = output
    rows = torch.from_numpy(reports.rows)
    stacked = torch.from_numpy(np.stack([outputs[key] for key in keys])).double()
    vectors, (weights, n_tokens, n_read) = stacked[:, :-N_COUNTS], stacked[:, -N_COUNTS:].T
    tokenless = f"the text of column '{reports.column}' has no token that the network knows."
    reports.raise_unreadable({int(report): tokenless for report in torch.nonzero(n_tokens == 0)})
    _warn_of_cuts(reports, n_tokens.long().numpy(), n_read.long().numpy())
    n_patients = len(reports.patients)
    summed = torch.zeros(n_patients, vectors.shape[1], dtype=torch.float64)
    summed.index_add_(0, rows, vectors * weights[:, None])
    return summed / torch.zeros(n_patients, dtype=torch.float64).index_add_(0, rows, weights)[:, None]


def _parts(reports: Reports, wanted: dict[str, int]) -> Iterator[dict[str, str]]:
    """Reads the texts of some reports again, a part at a time."""
    part, size = dict[str, str](), 0
    for key, report in wanted.items():
        part[key] = reports.read(report)
        size += len(part[key])
        if size >= CHARACTERS_AT_ONCE:
            yield part
            part, size = {}, 0
    if part:
        yield part


def _warn_of_cuts(reports: Reports, n_tokens: NDArray[np.int64], n_read: NDArray[np.int64]) -> None:
    cut: list[Any] = np.flatnonzero(n_read < n_tokens).tolist()
    if cut:
        named = [f"'{reports.patients[reports.rows[i]]}' ({n_read[i]} of {n_tokens[i]} tokens are read)" for i in cut]
        warnings.warn(
            f"{reports.header}: `max_windows` leaves out the end of {len(cut)} of {len(n_tokens)} reports: "
            f"{shown(named, 3)}.",
            DataWarning,
            stacklevel=4,
        )
