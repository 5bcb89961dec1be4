"""Predictions of single members, or of the ensemble, from many subsets of the same patients."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from multimodn.data.batches import Batch
from multimodn.fusion import Ensemble, Outputs
from multimodn.fusion.model import Evidence
from multimodn.fusion.paths import ordered_paths

ENSEMBLE = -1
"""The number of the predictor that is the mean of all members."""
ROWS_AT_ONCE = 16_384
PATIENTS_AT_ONCE = 256


class Runner:
    """Encodes a batch once for every member that is asked, and predicts it from any subsets.

    A member's outputs are calibrated like the ensemble's. As that is a slope and a shift, the calibrated ensemble is
    the mean of its calibrated members.
    """

    def __init__(self, ensemble: Ensemble, batch: Batch) -> None:
        self.ensemble, self.batch = ensemble, batch
        self._evidence: dict[int, Evidence] = {}

    def outputs(self, predictor: int, chosen: Tensor) -> Outputs:
        """Returns raw outputs ``(R, B, K)`` of each task at R subsets of every patient.

        Args:
            predictor: Number of a member, or `ENSEMBLE`.
            chosen: Bool ``(R, B, M)``, within the presence of the batch.
        """
        parts = [self._some(predictor, some) for some in _split(chosen)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _some(self, predictor: int, chosen: Tensor) -> Outputs:
        flat = chosen.flatten(0, 1)
        numbers = range(len(self.ensemble.networks)) if predictor == ENSEMBLE else [predictor]
        every = [self._member(k, flat, len(chosen)) for k in numbers]
        outputs = {name: torch.stack([one[name] for one in every]).mean(0) for name in every[0]}
        if not self.ensemble.calibration.is_identity:
            outputs = self.ensemble.calibration(outputs, self.ensemble.prior(), flat)
        return {name: found.reshape(*chosen.shape[:2], -1) for name, found in outputs.items()}

    def _member(self, k: int, flat: Tensor, repeats: int) -> Outputs:
        member = self.ensemble.networks[k]
        if k not in self._evidence:
            self._evidence[k] = member.encode(self.batch)
        found = self._evidence[k]
        # what is blanked is absent, also to a first state that is told what is there
        blanked = Evidence(found.rows, torch.where(flat, found.where.repeat(repeats, 1), -1))
        paths = ordered_paths(flat, member.order)
        return {name: outputs[-1] for name, outputs in member.read(blanked, paths).items()}


def _split(chosen: Tensor) -> Iterator[Tensor]:
    yield from torch.split(chosen, max(1, ROWS_AT_ONCE // max(1, chosen.shape[1])))
