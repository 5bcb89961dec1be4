"""The study file: what is read, trained and evaluated."""

from multimodn import moved
from multimodn.study.study import Study

__all__ = ["Study"]

__getattr__ = moved.forward(__name__)
