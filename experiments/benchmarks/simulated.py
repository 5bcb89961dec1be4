"""A simulated cohort of known structure: 4 modalities, 3 binary tasks, whole modalities missing at random."""

from __future__ import annotations

import numpy as np
import pandas as pd

from multimodn import Cohort

N_COLUMNS = (16, 32, 64, 128)
N_FACTORS = 4


def simulate(n_patients: int, missing: float = 0.0, seed: int = 0) -> Cohort:
    """Draws latent factors, from them the columns of each modality, and labels from some of the factors.

    The first label is linear in all modalities, the second needs two of them, the third their interaction.
    """
    generator = np.random.default_rng(seed)
    loadings = np.random.default_rng(4_711)  # the same for every seed, so that cohorts are comparable
    patients = pd.Index([f"p{i:06d}" for i in range(n_patients)], name="patient")
    factors, modalities = [], {}
    for m, n_columns in enumerate(N_COLUMNS):
        factor = generator.normal(size=(n_patients, N_FACTORS))
        weights = loadings.normal(size=(N_FACTORS, n_columns)) / 2
        values = (factor @ weights + generator.normal(size=(n_patients, n_columns))).astype(np.float32)
        frame = pd.DataFrame(values, index=patients, columns=[f"m{m}_{i}" for i in range(n_columns)])
        factors.append(factor)
        modalities[f"m{m}"] = frame[generator.random(n_patients) >= missing]
    scores = {
        "linear": sum(factor[:, 0] for factor in factors) / 2,
        "two": (factors[0][:, 1] + factors[3][:, 1]) / np.sqrt(2),
        "interaction": 0.7 * factors[1][:, 2] * factors[2][:, 2] + 0.7 * factors[2][:, 3],
    }
    chance = {name: 1 / (1 + np.exp(-2.5 * score)) for name, score in scores.items()}
    targets = pd.DataFrame({n: (generator.random(n_patients) < p).astype(int) for n, p in chance.items()}, patients)
    return Cohort.from_frames(modalities, {name: targets[[name]] for name in targets})
