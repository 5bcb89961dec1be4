"""The study file: what is read, trained and evaluated."""

from multimodn.study.study import Study

__all__ = ["Study"]
