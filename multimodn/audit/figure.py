"""The picture of an audit: for each task who has what, by outcome, and the patterns in which modalities occur."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodn.audit.findings import Audit, TaskAudit, is_high
from multimodn.audit.independence import ALPHA, NEGLIGIBLE, Floats
from multimodn.audit.sentences import stratum_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_SHOWN = 12
"""Patterns that are drawn; the others are counted beside them."""

MOST_STRATA = 6  # that are drawn one by one; of more, the low and the high half
WIDTH, BARS, AROUND, HIGHEST = 11.5, 0.95, 1.2, 250.0  # inches: figure, pattern sizes, titles and axes, all tasks
TOP, BOTTOM = 0.75, 0.75  # inches: title and caption
MARKERS = "osD^vP"


@dataclass(frozen=True)
class Palette:
    """Colours; low and high outcomes are blue and orange, told apart by everyone, and by their markers too."""

    paper: str
    ink: str
    faint: str
    grid: str
    unlabelled: str
    low: tuple[str, str]
    high: tuple[str, str]

    def strata(self, n: int) -> list[Any]:
        """Colours of n strata: blues from strong to light, then oranges from light to strong."""
        from matplotlib.colors import LinearSegmentedColormap

        n_low = sum(not is_high(k, n) for k in range(n))
        blues = LinearSegmentedColormap.from_list("low", self.low)
        oranges = LinearSegmentedColormap.from_list("high", self.high[::-1])
        shade = [blues(k / max(1, n_low - 1)) for k in range(n_low)]
        n_high = n - n_low
        return shade + [oranges(1.0 if n_high == 1 else k / (n_high - 1)) for k in range(n_high)]


LIGHT = Palette("#ffffff", "#1b1f24", "#5b6570", "#e3e6ea", "#cfd4da", ("#0b5394", "#79b4e3"), ("#c2500a", "#f2a65e"))
DARK = Palette("#14171c", "#e9ecf0", "#a3adb8", "#2c323a", "#4a525c", ("#4aa3ec", "#a9d3f7"), ("#ff8c3a", "#ffc590"))


def draw(found: Audit, file: Path, palette: Palette = LIGHT) -> None:
    """Draws an audit into a PNG file, two panels for each task.

    Args:
        found: What to draw.
        file: Where; of any name.
        palette: `LIGHT` or `DARK`.

    Raises:
        OSError: If the file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    row = _row_height(found)
    height = AROUND + BARS + row * len(found.modalities)
    tasks = sorted(found.tasks, key=_calm)[: max(1, int(HIGHEST / height))]
    tasks = [task for task in found.tasks if task in tasks]  # in their own order
    total = TOP + height * len(tasks) + BOTTOM
    style: Any = {"text.color": palette.ink, "font.size": 9, "font.family": "DejaVu Sans"}
    style["text.parse_math"] = False  # a name may hold a dollar sign
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH, total), facecolor=palette.paper)
        figure.text(
            0.02, 1 - 0.28 / total, f"Who has what, by outcome: {found.study}", size=14, weight="bold", va="top"
        )
        for k, task in enumerate(tasks):
            _draw_task(figure, found, task, palette, total - TOP - k * height, total)
        figure.text(
            0.02, 0.12 / total, _caption(found, len(tasks)), size=8, color=palette.faint, va="bottom", linespacing=1.45
        )
        figure.savefig(file, format="png", dpi=130)


