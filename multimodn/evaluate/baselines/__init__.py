"""Baseline models, and the comparison of a trained model with them."""

from multimodn import moved

__getattr__ = moved.forward(__name__)
