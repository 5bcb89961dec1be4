"""Adds experts to the trained members of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from multimodn.base.batches import PatientTensors
from multimodn.fusion import Ensemble
from multimodn.study.study import Study
from multimodn.training.experts.blend import fit_blend
from multimodn.training.experts.fit import fit_experts


def add_experts(
    ensemble: Ensemble, patients: PatientTensors, rows: Sequence[tuple[Tensor, Tensor]], study: Study
) -> dict[str, Any]:
    """Fits the experts of each member on its training rows, in place, and describes them.

    ``rows``: for each member its training and held-out rows, of which the latter weigh experts against networks.

    Returns:
        ``weights``: for each task those of ``network`` and ``experts``; ``left_out``: for each ``modality: task``
        without an expert the reason.
    """
    left_out: dict[str, str] = {}
    for k, (member, (train, _)) in enumerate(zip(ensemble.networks, rows, strict=True)):
        member.experts, reasons = fit_experts(member, patients, train, study, study.training.seed + k)
        left_out |= reasons
    ensemble.eval()
    seed, neutral = study.training.seed, study.missingness == "neutral"
    return {"weights": fit_blend(ensemble, patients, rows, seed, neutral=neutral), "left_out": left_out}
