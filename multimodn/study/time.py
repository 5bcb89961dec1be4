"""When a prediction is made, and what of a modality is known by then."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_serializer, model_validator

from multimodn.study.yaml_file import Spec

UNITS = {"minutes": 1 / 1440, "hours": 1 / 24, "days": 1.0, "weeks": 7.0, "months": 30.4375, "years": 365.25}
"""Days in each unit of time."""

_SHORT = {"min": "minutes", "h": "hours", "hr": "hours", "d": "days", "w": "weeks", "wk": "weeks", "mo": "months"}
_SHORT |= {"y": "years", "yr": "years", "a": "years"}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*")

Unit = Literal["minutes", "hours", "days", "weeks", "months", "years"]


def days_of(duration: str) -> float:
    """Returns the days of a duration such as ``365d``, ``24h``, ``30min``, ``6mo`` or ``1 year``.

    Raises:
        ValueError: If it is none.
    """
    match = _DURATION.fullmatch(duration.lower())
    word = match.group(2) if match else ""
    unit = _SHORT.get(word) or _SHORT.get(word.removesuffix("s")) or (word if word in UNITS else word + "s")
    if match is None or unit not in UNITS:
        either = " m may be minutes (min) or months (mo)." if word == "m" else ""
        raise ValueError(
            f"'{duration}' is no duration;{either} Write a number with a unit, such as 30min, 24h, 365d, 6mo or 1y."
        )
    return float(match.group(1)) * UNITS[unit]


class IndexSpec(Spec):
    """Each patient's moment of prediction: what lies after it is not known, and reaches no prediction.

    Attributes:
        time: The column of moments: dates, with or without a clock, or numbers in ``unit``. A patient with several rows
            in a source of its own has several moments (landmarks): each is a row of the cohort, named ``patient@1``,
            ``patient@2``, ... in the order of time, and all of them are on one side of a split.
        source: The source that holds it; default: that of the first task.
        at: Instead of a column, one moment for all patients, such as 24 hours after the start from which times count.
        unit: The unit of times that are numbers, in all modalities; times of dates are in days.
    """

    time: str | None = None
    source: str | None = None
    at: float | None = Field(default=None, allow_inf_nan=False)
    unit: Unit = "days"

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return {"time": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _one_moment(self) -> Self:
        if (self.time is None) == (self.at is None):
            raise ValueError("give `time`, a column of moments, or `at`, one moment for all patients.")
        if self.at is not None and self.source is not None:
            raise ValueError("`source` holds the column `time`; with `at` there is none.")
        return self

    @model_serializer
    def _dump(self) -> dict[str, Any]:
        given = {name: value for name, value in self if value is not None and name != "unit"}
        return given if self.unit == "days" else {**given, "unit": self.unit}


class WindowSpec(Spec):
    """Which rows of a modality are used, by their time.

    Attributes:
        before: How long before the index they may lie, such as ``365d``; default: any time.
        after: How long after the index they may lie; more than 0 where predictions are made later than the index.
        time: The column of the rows' times; default: the one that the kind or ``repeats`` reads. It is no input unless
            ``columns`` names it.
        same_day: Rows of the day of the index without a clock, where the index has one, may lie after it: ``leave_out``
            or ``keep`` them.
    """

    before: str | None = None
    after: str = "0d"
    time: str | None = None
    same_day: Literal["leave_out", "keep"] = "leave_out"

    @field_validator("before", "after", mode="before")
    @classmethod
    def _durations(cls, duration: Any) -> Any:
        if isinstance(duration, int | float) and not isinstance(duration, bool):
            if duration == 0:
                return "0d"
            raise ValueError(f"{duration} has no unit; write for example {duration}d (days) or {duration}h (hours).")
        if isinstance(duration, str):
            days_of(duration)
        return duration

    @property
    def limits(self) -> tuple[float, float]:
        """The days from the index, negative = before, between which rows are used."""
        return (-float("inf") if self.before is None else -days_of(self.before)), days_of(self.after)

    @model_serializer
    def _dump(self) -> dict[str, Any]:
        default = {"before": None, "time": None, "same_day": "leave_out"}
        return {name: value for name, value in self if name not in default or value != default[name]}


def index_columns(spec: IndexSpec | None, first_source: str) -> Mapping[str, set[str]]:
    """Returns the columns of moments by their source."""
    return {} if spec is None or spec.time is None else {spec.source or first_source: {spec.time}}
