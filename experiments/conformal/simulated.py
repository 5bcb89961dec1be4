"""Patients of four modalities and five tasks, whose modalities go missing for a reason that is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from multimodn import Cohort, Study
from multimodn.evaluate.stress.mechanisms import Mechanism

NAMES = ("m0", "m1", "m2", "m3")
LOST = ("m1", "m2", "m3")
"""The modalities that go missing; m0 is always there."""
LOADINGS = np.random.default_rng(4_711).normal(size=(4, 2, 4))
"""How two factors make the four columns of each modality; the same for every cohort."""
STAGES = ("I", "II", "III", "IV")


@dataclass(frozen=True)
class Drawn:
    """Patients with all modalities and labels.

    Attributes:
        cohort: They.
        positive: Whether the first outcome is positive, which ``mnar`` depends on; indexed by patient.
        survival: The time of the event of each, censored or not.
    """

    cohort: Cohort
    positive: pd.Series[float]
    survival: pd.Series[float]

    def missing(self, mechanism: Mechanism, seed: int) -> Cohort:
        """The same patients as a mechanism leaves them."""
        return mechanism.apply(self.cohort, self.positive, seed)


def draw(n_patients: int, seed: int) -> Drawn:
    """Draws two factors a modality, from them the columns and five outcomes, and times of censoring from nothing."""
    rng = np.random.default_rng(seed)
    ids = pd.Index([f"s{seed}p{i:05d}" for i in range(n_patients)], name="patient")
    factors = rng.normal(size=(n_patients, 4, 2))
    frames = {}
    for m, name in enumerate(NAMES):
        values = factors[:, m] @ LOADINGS[m] + 0.5 * rng.normal(size=(n_patients, 4))
        frames[name] = pd.DataFrame(values, ids, [f"{name}_{i}" for i in range(4)])
    first, second = factors[..., 0].sum(1), factors[..., 1].sum(1)
    positive = (rng.random(n_patients) < 1 / (1 + np.exp(0.5 - first))).astype(float)
    stage = np.searchsorted([-2.0, 0.0, 1.5], first + rng.logistic(size=n_patients))
    gains = np.stack([first, second, np.zeros(n_patients)], axis=1)
    kind = (gains + rng.gumbel(size=gains.shape)).argmax(1)
    # who is high in the first factor of m0 is harder to predict: the spread differs between patients
    size = 10 + 2 * first + np.exp(0.4 * factors[:, 0, 0]) * rng.normal(size=n_patients)
    event = 24 * np.exp(-0.6 * first) * rng.weibull(1.5, n_patients)
    censored = rng.uniform(6, 120, n_patients)
    targets = {
        "outcome": pd.DataFrame({"outcome": positive.astype(int)}, ids),
        "stage": pd.DataFrame({"stage": np.array(STAGES, dtype=object)[stage]}, ids),
        "kind": pd.DataFrame({"kind": np.array(["a", "b", "c"], dtype=object)[kind]}, ids),
        "size": pd.DataFrame({"size": size}, ids),
        "survival": pd.DataFrame({"months": np.minimum(event, censored), "dead": (event <= censored).astype(int)}, ids),
    }
    survival = pd.Series(event, ids)
    return Drawn(Cohort.from_frames(frames, targets), pd.Series(positive, ids), survival)


def study(members: int) -> Study:
    """The study of the five tasks."""
    tasks = [
        {"name": "outcome", "kind": "binary", "target": "outcome"},
        {"name": "stage", "kind": "ordinal", "target": "stage", "classes": list(STAGES)},
        {"name": "kind", "kind": "multiclass", "target": "kind"},
        {"name": "size", "kind": "regression", "target": "size"},
        {"name": "survival", "kind": "survival", "time": "months", "event": "dead"},
    ]
    tables = {name: {"name": name, "kind": "table", "source": name, "hidden_size": 16} for name in NAMES}
    return Study.from_dict(
        {
            "name": "simulated",
            "cohort": {"patient": "patient", "sources": {name: f"{name}.csv" for name in [*NAMES, "targets"]}},
            "modalities": list(tables.values()),
            "tasks": [task | {"source": "targets"} for task in tasks],
            "missingness": "neutral",
            "training": {
                "members": members,
                "epochs": 20,
                "patience": 3,
                "batch_size": 256,
                "learning_rate": 0.01,
                "experts": [],
            },
        }
    )
