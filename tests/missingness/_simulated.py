"""Cohorts whose targets have nothing to do with one another, and a study of them."""

import numpy as np
import pandas as pd

from multimodn import Cohort, Study

N = 600


def make_study(n_modalities=4, tasks=("death", "grade", "size", "survival")):
    parts = {
        "death": {"kind": "binary", "target": "y", "positive": 1},
        "grade": {"kind": "multiclass", "target": "g"},
        "size": {"kind": "regression", "target": "s"},
        "survival": {"kind": "survival", "time": "t", "event": "e"},
    }
    return Study.from_dict(
        {
            "name": "simulated",
            "cohort": {"patient": "id", "sources": {"s": "s.csv"}},
            "modalities": [{"name": f"m{m}", "kind": "table", "source": "s"} for m in range(n_modalities)],
            "tasks": [{"name": name, "source": "s", **parts[name]} for name in tasks],
        }
    )


def simulate(n=N, seed=0, n_modalities=4, groups=None):
    """Patients with every modality and targets that have nothing to do with one another."""
    rng = np.random.default_rng(seed)
    ids = [f"p{i}" for i in range(n)]
    modalities = {f"m{m}": pd.DataFrame({"a": rng.normal(size=n)}, ids) for m in range(n_modalities)}
    targets = {
        "death": pd.DataFrame({"y": (rng.random(n) < 0.3).astype(int)}, ids),
        "grade": pd.DataFrame({"g": rng.integers(0, 3, n).astype(float)}, ids).where(rng.random((n, 1)) > 0.2),
        "size": pd.DataFrame({"s": rng.normal(size=n)}, ids),
        "survival": pd.DataFrame({"t": rng.exponential(10, n) + 1, "e": rng.integers(0, 2, n)}, ids),
    }
    return Cohort.from_frames(modalities, targets, groups=None if groups is None else pd.Series(groups, ids))


def without(cohort, modality, patients):
    """Blanks a modality of some patients, given as one truth value each."""
    gone = cohort.patients[np.asarray(patients)]
    frame = cohort.modalities[modality]
    frames = cohort.modalities | {modality: frame[~frame.index.isin(gone)]}
    return Cohort.from_frames(frames, cohort.targets, patients=cohort.patients, groups=cohort.groups)
