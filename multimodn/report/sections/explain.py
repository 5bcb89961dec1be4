"""What the predictions of a report's model rest on: steps, contributions, interactions, order, value."""

from __future__ import annotations

import pandas as pd

from multimodn.figures.acquisition import next_chart
from multimodn.figures.contributions import beeswarm, importance
from multimodn.figures.interactions import interaction_map
from multimodn.figures.orders import order_spread, synergy_chart
from multimodn.figures.trajectory import trajectory_fan
from multimodn.figures.value import value_chart
from multimodn.figures.wording import slug
from multimodn.findings import sentences
from multimodn.findings.numbers import FEWEST, counted
from multimodn.report.content import ReportContent
from multimodn.report.html.page import Block, Prose, Section, Subsection
from multimodn.report.sections.words import MOST_TASKS, drawn, left_out

MOST_POINTS = 24_000  # points of all swarms of a page
MOST_MODALITIES = 20
STEPS = (
    "Modalities are read one after another, and every task predicts after each of them. The first prediction, before "
    "any modality, is the prior, the same for everyone. A patient's line stays level where a modality is absent."
)
TOGETHER = (
    "An interaction is the effect of two modalities together beyond the sum of their own effects. Synergy is the share "
    "of interactions in all effects; 0% means that the effects of modalities add up. Order sensitivity is how much a "
    "prediction depends on the order in which modalities are read; the lower, the better."
)
VALUE = (
    "The value of a modality is how much better the score is with it than without it, among patients who have it, "
    "weighted to represent all patients. It is about the score, not about single patients: a modality that repeats "
    "what others contain can have little value although it contributes much."
)
NEXT = (
    "The modalities that a patient lacks are ranked by the expected drop in the loss of a task if they were measured; "
    "this was learned from patients whom the members had not seen. 'all' is the mean over tasks, each as a share of "
    "its loss without any modality."
)


def steps_section(content: ReportContent) -> Section:
    """Draws a fan for each task."""
    frame, title = content.get("trajectory"), "Predictions step by step"
    if frame is None:
        return Section("steps", title, [Prose(content.why_not("trajectory"), "absent")])
    tasks = [str(task) for task in frame["task"].unique()]
    drawings = [drawn(trajectory_fan, frame, task) for task in tasks[:MOST_TASKS]]
    return Section("steps", title, [Prose(STEPS), *drawings, *left_out(tasks)])


def contributions_section(content: ReportContent) -> Section:
    """Draws for each task a swarm, and the mean sizes by class and by site."""
    title, shares, summary = "Contributions of modalities", content.get("contributions"), content.get("summary")
    if shares is None or summary is None:
        return Section("contributions", title, [Prose(content.why_not("contributions"), "absent")])
    tasks = [str(task) for task in shares["task"].unique()]
    blocks: list[Block] = [Prose(f"{sentences.CONTRIBUTIONS} {sentences.NOT_CAUSAL}")]
    if content.n_explained < content.n_shown:
        of = f"{content.n_explained:,} of {content.n_shown:,} {content.who}"
        blocks.append(Prose(f"Contributions of {of}, drawn at random."))
    if shares["standard_error"].gt(0).any():
        error = float(shares["standard_error"].median())
        size = "0.001" if error < 1e-3 else f"{error:.2g}"
        text = f"With {counted(len(content.modalities), 'modality')} orders were sampled"
        blocks.append(Prose(f"{text}: half of the contributions have a standard error of at most {size}."))
    points = _thinned(shares, len(tasks[:MOST_TASKS]), len(content.modalities))
    for task in tasks[:MOST_TASKS]:
        drawings = [drawn(beeswarm, points, task, summary=summary, most=MOST_MODALITIES)]
        grouped = [_enough(content.get(answer), task) for answer in ("by_class", "by_group")]
        drawings += [drawn(importance, groups, task, most=MOST_MODALITIES) for groups in grouped if groups is not None]
        blocks.append(Subsection(slug("contributions", task), task, drawings))
    return Section("contributions", title, [*blocks, *left_out(tasks)])


def _enough(groups: pd.DataFrame | None, task: str) -> pd.DataFrame | None:
    """Returns the rows of a task in which several groups have enough patients, None if there are not several."""
    if groups is None:
        return None
    sizes = groups[groups["task"] == task].groupby("group")["n"].max()
    large = sizes.index[sizes >= FEWEST]
    kept = groups[(groups["task"] == task) & groups["group"].isin(large) & (groups["n"] >= FEWEST)]
    return kept if len(large) > 1 else None


def _thinned(shares: pd.DataFrame, n_tasks: int, n_modalities: int) -> pd.DataFrame:
    """Leaves patients out so that all swarms together have no more than `MOST_POINTS`."""
    patients = shares.index.unique()
    most = max(30, MOST_POINTS // (n_tasks * min(n_modalities, MOST_MODALITIES)))
    if len(patients) <= most:
        return shares
    step = len(patients) / most
    return shares[shares.index.isin(patients[[int(k * step) for k in range(most)]])]


def together_section(content: ReportContent) -> Section:
    """Draws synergy, interaction maps, and sensitivity to order."""
    blocks: list[Block] = [Prose(TOGETHER)]
    pairs, synergy, orders = content.get("interactions"), content.get("synergy"), content.get("orders")
    if pairs is None or synergy is None:
        blocks.append(Prose(content.why_not("interactions"), "absent"))
    else:
        tasks = [str(task) for task in pairs["task"].unique()]
        n = pairs.index.nunique()
        if n < content.n_shown:
            blocks.append(Prose(f"Interactions were computed for {n:,} of {content.n_shown:,} {content.who}."))
        blocks.append(drawn(synergy_chart, synergy))
        blocks += [drawn(interaction_map, pairs, task, synergy=synergy) for task in tasks[:MOST_TASKS]]
        blocks += left_out(tasks)
    absent = Prose(content.why_not("orders"), "absent")
    blocks.append(absent if orders is None else drawn(order_spread, orders))
    return Section("together", "Interactions and order", blocks)


def value_section(content: ReportContent) -> Section:
    """Draws the value of each modality, and what to measure next."""
    value, following = content.get("value"), content.get("next")
    blocks: list[Block] = [Prose(VALUE)]
    if value is None:
        blocks.append(Prose(content.why_not("value"), "absent"))
    else:
        main = {task.name: task.metric for task in content.tasks}
        rows = value[[main.get(task) == metric for task, metric in zip(value["task"], value["metric"], strict=True)]]
        blocks.append(drawn(value_chart, rows if len(rows) else value))
    if following is None:
        blocks.append(Prose(content.why_not("next"), "absent"))
    else:
        names = [task.name for task in content.tasks]
        shown = names[:MOST_TASKS] if len(names) == 1 else ["all", *names[:MOST_TASKS]]
        shown = [task for task in shown if (following["task"] == task).any()]
        drawings = [drawn(next_chart, following, task) for task in shown]
        blocks.append(Subsection("next", "What to measure next", [Prose(NEXT), *drawings, *left_out(names)]))
    return Section("value", "Value of each modality", blocks)
