"""The result of an external validation, and its sentences."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from multimodn.findings.findings import findings_of
from multimodn.findings.frames import DriftFrame, PerformanceFrame
from multimodn.findings.sentences import calibration, coverage, score_cautions

AS_IT_IS = "none"  # the name of no update in `External.calibration`


@dataclass(frozen=True, eq=False)
class External:
    """The evaluation of a trained model in another cohort.

    Attributes:
        name: The cohort's study.
        flow: Patients, modalities and labels: ``what``, ``name``, ``who``, ``n``.
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

    def sentences(self) -> list[str]:
        """Says how well the unchanged model predicts, is calibrated and covers these patients."""
        unchanged = self.calibration[self.calibration["update"] == AS_IT_IS]
        found = findings_of(self.performance, unchanged, self.coverage)
        return [text for make in (score_cautions, calibration, coverage) for text in make(found)]
