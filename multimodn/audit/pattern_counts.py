"""The presence patterns of a cohort, counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multimodn.audit.independence import Bools, Counts
from multimodn.data.cohort import Cohort
from multimodn.findings.names import pattern_name
from multimodn.missingness.patterns import pattern_codes, pattern_members


@dataclass(frozen=True, eq=False)
class Patterns:
    """The patterns of a cohort, the largest first."""

    names: tuple[str, ...]  # of the modalities
    codes: Counts  # bit code of each pattern ``(P,)``
    counts: Counts  # patients of each pattern ``(P,)``
    of_patient: Counts  # the pattern of each patient ``(n,)``, positions in `codes`

    @classmethod
    def of(cls, cohort: Cohort) -> Patterns:
        """Counts the patterns of a cohort."""
        every = pattern_codes(cohort.presence.to_numpy())
        codes, of_patient, counts = np.unique(every, return_inverse=True, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return cls(tuple(cohort.modalities), codes[order], counts[order], place[of_patient])

    @property
    def presence(self) -> Bools:
        """Presence in each pattern, ``(P, M)``."""
        has: Bools = (self.codes[:, None] >> np.arange(len(self.names)) & 1).astype(bool)
        return has

    def name(self, code: int) -> str:
        """Names a subset."""
        return pattern_name(self.members(code))

    def members(self, code: int) -> tuple[str, ...]:
        """Lists the modalities of a subset."""
        return pattern_members(int(code), self.names)
