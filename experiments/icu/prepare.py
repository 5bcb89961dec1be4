"""Turns set-a of the PhysioNet/CinC Challenge 2012 into the tables that the two study files read.

What is outside `PLAUSIBLE` is taken as not measured; nothing is scaled or imputed here.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

BLOCKS = {
    "vitals": (
        *("HR", "MAP", "SysABP", "DiasABP", "NISysABP", "NIDiasABP", "NIMAP"),
        *("Temp", "RespRate", "GCS", "Urine", "Weight"),
    ),
    "gases": ("FiO2", "MechVent", "pH", "PaCO2", "PaO2", "SaO2", "Lactate"),
    "chemistry": ("K", "Creatinine", "BUN", "HCO3", "Mg", "Na", "Glucose"),
    "blood": ("HCT", "Platelets", "WBC"),
    "liver": ("Bilirubin", "AST", "ALT", "ALP", "Albumin", "Cholesterol"),
    "cardiac": ("TroponinT", "TroponinI"),
}
"""The variables of each modality; who has no measurement of any lacks it."""

PLAUSIBLE = {
    **{"HR": (10, 300), "MAP": (10, 250), "SysABP": (20, 300), "DiasABP": (5, 200)},
    **{"NIMAP": (10, 250), "NISysABP": (20, 300), "NIDiasABP": (5, 200)},
    **{"Temp": (25, 45), "RespRate": (2, 80), "GCS": (3, 15), "Urine": (0, 5000), "Weight": (25, 300)},
    **{"FiO2": (0.21, 1), "MechVent": (1, 1), "pH": (6.5, 8), "PaCO2": (5, 200), "PaO2": (15, 600)},
    **{"SaO2": (30, 100), "Lactate": (0.1, 40)},
    **{"K": (1, 12), "Creatinine": (0.1, 30), "BUN": (1, 250), "HCO3": (2, 60), "Mg": (0.3, 10)},
    **{"Na": (95, 185), "Glucose": (10, 1500), "HCT": (5, 70), "Platelets": (1, 1500), "WBC": (0.1, 300)},
    **{"Bilirubin": (0.1, 60), "AST": (1, 20_000), "ALT": (1, 20_000), "ALP": (1, 3000)},
    **{"Albumin": (0.5, 6), "Cholesterol": (20, 500), "TroponinT": (0.01, 50), "TroponinI": (0.1, 100)},
    **{"Age": (15, 110), "Gender": (0, 1), "Height": (120, 230)},
}
"""Lowest and highest value of each variable that is taken as a measurement, in the units of the data set.

pH 735 (7.35 without its point), a weight, temperature or blood pressure of 0, a height of 1.8 cm are outside.
"""

MASKED_AGE, OLDEST = 200, 90
"""Ages above 89 are hidden in the data set behind the first number, and read as the second."""

STATISTICS = ("mean", "min", "max", "first", "last")


def load_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Returns the sources of ``study.yaml``: a row a stay, of each variable its `STATISTICS` over the first 48 h.

    Measurements of one variable in one minute are averaged first. Mechanical ventilation is recorded only while it
    lasts: it is 1 if it was recorded and 0 if not, for all stays with a row of blood gases.

    Raises:
        FileNotFoundError: If a file is not there.
    """
    every = _measurements(folder)
    tables = {"admission": _admission(folder), "outcomes": outcomes(folder)}
    for block, variables in BLOCKS.items():
        rows = every[every["variable"].isin(variables)]
        wide = rows.groupby(["record", "variable"])["value"].agg(list(STATISTICS)).unstack("variable")
        names = [name for name in variables if name != "MechVent"]
        wanted = pd.MultiIndex.from_tuples([(what, name) for name in names for what in STATISTICS])
        table = wide.reindex(columns=wanted)
        tables[block] = table.set_axis([f"{name}_{what}" for what, name in wanted], axis=1)
        if "MechVent" in variables:
            tables[block]["MechVent"] = wide.index.isin(rows.loc[rows["variable"] == "MechVent", "record"]) * 1.0
    return tables


def load_series(folder: Path) -> dict[str, pd.DataFrame]:
    """Returns the sources of ``series.yaml``: a row a measurement, with ``hours`` since admission.

    Raises:
        FileNotFoundError: If a file is not there.
    """
    every = _measurements(folder)
    every = every.assign(hours=every.pop("minutes") / 60)
    tables = {"admission": _admission(folder), "outcomes": outcomes(folder)}
    for block, variables in BLOCKS.items():
        rows = every[every["variable"].isin(variables)]
        tables[block] = rows.set_index("record")[["hours", "variable", "value"]]
    return tables


def outcomes(folder: Path) -> pd.DataFrame:
    """Returns ``death`` in hospital, 0 or 1, and ``log_days``, the natural logarithm of the days in hospital."""
    table = pd.read_csv(folder / "outcomes.csv", dtype={"record": str}).set_index("record")
    days = table["Length_of_stay"].where(table["Length_of_stay"] > 0)  # -1: unknown
    return pd.DataFrame({"death": table["In-hospital_death"], "log_days": np.log(days)})


def cleaned(values: pd.DataFrame) -> pd.DataFrame:
    """Empties the cells outside `PLAUSIBLE` of a table with a column a variable."""
    low, high = (pd.Series({name: PLAUSIBLE[name][k] for name in values}, dtype="float64") for k in range(2))
    return values.where(values.ge(low) & values.le(high))


def _admission(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "admission.csv", dtype={"record": str}).set_index("record")
    return cleaned(table.assign(Age=table["Age"].replace(MASKED_AGE, OLDEST)))


@lru_cache(maxsize=1)
def _measurements(folder: Path) -> pd.DataFrame:
    """Returns plausible measurements by stay and time: ``record, minutes, variable, value``."""
    every = pd.read_parquet(folder / "measurements.parquet").astype({"variable": str, "value": "float64"})
    low, high = (every["variable"].map({name: ends[k] for name, ends in PLAUSIBLE.items()}) for k in range(2))
    rounding = 1e-6 * high  # single precision
    every = every[every["value"].between(low - rounding, high + rounding)]
    mean = every.groupby(["record", "minutes", "variable"], sort=True)["value"].mean()
    return mean.reset_index()
