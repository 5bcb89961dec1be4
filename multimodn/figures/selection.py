"""The rows of a frame that a figure shows: of a task and output, of a patient.

A `multimodn.findings.frames.DescribedFrame` says more about itself: link scales, modalities, hidden modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from multimodn.errors import DataError, StudyError, did_you_mean
from multimodn.figures.wording import shorten
from multimodn.findings.frames import DescribedFrame
from multimodn.findings.names import lower_class, output_words, survival_time

MOST_NAMES = 10_000  # among which a nearest one is looked for


@dataclass(frozen=True)
class OutputRows:
    """The rows of a frame that belong to one task and output."""

    rows: pd.DataFrame
    task: str
    output: str
    scale: str  # ``log-odds``, ``units``, ``log-risk``, or empty where the frame does not say
    modalities: list[str]  # all that the task can see

    @property
    def quantity(self) -> str:
        """What is predicted, such as ``death``, ``grade = g2`` or ``stage above i``."""
        if self.output == self.task:
            return self.task
        lower = lower_class(self.output)
        return f"{self.task} = {self.output}" if lower is None else f"{self.task} above {lower}"

    def named(self, longest: int) -> str:
        """Cuts `quantity` to ``longest`` letters, of which the output keeps two thirds."""
        if self.output == self.task or len(self.quantity) <= longest:
            return shorten(self.quantity, longest)
        lower = lower_class(self.output)
        between, output = (" = ", self.output) if lower is None else (" above ", lower)
        output = shorten(output, max(2 * longest // 3, longest - len(self.task)) - len(between))
        return f"{shorten(self.task, max(longest - len(output) - len(between), 4))}{between}{output}"

    def axis(self, longest: int = 36) -> str:
        """Words for the axis of the link scale."""
        if self.scale == "units":
            return f"{self.named(longest)}, in its units"
        return f"{self.scale or 'link scale'} of {self.named(longest)}"


def require_columns(frame: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raises a `DataError` if a frame lacks columns or has no rows."""
    lacking = [name for name in columns if name not in frame]
    if lacking:
        raise DataError(
            f"Cannot draw {what}: the frame has no column {', '.join(map(repr, lacking))}; it has "
            f"{', '.join(map(repr, frame.columns)) or 'none'}. Draw the frame as it was returned, with all its columns."
        )
    if not len(frame):
        raise DataError(f"Nothing to draw: {what} has no rows. Ask for patients who have at least one modality.")


def chances_of_events(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Turns chances of no event (outputs ``survival@t``) in some columns into chances of the event.

    The ends of an interval, ``low`` and ``high``, are exchanged.
    """
    is_survival = frame["output"].map(lambda output: survival_time(output) is not None).astype(bool)
    turned = {"low": "high", "high": "low"}
    return frame.assign(**{name: frame[name].mask(is_survival, 1 - frame[turned.get(name, name)]) for name in names})


def in_words(frame: pd.DataFrame) -> pd.DataFrame:
    """Names the outputs of a frame of `chances_of_events` by what their numbers are."""
    return frame.assign(output=frame["output"].map(output_words))


def select_output(frame: pd.DataFrame, task: str | None, output: str | None = None) -> OutputRows:
    """Returns the rows of a task and output; default: the first task, and of its outputs the first.

    Of the outputs of an ordinal task (``>low``, ``>middle``, ``>high``) the default is the middle one.
    """
    task = pick_name(frame["task"], task, "task")
    rows = frame[frame["task"].astype(str) == task]
    names = [str(name) for name in rows["output"].unique()]
    if output is None:
        output = names[len(names) // 2] if all(lower_class(name) is not None for name in names) else names[0]
    output = pick_name(rows["output"], output, f"output of task '{task}'")
    rows = rows[rows["output"].astype(str) == output]
    scale = DescribedFrame.of(frame).link_scales.get(task, "")
    return OutputRows(rows, task, output, scale, visible_modalities(frame, task))


def visible_modalities(frame: pd.DataFrame, task: str) -> list[str]:
    """Returns all modalities that a task can see, as far as the frame knows them."""
    about = DescribedFrame.of(frame)
    present = frame.loc[frame["task"].astype(str) == task, "modality"].unique()
    every = dict.fromkeys([*about.modalities, *map(str, present)])
    return [name for name in every if name not in about.hidden.get(task, ()) and name]


def pick_name(column: pd.Series[Any], wanted: str | None, what: str) -> str:
    """Returns ``wanted``, which must be a value of the column, or the first value of it."""
    valid = [str(name) for name in column.unique()]
    if wanted is None:
        return valid[0]
    if str(wanted) not in valid:
        raise StudyError(f"Unknown {what}: '{wanted}'.{did_you_mean(str(wanted), valid)}")
    return str(wanted)


def rows_of_patient(frame: pd.DataFrame, patient: object) -> pd.DataFrame:
    """Returns the rows of a patient, who must have some."""
    rows = frame[frame.index == patient]
    if not len(rows):
        rows = frame[frame.index.astype(str) == str(patient)]
    if not len(rows):
        nearest = did_you_mean(str(patient), map(str, frame.index.unique()[:MOST_NAMES]))
        raise DataError(
            f"Patient '{patient}' has no rows here: unknown, or without any modality that counts here.{nearest}"
        )
    return rows


def only_patient(frame: pd.DataFrame, patient: object | None, what: str) -> tuple[str, pd.DataFrame]:
    """Returns the name and the rows of ``patient``, or of the only patient there is."""
    if patient is None:
        patients = frame.index.unique()
        if len(patients) > 1:
            raise StudyError(
                f"{what} shows one patient, the frame holds {len(patients)}: name one, patient='{patients[0]}'."
            )
        return str(patients[0]), frame
    return str(patient), rows_of_patient(frame, patient)
