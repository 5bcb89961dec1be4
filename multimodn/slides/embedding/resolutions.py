"""A table of the resolutions of slides, for those that do not state theirs."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Sequence
from pathlib import Path

from multimodn.errors import DataError, DataWarning, did_you_mean, did_you_mean_file, raise_all, shown

NAMES = ("slide", "wsi", "file", "filename")  # of the column of slides, in either case
LEAST, MOST = 0.05, 20.0  # microns per pixel that a slide can have


def read_resolutions(table: Path, slides: Sequence[Path]) -> dict[Path, float]:
    """Reads a CSV with the columns ``slide`` (name of the file, with or without folders and suffix) and ``mpp``.

    A row with an empty ``mpp`` is no row.

    Args:
        table: The CSV file, separated by ``,``, or by ``;`` or tabs, then with decimal points or commas; TRIDENT's
            column ``wsi`` will do for ``slide``.
        slides: The slides that are looked for in it.

    Returns:
        Microns per level-0 pixel of those slides that have a row.

    Raises:
        DataError: If the table cannot be read or names none of the slides, or a cell is no resolution, or a slide has
            two; all are listed.

    Warns:
        DataWarning: How many rows name none of the slides, and how many slides have no row.
    """
    rows = _rows(table)
    problems, found, unused = list[str](), dict[Path, float](), list[str]()
    by_name = _by_name(slides)
    for line, name, text in rows:
        mpp = _number(text)
        if mpp is None:
            problems.append(f"line {line}, slide '{name}': `mpp` is '{text}', expected {LEAST:g} to {MOST:g} microns.")
            continue
        matches = by_name.get(name.replace("\\", "/").rpartition("/")[2].casefold(), [])
        if not matches:
            unused.append(name)
        for slide in matches:
            if found.setdefault(slide, mpp) != mpp:
                problems.append(f"line {line}: slide '{name}' has {found[slide]:g} and {mpp:g} microns per pixel.")
    if unused and not found and not problems:
        here = shown([slide.name for slide in slides], 3)
        problems.append(f"its rows name none of the slides: it has {shown(unused, 3)}; the slides are {here}.")
    raise_all(problems, DataError, str(table))
    lacking = [slide.name for slide in slides if slide not in found]
    notes = [f"{len(unused)} of its rows name none of the slides: {shown(unused, 3)}."] if unused else []
    if lacking:
        notes.append(f"{len(lacking)} slides have no row and must state their resolution: {shown(lacking, 3)}.")
    if notes:
        warnings.warn(f"{table}: {' '.join(notes)}", DataWarning, stacklevel=2)
    return found


def _by_name(slides: Sequence[Path]) -> dict[str, list[Path]]:
    by_name = dict[str, list[Path]]()
    for slide in slides:
        for name in {slide.name.casefold(), slide.stem.casefold()}:
            by_name.setdefault(name, []).append(slide)
    return by_name


def _rows(table: Path) -> list[tuple[int, str, str]]:
    """Returns line, name of the slide and text of the resolution of each row that has one."""
    if not table.is_file():
        raise DataError(f"the file {table} does not exist.{did_you_mean_file(table)}")
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            header = stream.readline()
            stream.seek(0)
            delimiter = max(",;\t", key=header.count)
            reader = csv.DictReader(stream, delimiter=delimiter)
            columns = {(name or "").strip().lower(): name for name in reader.fieldnames or []}
            slide = next((columns[name] for name in NAMES if name in columns), None)
            if slide is None or "mpp" not in columns:
                lacking = "mpp" if slide is not None else "slide"
                raise DataError(f"{table} has no column '{lacking}'.{did_you_mean(lacking, columns)}")
            rows = list[tuple[int, str, str]]()
            for row in reader:
                name, text = ((row[column] or "").strip() for column in (slide, columns["mpp"]))
                if name and text:
                    rows.append((reader.line_num, name, text if delimiter == "," else text.replace(",", ".")))
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as CSV in UTF-8: {error}") from None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and LEAST <= number <= MOST else None
