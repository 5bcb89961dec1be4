"""Turns the processed files of the UCI Heart Disease data set into the tables that the study reads."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
PARTS = {
    "history": ["age", "sex", "cp"],
    "resting": ["trestbps", "chol", "fbs", "restecg"],
    "exercise": ["thalach", "exang", "oldpeak", "slope"],
    "imaging": ["ca", "thal"],
}
"""The columns of each modality; who has none of them lacks it, such as imaging in most patients of two hospitals."""
ZERO_IS_UNKNOWN = ["chol", "trestbps"]


def load_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Returns the sources of ``study.yaml``; ``outcomes`` holds ``disease``, 1 for a narrowed vessel (``num`` > 0).

    Raises:
        FileNotFoundError: If a file is not there.
    """
    every = _patients(folder)
    every[ZERO_IS_UNKNOWN] = every[ZERO_IS_UNKNOWN].where(every[ZERO_IS_UNKNOWN] != 0)
    tables = {name: every[columns].dropna(how="all") for name, columns in PARTS.items()}
    return tables | {"outcomes": pd.DataFrame({"disease": (every["num"] > 0).astype(int)})}


def hospital_of(folder: Path) -> pd.Series[str]:
    """Returns each patient's hospital."""
    return _patients(folder)["hospital"]


def _patients(folder: Path) -> pd.DataFrame:
    parts = [pd.read_csv(folder / f"{name}.csv", dtype={"patient": str}).assign(hospital=name) for name in HOSPITALS]
    return pd.concat(parts).set_index("patient")
