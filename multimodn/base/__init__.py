"""What a modality kind and a task kind derive from: `Encoder`, `Task`, their options and prepared values."""

from multimodn import moved
from multimodn.base.encoder import Encoder, FileOptions, Options, Values
from multimodn.base.task import Task

__all__ = ["Encoder", "FileOptions", "Options", "Task", "Values"]

__getattr__ = moved.forward(__name__)
