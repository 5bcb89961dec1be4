"""The result of an external validation."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from multimodn.findings.frames import DriftFrame, PerformanceFrame


@dataclass(frozen=True, eq=False)
class External:
    """What a trained model does in another cohort.

    Attributes:
        name: The cohort's study.
        flow: Who is there: ``what``, ``name``, ``who``, ``n``.
        performance: See `multimodn.evaluate.performance.performance.performance`.
        calibration: As it is, and after updates; see `multimodn.external.tables.calibration_table`.
        comparison: With the internal test patients; empty if there are none.
        drift: How the patients differ from those trained on; None without a reference.
        coverage: Of conformal sets; None where the model has none.
        provenance: Hashes and versions.
        notes: What a reader has to know.
    """

    name: str
    flow: pd.DataFrame
    performance: PerformanceFrame
    calibration: pd.DataFrame
    comparison: pd.DataFrame
    drift: DriftFrame | None
    coverage: pd.DataFrame | None
    provenance: dict[str, str]
    notes: list[str] = field(default_factory=list)