def _draw_task(figure: Any, found: Audit, task: TaskAudit, palette: Palette, upper: float, total: float) -> None:
    rows = _row_height(found) * len(found.modalities)
    base = upper - 0.5 - BARS - rows
    left = figure.add_axes((0.15, base / total, 0.33, rows / total))
    matrix = figure.add_axes((0.53, base / total, 0.44, rows / total))
    sizes = figure.add_axes((0.53, (base + rows + 0.04) / total, 0.44, (BARS - 0.12) / total))
    figure.text(0.02, upper / total, task.task, size=11.5, weight="bold", va="top")
    figure.text(0.02, (upper - 0.24) / total, _subtitle(task), color=palette.faint, va="top")
    names, colours, present, of = _strata(task, palette)
    for axes in (left, matrix, sizes):
        axes.set_facecolor(palette.paper)
        axes.tick_params(length=0, colors=palette.faint, labelsize=8)
        for spine in axes.spines.values():
            spine.set_visible(False)
    _draw_presence(left, task, palette, colours, present, of)
    _draw_patterns(matrix, sizes, found, task, palette)
    handles = [left.plot([], [], MARKERS[k % 6], color=colours[k], ms=6)[0] for k in range(len(names))]
    labels = [f"{name} (n = {n:,})" for name, n in zip(names, of, strict=True)]
    left.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=2,
        frameon=False,
        fontsize=8,
        title="outcome",
        title_fontsize=8,
        alignment="left",
        handletextpad=0.2,
        columnspacing=1.2,
        borderaxespad=0.3,
        labelcolor=palette.ink,
    )


def _row_height(found: Audit) -> float:
    """Inches for a modality: more strata, more room."""
    drawn = [len(task.strata) if len(task.strata) <= MOST_STRATA else 2 for task in found.tasks]
    return 0.16 + 0.045 * max(2, *drawn)


def _calm(task: TaskAudit) -> bool:
    return not any(found.alarm for found in task.modalities)


def _subtitle(task: TaskAudit) -> str:
    found = task.auroc
    if found.value is None:
        presence = f"presence alone: not estimated ({found.note})"
    elif found.note:
        presence = f"presence alone: AUROC .50 ({found.note})"
    else:
        presence = f"presence alone: AUROC {found.value:.2f}, 95% interval {found.low:.2f} to {found.high:.2f}"
    return f"{task.labelled:,} of {task.n:,} patients labelled; {presence}"


def _strata(task: TaskAudit, palette: Palette) -> tuple[list[str], list[Any], Floats, list[int]]:
    """Names, colours, labelled patients with each modality ``(strata, M)`` and in all, of the strata to be drawn."""
    n = len(task.strata)
    present = np.array([found.present for found in task.modalities], dtype=np.float64).T
    of = np.array(task.strata)
    if n > MOST_STRATA:
        high = np.array([is_high(k, n) for k in range(n)])
        halves = [~high, high]
        return (
            ["low half", "high half"],
            palette.strata(2),
            np.stack([present[half].sum(axis=0) for half in halves]),
            [int(of[half].sum()) for half in halves],
        )
    return [stratum_name(k, n) for k in range(n)], palette.strata(n), present, of.tolist()


