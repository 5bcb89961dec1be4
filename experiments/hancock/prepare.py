"""Turns the HANCOCK files into the tables that the study reads; nothing is scaled, dropped or imputed here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

STAINS = ("HE", "CD3", "CD8", "CD56", "CD68", "CD163", "PDL1", "MHC1")


def load_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Reads the sources of ``study.yaml`` from a folder of HANCOCK's structured data and image features.

    Raises:
        FileNotFoundError: If a file is not there.
    """
    names = ("clinical", "pathological", "blood", "icd_codes", "tma_cell_density", "targets")
    tables = {name: _read(folder / f"{name}.csv") for name in names}
    for stain in STAINS:
        with np.load(folder / f"tma_tile_dtr_256_{stain}.npz") as arrays:
            tables[stain.lower()] = _features(arrays)
    return tables


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"patient_id": str}).set_index("patient_id")


def _features(arrays: np.lib.npyio.NpzFile) -> pd.DataFrame:
    columns = {patient: arrays[patient].ravel() for patient in arrays.files}
    return pd.DataFrame.from_dict(columns, orient="index").add_prefix("e")
