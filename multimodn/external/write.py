"""Writes an external validation: its tables as CSV, and a page in Markdown."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from multimodn.external.result import External
from multimodn.files import make_folder, write_text
from multimodn.findings.frames import DriftFrame
from multimodn.findings.markdown import code, escaped, heading, items, prose, table
from multimodn.findings.names import metric_name
from multimodn.findings.numbers import cell, p_value
from multimodn.monitor.drift import trust

MOST_ROWS = 12
CALIBRATION = ["task", "output", "update", "slope", "intercept", "ece", "shift", "stretch", "n"]


def write_external(found: External, folder: Path) -> list[Path]:
    """Writes each table of an external validation as CSV, and ``EXTERNAL.md``; returns the files."""
    make_folder(folder)
    names = ("flow", "performance", "calibration", "comparison", "drift", "coverage")
    frames = {folder / f"{name}.csv": getattr(found, name) for name in names if getattr(found, name) is not None}
    texts = {file: frame.to_csv(index=False) for file, frame in frames.items()}
    texts[folder / "EXTERNAL.md"] = page(found)
    for file, text in texts.items():
        write_text(file, text)
    return list(texts)


def page(found: External) -> str:
    """Writes the main results: patients, performance, calibration, differences; all rows are in the CSVs."""
    main = found.performance.query("by == 'overall'")[["task", "metric", "value", "low", "high", "n"]]
    lines = [
        *heading(f"External validation: {found.name}", 1),
        *prose(f"The model of {code(found.provenance['model'])}, unchanged, on patients of {code(found.name)}."),
        *items(map(escaped, [*found.sentences(), *found.notes])),
        *heading("Patients"),
        *frame_table(found.flow),
        *heading("Performance"),
        *prose("95% intervals: bootstrap over patients. Steps, patterns and subgroups: `performance.csv`."),
        *frame_table(main),
        *heading("Comparison with the internal test patients"),
        *_comparison(found.comparison),
        *heading("Calibration"),
        *prose(
            "Ideal: slope 1 and intercept 0. The updates are fitted on these same patients: they show what is "
            "possible, not what was validated. Updated prediction = stretch * link scale + shift."
        ),
        *frame_table(found.calibration[[name for name in CALIBRATION if name in found.calibration]]),
        *_coverage(found.coverage),
        *_drift(found.drift),
        *heading("Provenance"),
        *items(f"{escaped(name)}: {escaped(value)}" for name, value in found.provenance.items()),
    ]
    return "\n".join(lines).rstrip() + "\n"


def frame_table(frame: pd.DataFrame) -> list[str]:
    """Writes a frame as a Markdown table, numbers with three digits, an unknown one as a dash."""
    rows = [[cell(value) for value in row] for row in frame.itertuples(index=False)]
    return table([str(name).replace("_", " ") for name in frame.columns], rows, frame.shape[1])


def _comparison(frame: pd.DataFrame) -> list[str]:
    if frame.empty:
        return prose("There are no internal test patients to compare with.")
    clear = frame[(frame["low"] > 0) | (frame["high"] < 0)]
    text = "No difference has an interval that excludes 0."
    if len(clear):
        named = ", ".join(f"{row['task']} {metric_name(row['metric'])}" for row in clear.to_dict("records"))
        text = f"Intervals that exclude 0 (not adjusted for multiple comparisons): {escaped(named)}."
    if frame["low"].isna().all():
        text = "No intervals: too few patients, or only stored scores."
    words = f"Difference: external less internal; 95% intervals of independent bootstraps. {text}"
    return [*prose(words), *frame_table(frame)]


def _coverage(frame: pd.DataFrame | None) -> list[str]:
    if frame is None:
        return []
    rows = frame[frame["pattern"] == "all"] if "pattern" in frame else frame
    names = [name for name in ("task", "output", "n", "coverage", "low", "high", "level", "size") if name in rows]
    words = "The coverage is guaranteed for patients like the calibration patients, which these need not be."
    words += " By pattern: `coverage.csv`."
    return [*heading("Conformal prediction sets"), *prose(words), *frame_table(rows[names])]


def _drift(frame: DriftFrame | None) -> list[str]:
    if frame is None:
        return []
    changed = frame[frame["verdict"] != "stable"].sort_values(["p_adjusted", "p_value"], kind="stable")
    names = ["kind", "modality", "column", "value", "p_adjusted", "verdict", "note"]
    more = len(changed) - MOST_ROWS
    rows = changed.assign(p_adjusted=[p_value(p) for p in changed["p_adjusted"]])[names].head(MOST_ROWS)
    return [
        *heading("Differences from the training patients"),
        *prose(escaped(trust(frame))),
        *frame_table(rows),
        *prose(f"{more} more rows: `drift.csv`." if more > 0 else ""),
    ]
