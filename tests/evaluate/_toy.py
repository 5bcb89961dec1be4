"""A small cohort with three modalities and a task of every kind."""

from dataclasses import replace

import numpy as np
import pandas as pd

from multimodn import Cohort, Study

N = 90
WIDTHS = {"death": 1, "stage": 3, "signs": 2, "grade": 2, "size": 1, "survival": 1}
"""Link-scale columns of each task."""


def make_study(tasks=tuple(WIDTHS), **training):
    every = [
        {"name": "death", "kind": "binary", "target": "died"},
        {"name": "stage", "kind": "multiclass", "target": "stage"},
        {"name": "signs", "kind": "multilabel", "targets": ["s1", "s2"]},
        {"name": "grade", "kind": "ordinal", "target": "grade"},
        {"name": "size", "kind": "regression", "target": "cm"},
        {"name": "survival", "kind": "survival", "time": "days", "event": "event", "n_intervals": 4},
    ]
    small = {"n_layers": 0, "embedding_size": 4}
    return Study(
        name="toy",
        cohort={"patient": "id", "sources": {"a": "a.csv", "b": "b.csv", "c": "c.csv", "y": "y.csv"}},
        modalities=[{"name": name, "kind": "table", "source": name, **small} for name in "abc"],
        tasks=[task | {"source": "y"} for task in every if task["name"] in tasks],
        split={"stratify": "death"},
        training={"epochs": 3, "batch_size": 16, "state_size": 8, "learning_rate": 0.01, **training},
    )


def make_cohort(seed: int = 0, n: int = N, tasks=tuple(WIDTHS)):
    """Patients with three modalities, ``b`` and ``c`` missing in some, and a label of death missing in some."""
    generator = np.random.default_rng(seed)
    ids = [f"p{i:03d}" for i in range(n)]
    x = generator.normal(size=(n, 6))
    score = 2 * (x[:, 0] + x[:, 2] + x[:, 4])
    died = pd.Series(generator.random(n) < 1 / (1 + np.exp(-score)), ids).astype(float)
    died.iloc[::7] = np.nan
    cut = pd.qcut(score + generator.normal(size=n), 3, labels=False)
    targets = {
        "death": pd.DataFrame({"died": died}),
        "stage": pd.DataFrame({"stage": np.array(["I", "II", "III"])[cut]}, ids),
        "signs": pd.DataFrame({"s1": (score > 0) * 1, "s2": generator.integers(0, 2, n)}, ids),
        "grade": pd.DataFrame({"grade": cut + 1}, ids),
        "size": pd.DataFrame({"cm": score + generator.normal(size=n)}, ids),
        "survival": pd.DataFrame(
            {"days": generator.exponential(np.exp(-score / 3)) * 100 + 1, "event": generator.integers(0, 2, n)}, ids
        ),
    }
    tables = {m: pd.DataFrame(x[:, 2 * k : 2 * k + 2], ids, [f"{m}1", f"{m}2"]) for k, m in enumerate("abc")}
    tables["b"], tables["c"] = tables["b"].iloc[20:], tables["c"].iloc[:-15]
    return Cohort.from_frames(tables, {name: targets[name] for name in tasks})


def halves(cohort):
    return cohort.subset(cohort.patients[::2]), cohort.subset(cohort.patients[1::2])


def without(cohort, *modalities):
    return replace(
        cohort, modalities={name: frame for name, frame in cohort.modalities.items() if name not in modalities}
    )
