"""What every figure of explanations needs: the rows that are asked for, names that fit, numbers that read well.

A `multimodn.findings.frames.DescribedFrame` says more about itself: link scales, modalities, hidden modalities.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from multimodn.errors import DataError, StudyError, did_you_mean
from multimodn.figures.theme import Theme
from multimodn.findings.frames import DescribedFrame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

WIDTH = 7.0  # inches: a column of a page
MOST_ROWS = 20
LONGEST = 26
MOST_NAMES = 10_000  # among which a nearest one is looked for


@dataclass(frozen=True)
class Chosen:
    """The rows of a frame that belong to one task and output.

    Attributes:
        rows: They.
        task: The task's name.
        output: The output's name.
        scale: ``log-odds``, ``units``, ``log-risk``, or empty where the frame does not say.
        modalities: All modalities that the task can see.
    """

    rows: pd.DataFrame
    task: str
    output: str
    scale: str
    modalities: list[str]

    @property
    def quantity(self) -> str:
        """What is predicted, such as ``death``, ``grade = g2`` or ``stage above i``."""
        if self.output == self.task:
            return self.task
        is_ordinal = self.output.startswith(">")
        return f"{self.task} above {self.output[1:]}" if is_ordinal else f"{self.task} = {self.output}"

    def named(self, longest: int) -> str:
        """Cuts `quantity` to ``longest`` letters, of which the output keeps two thirds."""
        if self.output == self.task or len(self.quantity) <= longest:
            return shorten(self.quantity, longest)
        between = " above " if self.output.startswith(">") else " = "
        output = shorten(self.output.removeprefix(">"), max(2 * longest // 3, longest - len(self.task)) - len(between))
        return f"{shorten(self.task, max(longest - len(output) - len(between), 4))}{between}{output}"

    def title(self, longest: int) -> str:
        """Writes `quantity` on two lines where it is longer than ``longest``."""
        if len(self.quantity) <= longest or self.output == self.task:
            return shorten(self.quantity, longest)
        return f"{shorten(self.task, longest)}\n{shorten(self.output, longest)}"

    def axis(self, longest: int = 36) -> str:
        """Words for the axis of the link scale."""
        if self.scale == "units":
            return f"{self.named(longest)}, in its units"
        return f"{self.scale or 'link scale'} of {self.named(longest)}"


def check(frame: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Refuses a frame that cannot be drawn.

    Raises:
        DataError: If it lacks columns or has no rows.
    """
    lacking = [name for name in columns if name not in frame]
    if lacking:
        raise DataError(
            f"Cannot draw {what}: the frame has no column {', '.join(map(repr, lacking))}; it has "
            f"{', '.join(map(repr, frame.columns)) or 'none'}. Draw the frame as it was returned, with all its columns."
        )
    if not len(frame):
        raise DataError(f"Nothing to draw: {what} has no rows. Ask for patients who have at least one modality.")


def choose(frame: pd.DataFrame, task: str | None, output: str | None = None) -> Chosen:
    """Returns the rows of a task and output; default: the first task, and of its outputs the first.

    Of the outputs of an ordinal task (``>low``, ``>middle``, ``>high``) the default is the middle one.

    Raises:
        StudyError: If there is no such task or output; the message names the nearest.
    """
    task = pick(frame["task"], task, "task")
    rows = frame[frame["task"].astype(str) == task]
    names = [str(name) for name in rows["output"].unique()]
    if output is None:
        output = names[len(names) // 2] if all(name.startswith(">") for name in names) else names[0]
    output = pick(rows["output"], output, f"output of task '{task}'")
    rows = rows[rows["output"].astype(str) == output]
    return Chosen(rows, task, output, DescribedFrame.of(frame).link_scales.get(task, ""), visible(frame, task))


def visible(frame: pd.DataFrame, task: str) -> list[str]:
    """Returns all modalities that a task can see, as far as the frame knows them."""
    described = DescribedFrame.of(frame)
    hidden = described.hidden.get(task, ())
    found = [str(name) for name in frame.loc[frame["task"].astype(str) == task, "modality"].unique()]
    every = dict.fromkeys([*described.modalities, *found])
    return [name for name in every if name not in hidden and name]


def pick(column: pd.Series[Any], wanted: str | None, what: str) -> str:
    """Returns ``wanted``, or the first value of the column.

    Raises:
        StudyError: If ``wanted`` is not among its values; the message names the nearest.
    """
    valid = [str(name) for name in column.unique()]
    if wanted is None:
        return valid[0]
    if str(wanted) not in valid:
        raise StudyError(f"Unknown {what}: '{wanted}'.{did_you_mean(str(wanted), valid)}")
    return str(wanted)


def of_patient(frame: pd.DataFrame, patient: object) -> pd.DataFrame:
    """Returns the rows of a patient.

    Raises:
        DataError: If there are none.
    """
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
    """Returns the name and the rows of ``patient``, or of the only patient there is.

    Raises:
        StudyError: If the frame holds several patients and none is named.
        DataError: If the patient has no rows.
    """
    if patient is None:
        patients = frame.index.unique()
        if len(patients) > 1:
            raise StudyError(
                f"{what} shows one patient, the frame holds {len(patients)}: name one, patient='{patients[0]}'."
            )
        return str(patients[0]), frame
    return str(patient), of_patient(frame, patient)


def shorten(name: object, longest: int = LONGEST) -> str:
    """Cuts a name to ``longest`` letters; its end stays, as names often differ there."""
    text = " ".join(str(name).split())
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 1].rstrip()}…{text[-tail:].lstrip()}"


