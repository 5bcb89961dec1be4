"""Patients of an untrained network: conformal sets promise the same whatever the predictions are worth."""

import numpy as np
import pandas as pd
import torch

from multimodn.base.batches import PatientTensors
from multimodn.fusion import Ensemble, SequentialFusion
from tests._inputs import TinyEncoder, make_task

FRAME = pd.DataFrame(
    {
        "y": [0, 1, 0, 1, 1, 0, 1, 0],
        "c": list("abcabcab"),
        "g": [1, 2, 3, 4, 2, 3, 1, 4],
        "r": [0.1, 2.0, -1.0, 0.4, 3.0, 1.0, -2.0, 0.0],
        "t": [1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 2.5, 5.0],
        "e": [1, 1, 1, 1, 1, 1, 1, 1],
        "l1": [0, 1, 0, 1, 1, 0, 0, 1],
        "l2": [1, 1, 0, 0, 1, 0, 1, 0],
    }
)
EVERY = {
    "death": ("binary", {"target": "y"}),
    "kind": ("multiclass", {"target": "c"}),
    "stage": ("ordinal", {"target": "g"}),
    "size": ("regression", {"target": "r"}),
    "survival": ("survival", {"time": "t", "event": "e", "n_intervals": 4}),
    "both": ("multilabel", {"targets": ["l1", "l2"]}),
}


def make_ensemble(n_members=1, n_modalities=3, names=tuple(EVERY), excluded=None, informative=False):
    """An ensemble of random networks; every modality moves every task."""
    members = []
    for seed in range(n_members):
        torch.manual_seed(0)
        encoders = {f"m{i}": TinyEncoder(i + 2) for i in range(n_modalities)}
        tasks = [make_task(EVERY[name][0], name, FRAME, **EVERY[name][1]) for name in names]
        model = SequentialFusion(encoders, tasks, 6, "residual", excluded=excluded, informative=informative)
        with torch.no_grad():
            for decoder in model.decoders.values():
                decoder.weight.normal_(std=0.5)
            if informative:
                model.presence_effect.weight.normal_()
            torch.manual_seed(seed)  # members that saw nearly the same patients are alike
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        members.append(model)
    return Ensemble(members).eval()


def make_patients(n, seed=0, n_modalities=3, rate=0.3, ensemble=None):
    """Patients with modalities missing at random, and outcomes that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    presence = torch.rand(n, n_modalities, generator=generator) >= rate
    position = torch.where(presence, torch.arange(n).unsqueeze(1), -1)
    values = {f"m{i}": torch.randn(n, i + 2, generator=generator) for i in range(n_modalities)}
    frame = pd.DataFrame(
        {
            "y": rng.integers(0, 2, n),
            "c": rng.choice(list("aabc"), n),
            "g": rng.choice([1, 1, 2, 3, 4], n),
            "r": rng.normal(size=n),
            "t": rng.exponential(4.0, n),
            "e": 1,
            "l1": rng.integers(0, 2, n),
            "l2": rng.integers(0, 2, n),
        }
    )
    frame.loc[::7, ["y", "l1"]] = np.nan
    tasks = (ensemble or make_ensemble(n_modalities=n_modalities)).tasks
    prepared = {name: task.prepare(frame) for name, task in tasks.items()}
    targets = {name: pair[0] for name, pair in prepared.items()}
    labelled = {name: pair[1] for name, pair in prepared.items()}
    return PatientTensors(pd.Index([f"p{i}" for i in range(n)]), values, position, targets, labelled)


def blanked(patients: PatientTensors, keep: torch.Tensor) -> PatientTensors:
    """The same patients without the modalities that ``keep`` ``(N, M)`` or ``(M,)`` leaves out."""
    position = torch.where(keep.expand_as(patients.position), patients.position, -1)
    return PatientTensors(patients.patients, patients.values, position, patients.targets, patients.labelled)
