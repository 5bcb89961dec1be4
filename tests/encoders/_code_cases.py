"""Small tables of codes."""

import numpy as np
import pandas as pd

from multimodn.encoders.codes import CodesEncoder, CodesOptions

DIAGNOSES = ["I10", "I50.0", "I50.1", "E11.9", "E11.2", "E78.0", "N18.3", "N18.4", "C50.9", "J44.1"]


def diagnoses(n_rows=60, seed=0, longest=9):
    """One to ``longest`` codes of each patient, some of them several times, on days of two years, in no order."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, longest + 1, n_rows)
    patient = np.repeat([f"P{i}" for i in range(n_rows)], counts)
    share = np.linspace(2, 0.5, len(DIAGNOSES))
    frame = pd.DataFrame(
        {
            "code": rng.choice(DIAGNOSES, len(patient), p=share / share.sum()),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 730, len(patient)), unit="D"),
            "packs": rng.integers(1, 4, len(patient)).astype(float),
        },
        pd.Index(patient, name="patient"),
    )
    return frame.assign(day=frame["day"].astype(str)).iloc[rng.permutation(len(frame))]


def lists(n_rows=60, seed=0):
    """The same as lists in cells, written in several ways; two patients are known to have no code."""
    rows = diagnoses(n_rows, seed)
    of_patient = rows.groupby(level=0, sort=False)["code"].agg(list)
    cells = [";".join(codes) if i % 2 else '["' + '", "'.join(codes) + '"]' for i, codes in enumerate(of_patient)]
    frame = pd.DataFrame({"codes": cells}, of_patient.index.rename("patient"))
    frame.iloc[[3, 5], 0] = "[]"
    return frame


CASES = {
    "codes": (CodesEncoder, CodesOptions(levels=[1, 3, "full"]), diagnoses),
    "amounts of codes": (CodesEncoder, CodesOptions(value="packs", n_layers=0, min_patients=12, n_vector=4), diagnoses),
    "recent codes": (CodesEncoder, CodesOptions(time="day", weight="recency", half_life=100.0), diagnoses),
    "lists of codes": (CodesEncoder, CodesOptions(code="codes", levels=["full"], dropout=0.0), lists),
}
