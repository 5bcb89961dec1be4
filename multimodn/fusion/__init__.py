"""Sequential fusion: a patient state that modalities update step by step, in any order and from any subset.

`state` and `attention` update the state, `network` follows paths and decodes, `paths` and `visibility` say which
modalities a state has read and a task may see, `trajectory` predicts after every step and at every subset.
"""

from multimodn.fusion.attention import AttentionUpdate
from multimodn.fusion.ensemble import Ensemble
from multimodn.fusion.network import Evidence, Outputs, SequentialFusion
from multimodn.fusion.paths import ordered_paths, random_paths
from multimodn.fusion.state import GatedUpdate, LinearUpdate, ResidualUpdate, StateUpdate
from multimodn.fusion.trajectory import lattice, trajectory

__all__ = [
    "AttentionUpdate",
    "Ensemble",
    "Evidence",
    "GatedUpdate",
    "LinearUpdate",
    "Outputs",
    "ResidualUpdate",
    "SequentialFusion",
    "StateUpdate",
    "lattice",
    "ordered_paths",
    "random_paths",
    "trajectory",
]
