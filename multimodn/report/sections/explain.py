"""What moves the predictions of a report's model: steps, contributions, interactions, order, value."""

from __future__ import annotations

import pandas as pd

from multimodn.figures.acquisition import next_chart
from multimodn.figures.contributions import beeswarm, importance
from multimodn.figures.interactions import interaction_map
from multimodn.figures.orders import order_spread, synergy_chart
from multimodn.figures.trajectory import trajectory_fan
from multimodn.figures.value import value_chart
from multimodn.figures.wording import slug
from multimodn.findings.numbers import counted
from multimodn.report.findings import Findings
from multimodn.report.html.page import Block, Part, Prose, Section
from multimodn.report.sections.words import MOST_TASKS, drawn, left_out

FEWEST = 5
"""Patients of a class or site below whom their mean contributions are not drawn."""
MOST_POINTS = 24_000
"""Points of all swarms of a page."""
MOST_MODALITIES = 20
STEPS = (
    "Modalities are read one after another, and every task predicts after each of them. The first prediction, before "
    "any modality, is the same for everybody: the prior. A patient's line stays level where the modality is absent."
)
CONTRIBUTIONS = (
    "A contribution says how far having read a modality moved a patient's prediction away from the prior, up or down. "
    "It is a Shapley value: the change that the modality makes, averaged over all orders in which the patient's "
    "modalities could be read. The contributions of a patient add up to prediction minus prior, on the link scale: "
    "log-odds for classes, the target's units for numbers, log-risk for survival. They tell what the model uses, not "
    "what causes an outcome."
)
TOGETHER = (
    "An interaction is what two modalities move only together, beyond what each moves by itself. Synergy sums that up: "
    "0% says that every modality speaks for itself. Order sensitivity asks whether it matters which modality is read "
    "first; the less, the better."
)
VALUE = (
    "The value of a modality is how much better predictions are with it than without it, among patients who have it, "
    "weighted so that they stand for all. It is about the score, not about single patients, and a modality whose "
    "content is also in others can have little value though it is used much."
)
NEXT = (
    "For each patient the modalities that are absent are ranked by how far the loss of a task is expected to fall if "
    "they were read; a part of the model learned that from patients whom its members had not seen. Under all, the mean "
    "over the tasks counts, each as a share of its loss without any modality."
)


def steps_section(found: Findings) -> Section:
    """Draws a fan for each task."""
    frame = found.get("trajectory")
    if frame is None:
        return Section("steps", "Step by step", [Prose(found.why_not("trajectory"), "absent")])
    tasks = [str(task) for task in frame["task"].unique()]
    drawings = [drawn(trajectory_fan, frame, task) for task in tasks[:MOST_TASKS]]
    return Section("steps", "Step by step", [Prose(STEPS), *drawings, *left_out(tasks)])


def contributions_section(found: Findings) -> Section:
    """Draws for each task a swarm, and the mean sizes by class and by site."""
    title, shares, summary = "Contributions of modalities", found.get("contributions"), found.get("summary")
    if shares is None or summary is None:
        return Section("contributions", title, [Prose(found.why_not("contributions"), "absent")])
    tasks = [str(task) for task in shares["task"].unique()]
    blocks: list[Block] = [Prose(CONTRIBUTIONS)]
    if found.n_explained < found.n_shown:
        text = f"Contributions of {found.n_explained:,} of {found.n_shown:,} {found.who}, drawn at random."
        blocks.append(Prose(text))
    if shares["standard_error"].gt(0).any():
        error = float(shares["standard_error"].median())
        size = "0.001" if error < 1e-3 else f"{error:.2g}"
        text = f"With {counted(len(found.modalities), 'modality')} the orders were sampled, not all tried"
        blocks.append(Prose(f"{text}: half of the contributions have a standard error of at most {size}."))
    points = _thinned(shares, len(tasks[:MOST_TASKS]), len(found.modalities))
    for task in tasks[:MOST_TASKS]:
        drawings = [drawn(beeswarm, points, task, summary=summary, most=MOST_MODALITIES)]
        grouped = [_enough(found.get(answer), task) for answer in ("by_class", "by_group")]
        drawings += [drawn(importance, groups, task, most=MOST_MODALITIES) for groups in grouped if groups is not None]
        blocks.append(Part(slug("contributions", task), task, drawings))
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
    kept = patients[[int(k * step) for k in range(most)]]
    return shares[shares.index.isin(kept)]


def together_section(found: Findings) -> Section:
    """Draws synergy, interaction maps, and sensitivity to order."""
    blocks: list[Block] = [Prose(TOGETHER)]
    pairs, synergy, orders = found.get("interactions"), found.get("synergy"), found.get("orders")
    if pairs is None or synergy is None:
        blocks.append(Prose(found.why_not("interactions"), "absent"))
    else:
        tasks = [str(task) for task in pairs["task"].unique()]
        n = pairs.index.nunique()
        if n < found.n_shown:
            blocks.append(Prose(f"Interactions were computed for {n:,} of {found.n_shown:,} {found.who}."))
        blocks.append(drawn(synergy_chart, synergy))
        blocks += [drawn(interaction_map, pairs, task, synergy=synergy) for task in tasks[:MOST_TASKS]]
        blocks += left_out(tasks)
    if orders is None:
        blocks.append(Prose(found.why_not("orders"), "absent"))
    else:
        blocks.append(drawn(order_spread, orders))
    return Section("together", "Together, and in which order", blocks)


def value_section(found: Findings) -> Section:
    """Draws the value of each modality, and what to measure next."""
    value, following = found.get("value"), found.get("next")
    blocks: list[Block] = [Prose(VALUE)]
    if value is None:
        blocks.append(Prose(found.why_not("value"), "absent"))
    else:
        main = {task.name: task.metric for task in found.tasks}
        rows = value[[main.get(task) == metric for task, metric in zip(value["task"], value["metric"], strict=True)]]
        blocks.append(drawn(value_chart, rows if len(rows) else value))
    if following is None:
        blocks.append(Prose(found.why_not("next"), "absent"))
    else:
        names = [task.name for task in found.tasks]
        shown = names[:MOST_TASKS] if len(names) == 1 else ["all", *names[:MOST_TASKS]]
        shown = [task for task in shown if (following["task"] == task).any()]
        drawings = [drawn(next_chart, following, task) for task in shown]
        blocks.append(Part("next", "What to measure next", [Prose(NEXT), *drawings, *left_out(names)]))
    return Section("value", "Value of each modality", blocks)
