"""What embeddings are made of, behind gates: columns, words, tiles, measurements, pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from multimodn.base.ragged import Ragged


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts that the embeddings of n patients are made of.

    Each part stands behind a gate, a number from 0 to 1 that scales what reaches the encoder of it: at 1 what the
    patient has, at 0 a baseline, in between the straight line from one to the other. A gradient with respect to a gate
    is thereby summed over everything that the part consists of, such as the numbers of a tile.

    Attributes:
        names: A row for each part, those of a patient one after another: ``feature`` and ``value`` (what the patient
            has there), and what else says where it is, such as ``x``, ``y`` and ``file``.
        lengths: Long ``(n,)``: parts of each patient.
        gates: For each patient the part, counted within the patient, that each gate opens: long items. A part may have
            several gates, such as a word its tokens.
        content: What `Encoder.encode_parts` needs beside gates.
        baseline: What closed gates leave, as the end of a sentence.
        width: Numbers behind a gate, roughly: bounds how many copies of a patient are encoded at once.
        grid: For pictures the lengths of their axes: the gates of a patient are pictures x pixels.
        is_aligned: Whether a part means the same for every patient, as a column does. Then ``content`` is sliced by
            rows, and one row of another patient's may be the baseline.
        reference: That row; None = the baseline is the kind's own.
    """

    names: pd.DataFrame
    lengths: Tensor
    gates: Ragged
    content: Any
    baseline: str
    width: int = 1
    grid: tuple[int, ...] | None = None
    is_aligned: bool = False
    reference: Any = None

    @classmethod
    def of_columns(
        cls, frame: pd.DataFrame, columns: Sequence[str], content: Tensor, baseline: str, width: int = 1
    ) -> Parts:
        """Makes a part with one gate of each column.

        Args:
            frame: One row for each patient.
            columns: The columns.
            content: ``(n, ...)``.
            baseline: See the class.
            width: See the class.
        """
        n, size = len(frame), len(columns)
        cells = frame[list(columns)].to_numpy(dtype=object).ravel()
        names = pd.DataFrame({"feature": np.tile(np.array(columns, dtype=object), n), "value": cells})
        lengths = torch.full((n,), size)
        gates = Ragged(torch.arange(size).repeat(n), lengths)
        return cls(names, lengths, gates, content, baseline, width, is_aligned=True)

    @classmethod
    def one_by_one(cls, names: pd.DataFrame, lengths: Tensor, content: Any, baseline: str, width: int = 1) -> Parts:
        """Makes a part with one gate of each row of ``names``; see the class."""
        lengths = lengths.cpu()
        rows = torch.arange(len(lengths)).repeat_interleave(lengths)
        place = torch.arange(len(rows)) - (lengths.cumsum(0) - lengths)[rows]
        return cls(names, lengths, Ragged(place, lengths), content, baseline, width)


class Once:
    """Remembers what was last made of some gates: members of an ensemble share what a frozen network makes of them."""

    def __init__(self) -> None:
        self._gates: Tensor | None = None
        self._made: Tensor | None = None

    def __call__(self, gates: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """Returns what ``make`` answers, without calling it again for the same tensor of gates."""
        if self._made is None or self._gates is not gates:
            self._gates, self._made = gates, make()
        return self._made
