"""Presence patterns: the set of modalities that a patient has. Its bit code holds modality m if ``code >> m & 1``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from multimodn.errors import DataError
from multimodn.findings.names import pattern_name

MAX_CODED = 62  # largest number of modalities whose subsets fit the bits of an int64

Bools = NDArray[np.bool_]


def pattern_codes(presence: Bools) -> NDArray[np.int64]:
    """Returns the bit code of each row of a presence matrix ``(n, M)``.

    Raises:
        DataError: If there are more than `MAX_CODED` modalities.
    """
    if presence.shape[1] > MAX_CODED:
        raise DataError(f"{presence.shape[1]} modalities: bit codes hold at most {MAX_CODED}.")
    codes: NDArray[np.int64] = presence.astype(np.int64) @ (1 << np.arange(presence.shape[1], dtype=np.int64))
    return codes


def pattern_members(code: int, modalities: Sequence[str]) -> tuple[str, ...]:
    """Lists the modalities of a pattern."""
    return tuple(name for m, name in enumerate(modalities) if code >> m & 1)


def pattern_names(presence: Bools, modalities: Sequence[str]) -> NDArray[np.object_]:
    """Names the pattern of each row of a presence matrix ``(n, M)`` like `pattern_name`, for any M; object ``(n,)``."""
    distinct, which = np.unique(presence, axis=0, return_inverse=True)
    names = [pattern_name(np.array(modalities, dtype=object)[row]) for row in distinct]
    of_row: NDArray[np.object_] = np.array(names, dtype=object)[which.ravel()]
    return of_row
