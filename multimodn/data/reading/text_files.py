"""The form of a text file of a table: compression, encoding, lines before its header, delimiter, number of lines."""

from __future__ import annotations

import codecs
import csv
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from multimodn.data.reading.header import with_names
from multimodn.errors import DataError, did_you_mean, shown
from multimodn.study.sources import SourceSpec

BLOCK_BYTES = 1 << 20
LONGEST_LINE = 1 << 26  # bytes of a header; a longer first line is no table
N_LINES = 20  # lines after the first in which a header is looked for
DELIMITERS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
_KINDS = {
    b"PK\x03\x04": "a ZIP file, such as an Excel workbook; name it .xlsx, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save it as .xlsx",
    b"PAR1": "a Parquet file; name it .parquet",
    b"%PDF": "a PDF; export the table as CSV",
    b"{\\rtf": "a text document; export the table as CSV",
    b"\x93NUMPY": "a NumPy array; name it .npy",
    b"$FL2": "an SPSS file; name it .sav",
    b"<stata_dta>": "a Stata file; name it .dta",
    b"SQLite format 3": "a database; export the table as CSV",
}
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class TextForm:
    """How to read a text file.

    Attributes:
        path: The file.
        encoding: Its encoding.
        delimiter: The sign between cells.
        n_skipped: Lines before the header.
        header: The names in the header.
        header_bytes: The length of the header.
        n_lines: Lines of the file; cells may hold line breaks.
    """

    path: Path
    encoding: str
    delimiter: str
    n_skipped: int
    header: list[str]
    header_bytes: int
    n_lines: int

    def blocks(self) -> Iterator[str]:
        """Yields the file's text in blocks."""
        decoder = codecs.getincrementaldecoder(self.encoding)("replace")
        for block in _blocks(self.path):
            yield decoder.decode(block)