def _draw_presence(
    axes: Axes, task: TaskAudit, palette: Palette, colours: list[Any], present: Floats, of: list[int]
) -> None:
    """A point for each modality and stratum at the share who have it, with its interval."""
    rows = np.arange(len(task.modalities))
    axes.hlines(rows, 0, 1, color=palette.grid, lw=0.8, zorder=0)
    spread = np.linspace(-0.24, 0.24, len(of)) if len(of) > 1 else [0.0]
    for k, n in enumerate(of):
        if n:
            share, lowest, highest = wilson(present[k], n)
            axes.hlines(rows + spread[k], lowest, highest, color=colours[k], lw=1.3, alpha=0.75)
            axes.plot(share, rows + spread[k], MARKERS[k % 6], color=colours[k], ms=4.5, mew=0, clip_on=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0%", "25%", "50%", "75%", "100%"])
    axes.set_yticks(rows, [f"{'▲ ' if found.alarm else ''}{_short(found.modality)}" for found in task.modalities])
    for label, found in zip(axes.get_yticklabels(), task.modalities, strict=True):
        label.set_color(palette.high[0] if found.alarm else palette.ink)
        label.set_fontweight("bold" if found.alarm else "normal")
    axes.set_xlabel("share of the labelled patients who have it", size=8, color=palette.faint)


def _draw_patterns(matrix: Axes, sizes: Axes, found: Audit, task: TaskAudit, palette: Palette) -> None:
    """A column for each pattern: its dots name the modalities, its bar says how many and with which outcome."""
    shown, others = task.patterns[:MOST_SHOWN], task.patterns[MOST_SHOWN:]
    has = np.array([[name in pattern.modalities for name in found.modalities] for pattern in shown])
    bars, columns = np.array([_halves(pattern.strata, pattern.n) for pattern in shown]), np.arange(len(shown))
    n_columns, start = max(len(shown) + bool(others), 6), np.zeros(len(shown))
    for part, colour in zip(bars.T, (palette.low[0], palette.high[0], palette.unlabelled), strict=True):
        sizes.bar(columns, part, 0.62, bottom=start, color=colour)
        start += part
    for column, n in enumerate(start.tolist()):
        sizes.text(column, n, f"{int(n):,}", ha="center", va="bottom", size=7.5, color=palette.ink)
    for axes in (sizes, matrix):
        axes.set_xlim(-0.6, n_columns - 0.4)
        axes.set_xticks([])
        axes.set_yticks([])
    sizes.set_ylim(0, start.max() * 1.18)
    rows = np.arange(len(found.modalities))
    matrix.hlines(rows, -0.6, n_columns - 0.4 - bool(others), color=palette.grid, lw=0.8, zorder=0)
    x, y = np.meshgrid(np.arange(len(shown)), rows, indexing="ij")
    matrix.scatter(x[~has], y[~has], s=14, color=palette.unlabelled)
    matrix.scatter(x[has], y[has], s=26, color=palette.ink)
    if others:  # no bar: where patterns are many, it would dwarf the others
        text = f"{len(others):,} others\nn = {sum(pattern.n for pattern in others):,}"
        matrix.text(len(shown), (len(rows) - 1) / 2, text, rotation=90, ha="center", va="center", size=8)
    matrix.set_ylim(len(rows) - 0.4, -0.6)
    matrix.set_xlabel(
        "patterns: bar = patients (blue without the event or lower, orange with it or higher, grey no label)",
        size=8,
        color=palette.faint,
    )


def _halves(strata: tuple[int, ...], n: int) -> list[int]:
    high = sum(count for k, count in enumerate(strata) if is_high(k, len(strata)))
    return [sum(strata) - high, high, n - sum(strata)]


def wilson(present: Floats, n: int) -> tuple[Floats, Floats, Floats]:
    """Returns shares of n and the ends of their 95% intervals (Wilson)."""
    z = 1.96
    share = present / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return share, np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def _short(name: str, longest: int = 20) -> str:
    return name if len(name) <= longest else f"{name[: longest - 3]}..."


def _caption(found: Audit, n_drawn: int) -> str:
    n_patterns = len(found.tasks[0].patterns)
    shown = sum(pattern.n for pattern in found.tasks[0].patterns[:MOST_SHOWN])
    rest = f", the {MOST_SHOWN} largest with {shown / found.n:.0%} of the patients" if n_patterns > MOST_SHOWN else ""
    left_out = f" {len(found.tasks) - n_drawn} more tasks stand in audit.json." if n_drawn < len(found.tasks) else ""
    return (
        f"n = {found.n:,} patients, {len(found.modalities)} modalities, {n_patterns:,} patterns{rest}. "
        "Left: share who have each modality, by outcome stratum from low to high, with 95% intervals (Wilson).\n"
        f"▲ alarm: presence depends on the outcome, p < {ALPHA:g} after Holm's correction for all pairs of task and "
        f"modality, and Cramér's V or the difference of low and high is at least {NEGLIGIBLE:g}.\n"
        f"Missingness that depends on the missing value itself (self-masking) cannot be seen in any data.{left_out}"
    )
