"""`multimodn init`: writes a study file from tables and folders."""

from multimodn import moved

__getattr__ = moved.forward(__name__)
