"""One long table of results for every experiment, and what it takes to repeat them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from multimodn.files import write_text

COLUMNS = ("cohort", "arm", "task", "condition", "metric", "repeat", "fold", "value")


class ResultsTable:
    """Collects the numbers of one experiment and writes them in one piece.

    Args:
        folder: Where ``results.csv`` and ``run.json`` go.
        cohort: Name of the cohort.
    """

    def __init__(self, folder: Path, cohort: str) -> None:
        self.folder, self.cohort = folder, cohort
        self.started = time.monotonic()
        self.frames: list[pd.DataFrame] = []

    def add(self, scores: pd.DataFrame, condition: str = "natural") -> None:
        """Adds scores with columns ``arm, task, metric, repeat, fold, value`` under a condition."""
        self.frames.append(scores.assign(cohort=self.cohort, condition=condition)[list(COLUMNS)])

    def write(self, provenance: Mapping[str, Any]) -> None:
        """Writes both files; the command and the wall time are added to what the caller knows."""
        write_text(self.folder / "results.csv", pd.concat(self.frames).to_csv(index=False, float_format="%.6f"))
        command = f"python {' '.join([_relative(sys.argv[0]), *sys.argv[1:]])}"
        run = {"command": command, **provenance, "wall_time_s": round(time.monotonic() - self.started, 1)}
        write_text(self.folder / "run.json", json.dumps(run, indent=1) + "\n")


def markdown(frame: pd.DataFrame, digits: int = 3) -> str:
    """Writes a small table in Markdown."""

    def cell(value: object) -> str:
        return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

    rows: list[Sequence[object]] = [list(frame.columns), ["---"] * frame.shape[1], *frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(cell(value) for value in row) + " |" for row in rows)


def _relative(path: str) -> str:
    """The script's path from the working directory: a result does not name a machine's folders."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return Path(path).name
