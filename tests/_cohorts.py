"""A tiny cohort with two modalities and three tasks, as frames, and as files with a study."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from multimodn import Cohort, Study

N = 40


def make_frames(n: int = N, seed: int = 0):
    """Returns tables and targets; the last eight patients have no image, every fourth no label of death."""
    rng = np.random.default_rng(seed)
    ids = [f"p{i:02d}" for i in range(n)]
    labs = pd.DataFrame(rng.normal(size=(n, 3)), ids, ["crp", "hb", "sodium"])
    image = pd.DataFrame(rng.normal(size=(n, 4)), ids, ["f0", "f1", "f2", "f3"]).iloc[: n - 8]
    status = labs["crp"].gt(0).map({True: "dead", False: "alive"})
    targets = {
        "death": status.where(np.arange(n) % 4 > 0).to_frame("status"),
        "size": (2 * labs["hb"] + rng.normal(size=n)).to_frame("size"),
        "survival": pd.DataFrame({"months": rng.exponential(10, n) + 1, "event": rng.integers(0, 2, n)}, index=ids),
    }
    return {"labs": labs, "image": image}, targets


def make_cohort(**changes: Any) -> Cohort:
    tables, targets = make_frames(**changes)
    return Cohort.from_frames(tables, targets)


def study_dict(**changes: Any) -> dict[str, Any]:
    data = {
        "name": "tiny",
        "cohort": {"patient": "id", "sources": {"labs": "labs.csv", "image": "image.csv", "outcome": "outcome.csv"}},
        "modalities": [
            {"name": "labs", "kind": "table", "source": "labs", "hidden_size": 8, "embedding_size": 8},
            {"name": "image", "kind": "embedding", "source": "image", "hidden_size": 8, "embedding_size": 8},
        ],
        "tasks": [
            {"name": "death", "kind": "binary", "source": "outcome", "target": "status", "positive": "dead"},
            {"name": "size", "kind": "regression", "source": "outcome", "target": "size"},
            {"name": "survival", "kind": "survival", "source": "outcome", "time": "months", "event": "event"},
        ],
        "training": {"epochs": 2, "batch_size": 16, "state_size": 8},
    }
    if "training" in changes:
        changes["training"] = {**data["training"], **changes["training"]}
    return data | changes


def make_study(folder: str | Path = ".", **changes: Any) -> Study:
    return Study.from_dict(study_dict(**changes), folder)


def write_files(folder: Path, **changes: Any) -> Study:
    """Writes the cohort as CSV files and its study as study.yaml."""
    tables, targets = make_frames()
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (tables | {"outcome": pd.concat(targets.values(), axis=1)}).items():
        table.rename_axis("id").to_csv(folder / f"{name}.csv")
    study = make_study(folder, **changes)
    (folder / "study.yaml").write_text(study.to_yaml())
    return study
