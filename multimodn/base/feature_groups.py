"""The parts that embeddings are made of, behind gates: columns, words, tiles, measurements, pixels."""

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

    A gate, a number from 0 to 1, scales how much of a part reaches the encoder: at 1 the patient's value, at 0 a
    baseline, in between a point on the straight line between them. A gradient with respect to a gate is thereby summed
    over all numbers of the part, such as those of a tile.

    Attributes:
        names: A row for each part, those of a patient one after another: ``feature``, ``value`` (the patient's), and
            columns of its place, such as ``x``, ``y`` and ``file``.
        lengths: Long ``(n,)``: number of parts of each patient.
        gates: For each patient the part, counted within the patient, of each gate: long items. A part may have several
            gates, for instance a word one for each token.
        content: What `Encoder.encode_parts` needs beside gates.
        baseline: What closed gates leave, as the end of a sentence.
        width: Approximate number of values behind a gate; limits how many copies of a patient are encoded at once.
        grid: For pictures the lengths of their axes: the gates of a patient are pictures x pixels.
        is_aligned: Whether a part means the same for every patient, as a column does. Then ``content`` is sliced by
            rows, and a row of another patient may be the baseline.
        reference: That row; None = the kind's own baseline.
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
        """Makes each column of ``frame``, one row for each patient, a part with one gate; content is ``(n, ...)``."""
        n, size = len(frame), len(columns)
        cells = frame[list(columns)].to_numpy(dtype=object).ravel()
        names = pd.DataFrame({"feature": np.tile(np.array(columns, dtype=object), n), "value": cells})
        lengths = torch.full((n,), size)
        gates = Ragged(torch.arange(size).repeat(n), lengths)
        return cls(names, lengths, gates, content, baseline, width, is_aligned=True)

    @classmethod
    def one_by_one(cls, names: pd.DataFrame, lengths: Tensor, content: Any, baseline: str, width: int = 1) -> Parts:
        """Makes each row of ``names`` a part with one gate."""
        lengths = lengths.cpu()
        rows = torch.arange(len(lengths)).repeat_interleave(lengths)
        place = torch.arange(len(rows)) - (lengths.cumsum(0) - lengths)[rows]
        return cls(names, lengths, Ragged(place, lengths), content, baseline, width)


class Once:
    """Keeps the last output of a frozen network for a tensor of gates, which the members of an ensemble share."""

    _gates: Tensor | None = None
    _output: Tensor | None = None

    def __call__(self, gates: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """Returns the output of ``make``, which is not called again for the same tensor of gates."""
        if self._output is None or self._gates is not gates:
            self._gates, self._output = gates, make()
        return self._output
