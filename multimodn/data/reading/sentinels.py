"""Numbers such as -999 that stand for an unknown value."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.base.column_blocks import are_plain, column_blocks, plain_numbers
from multimodn.data.checks import Note
from multimodn.errors import shown

Floats = NDArray[np.float64]

NEGATIVE = (-7.0, -8.0, -9.0, *(-float(digit * n) for digit in "789" for n in range(2, 7)))
POSITIVE = tuple(float(digit * n) for digit in "789" for n in range(2, 7) if digit * n not in ("77", "88"))
FAR = 10.0  # times as far from 0 as all others, where others are negative too
GAP = 2.0  # times as large as all others


def sentinel_notes(modality: str, source: str, frame: pd.DataFrame) -> list[Note]:
    """Notes repeated numbers such as -999 and 9999 that lie far from all others of their column.

    Args:
        modality: Its name.
        source: The name of its source.
        frame: Its columns; only those of numbers are looked at.
    """
    found: dict[float, dict[str, int]] = {}
    places = np.flatnonzero(are_plain(frame))
    for block in column_blocks(len(frame), len(places)):
        cells = plain_numbers(frame, places[block])
        low, high = (extreme.reduce(cells, axis=1, initial=np.nan) for extreme in (np.fmin, np.fmax))
        for k in np.flatnonzero(np.isin(low, NEGATIVE) | np.isin(high, POSITIVE)).tolist():
            for mark, n_cells in _marks(cells[k]).items():
                found.setdefault(mark, {})[str(frame.columns[places[block][k]])] = n_cells
    if not found:
        return []
    cells_of = {mark: [f"'{name}' ({n} cells)" for name, n in columns.items()] for mark, columns in found.items()}
    listed = [f"{mark:.0f} in {shown(named)}" for mark, named in sorted(cells_of.items())]
    marks = ", ".join(f'"{mark:.0f}"' for mark in sorted(found))
    text = (
        f"modality '{modality}': numbers far from all others of their column, which may stand for unknown: "
        f"{'; '.join(listed)}. If so, write `empty: [{marks}]` at source '{source}'."
    )
    summary = "modality {}: in {} columns a number such as -999 may stand for unknown"
    return [Note(text, summary, (modality, len({name for columns in found.values() for name in columns})))]


def _marks(cells: Floats) -> dict[float, int]:
    """Returns the numbers of a column that may stand for unknown, and how often they occur."""
    values, counts = np.unique(cells[~np.isnan(cells)], return_counts=True)
    found = {}
    is_mark = np.isin(values, (*NEGATIVE, *POSITIVE))
    while len(values) > 1:
        others = values[~is_mark] if (~is_mark).any() else values[1:-1]
        reach = np.abs(others).max(initial=0.0)
        low, high = float(values[0]), float(values[-1])
        if low in NEGATIVE and counts[0] > 1 and (others.min(initial=0.0) >= 0 or -low > FAR * reach):
            place = 0
        elif high in POSITIVE and counts[-1] > 1 and high > GAP * reach:
            place = -1
        else:
            break
        found[float(values[place])] = int(counts[place])
        rest = slice(1, None) if place == 0 else slice(None, -1)
        values, counts, is_mark = values[rest], counts[rest], is_mark[rest]
    return found
