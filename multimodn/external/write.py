"""Writes an external validation: its tables as CSV, and a page in Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from multimodn.external.result import External
from multimodn.files import write_text
from multimodn.findings.frames import DriftFrame

MOST_ROWS = 12
CALIBRATION = ["task", "output", "update", "slope", "intercept", "ece", "shift", "stretch", "n"]


def write_external(found: External, folder: Path) -> list[Path]:
    """Writes each table of an external validation as CSV, and ``EXTERNAL.md``; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name in ("flow", "performance", "calibration", "comparison", "drift", "coverage"):
        table_of = getattr(found, name)
        if table_of is not None:
            write_text(folder / f"{name}.csv", table_of.to_csv(index=False))
            files.append(folder / f"{name}.csv")
    write_text(folder / "EXTERNAL.md", page(found))
    return [*files, folder / "EXTERNAL.md"]


def page(found: External) -> str:
    """Writes what a reader should see first: who, how well, how calibrated, how different; tables are in the CSVs."""
    parts = [
        f"# External validation: {found.name}",
        f"The model of `{found.provenance['model']}`, unchanged, on patients of `{found.name}`.",
        _list(found.notes),
        "## Patients",
        table(found.flow),
        "## Performance",
        "Intervals: 95 %, bootstrap over patients. Steps, patterns and subgroups: `performance.csv`.",
        table(_overall(found.performance)),
        "## Compared with the internal test patients",
        *_comparison(found.comparison),
        "## Calibration",
        "Slope 1 and intercept 0 are calibrated. The updates are fitted on these same patients: what they reach is "
        "what is possible, not what was validated. New predictions = stretch * link scale + shift.",
        table(found.calibration[[name for name in CALIBRATION if name in found.calibration]]),
        *_coverage(found.coverage),
        *_drift(found.drift),
        "## Provenance",
        _list([f"{name}: {value}" for name, value in found.provenance.items()]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(frame: pd.DataFrame) -> str:
    """Writes a frame as a Markdown table, numbers with three digits, an unknown one as a dash."""
    lines = ["| " + " | ".join(str(name).replace("_", " ") for name in frame.columns) + " |"]
    lines.append("|" + "---|" * frame.shape[1])
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in frame.itertuples(index=False)]
    return "\n".join(lines)


def _overall(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.loc[frame["by"] == "overall", ["task", "metric", "value", "low", "high", "n"]]


def _comparison(frame: pd.DataFrame) -> list[str]:
    if frame.empty:
        return ["There is nothing to compare with."]
    below = frame[(frame["low"] > 0) | (frame["high"] < 0)]
    told = "No difference has an interval that excludes 0."
    if len(below):
        named = ", ".join(f"{row['task']} {row['metric']}" for row in below.to_dict("records"))
        told = f"Intervals that exclude 0 (not adjusted for their number): {named}."
    if frame["low"].isna().all():
        told = "No intervals: too few patients, or only kept scores."
    return [f"Differences, external less internal, of independent bootstraps. {told}", table(frame)]


def _coverage(frame: pd.DataFrame | None) -> list[str]:
    if frame is None:
        return []
    rows = frame[frame["pattern"] == "all"] if "pattern" in frame else frame
    names = [name for name in ("task", "output", "n", "coverage", "low", "high", "level", "size") if name in rows]
    words = (
        "Conformal sets promise their coverage for patients like those that they were calibrated on, "
        "which these need not be. By pattern: `coverage.csv`."
    )
    return ["## Coverage of conformal sets", words, table(rows[names])]


def _drift(frame: DriftFrame | None) -> list[str]:
    if frame is None:
        return []
    from multimodn.monitor.drift import trust

    changed = frame[frame["verdict"] != "stable"].sort_values(["p_adjusted", "p_value"], kind="stable")
    names = ["kind", "modality", "column", "value", "p_adjusted", "verdict", "note"]
    words = trust(frame)
    left_out = len(changed) - MOST_ROWS
    more = [f"{left_out} more rows: `drift.csv`."] if left_out > 0 else []
    changed = changed.assign(p_adjusted=["< .001" if p < 0.001 else f"{p:.3f}" for p in changed["p_adjusted"]])
    rows = [table(changed[names].head(MOST_ROWS))] if len(changed) else []
    return ["## How these patients differ from those trained on", words, *rows, *more]


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "\u2013" if np.isnan(value) else f"{round(float(value), 6) + 0.0:.3g}"
    return str(value).replace("|", "\\|").replace("\n", " ")
