"""Time to an event, with censoring: a hazard for each interval of time.

Source: Gensheimer and Narasimhan (2019), "A scalable discrete-time survival model for neural networks", PeerJ
7:e6257.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field, model_serializer, model_validator
from torch import Tensor
from torch.nn import functional as F

from multimodn import base
from multimodn.base.encoder import JSON
from multimodn.errors import DataError
from multimodn.metrics.survival import harrell, integrated_brier, uno
from multimodn.tasks._horizons import horizon, named
from multimodn.tasks._labels import Label
from multimodn.tasks._outputs import PriorTask
from multimodn.tasks._spelling import date_notes, tidy_labels, tidy_numbers
from multimodn.tasks._survival import Events, find_events, lacking_times, read_survival, read_times, time_edges


class SurvivalOptions(base.Options):
    """Options of a survival task.

    Attributes:
        time: Column of the time to the event, or to the end of the observation; or several columns, of which the first
            that is filled counts, such as ``[days_to_death, days_to_last_followup]``.
        event: Column that says whether the event happened at that time, or the observation ended (censored).
        event_positive: Value of ``event`` that means it happened, or several; may be left out where the values are
            0/1, true/false, yes/no or on/off.
        censored: Values of ``event`` that mean that it was not observed, such as a competing event; default: the other
            one of two.
        n_intervals: Largest number of intervals of time; there are fewer where event times are tied.
        unit: The unit of ``time``: ``days``, ``weeks``, ``months`` or ``years``.
        horizons: Times at which survival is predicted and shown, such as ``[1y, 3y]`` or, in the unit of ``time``,
            ``[365, 1095]``; default: the ends of the intervals.
    """

    time: str | Annotated[tuple[str, ...], Field(min_length=1)]
    event: str
    event_positive: Label | tuple[Label, ...] | None = None
    censored: tuple[Label, ...] = ()
    n_intervals: Annotated[int, Field(ge=1)] = 12
    unit: Literal["days", "weeks", "months", "years"] | None = None
    horizons: tuple[float | str, ...] = ()

    @model_validator(mode="after")
    def _horizons_have_times(self) -> Self:
        times = [horizon(written, self.unit)[1] for written in self.horizons]
        if len(set(times)) < len(times):
            raise ValueError("`horizons` names a time twice.")
        return self

    @model_serializer(mode="wrap")
    def _dump(self, handler: Any) -> dict[str, Any]:
        unwritten = {"censored": (), "unit": None, "horizons": ()}
        return {name: value for name, value in handler(self).items() if name not in unwritten or value}

    @property
    def times(self) -> list[str]:
        """The columns of the time."""
        return [self.time] if isinstance(self.time, str) else list(self.time)

    @property
    def positive(self) -> list[Label]:
        """The values of the event."""
        if self.event_positive is None:
            return []
        return list(self.event_positive) if isinstance(self.event_positive, tuple) else [self.event_positive]


class SurvivalTask(PriorTask):
    """Predicts a survival curve and a risk.

    The hazard h_j is the chance that the event happens in interval j, after edge j - 1 and up to and
    including edge j, if it did not before. The edges are quantiles of the event times of the training rows,
    the last one is the latest of them. Raw outputs are a score r_0 and r_1 .. r_J with logit h_j = r_0 + r_j:
    all intervals teach the score (proportional odds of the hazard), else the last intervals, which few
    patients reach, would lead the risk; r_j lets the state act on an interval alone.

    The loss is the negative log-likelihood of the intervals that were seen. An event counts with its own
    interval and all before it; a censored patient has survived the intervals whose middle was reached; an
    event after the last edge means that all were survived. The link scale is the log-risk, the logarithm of
    the cumulative hazard at the last edge, log sum_j -log(1 - h_j). Without any modality the prediction is
    the life table of the training rows, each interval with one pseudo-patient at the mean hazard.

    Args:
        name: Name of the task.
        time: Column of the time, or several: the first that is filled counts.
        event: Column of the event.
        classes: Texts of the censored and of the event class.
        edges: Ends of the intervals, in the units of ``time``.
        prior: The raw outputs that predict the training rows.
        others: Further texts of the event column, each with the class that it counts as, 0 or 1.
        unit: The unit of ``time``.
        horizons: Positions in ``edges`` at which survival is predicted, by their names; empty: at every edge.
    """

    Options: ClassVar[type[base.Options]] = SurvivalOptions
    link_scale = "log-risk"
    n_strata = 4
    scores: ClassVar = {  # the last two up to the last edge, weighted by the censoring times of the same rows
        "cindex": harrell,
        "uno_cindex": uno,
        "integrated_brier": integrated_brier,
    }
    edges: Tensor
    middles: Tensor

    def __init__(
        self, name: str, time: str | list[str], event: str, classes: list[str], edges: list[float], prior: list[float],
        others: dict[str, int] | None = None, unit: str | None = None, horizons: dict[str, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name, prior, link_names=[name])
        self.time, self.event, self.classes = time, event, classes
        self.events, self.unit, self.horizons = Events(classes, others or {}), unit, horizons or {}
        ends = torch.tensor(edges, dtype=torch.float32)
        self.register_buffer("edges", ends, persistent=False)
        self.register_buffer("middles", (ends + F.pad(ends[:-1], (1, 0))) / 2, persistent=False)

    @staticmethod
    def target_columns(options: Any) -> list[str]:
        """Returns the columns of the targets table that the task reads."""
        return [*options.times, options.event]

    @staticmethod
    def tidied(frame: pd.DataFrame, options: Any) -> tuple[pd.DataFrame, list[str]]:
        """Writes events in one spelling; see the base class."""
        frame, notes = tidy_labels(frame, options.event, are_answers=True)
        for column in options.times:
            frame, found = tidy_numbers(frame, column)
            notes += [*found, *date_notes(frame, column)]
        try:
            events = find_events("", frame, options.event, options.positive, options.censored)
            events.codes("", frame, options.event), read_times("", frame, options.times)
        except DataError:  # training says the same, and of which task
            return frame, notes
        return frame, [*notes, *lacking_times(frame, options.times, options.event, events)]

    @classmethod
    def fit(cls, name: str, frame: pd.DataFrame, options: Any) -> Self:
        """Learns the intervals and their hazards from training rows; see the base class."""
        events = find_events(name, frame, options.event, options.positive, options.censored)
        times, happened_at = read_survival(name, frame, options.times, options.event, events)
        known, columns = ~np.isnan(times), " or ".join(options.times)
        horizons = dict(horizon(written, options.unit) for written in options.horizons)
        longest = float(times[known].max(initial=0))
        far = [label for label, time in horizons.items() if time > longest]
        if far:
            raise DataError(
                f"Task '{name}': nobody in the training rows was followed up to {', '.join(far)}: the longest time in "
                f"column '{columns}' is {named(longest, options.unit)}. Choose earlier `horizons`."
            )
        edges = time_edges(name, columns, times[known & happened_at], options.n_intervals, list(horizons.values()))
        places = {
            label: edges.index(float(np.float32(time))) for label, time in sorted(horizons.items(), key=itemgetter(1))
        }
        time = options.time if isinstance(options.time, str) else list(options.time)
        prior = [0.0] * (len(edges) + 1)
        task = cls(name, time, options.event, events.classes, edges, prior, events.others, options.unit, places)
        happened, survived = task._seen(task._target(times[known], happened_at[known]))
        task.prior_outputs[1:].copy_(_life_table(happened.sum(0).double(), survived.sum(0).double()))
        return task

    @staticmethod
    def _target(times: NDArray[np.float64], events: NDArray[np.bool_]) -> Tensor:
        return torch.from_numpy(np.stack([np.nan_to_num(times), events], axis=1)).to(torch.float32)

    def prepare(self, frame: pd.DataFrame) -> tuple[Tensor, Tensor]:
        """Parses times and events to ``(n, 2)``: time, and 1 = event, 0 = censored; see the base class."""
        columns = [self.time] if isinstance(self.time, str) else self.time
        times, happened = read_survival(self.name, frame, columns, self.event, self.events)
        return self._target(times, happened), torch.from_numpy(~np.isnan(times))

    def _seen(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Returns for each interval whether the event happened, and whether it was survived, ``(..., J)``."""
        time, event = target[..., :1], target[..., 1:] > 0
        after_end = time > self.edges
        after_start = F.pad(after_end[..., :-1], (1, 0), value=True)
        return event & after_start & ~after_end, torch.where(event, after_end, time >= self.middles)

    def _hazard_logits(self, outputs: Tensor) -> Tensor:
        return self.checked(outputs)[..., :1] + outputs[..., 1:]

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Returns the negative log-likelihood of each row; see the base class."""
        logits, (happened, survived) = self._hazard_logits(outputs), self._seen(target)
        loss = happened * F.logsigmoid(logits) + survived * F.logsigmoid(-logits)
        return -loss.sum(-1)

    def link(self, outputs: Tensor) -> Tensor:
        """Returns the log-risk ``(..., 1)``."""
        low = -15.0  # below it log(softplus(x)) = x to single precision, and softplus would end at 0
        logits = self._hazard_logits(outputs)
        log_hazard = torch.where(logits < low, logits, F.softplus(logits.clamp(min=low)).log())
        return log_hazard.logsumexp(-1, keepdim=True)

    def link_target(self, target: Tensor) -> Tensor:
        """Returns time and event, ``(n, 2)``."""
        return target

    def strata(self, target: Tensor) -> Tensor:
        """Returns 0 censored late, 1 censored early, 2 event late, 3 event early (up to the middle edge)."""
        early = target[:, 0] <= self.edges[(len(self.edges) - 1) // 2]
        return 2 * (target[:, 1] > 0).long() + early.long()

    @property
    def n_evidence(self) -> int:
        """Evidence of experts moves the score that all intervals share alone."""
        return 1

    @property
    def stratum_names(self) -> list[str]:
        """Names what `strata` tells apart."""
        return ["censored late", "censored early", "event late", "event early"]

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        """Returns ``risk``, the log-risk, and ``survival@t``, the chance of no event up to each horizon or edge t."""
        survival = self.survival(outputs)
        curve = {f"survival@{name}": survival[..., j] for name, j in self._curve.items()}
        return {"risk": self.link(outputs)[..., 0]} | curve

    def survival(self, outputs: Tensor) -> Tensor:
        """Returns the chance of no event up to each of `edges`, ``(..., J)``."""
        return F.logsigmoid(-self._hazard_logits(outputs)).cumsum(-1).exp()

    @property
    def curve_times(self) -> Tensor:
        """The times at which `predict` gives survival, in the unit of the column."""
        return self.edges[list(self._curve.values())]

    @property
    def _curve(self) -> dict[str, int]:
        """The positions in `edges` of the times at which survival is predicted, by their names."""
        if self.horizons:
            return self.horizons
        edges = self.edges.tolist()
        short = [named(edge, self.unit) for edge in edges]
        return {name: j for j, name in enumerate(short if len(set(short)) == len(short) else map(str, edges))}

    def config(self) -> dict[str, JSON]:
        """Returns the arguments of the class."""
        fitted = {"classes": self.classes, "edges": self.edges.tolist(), "prior": self.prior().tolist()}
        asked = {"others": self.events.others, "unit": self.unit, "horizons": self.horizons}
        given = {name: value for name, value in asked.items() if value}
        return {"name": self.name, "time": self.time, "event": self.event} | fitted | given


def _life_table(happened: Tensor, survived: Tensor) -> Tensor:
    mean = (happened.sum() + 0.5) / ((happened + survived).sum() + 1)
    return torch.log(happened + mean) - torch.log(survived + 1 - mean)
