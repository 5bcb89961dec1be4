"""DataFrames with typed fields beside their columns, for what a figure or a sentence needs and no column can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, TypeAlias

import pandas as pd

# For the name of a set of modalities, such as ``labs+image``, the modalities; pooled patterns are not in it.
Patterns: TypeAlias = Mapping[str, tuple[str, ...]]


class TypedFrame(pd.DataFrame):
    """A DataFrame whose slices and copies are of the same class and keep its fields.

    Example:
        >>> frame = DescribedFrame.of(pd.DataFrame({"task": ["death"]}), modalities=["labs", "image"])
        >>> frame[frame["task"] == "death"].modalities
        ['labs', 'image']
    """

    _metadata: ClassVar[list[str]] = []  # how pandas names the fields that a slice keeps

    @property
    def _constructor(self) -> type[Self]:
        return type(self)

    @classmethod
    def of(cls, frame: pd.DataFrame, *, like: pd.DataFrame | None = None, **fields: Any) -> Self:
        """Returns a frame in this class, with its own fields, those of ``like``, and those that are given."""
        typed = cls(frame)
        for name in cls._metadata:
            for other in (frame, like):
                if isinstance(other, TypedFrame) and name in other._metadata:
                    setattr(typed, name, getattr(other, name))
        for name, value in fields.items():
            setattr(typed, name, value)
        return typed


class DescribedFrame(TypedFrame):
    """What a model answers about patients."""

    _metadata: ClassVar[list[str]] = ["link_scales", "modalities", "hidden"]
    link_scales: Mapping[str, str] = {}  # of each task: figures name it, and turn log-odds into probabilities
    modalities: Sequence[str] = ()  # all in the model's order: figures then know which ones a patient lacks
    hidden: Mapping[str, Sequence[str]] = {}  # for a task what ``exclude_for`` hides from it: these are not lacking


class AttributedFrame(DescribedFrame):
    """Attributions to the parts of a modality.

    ``convergence_delta`` is for each patient the largest difference between the sum of attributions and what they share
    out; empty for ablation.
    """

    _metadata: ClassVar[list[str]] = [*DescribedFrame._metadata, "method", "baseline", "convergence_delta"]
    method: str = ""  # how they were computed
    baseline: str = ""  # what they start from, in words
    convergence_delta: Mapping[Any, float] = {}


class PatternFrame(TypedFrame):
    """Numbers of groups of patients, some of them by the modalities that they have; ``patterns`` says which."""

    _metadata: ClassVar[list[str]] = ["patterns"]
    patterns: Mapping[str, tuple[str, ...]] = {}


class PerformanceFrame(PatternFrame):
    """Scores."""

    _metadata: ClassVar[list[str]] = [*PatternFrame._metadata, "main_metric", "n_resamples", "tertiles"]
    main_metric: Mapping[str, str] = {}  # the metric that sums up each task
    n_resamples: int = 0  # bootstrap resamples behind the intervals
    tertiles: str = ""  # whose tertiles cut numbers into subgroups; empty without subgroups


class ComparisonFrame(PatternFrame):
    """A comparison with simple models."""

    FIELDS: ClassVar[list[str]] = ["best_single", "failed", "left_out", "n_resamples", "n_training", "seen", "patterns"]
    _metadata: ClassVar[list[str]] = FIELDS
    best_single: Mapping[str, str] = {}  # the arm that ``best_single`` is, for each task
    failed: Mapping[str, str] = {}  # why arms could not be trained
    left_out: Sequence[str] = ()  # modalities that the simple models cannot read
    n_resamples: int = 0  # bootstrap resamples behind the intervals
    n_training: int = 0  # patients that all were trained on
    seen: Mapping[str, Sequence[str]] = {}  # the modalities that each task may see


class CoverageFrame(TypedFrame):
    """Coverage of conformal prediction sets."""

    _metadata: ClassVar[list[str]] = ["source", "n_members"]
    source: str = ""  # what they were calibrated on: ``cohort`` = patients of its own, else those held out in training
    n_members: int = 1  # networks of the ensemble


class DriftFrame(TypedFrame):
    """Comparisons of new patients with those trained on."""

    _metadata: ClassVar[list[str]] = ["n_patients", "n_reference", "predicted"]
    n_patients: int = 0  # new patients
    n_reference: int = 0  # patients trained on
    predicted: str = ""  # whose predictions the reference holds