def digits_for(values: Floats, most: int = 4) -> int:
    """Returns how many decimals tell the largest of ``values``: two digits below 1, three above, none from 100 on."""
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    if not np.isfinite(largest) or largest == 0:
        return 2
    return int(np.clip((2 if largest >= 1 else 1) - np.floor(np.log10(largest)), 0, most))


def expit(value: Any) -> Any:
    """Turns log-odds into probabilities."""
    return 0.5 * (1 + np.tanh(np.asarray(value, dtype=np.float64) / 2))


def spanned(sizes: pd.Series[Any]) -> str:
    """Writes the smallest and the largest of some counts, ``46 to 92``, or the one that there is."""
    known = sizes.dropna()
    low, high = (int(known.min()), int(known.max())) if len(known) else (0, 0)
    return f"{low:,} to {high:,}" if low < high else f"{high:,}"


def slug(*parts: object) -> str:
    """Joins names to a stem of lower case letters, digits and hyphens; different names give different stems."""
    raw = "-".join(str(part) for part in parts if part not in (None, ""))
    plain = re.sub(r"[^a-z0-9]+", "-", raw.lower()).strip("-")[:60].strip("-")
    return plain if plain == raw else f"{plain}-{zlib.crc32(raw.encode()) & 0xFFFF:04x}"


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Makes an empty figure whose parts make room for their labels."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.06, wspace=0.03))


def calm(axes: Axes, theme: Theme, grid: str = "x") -> None:
    """Takes frame and tick marks away, and draws a thin grid along an axis (``x``, ``y``, or empty for none)."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    if grid == "x":
        axes.xaxis.grid(visible=True)
    elif grid == "y":
        axes.yaxis.grid(visible=True)
    axes.xaxis.label.set_fontsize(8.5)
    axes.yaxis.label.set_fontsize(8.5)
    axes.tick_params(axis="x", labelsize=8.5, labelcolor=theme.faint)


def name_rows(axes: Axes, names: Sequence[str], longest: int = LONGEST) -> None:
    """Writes names beside rows 0, 1, ..., the first on top."""
    axes.set_yticks(np.arange(len(names)), [shorten(name, longest) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)


def limits(values: Floats, left: float = 0.06, right: float = 0.06, least: float = 0.0) -> tuple[float, float]:
    """Returns ends of an axis that hold all known ``values``; margins are shares of their span, at least ``least``."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    span = max(high - low, least, 1e-6 * max(abs(low), abs(high), 1e-6))
    if high - low < span:
        low = 0.0 if low == 0 else (low + high - span) / 2  # sizes start at 0
        high = low + span
    return low - left * span, high + right * span


def apart(values: Floats, gap: float) -> Floats:
    """Moves labels as little as is needed (least squares) so that neighbours are ``gap`` apart."""
    from sklearn.isotonic import isotonic_regression

    order = np.argsort(values, kind="stable")
    steps = gap * np.arange(len(values))
    placed = np.empty_like(values)
    placed[order] = isotonic_regression(values[order] - steps) + steps
    return placed
