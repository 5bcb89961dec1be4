"""Predictions step by step: of a cohort with single patients in it, or of one patient with all outputs of a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multimodn.errors import DataError, StudyError
from multimodn.figures.axes import Floats, axis_limits, label_point, new_figure, spread_labels, style_axes
from multimodn.figures.forest import MARKERS
from multimodn.figures.picture import Picture
from multimodn.figures.selection import (
    OutputRows,
    chances_of_events,
    in_words,
    only_patient,
    pick_name,
    require_columns,
    rows_of_patient,
    select_output,
)
from multimodn.figures.theme import Theme
from multimodn.figures.wording import shorten, slug
from multimodn.findings.names import event_words, main_survival, survival_time
from multimodn.findings.numbers import counted, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("task", "output", "step", "modality", "value")
MOST_LINES = 150
MOST_PATIENTS = 4
MOST_OUTPUTS = 8
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NO_SHARES = {  # outputs that are no probabilities, by link scale
    "log-odds": {"expected"},
    "log-risk": {"risk"},
    "units": {"mean", "sd"},
    "": {"expected", "risk", "mean", "sd"},
}
MOST_COUNTS = 20
FEWEST = 10  # patients who take a step, for quantiles
UNTIL = "chance of the event "  # left out in a label of a line, "by 3 years"
LETTERS = 84  # that stand under the steps, side by side
LEAST_SPAN = 0.1  # of an axis of probabilities: steps that hardly matter shall not look large


@dataclass(frozen=True)
class StepLine:
    """A patient's values of one output by step, and the names of the steps, which are those of modalities."""

    name: str
    values: Floats
    ticks: list[str]

    @classmethod
    def of(cls, name: str, rows: pd.DataFrame) -> StepLine:
        """Sorts the rows of one patient and output by step."""
        rows = rows.sort_values("step", kind="stable")
        ticks = ["prior", *(shorten(modality, 20) for modality in rows["modality"].iloc[1:])]
        return cls(name, rows["value"].to_numpy(dtype=np.float64), ticks)


@dataclass(frozen=True)
class _Fan:
    chosen: OutputRows
    wide: Floats
    drawn: Floats
    lines: list[StepLine]
    is_share: bool


def trajectory_fan(
    trajectory: pd.DataFrame,
    task: str | None = None,
    output: str | None = None,
    *,
    patients: Sequence[object] = (),
    seed: int = 0,
) -> Picture:
    """Draws how the predictions of a cohort change step by step, and a panel for each of up to four ``patients``.

    ``seed``: of which 150 lines are drawn where there are more patients. Default: the first task, and of its outputs
    the probability, the expected class, or the chance of the event by a middle time.
    """
    require_columns(trajectory, COLUMNS, "a trajectory")
    trajectory = chances_of_events(trajectory, ["value"])
    if len(patients) > MOST_PATIENTS:
        raise StudyError(f"{len(patients)} patients are named to be drawn by themselves; at most {MOST_PATIENTS} fit.")
    task = pick_name(trajectory["task"], task, "task")
    chosen = select_output(trajectory, task, output or _default_output(_outputs_of(trajectory, task)))
    wide = chosen.rows.set_index("step", append=True)["value"].astype(float).unstack().sort_index(axis=1)
    values = wide.to_numpy(dtype=np.float64)
    if not np.isfinite(values).any():
        raise DataError(f"Nothing to draw: the trajectory of '{chosen.task}', '{chosen.output}', has no values.")
    rng = np.random.default_rng(seed)
    drawn = values if len(values) <= MOST_LINES else rng.choice(values, MOST_LINES, replace=False)
    lines = [StepLine.of(str(patient), rows_of_patient(chosen.rows, patient)) for patient in patients]
    fan = _Fan(chosen, values, drawn, lines, _is_probability(chosen))
    table = pd.DataFrame(_quantiles(values).T, columns=[f"{q:g}" for q in QUANTILES])
    table = table.assign(step=wide.columns, n=np.isfinite(values).sum(0))
    median = table["0.5"].dropna()
    first, last = (percent(q) if fan.is_share else f"{q:.3g}" for q in (median.iloc[0], median.iloc[-1]))
    return Picture(
        slug("trajectory", chosen.task, chosen.output, *patients),
        f"{shorten(_output_words(chosen), 60)}, step by step",
        _fan_caption(fan),
        f"{_output_words(chosen)} of {counted(len(values), 'patient')}: median {first} before any modality, {last} "
        "after the last step.",
        lambda theme: _draw_fan(fan, theme),
        table,
    )


