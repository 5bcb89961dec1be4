"""Small tables of measurements over time."""

import numpy as np
import pandas as pd

from multimodn.encoders.series import SeriesEncoder, SeriesOptions

VARIABLES = ["creatinine", "heart rate", "lactate"]
CENTRE = {"creatinine": 80.0, "heart rate": 75.0, "lactate": 1.5}


def measurements(n_rows=40, seed=0, longest=12):
    """One to ``longest`` measurements of each patient, at any time of 48 hours, in no order."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, longest + 1, n_rows)
    patient = np.repeat([f"P{i}" for i in range(n_rows)], counts)
    variable = rng.choice(VARIABLES, len(patient))
    centre = np.array([CENTRE[name] for name in variable])
    frame = pd.DataFrame(
        {
            "time": rng.uniform(0, 48, len(patient)).round(2),
            "variable": variable,
            "value": centre * rng.lognormal(sigma=0.3, size=len(patient)),
        },
        pd.Index(patient, name="patient"),
    )
    return frame.iloc[rng.permutation(len(frame))]


def renamed(n_rows=40, seed=0):
    """The same under other names, with codes for variables."""
    codes = {name: 10.0 * i for i, name in enumerate(VARIABLES)}
    frame = measurements(n_rows, seed).assign(variable=lambda table: table["variable"].map(codes))
    return frame.rename(columns={"time": "hour", "variable": "item", "value": "number"})


def trends(n_rows=200, seed=0):
    """The heart rate rises or falls; its level and another variable say nothing. Returns the table and who rises."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(4, 12, n_rows)
    rises = rng.integers(0, 2, n_rows)
    row = np.repeat(np.arange(n_rows), counts)
    time = rng.uniform(0, 24, len(row))
    slope = np.where(rises, 1.0, -1.0)[row]
    level = rng.normal(80, 20, n_rows)[row]
    rate = level + slope * (time - 12) + rng.normal(0, 3, len(row))
    patient = np.array([f"P{i}" for i in range(n_rows)])[row]
    rates = pd.DataFrame({"time": time, "variable": "heart rate", "value": rate}, patient)
    noise = pd.DataFrame({"time": time, "variable": "lactate", "value": rng.lognormal(size=len(row))}, patient)
    return pd.concat([rates, noise]), rises


CASES = {
    "series": (SeriesEncoder, SeriesOptions(), measurements),
    "series of codes": (
        SeriesEncoder,
        SeriesOptions(time="hour", variable="item", value="number", hidden_size=8, n_heads=1, n_layers=1, dropout=0.0),
        renamed,
    ),
}
