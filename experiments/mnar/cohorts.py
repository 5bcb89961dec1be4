"""The cohorts of the study: simulated with known truth, two that scikit-learn ships, and two real ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from multimodn import Cohort, Study
from multimodn.study import TrainingSpec

HERE = Path(__file__).parent


def simulated(kind: str, n_patients: int, seed: int) -> tuple[Study, Cohort]:
    """Draws four modalities with two latent factors each.

    ``linear``: eight columns a modality, noise of variance 1; the log-odds are the sum of the first factors, less a
    half. ``interaction``: four columns, variance 1/4; 0.8 times that sum, plus twice the products of the second
    factors of the first two modalities and of the last two. Only the product update can follow it: the sum of what
    each modality says alone cannot.
    """
    crossed = kind == "interaction"
    n_columns, noise = (4, 0.5) if crossed else (8, 1.0)
    generator, loadings = np.random.default_rng(seed), np.random.default_rng(4_711)
    ids = pd.Index([f"p{i:05d}" for i in range(n_patients)], name="patient")
    factors = generator.normal(size=(n_patients, 4, 2))
    frames = {}
    for m in range(4):
        values = factors[:, m] @ loadings.normal(size=(2, n_columns))
        values += noise * generator.normal(size=values.shape)
        frames[f"m{m}"] = pd.DataFrame(values, ids, [f"m{m}_{i}" for i in range(n_columns)])
    score = factors[:, :, 0].sum(1)
    if crossed:
        first, second = factors[:, 0, 1] * factors[:, 1, 1], factors[:, 2, 1] * factors[:, 3, 1]
        score = 0.8 * score + 2 * (first + second)
    outcome = (generator.random(n_patients) < 1 / (1 + np.exp(0.5 - score))).astype(int)
    targets = {"outcome": pd.DataFrame({"outcome": outcome}, ids)}
    tasks = [{"name": "outcome", "kind": "binary", "source": "targets", "target": "outcome"}]
    training = {"update": "product", "members": 3} if crossed else {}
    return _study(f"simulated-{kind}", frames, tasks, training), Cohort.from_frames(frames, targets)


def breast_cancer() -> tuple[Study, Cohort]:
    """Wisconsin breast cancer (scikit-learn), 569 patients: means, errors and worst values as three modalities."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer(as_frame=True)
    table = data.frame.set_axis([f"p{i:03d}" for i in range(len(data.frame))])
    groups = {"mean": "mean ", "error": " error", "worst": "worst "}
    frames = {name: table[[c for c in table if word in c]] for name, word in groups.items()}
    malignant = (table["target"] == 0).astype(int).to_frame("malignant")
    tasks = [{"name": "malignant", "kind": "binary", "source": "targets", "target": "malignant"}]
    study = _study("breast-cancer", frames, tasks, {"members": 3}, {"n_layers": 0})
    return study, Cohort.from_frames(frames, {"malignant": malignant})


def digits() -> tuple[Study, Cohort]:
    """Handwritten digits (scikit-learn), 1,797 pictures: their four quadrants as modalities, ten classes."""
    from sklearn.datasets import load_digits

    data = load_digits()
    ids = [f"p{i:04d}" for i in range(len(data.target))]
    halves = (slice(0, 4), slice(4, 8))
    frames = {}
    for row, side in ((0, 0), (0, 1), (1, 0), (1, 1)):
        pixels = data.images[:, halves[row], halves[side]].reshape(len(ids), 16)
        frame = pd.DataFrame(pixels, ids, [f"q{row}{side}_{i}" for i in range(16)])
        frames[f"q{row}{side}"] = frame.loc[:, frame.nunique() > 1]
    tasks = [{"name": "digit", "kind": "multiclass", "source": "targets", "target": "digit"}]
    cohort = Cohort.from_frames(frames, {"digit": pd.DataFrame({"digit": data.target.astype(float)}, ids)})
    return _study("digits", frames, tasks, {}, {"numeric": "scaled", "scaling": "standard"}), cohort


def acc() -> tuple[Study, Cohort]:
    """The 92 patients of ``experiments/acc``, death alone."""
    study = Study.load(HERE.parent / "acc" / "study.yaml")
    cohort = Cohort.load(study)
    spec = study.training.model_copy(update={"members": 3})
    tasks = [task for task in study.tasks if task.name == "death"]
    split = study.split.model_copy(update={"stratify": "death"})
    study = study.model_copy(update={"name": "acc", "tasks": tasks, "training": spec, "split": split})
    return study, Cohort.from_frames(cohort.modalities, {"death": cohort.targets["death"]}, cohort.patients)


def hancock(task: str, data: Path) -> tuple[Study, Cohort]:
    """HANCOCK's three routine tables and one task, as ``experiments/hancock/study.yaml`` encodes them."""
    sys.path.insert(0, str(HERE.parent / "hancock"))
    from prepare import load_tables

    whole = Study.load(HERE.parent / "hancock" / "study.yaml")
    names = ("clinical", "pathological", "blood")
    loaded = Cohort.load(whole, sources=load_tables(data))
    frames = {name: loaded.modalities[name] for name in names}
    parts: dict[str, Any] = {
        "name": f"hancock-{task}",
        "modalities": [spec for spec in whole.modalities if spec.name in names],
        "tasks": [spec for spec in whole.tasks if spec.name == task],
        "order": list(names),
        "split": whole.split.model_copy(update={"stratify": task}),
        # the benchmark's penalty is for 13 modalities: with three, of which training lost most, the loss of held-out
        # training patients is lower at the package's own
        "training": whole.training.model_copy(update={"members": 4, "penalty": TrainingSpec().penalty}),
    }
    cohort = Cohort.from_frames(frames, {task: loaded.targets[task]}, loaded.patients)
    return whole.model_copy(update=parts), cohort


def _study(
    name: str,
    frames: dict[str, pd.DataFrame],
    tasks: list[dict[str, Any]],
    training: dict[str, Any],
    encoder: dict[str, Any] | None = None,
) -> Study:
    sources = {source: f"{source}.csv" for source in [*frames, "targets"]}
    return Study.from_dict(
        {
            "name": name,
            "cohort": {"patient": "patient", "sources": sources},
            "modalities": [{"name": m, "kind": "table", "source": m, **(encoder or {})} for m in frames],
            "tasks": tasks,
            "training": training,
        }
    )