def _outputs_of(frame: pd.DataFrame, task: str) -> list[str]:
    return [str(name) for name in frame.loc[frame["task"].astype(str) == task, "output"].unique()]


def _default_output(names: Sequence[str]) -> str:
    wanted = ("probability", "expected", main_survival(names))  # in this order of preference
    return next((name for name in wanted if name is not None and name in names), names[0])


def _is_probability(chosen: OutputRows) -> bool:
    values = chosen.rows["value"].dropna()
    return chosen.output not in NO_SHARES.get(chosen.scale, set()) and bool(values.between(0, 1).all())


def _output_words(chosen: OutputRows) -> str:
    """Writes what an output of `Task.predict` is."""
    if survival_time(chosen.output) is not None:
        return f"{chosen.task}: {event_words(chosen.output)}"
    words = {
        "probability": f"probability of {chosen.task}",
        "expected": f"expected position of {chosen.task} (0 = lowest class)",
        "risk": f"log-risk of {chosen.task}",
        "mean": f"{chosen.task} (in its units)",
        "sd": f"standard deviation of {chosen.task}",
    }
    return words.get(chosen.output, f"probability of {chosen.task} = {chosen.output}")


def _value_words(line: StepLine, step: int, is_share: bool) -> str:
    """Writes the value at a step."""
    return percent(float(line.values[step])) if is_share else f"{line.values[step]:.3g}"


def _quantiles(values: Floats) -> Floats:
    """Returns quantiles by step, ``(5, steps)``; NaN at a step that too few take."""
    quantiles = np.full((len(QUANTILES), values.shape[1]), np.nan)
    n = np.isfinite(values).sum(axis=0)
    taken = n >= min(FEWEST, n.max())
    quantiles[:, taken] = np.nanquantile(values[:, taken], QUANTILES, axis=0)
    return quantiles


def _draw_fan(fan: _Fan, theme: Theme) -> Figure:
    n_panels = max(len(fan.lines), 1)
    longest = max((len(tick) for line in fan.lines for tick in line.ticks), default=0)
    figure = new_figure(0.4 + n_panels * (2.7 + 0.045 * longest))
    every = figure.subplots(n_panels, 1, squeeze=False, sharey=True)[:, 0]
    for k, axes in enumerate(every):
        line = fan.lines[k] if fan.lines else None
        _background(axes, fan, theme)
        axes.set_ylim(_axis_ends(np.concatenate([fan.drawn.ravel(), *(one.values for one in fan.lines)]), fan.is_share))
        if line is not None:
            _highlight(axes, line, fan.is_share, theme)
        _steps_axis(axes, fan.wide, line, theme, is_first=k == 0)
        axes.set_ylabel(shorten(_output_words(fan.chosen), 36))
        if fan.is_share:
            axes.yaxis.set_major_formatter("{x:.0%}" if np.ptp(axes.get_ylim()) > 0.09 else "{x:.1%}")
    return figure


def _background(axes: Axes, fan: _Fan, theme: Theme) -> None:
    """Draws thin lines of patients, bands of half and nine tenths of them, and their median."""
    style_axes(axes, theme, grid="y")
    steps = np.arange(fan.wide.shape[1])
    axes.plot(steps, fan.drawn.T, color=theme.low, lw=0.5, alpha=0.16, zorder=1)
    bands = _quantiles(fan.wide)
    axes.fill_between(steps, bands[0], bands[-1], color=theme.low, alpha=0.13, lw=0, zorder=2)
    axes.fill_between(steps, bands[1], bands[-2], color=theme.low, alpha=0.22, lw=0, zorder=2)
    axes.plot(steps, bands[2], color=theme.low, lw=1.8, zorder=3)
    if len(fan.wide) > 1:
        last = int(np.flatnonzero(np.isfinite(bands[2]))[-1])
        label_point(axes, "median", (last, bands[2][last]), color=theme.low)


