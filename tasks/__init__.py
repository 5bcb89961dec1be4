"""One file for each task kind; a study finds them by the entry points ``multimodn.tasks``."""

from __future__ import annotations

from multimodn.tasks.binary import BinaryTask
from multimodn.tasks.multiclass import MulticlassTask
from multimodn.tasks.multilabel import MultilabelTask
from multimodn.tasks.ordinal import OrdinalTask
from multimodn.tasks.regression import RegressionTask
from multimodn.tasks.survival import SurvivalTask

__all__ = ["BinaryTask", "MulticlassTask", "MultilabelTask", "OrdinalTask", "RegressionTask", "SurvivalTask"]
