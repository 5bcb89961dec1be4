"""Tells the format of a folder of health records by the names of its files."""

from __future__ import annotations

from pathlib import Path


def record_format(folder: Path) -> str | None:
    """Returns ``meds``, ``omop`` or ``fhir``, as a source calls it; None if the folder looks like none of them."""
    names = {file.name.lower() for file in folder.iterdir()}
    if any(".ndjson" in name for name in names):
        return "fhir"
    if "data" in names and next((folder / "data").rglob("*.parquet"), None) is not None:
        return "meds"
    tables = {name.split(".")[0] for name in names}
    return "omop" if "person" in tables and tables & {"measurement", "condition_occurrence", "drug_exposure"} else None
