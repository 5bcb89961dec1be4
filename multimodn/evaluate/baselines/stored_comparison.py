"""Keeps the comparison with baselines in the run folder, so that it is computed once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from multimodn.evaluate.baselines.compare import COLUMNS
from multimodn.files import write_text
from multimodn.findings.frames import ComparisonFrame
from multimodn.model.multimodn import MultiModN

COMPARISON = "baselines.json"  # file of a run folder with the comparison, see `keep_comparison`
TEXTS = ("task", "arm", "metric", "by", "group")


def keep_comparison(run: Path, model: MultiModN, comparison: ComparisonFrame) -> Path:
    """Writes a comparison with simple models into a run folder, so that a report need not train them again.

    The file, `COMPARISON`, has the frame, its fields, and the hashes of data and split that it belongs to.
    """
    rows = comparison.astype(object).where(comparison.notna(), None)
    text = json.dumps(
        {
            "of": _made_of(model),
            "attrs": {name: getattr(comparison, name) for name in ComparisonFrame.FIELDS},
            "columns": list(comparison.columns),
            "rows": rows.to_numpy().tolist(),
        },
        indent=1,
    )
    write_text(run / COMPARISON, text)
    return run / COMPARISON


def cached_comparison(run: Path, model: MultiModN) -> ComparisonFrame | None:
    """Reads what `keep_comparison` wrote; None if there is nothing, or if it belongs to other data or another split."""
    try:
        content: Mapping[str, Any] = json.loads((run / COMPARISON).read_text(encoding="utf-8"))
        if content["of"] != _made_of(model) or list(content["columns"]) != COLUMNS:
            return None
        rows = pd.DataFrame(content["rows"], columns=COLUMNS)
        numbers = [name for name in COLUMNS if name not in TEXTS]
        rows = rows.astype(dict.fromkeys(numbers, float)).astype({"n": int})
        fields = {name: value for name, value in dict(content["attrs"]).items() if name in ComparisonFrame.FIELDS}
        fields["patterns"] = {name: tuple(modalities) for name, modalities in fields.get("patterns", {}).items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if rows.empty else ComparisonFrame.of(rows, **fields)


def _made_of(model: MultiModN) -> dict[str, Any]:
    """Returns the hashes of data and split, the seed and the tasks of a model."""
    hashes = {name: model.provenance.get(name) for name in ("data_hash", "split_hash", "seed")}
    return {**hashes, "tasks": [task.name for task in model.study.tasks]}
