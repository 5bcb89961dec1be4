"""Training rows and options for one task of each kind."""

from functools import cache

import numpy as np
import pandas as pd

from multimodn.base.kinds import load_kind

KINDS = ["binary", "multiclass", "multilabel", "ordinal", "regression", "survival"]
OPTIONS = {
    "binary": {"target": "status", "positive": "deceased"},
    "multiclass": {"target": "site"},
    "multilabel": {"targets": ["diabetes", "asthma", "smoker"]},
    "ordinal": {"target": "stage", "classes": ["I", "II", "III", "IV"]},
    "regression": {"target": "score"},
    "survival": {"time": "days", "event": "died", "n_intervals": 5},
}


def make_targets(n_rows: int = 120, seed: int = 0) -> pd.DataFrame:
    """Target columns of many dtypes, a sixth of the cells and every ninth row empty."""
    rng = np.random.default_rng(seed)
    empty = rng.random((n_rows, 8)) < 1 / 6
    empty[::9] = True
    days = np.ceil(rng.exponential(400, n_rows))  # of 600 at most, so that some outlive the last event
    stages = rng.choice(["I", "II", "III", "IV"], n_rows, p=[0.4, 0.3, 0.2, 0.1])
    columns = {
        "status": pd.Series(rng.choice(["alive", "deceased"], n_rows, p=[0.7, 0.3])).mask(empty[:, 0]),
        "site": pd.Categorical(pd.Series(rng.choice(["lung", "skin", "colon"], n_rows)).mask(empty[:, 1])),
        "diabetes": pd.Series(rng.integers(0, 2, n_rows).astype(float)).mask(empty[:, 2]),
        "asthma": pd.Series(rng.random(n_rows) < 0.3, dtype="boolean").mask(pd.Series(empty[:, 3])),
        "smoker": pd.Series(rng.choice(["yes", "no"], n_rows)).mask(empty[:, 4]),
        "stage": pd.Series(stages).mask(empty[:, 5]),
        "score": pd.Series(rng.normal(50, 12, n_rows)).mask(empty[:, 6]),
        "days": pd.Series(np.minimum(days, 600)),
        "died": pd.Series((rng.random(n_rows) < 0.6) & (days < 600)).astype(float).mask(empty[:, 7]),
    }
    return pd.DataFrame(columns).set_index(pd.Index([f"P{i}" for i in range(n_rows)], name="patient"))


def fit(kind: str, frame: pd.DataFrame, **options):
    """Fits a task called "outcome"."""
    cls = load_kind("tasks", kind)
    return cls.fit("outcome", frame, cls.Options(**options))


@cache
def make_task(kind: str):
    return fit(kind, make_targets(), **OPTIONS[kind])
