"""The figure of an audit: presence of modalities by outcome, and presence patterns, for each task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from multimodn.audit.findings import Audit, TaskAudit, is_high
from multimodn.audit.independence import ALPHA, NEGLIGIBLE
from multimodn.figures.axes import new_figure
from multimodn.figures.cohort import UpSet, draw_upset
from multimodn.figures.forest import Panel, draw_key, draw_rows
from multimodn.figures.picture import Picture
from multimodn.figures.theme import Theme
from multimodn.figures.wording import not_shown, shorten
from multimodn.findings.numbers import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_SHOWN = 12  # patterns that are drawn; the others are counted beside them
MOST_STRATA = 6  # that are drawn one by one; of more, their lower and upper half
WIDTH, HEAD, BARS, AROUND, HIGHEST = 11.5, 0.5, 0.95, 0.7, 250.0  # inches; the last: of all tasks together


def audit_chart(audit: Audit) -> Picture:
    """Draws an audit, two panels for each task; of very many tasks, those with an alarm first."""
    height = HEAD + BARS + AROUND + _row_height(audit) * len(audit.modalities)
    first = sorted(audit.tasks, key=lambda task: not task.alarms)[: max(1, int(HIGHEST / height))]
    tasks = [task for task in audit.tasks if task in first]  # in their own order
    patterns = audit.tasks[0].patterns
    n_shown = sum(pattern.n for pattern in patterns[:MOST_SHOWN])
    share = f", the {MOST_SHOWN} largest with {n_shown / audit.n:.0%} of patients"
    largest = share if len(patterns) > MOST_SHOWN else ""
    alarms = ", ".join(f"{alarm.modality} ({alarm.task})" for alarm in audit.alarms)
    return Picture(
        "audit",
        f"Presence of modalities by outcome: {audit.study}",
        f"n = {counted(audit.n, 'patient')}, {counted(len(audit.modalities), 'modality')}, {len(patterns):,} presence "
        f"patterns{largest}. Left: share of labelled patients with each modality, by outcome, with 95% intervals "
        f"(Wilson). ▲ alarm: presence depends on the outcome (p < {ALPHA:g} after Holm's correction, and Cramér's V "
        f"or difference ≥ {NEGLIGIBLE:g}). Right: patients of each pattern, by outcome; grey: no label. Missingness "
        "that depends on the missing value itself cannot be seen in any "
        f"data.{not_shown(len(audit.tasks) - len(tasks), 'task')}",
        f"Presence depends on the outcome: {alarms}." if alarms else "No modality raises an alarm.",
        lambda theme: _draw(audit, tasks, theme),
        pd.concat([_presence(task)[1] for task in tasks], ignore_index=True),
    )


def _row_height(audit: Audit) -> float:
    """Inches for a modality: more strata, more room."""
    drawn = [n if (n := len(_drawn(task))) <= MOST_STRATA else 2 for task in audit.tasks]
    return 0.16 + 0.045 * max(2, *drawn)


def _drawn(task: TaskAudit) -> list[int]:
    """The strata that some patient has, or all of them: most combinations of labels may never occur."""
    return [k for k, n in enumerate(task.strata) if n] or list(range(len(task.strata)))


def _draw(audit: Audit, tasks: list[TaskAudit], theme: Theme) -> Figure:
    heights = (HEAD, BARS, _row_height(audit) * len(audit.modalities) + AROUND)
    figure = new_figure(sum(heights) * len(tasks), WIDTH)
    grid = figure.add_gridspec(3 * len(tasks), 2, height_ratios=heights * len(tasks), width_ratios=(1, 1.15))
    for k, task in enumerate(tasks):
        head = figure.add_subplot(grid[3 * k, :])
        head.set_axis_off()
        head.text(0, 0.9, task.task, size=11.5, weight="bold", va="top")
        head.text(0, 0.35, _subtitle(task), color=theme.faint, va="top")
        outcomes, presence = _presence(task)
        colours, alarmed = theme.strata(len(outcomes)), {alarm.modality for alarm in task.alarms}
        key = [f"{shorten(name, 20)} (n = {n:,})" for name, n in outcomes.items()]
        draw_key(figure.add_subplot(grid[3 * k + 1, 0]), theme, key, colours=colours, most_columns=2, is_left=True)
        names = [f"{'▲ ' if name in alarmed else ''}{name}" for name in audit.modalities]
        left = figure.add_subplot(grid[3 * k + 2, 0])
        rows = presence.assign(row=presence["modality"].map(dict(zip(audit.modalities, names, strict=True))))
        panel = Panel("", "", rows.rename(columns={"outcome": "mark"}), reference=None)
        draw_rows(left, theme, panel, names, list(outcomes), colours=colours)
        left.set_xlim(-0.03, 1.03)
        left.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0%", "25%", "50%", "75%", "100%"])
        left.set_xlabel("share of labelled patients with the modality")
        for label, name in zip(left.get_yticklabels(), audit.modalities, strict=True):
            if name in alarmed:
                label.set(color=theme.high, fontweight="bold")
        bars, dots = figure.add_subplot(grid[3 * k + 1, 1]), figure.add_subplot(grid[3 * k + 2, 1])
        draw_upset(bars, dots, _upset(audit, task), theme, (theme.low, theme.high, theme.band))
    return figure


def _subtitle(task: TaskAudit) -> str:
    auroc, number = task.auroc, ""
    if auroc.value is not None:
        number = f"AUROC {auroc.value:.2f}, 95% interval {auroc.low:.2f} to {auroc.high:.2f}"
    if auroc.note:
        number = f"{'AUROC .50' if number else 'not estimated'} ({auroc.note})"
    return f"{task.labelled:,} of {task.n:,} patients labelled; presence alone: {number}"


def _presence(task: TaskAudit) -> tuple[dict[str, int], pd.DataFrame]:
    """Returns the outcomes to be drawn, with their numbers of patients, and a row for each modality and outcome."""
    from scipy.stats import binomtest

    strata = [[k] for k in _drawn(task)]
    names: list[str] = [task.outcomes[k] for [k] in strata]
    if len(strata) > MOST_STRATA:
        strata = [[k for [k] in strata if is_high(k, len(task.strata)) == half] for half in (False, True)]
        names = list(task.halves)
    sizes = [sum(task.strata[k] for k in stratum) for stratum in strata]
    rows: list[tuple[Any, ...]] = []
    for one in task.modalities:
        for name, stratum, n in zip(names, strata, sizes, strict=True):
            present = sum(one.present[k] for k in stratum)
            ends = binomtest(present, n).proportion_ci(0.95, method="wilson") if n else (np.nan, np.nan)
            rows.append((task.task, one.modality, name, present, n, present / n if n else np.nan, *ends))
    columns = ["task", "modality", "outcome", "present", "n", "value", "low", "high"]
    return dict(zip(names, sizes, strict=True)), pd.DataFrame(rows, columns=columns)


def _upset(audit: Audit, task: TaskAudit) -> UpSet:
    shown, others = task.patterns[:MOST_SHOWN], task.patterns[MOST_SHOWN:]
    counts = []
    for pattern in shown:
        high = sum(n for k, n in enumerate(pattern.strata) if is_high(k, len(pattern.strata)))
        counts.append((sum(pattern.strata) - high, high, pattern.n - sum(pattern.strata)))
    has = np.array([[name in pattern.modalities for name in audit.modalities] for pattern in shown])
    return UpSet(audit.modalities, has, np.array(counts), len(others), sum(pattern.n for pattern in others))
