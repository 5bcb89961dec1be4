"""Which absent modality to measure next."""

from multimodn import moved

__getattr__ = moved.forward(__name__)
