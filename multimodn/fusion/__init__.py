"""Sequential fusion: the state, its updates, the network, trajectories."""

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
