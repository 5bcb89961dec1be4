"""Cohorts whose outcome is known to come from some modalities, and small models of them."""

import numpy as np
import pandas as pd

from multimodn import Cohort, MultiModN, Study


def table(values, name):
    return pd.DataFrame(
        values, [f"p{i:04d}" for i in range(len(values))], [f"{name}{j}" for j in range(values.shape[1])]
    )


def labels(score, rng):
    """Draws 0 or 1 by log-odds."""
    return pd.Series((rng.random(len(score)) < 1 / (1 + np.exp(-score))).astype(int), table(score[:, None], "").index)


def make_study(modalities, **training):
    small = {"numeric": "scaled", "scaling": "standard", "n_components": None, "dropout": 0.0}
    small |= {"n_layers": 1, "hidden_size": 16, "embedding_size": 8}
    return Study.from_dict(
        {
            "name": "planted",
            "cohort": {"patient": "id", "sources": {name: f"{name}.csv" for name in [*modalities, "outcome"]}},
            "modalities": [{"name": name, "kind": "table", "source": name, **small} for name in modalities],
            "tasks": [{"name": "y", "kind": "binary", "source": "outcome", "target": "y"}],
            "split": {"validation": 0.15, "test": 0.3, "stratify": "y"},
            "training": {
                "epochs": 15, "batch_size": 128, "learning_rate": 0.01, "state_size": 16, "penalty": 1.0, **training,
            },
        }
    )  # fmt: skip


def fit(tables, outcome, **training):
    """Returns a trained model and its test patients."""
    cohort = Cohort.from_frames(tables, {"y": outcome.to_frame("y")})
    model = MultiModN(make_study(tables, **training)).fit(cohort)
    return model, cohort.subset(model.split.test)


def independent(n, names, weights, seed=0):
    """Modalities of three columns each, of which the first carries the outcome by its weight."""
    rng = np.random.default_rng(seed)
    tables = {name: table(rng.normal(size=(n, 3)), name) for name in names}
    score = sum(weight * tables[name].iloc[:, 0].to_numpy() for name, weight in zip(names, weights, strict=True))
    return tables, labels(score, rng)


def two_bits(rule, n=1500, size=60, widths=(40, 30), seed=0):
    """A hidden bit for each of two modalities, seen through a random projection of many noisy numbers.

    ``xor``: the outcome is whether exactly one is set; ``sum``: its log-odds are their sum. After the data sets HD-XOR
    and SUM of Wenderoth et al. (2025), https://arxiv.org/abs/2412.15828
    """
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (n, 2)) * 2 - 1
    tables = {}
    for k, width in enumerate(widths):
        projection = rng.uniform(-0.5, 0.5, (width, size))
        tables["ab"[k]] = table(rng.normal(bits[:, [k]] * 0.5, 1.0, (n, size)) @ projection.T, "ab"[k])
    if rule == "xor":
        return tables, pd.Series((bits.prod(1) < 0).astype(int), tables["a"].index)
    return tables, labels(2.0 * bits.sum(1), rng)
