"""Performance of a trained model: metrics by step, presence pattern and subgroup, calibration, decision curves."""

from multimodn import moved

__getattr__ = moved.forward(__name__)
