"""Small networks and batches for the suite."""

from functools import cache

import pandas as pd
import torch
from torch import nn

from multimodn.base.batches import Batch
from multimodn.base.kinds import load_kind
from multimodn.fusion import SequentialFusion


class TinyEncoder(nn.Module):
    """Two layers over a plain tensor; counts its calls and the rows that it saw."""

    def __init__(self, n_columns: int, embedding_size: int = 5) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.layers = nn.Sequential(nn.Linear(n_columns, 7), nn.Tanh(), nn.Linear(7, embedding_size))
        self.n_calls, self.n_rows = 0, 0

    def forward(self, values):
        self.n_calls += 1
        self.n_rows += len(values)
        return self.layers(values)


def make_task(kind: str, name: str, frame: pd.DataFrame, **options):
    """Fits a task of a kind by its name."""
    cls = load_kind("tasks", kind)
    return cls.fit(name, frame, cls.Options(**options))


@cache
def make_tasks():
    """One task of each of three kinds, whose targets are 0/1, three classes, and real."""
    frame = pd.DataFrame({"y": [0, 1, 0, 1, 1, 0], "c": list("abcabc"), "r": [0.1, 2.0, -1.0, 0.4, 3.0, 1.0]})
    return [
        make_task("binary", "death", frame, target="y"),
        make_task("multiclass", "stage", frame, target="c"),
        make_task("regression", "size", frame, target="r"),
    ]


def make_model(n_modalities: int = 3, update: str = "gated", state_size: int = 6, seed: int = 0):
    """A network whose decoders are not at their prior, so that every step shows."""
    torch.manual_seed(seed)
    encoders = {f"m{i}": TinyEncoder(i + 2) for i in range(n_modalities)}
    model = SequentialFusion(encoders, make_tasks(), state_size, update)
    with torch.no_grad():
        model.initial_state.normal_()
        for decoder in model.decoders.values():
            decoder.weight.normal_()
    return model.eval()


def make_values(n_rows: int, n_modalities: int = 3, seed: int = 0):
    """Aligned tensors, one a modality."""
    generator = torch.Generator().manual_seed(seed)
    return {f"m{i}": torch.randn(n_rows, i + 2, generator=generator) for i in range(n_modalities)}


def make_batch(presence: torch.Tensor, seed: int = 0, labelled: torch.Tensor | None = None) -> Batch:
    """Patients with values, targets and labels."""
    n_rows, n_modalities = presence.shape
    packed = Batch.pack(make_values(n_rows, n_modalities, seed), presence)
    generator = torch.Generator().manual_seed(seed + 1)
    targets = {
        "death": torch.randint(0, 2, (n_rows,), generator=generator).float(),
        "stage": torch.randint(0, 3, (n_rows,), generator=generator),
        "size": torch.randn(n_rows, generator=generator),
    }
    known = torch.ones(n_rows, dtype=torch.bool) if labelled is None else labelled
    return Batch(packed.values, packed.presence, targets, dict.fromkeys(targets, known))