def open_bytes(path: Path) -> IO[bytes]:
    """Opens a file, unpacked if its name ends with .gz."""
    return cast(IO[bytes], gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def text_form(path: Path, spec: SourceSpec, patient: str | None) -> TextForm:
    """Finds the form of a text file and reads all of it once, to count lines and to find what cannot be decoded.

    Args:
        path: The file.
        spec: Its options.
        patient: The key column, which tells a header; None: there may be none.

    Raises:
        DataError: If it is no text, is damaged, has another encoding or delimiter, or lacks the key column; the message
            names the option that reads it.
    """
    try:
        with open_bytes(path) as file:
            head = file.readline(LONGEST_LINE)
            head += b"".join(file.readline(BLOCK_BYTES) for _ in range(N_LINES) if len(head) < BLOCK_BYTES)
        _refuse_other_kinds(path, head)
        encoding = spec.encoding or next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
        if spec.encoding is None and encoding == "utf-8" and b"\0" in head[:1000]:
            order = "le" if head[1:2] == b"\0" else "be"
            raise DataError(f"{path} is not text in UTF-8; write `encoding: utf-16-{order}` at its source.")
        n_lines = _count_lines(path, encoding)
    except gzip.BadGzipFile:
        raise DataError(f"{path} is not compressed, or damaged; if it is plain text, name it {path.stem}.") from None
    except (EOFError, zlib.error):
        raise DataError(f"{path} is damaged or cut off: it does not unpack to its end. Copy it again.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    lines = codecs.getincrementaldecoder(encoding)("replace").decode(head).lstrip("\ufeff")
    return _form(path, spec, patient, lines, encoding, n_lines)


def _form(path: Path, spec: SourceSpec, patient: str | None, lines: str, encoding: str, n_lines: int) -> TextForm:
    """Finds header and delimiter in the first lines."""
    rows = re.split(r"\r\n|\n|\r", lines)
    if len(rows[0].encode(errors="replace")) >= LONGEST_LINE:
        raise DataError(f"{path} has a first line of over {LONGEST_LINE >> 20} MB, which is no header of a table.")
    given = "\t" if spec.delimiter == "tab" else spec.delimiter
    named = re.fullmatch(r'"?sep=(.)"?', rows[0], flags=re.IGNORECASE)  # Excel names the delimiter so
    by_suffix = "\t" if path.name.lower().removesuffix(".gz").endswith((".tsv", ".txt")) else ","
    delimiter = given or (named.group(1) if named else by_suffix)
    n_skipped = 1 if named else 0
    while n_skipped < len(rows) - 1 and (rows[n_skipped].startswith("#") or not rows[n_skipped].strip()):
        if patient is not None and patient in _cells(rows[n_skipped], delimiter):
            break
        n_skipped += 1
    if n_skipped >= len(rows) - 1 and not rows[-1].strip():
        rows[n_skipped:] = [""]
    rest = "\n".join(rows[n_skipped:])
    header = with_names(_cells(rest, delimiter))
    if not any(header):
        raise DataError(f"{path} cannot be read as CSV: Empty CSV file.")
    header_bytes = len(rest.split("\n", 1)[0].encode(errors="replace"))
    form = TextForm(path, encoding, delimiter, n_skipped, header, header_bytes, n_lines)
    if patient is not None and patient not in header:
        raise DataError(_without_key(form, patient, rest, is_given=given is not None))
    if patient is not None and not any(row.strip() for row in rest.split("\n")[1:]) and n_lines < N_LINES:
        raise DataError("there are no rows.")
    return form


def _cells(text: str, delimiter: str) -> list[str]:
    """Returns the cells of the first row."""
    csv.field_size_limit(LONGEST_LINE)
    try:
        return next(csv.reader(iter(text.splitlines(keepends=True)), delimiter=delimiter), [])
    except csv.Error:
        return text.split("\n", 1)[0].split(delimiter)


def _without_key(form: TextForm, patient: str, rest: str, *, is_given: bool) -> str:
    """Says why a header may lack the key column."""
    missing = f"{form.path} has no key column '{patient}'"
    for delimiter, named in DELIMITERS.items():
        names = _cells(rest, delimiter)
        if delimiter == form.delimiter or len(names) <= len(form.header) or (patient not in names and is_given):
            continue
        comma = delimiter != "," and re.search(rf"(?<=[{delimiter}\n])\"?-?\d+,\d+\"?(?=[{delimiter}\n]|$)", rest)
        option = "tab" if delimiter == "\t" else f'"{delimiter}"'
        decimals = (
            ' with decimal commas: write `delimiter: {}` and `decimal: ","`' if comma else ": write `delimiter: {}`"
        )
        looks = f"It looks separated by {named}{decimals.format(option)} at its source."
        return f"{missing}. {looks}" + ("" if patient in names else did_you_mean(patient, names))
    for number, line in enumerate(rest.split("\n")[1:], form.n_skipped + 2):
        if patient in _cells(line, form.delimiter):
            return f"{missing} in line {form.n_skipped + 1}, but in line {number}. Delete the lines before it."
    return f"{missing}.{did_you_mean(patient, form.header)}"


def _refuse_other_kinds(path: Path, head: bytes) -> None:
    kinds = {mark: what for mark, what in _KINDS.items() if head.startswith(mark)}
    if head.startswith(b"\x1f\x8b"):
        kinds = {b"": f"compressed; name it {path.name}.gz"}
    if re.match(rb"\s*<(?:!doctype|html|table|\?xml)", head[:1000], flags=re.IGNORECASE):
        kinds = {b"": "a web page or XML; export the table as CSV"}
    if kinds:
        raise DataError(f"{path} is no CSV but {shown(list(kinds.values()))}.")


def _blocks(path: Path) -> Iterator[bytes]:
    with open_bytes(path) as file:
        yield from iter(lambda: file.read(BLOCK_BYTES), b"")


def _count_lines(path: Path, encoding: str) -> int:
    """Counts the lines; raises a DataError that names the first one that cannot be decoded."""
    decoder, n_lines = codecs.getincrementaldecoder(encoding)(), 1
    wide = encoding.replace("_", "-").lower().startswith(("utf-16", "utf-32"))
    for block in _blocks(path):
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError as error:
            before = error.object[: error.start]
            line = n_lines + before.count(b"\n")
            around = re.split(rb"[\r\n]", before)[-1][-20:] + re.split(rb"[\r\n]", error.object[error.start :])[0][:20]
            raise DataError(_not_decoded(path, encoding, line, around)) from None
        n_lines += text.count("\n") + text.count("\r") if wide else block.count(b"\n") + block.count(b"\r")
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise DataError(f"{path} ends within a sign of {encoding}. Copy it again.") from None
    return n_lines


def _not_decoded(path: Path, encoding: str, line: int, around: bytes) -> str:
    windows = around.decode("cp1252", errors="replace")
    name = encoding.upper().replace("_", "-")
    if encoding not in ("utf-8", "utf-8-sig"):
        return f"{path}, line {line}: {around!r} is not text in {name}. Name its encoding by `encoding` at its source."
    return (
        f"{path}, line {line}: '{windows}' is not text in UTF-8. Is this how it should read? Then write `encoding: "
        f"cp1252` (Windows) at its source; if not, name another `encoding`, or save the file in UTF-8."
    )
