"""Small tile encoders, quick to load and to run."""

import json
import warnings

import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self, feature_size=6, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(3, 8, 5, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Linear(8, feature_size)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))).mean(dim=(2, 3)))


class Map(nn.Module):
    def forward(self, x):
        return x[:, :, ::2, ::2]


def write_script(file, network=None, **preprocessing):
    """Writes a TorchScript file and the JSON file beside it; returns the spec."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script((network or Tiny()).eval()), str(file))
    file.with_suffix(".json").write_text(json.dumps({"tile_size": 64} | preprocessing))
    return f"torchscript:{file}"
