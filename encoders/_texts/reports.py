"""Reads reports from cells or files, and encodes those whose outputs are not cached on disk by a frozen network."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multimodn.base.cache import OutputCache, content_hash
from multimodn.base.ragged import total
from multimodn.encoders._reading import check_columns
from multimodn.encoders._texts.formats import binary_format, html_text, text_format
from multimodn.encoders._texts.transformer import TextVectors
from multimodn.errors import DataError, DataWarning, UnreadableError, shown

Markup = Literal["error", "strip", "keep"]  # what is done with tags of HTML and other formats
CHARACTERS_AT_ONCE = 1_000_000  # texts are encoded in parts of about this size, and cached after each
N_COUNTS = 3  # numbers cached behind each vector: its weight, the tokens of its text, and those read
# control characters but tab and line ends, and lone surrogates, which no tokenizer takes
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def clean(text: str) -> str:
    """Returns a text of the same length with blanks for control characters and lone surrogates."""
    return _UNREADABLE.sub(" ", text)


class Reports:
    """The reports in a column of texts, or, with an encoding, of paths of files, one at a time in memory."""

    def __init__(
        self, frame: pd.DataFrame, column: str, encoding: str | None, header: str, markup: Markup = "error"
    ) -> None:
        check_columns(frame, [column], header)
        self.column, self.encoding, self.header, self.markup = column, encoding, header, markup
        rows, self.patients = pd.factorize(frame.index)
        has_report = frame[column].notna().to_numpy()
        self.cells: list[str] = frame.loc[has_report, column].tolist()
        self.rows = rows[has_report]
        wrong = [i for i, cell in enumerate(self.cells) if not isinstance(cell, str)]
        if wrong:
            what = f"{frame[column].dtype}, expected {'texts' if encoding is None else 'paths of text files'}"
            cells = shown([f"{self.cells[i]!r} (patient '{self.patients[self.rows[i]]}')" for i in wrong], 3)
            raise DataError(f"{header}: column '{column}' holds {what}: {cells}. Name the right column.")

    def read(self, report: int) -> str:
        """Returns a report, cleaned; raises a ValueError if it cannot be read, or is empty."""
        cell = self.cells[report]
        where = f"the text in column '{self.column}'" if self.encoding is None else f"the file {cell}"
        text = clean(self._plain(cell if self.encoding is None else _read_file(cell, self.encoding), where))
        if not text.strip():
            raise ValueError(f"{where} is empty or holds blanks only.")
        return text

    def _plain(self, text: str, where: str) -> str:
        """Returns the text itself, or that of HTML; a ValueError if it is meant for a program and not for people."""
        found = None if self.markup == "keep" else text_format(text)
        if found == "HTML" and self.markup == "strip":
            return html_text(text)
        if found is None:
            return text
        if found.startswith("UTF-16"):
            raise ValueError(f"{where} is {found}.")
        strip = ", read its text alone by `markup: strip`," if found == "HTML" else ""
        repair = f"Save its plain text{strip} or read it as it is by `markup: keep`."
        raise ValueError(f"{where} is {found}, which would be read as words. {repair}")

    def keys(self) -> list[str]:
        """Returns a hash of each report; see `raise_unreadable` for errors."""
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
        """Raises one UnreadableError for all problems of reports and all patients without a report, if any."""
        without = np.setdiff1d(np.arange(len(self.patients)), self.rows).tolist()
        of_patient = {patient: [f"there is no report: column '{self.column}' is empty."] for patient in without}
        for report, problem in problems.items():
            of_patient.setdefault(int(self.rows[report]), []).append(problem)
        if of_patient:
            listed = {str(self.patients[patient]): " ".join(texts) for patient, texts in sorted(of_patient.items())}
            raise UnreadableError(self.header, listed)


def _read_file(path: str, encoding: str) -> str:
    # some editors write a byte order mark before the first character
    codec = "utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding
    try:
        data = Path(path).read_bytes()
        found = binary_format(data)
        if found is not None and not (found.startswith("UTF-16") and "16" in codec):
            raise ValueError(f"the file {path} is {found}, no plain text: save its text as UTF-8.")
        return data.decode(codec)
    except OSError as error:
        raise ValueError(f"the file {path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        offset = error.start + len(data) - len(error.object)  # codecs with a byte order mark count from behind it
        raise ValueError(
            f"the file {path} is not {encoding}: byte {offset} is 0x{data[offset]:02x} ({error.reason}). Save it as "
            f"UTF-8, or name its encoding, such as `encoding: latin-1`."
        ) from None


def patient_vectors(reports: Reports, encode: Callable[[Sequence[str]], TextVectors], cache: OutputCache) -> Tensor:
    """Returns the mean vector of each patient's reports, weighted by tokens, float64 ``(n_patients, size)``.

    At least one report; those that are not in the cache (of this network and windowing) are encoded, some at a time.
    Raises an UnreadableError naming all patients with a report that cannot be read or has no token, or a DataError if
    the network returns a number that is not finite; warns if the end of reports is left out.
    """
    keys = reports.keys()
    outputs = {key: output for key in dict.fromkeys(keys) if (output := cache.get(key)) is not None}
    for part in _parts(reports, {key: report for report, key in enumerate(keys) if key not in outputs}):
        encoded = encode(list(part.values()))
        counts = torch.stack([encoded.weights, encoded.n_tokens, encoded.n_read], 1)
        for key, output in zip(part, torch.cat([encoded.vectors, counts.double()], 1).float().numpy(), strict=True):
            if not np.isfinite(output).all():
                raise DataError(f"{reports.header}: the network returns numbers that are not finite; use another one.")
            cache.put(key, output)
            outputs[key] = output
    rows = torch.from_numpy(reports.rows)
    stacked = torch.from_numpy(np.stack([outputs[key] for key in keys])).double()
    vectors, (weights, n_tokens, n_read) = stacked[:, :-N_COUNTS], stacked[:, -N_COUNTS:].T
    tokenless = f"the text of column '{reports.column}' has no token of the network's vocabulary."
    reports.raise_unreadable({int(report): tokenless for report in torch.nonzero(n_tokens == 0)})
    cut: list[int] = torch.nonzero(n_read < n_tokens).flatten().tolist()
    if cut:
        owners = reports.patients[reports.rows[cut]]
        tokens = [f"({n_read[i]:.0f} of {n_tokens[i]:.0f} tokens are read)" for i in cut]
        named = shown([f"'{owner}' {count}" for owner, count in zip(owners, tokens, strict=True)], 3)
        text = f"`max_windows` leaves out the end of {len(cut)} of {len(n_tokens)} reports: {named}."
        warnings.warn(f"{reports.header}: {text}", DataWarning, stacklevel=3)
    n = len(reports.patients)
    return total(vectors * weights[:, None], rows, n) / total(weights, rows, n)[:, None]


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
