"""Stress test: predictions when modalities are missing for another reason than in training."""

from multimodn import moved

__getattr__ = moved.forward(__name__)