def _highlight(axes: Axes, line: StepLine, is_share: bool, theme: Theme) -> None:
    steps = np.arange(len(line.values))
    axes.plot(steps, line.values, "-", color=theme.high, lw=2.0, zorder=5)
    axes.plot(steps, line.values, "o", ms=5, mew=1.3, mec=theme.high, mfc=theme.paper, zorder=6)
    low, high = axes.get_ylim()
    height = (line.values[-1] - low) / (high - low)
    is_up = height < 0.88 and (len(line.values) < 2 or line.values[-1] >= line.values[-2] or height < 0.2)
    text, end = f"{shorten(line.name, 18)}: {_value_words(line, -1, is_share)}", (steps[-1], line.values[-1])
    axes.annotate(
        text, end, (0, 9 if is_up else -9), textcoords="offset points", size=8.5, weight="bold", color=theme.ink,
        ha="right" if len(steps) > 2 else "left", va="bottom" if is_up else "top", zorder=7,
        bbox={"facecolor": theme.paper, "alpha": 0.7, "lw": 0, "pad": 0.8},
    )  # fmt: skip


def _steps_axis(axes: Axes, wide: Floats, line: StepLine | None, theme: Theme, *, is_first: bool) -> None:
    """Names the steps below, by the highlighted patient's modalities, and counts patients above."""
    n_steps = wide.shape[1]
    every = -(-n_steps // MOST_COUNTS)
    numbers = ["prior", *(str(k) if k % every == 0 else "" for k in range(1, n_steps))]
    _name_steps(axes, numbers if line is None else line.ticks, n_steps)
    axes.set_xlim(-0.25, max(n_steps - 1, 1) + (0.04 * n_steps + 0.35))
    axes.set_xlabel("" if line is not None else "number of modalities used")
    if is_first:
        top = axes.secondary_xaxis("top")
        top.set_xticks(np.arange(0, n_steps, every), [f"{n:,}" for n in np.isfinite(wide).sum(0)[::every]])
        top.spines["top"].set_visible(False)
        top.tick_params(length=0, labelsize=7.5, labelcolor=theme.faint)
        top.set_xlabel("number of patients", size=8)


def _name_steps(axes: Axes, labels: Sequence[str], n_steps: int) -> None:
    """Writes names under the first of ``n_steps`` steps, aslant where they are crowded."""
    sizes = list(map(len, labels))
    together = max((a + b for a, b in pairwise(sizes)), default=0) / 2 + 1
    is_crowded, is_full = together * n_steps > LETTERS, n_steps > 19
    axes.set_xticks(np.arange(len(labels)), labels, rotation=(90 if is_full else 40) if is_crowded else 0)
    for label in axes.get_xticklabels() if is_crowded else []:
        label.set(ha="right", va="center" if is_full else "top", rotation_mode="anchor", size=7 if is_full else 8.5)


def _axis_ends(values: Floats, is_share: bool) -> tuple[float, float]:
    """Returns the ends of the vertical axis."""
    low, high = axis_limits(values, 0.08, 0.16, LEAST_SPAN if is_share else 0.0)
    return (max(low, -0.02), min(high, 1.02)) if is_share else (low, high)


def _fan_caption(fan: _Fan) -> str:
    text = (
        f"n = {counted(len(fan.wide), 'patient')}; above the panel: those with as many modalities. Blue line: median; "
        f"bands hold the middle 50% and 90% of patients, where at least {FEWEST} are left; thin lines: "
    )
    text += f"{MOST_LINES} patients drawn at random." if len(fan.wide) > MOST_LINES else "patients."
    names = ", ".join(shorten(line.name) for line in fan.lines)
    return text + (f" Orange: {names}, with the modality of each step." if names else "")


def trajectory_lines(
    trajectory: pd.DataFrame, task: str | None = None, output: str | None = None, *, patient: object | None = None
) -> Picture:
    """Draws the predictions of one patient step by step, a line for each output of a task, such as its classes.

    Default: the only patient, the first task, and up to eight outputs that are probabilities.
    """
    require_columns(trajectory, COLUMNS, "a trajectory")
    trajectory = chances_of_events(trajectory, ["value"])
    name, rows = only_patient(trajectory, patient, "A trajectory")
    task = pick_name(rows["task"], task, "task")
    names = _outputs_of(rows, task)
    if output is None:
        probabilities = [one for one in names if _is_probability(select_output(rows, task, one))]
        names = (probabilities or names)[:MOST_OUTPUTS]
    else:
        names = [pick_name(pd.Series(names), output, f"output of task '{task}'")]
    chosen = [select_output(rows, task, one) for one in names]
    lines = [StepLine.of(one.output, one.rows) for one in chosen]
    is_share = _is_probability(chosen[0])
    ends = [[_value_words(line, step, is_share) for step in (0, -1)] for line in lines]
    moves = [f"{_output_words(one)} from {a} to {b}" for one, (a, b) in zip(chosen, ends, strict=True)]
    n_steps = len(lines[0].values) - 1
    return Picture(
        slug("trajectory", task, output, name),
        f"{shorten(task, 40)}: predictions of patient {shorten(name)}, step by step",
        f"n = 1 (patient {shorten(name, 40)}), {counted(n_steps, 'step')}: prediction without any modality (prior), "
        "and after each modality; no interval.",
        f"Patient {name}: {'; '.join(moves[:4])}.",
        lambda theme: _draw_lines(lines, chosen, is_share, theme),
        in_words(pd.concat([one.rows for one in chosen])),
    )


def _draw_lines(lines: Sequence[StepLine], chosen: Sequence[OutputRows], is_share: bool, theme: Theme) -> Figure:
    figure = new_figure(2.9 + 0.045 * max(map(len, lines[0].ticks)))
    axes = figure.add_subplot()
    style_axes(axes, theme, grid="y")
    steps = np.arange(len(lines[0].values))
    low, high = _axis_ends(np.concatenate([line.values for line in lines]), is_share)
    ends = spread_labels(np.nan_to_num([line.values[-1] for line in lines]), 0.07 * (high - low))
    for k, line in enumerate(lines):
        colour = theme.series[k % len(theme.series)]
        axes.plot(steps, line.values, "-", color=colour, lw=1.8)
        axes.plot(steps, line.values, MARKERS[k % len(MARKERS)], ms=5, mew=1.2, mec=colour, mfc=theme.paper)
        place = (steps[-1] + 0.035 * len(steps), ends[k])
        leader = ([steps[-1] + 0.012 * len(steps), place[0] - 0.004 * len(steps)], [line.values[-1], ends[k]])
        axes.plot(*leader, color=colour, lw=0.7, alpha=0.6, clip_on=False)
        words = line.name if survival_time(line.name) is None else event_words(line.name).removeprefix(UNTIL)
        name = "" if len(lines) == 1 else f"{shorten(words, 18)}: "
        text = f"{name}{_value_words(line, -1, is_share)}"
        axes.annotate(text, place, va="center", size=8.5, color=theme.ink, annotation_clip=False)
    axes.set_xlim(-0.25, max(len(steps) - 1, 1) + 0.02 * len(steps))
    axes.set_ylim(min(low, ends.min()), max(high, ends.max()))
    _name_steps(axes, lines[0].ticks, len(steps))
    axes.set_ylabel(shorten(_output_words(chosen[0]) if len(lines) == 1 else _together(chosen, is_share), 36))
    if is_share:
        axes.yaxis.set_major_formatter("{x:.0%}")
    return figure


def _together(chosen: Sequence[OutputRows], is_share: bool) -> str:
    if all(survival_time(one.output) is not None for one in chosen):
        return f"{chosen[0].task}: chance of the event"
    return f"probability, {chosen[0].task}" if is_share else chosen[0].task
