"""One patient's predictions and what they rest on, on the terminal, as in the HTML report."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.text import Text

from multimodn.cli.terminal.bars import BarLine, say, show_lines
from multimodn.cli.terminal.patient_outputs import PatientOutput, columns_of, headline, most_telling
from multimodn.errors import DataWarning
from multimodn.explain.contributions import MAX_MODALITIES
from multimodn.figures.wording import shorten
from multimodn.findings.numbers import counted

if TYPE_CHECKING:
    from multimodn.base.task import Task
    from multimodn.data.cohort import Cohort
    from multimodn.model.multimodn import MultiModN

MOST_FEATURES, MOST_NEXT = 8, 3
LEGEND = (
    "Prediction after each step, in the order of reading. Contributions are Shapley values on the link scale "
    "({scales}): a bar to the right (+) raises the prediction, a bar to the left (\u2212) lowers it; they add up to "
    "prediction minus prior."
)
PRIVACY = "Training patients: rare outcomes may identify them. Show this only to those who may see the data."


@dataclass(frozen=True)
class Story:
    """All that is told of a patient; frames as the methods of `MultiModN` return them, of this patient alone."""

    patient: str
    has: list[str]  # modalities, in the order of reading
    lacks: list[str]  # those that the patient lacks
    tasks: dict[str, Task]
    hidden: dict[str, list[str]]  # for each task the modalities that the patient has and the task must not see
    link: dict[str, list[float]]  # the predictions on the link scale, for each task ``(L,)``
    final: pd.DataFrame  # `MultiModN.predict`
    steps: pd.DataFrame  # `MultiModN.trajectory`
    deltas: pd.DataFrame  # `MultiModN.deltas`
    shares: pd.DataFrame  # `MultiModN.contributions`
    orders: pd.DataFrame  # `MultiModN.order_sensitivity`
    pairs: pd.DataFrame | None = None  # `MultiModN.interactions`; None = there are too many modalities
    following: pd.DataFrame | None = None  # `MultiModN.next`; None = not fitted
    inside: pd.DataFrame | None = None  # `MultiModN.attributions` of one modality; None = not asked for
    similar: pd.DataFrame | None = None  # `MultiModN.similar`; None = not asked for

    def columns(self, task: str) -> list[PatientOutput]:
        """Gathers what is told of each link-scale column of a task."""
        pairs = self.shares[:0] if self.pairs is None else self.pairs
        frames = (self.final, self.steps, self.deltas, self.shares, self.orders, pairs)
        rows = [frame[frame["task"] == task] for frame in frames]
        return columns_of(self.tasks[task], self.link[task], self.has, *rows)


def show_patient(
    console: Console,
    model: MultiModN,
    cohort: Cohort,
    order: Sequence[str] | None = None,
    inside: str | None = None,
    similar: int = 0,
    ids: bool = False,
    all_classes: bool = False,
) -> None:
    """Prints what is predicted of one patient, step by step, and why.

    Args:
        console: Where to print.
        model: A trained model.
        cohort: One patient.
        order: Modality names in the order of the steps; default: the study's.
        inside: A modality of which the columns, words or places that count most are shown.
        similar: How many of the most similar training patients are shown.
        ids: Whether these are named.
        all_classes: Whether every class, split or label of a task is shown, instead of the one or two that tell most.

    Raises:
        StudyError: If a modality is unknown, or ``inside`` has no parts to attribute to.
    """
    show_story(console, tell(model, cohort, order, inside, similar, ids), all_classes=all_classes)


def tell(
    model: MultiModN,
    cohort: Cohort,
    order: Sequence[str] | None = None,
    inside: str | None = None,
    similar: int = 0,
    ids: bool = False,
) -> Story:
    """Asks a model for all that `show_patient` prints; see there."""
    patients, fitted = model.prepare(cohort), model.trained.ensemble
    names = model.order if order is None else model.study.expanded(order)
    names = [*names, *(name for name in model.order if name not in names)]
    numbers = {name: m for m, name in enumerate(fitted.first.modalities)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # of who has nothing; the first line says so
        final = model.predict(patients)
    has = [name for name in names if patients.presence[0, numbers[name]]]
    seen = fitted.first.seen
    return Story(
        str(patients.patients[0]),
        has,
        [name for name in names if name not in has],
        fitted.tasks,
        {task: [name for name in has if not seen[t, numbers[name]]] for t, task in enumerate(fitted.tasks)},
        {name: value[0].double().tolist() for name, value in model.link(patients).items()},
        final,
        model.trajectory(patients, order=order),
        model.explain.deltas(patients, order=order),
        model.contributions(patients),
        model.explain.order_sensitivity(patients),
        model.explain.interactions(patients) if len(names) <= MAX_MODALITIES else None,
        model.explain.next(patients) if model.trained.acquisition is not None else None,
        None if inside is None else model.explain.attributions(inside, cohort),
        model.explain.similar(patients, similar, ids=ids) if similar else None,
    )


def show_story(console: Console, story: Story, *, all_classes: bool = False) -> None:
    """Prints a story; see `show_patient`."""
    console.rule(Text(f"Patient {story.patient}"))
    has = f"{', '.join(story.has)} and lacks" if story.has else "nothing, every prediction is the prior; lacks"
    lacks = ", ".join(story.lacks) or "nothing"
    say(console, f"Patient {story.patient} has {has} {lacks}.", 0)
    if story.has:
        scales = dict.fromkeys(task.link_scale for task in story.tasks.values())
        say(console, LEGEND.format(scales=", ".join(scales)), 0, "dim")
    if story.inside is not None and story.inside.empty:
        say(console, "The patient lacks the modality of --inside.", 0)
    for name in story.tasks:
        console.print()
        _show_task(console, story, name, all_classes)
    if story.similar is not None:
        console.print()
        _show_similar(console, story.similar)


def _show_task(console: Console, story: Story, name: str, all_classes: bool) -> None:
    task, columns = story.tasks[name], story.columns(name)
    chosen = columns if all_classes else most_telling(columns)
    of_task = [frame[frame["task"] == name] for frame in (story.final, story.steps)]
    say(console, headline(task, columns, *of_task), 0, "bold")
    if story.hidden[name]:
        say(console, f"Hidden from this task: {', '.join(story.hidden[name])}.", style="dim")
    largest = max((abs(size) for one in chosen for size, _ in one.shares.values()), default=0.0)
    for k, column in enumerate(chosen):
        if not column.shares:
            continue
        if k:
            console.print()
        say(console, f"{column.quantity}: {column.numbers()}. {column.moved()}" if len(columns) > 1 else column.moved())
        heads = (column.head, f"contribution, {task.link_scale}")
        show_lines(console, heads, column.lines(), largest, is_bar=column.is_share)
        for note in column.notes():
            say(console, note)
        _show_inside(console, story, name, column)
    left_out = len(columns) - len(chosen)
    if left_out and story.has:
        say(console, f"{left_out} of {len(columns)} not shown; --all-classes shows them.", style="dim")
    if story.following is not None:
        _show_next(console, story.following[story.following["task"] == name])


def _show_inside(console: Console, story: Story, task: str, column: PatientOutput) -> None:
    """Prints the features of one modality that move an output most, each with the sum of its attributions."""
    inside = story.inside
    rows = None if inside is None else inside[(inside["task"] == task) & (inside["output"] == column.output)]
    if rows is None or rows.empty:
        return
    named = rows.assign(feature=rows["feature"].astype(str))
    sums = named.groupby("feature", sort=False)["attribution"].sum().astype(float)
    values, times = named.drop_duplicates("feature").set_index("feature")["value"], named["feature"].value_counts()
    kept = sums.abs().sort_values(ascending=False, kind="stable").index[:MOST_FEATURES]
    shown = [_value(values[name], str(name), int(times[name])) for name in kept]
    lines = [BarLine(str(name), text, size=float(sums[name])) for name, text in zip(kept, shown, strict=True)]
    modality = str(rows["modality"].iloc[0])
    among = f", the {len(kept)} largest of {len(sums):,}" if len(kept) < len(sums) else ""
    say(console, f"Inside {modality}{among}:")
    largest = max(abs(line.size or 0.0) for line in lines)
    show_lines(console, ("value", f"attribution, {column.scale}"), lines, largest)


def _value(value: object, feature: str, times: int) -> str:
    """Writes what a patient has there; nothing where the feature, such as a word, is its own value."""
    if times > 1:
        return f"{times} times"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return "" if text == feature else "empty" if text in {"nan", "None"} else shorten(text, 16)


def _show_next(console: Console, rows: pd.DataFrame) -> None:
    """Says which absent modality is expected to help most."""
    if not len(rows):
        return
    rows = rows.sort_values("rank", kind="stable")
    has_costs = rows["cost"].nunique() > 1
    first = rows.head(MOST_NEXT).itertuples()
    words = [f"{row.modality} ({row.gain:.3f} nats{f', cost {row.cost:g}' if has_costs else ''})" for row in first]
    more = f", and {len(rows) - MOST_NEXT} more" if len(rows) > MOST_NEXT else ""
    by = f"expected decrease of the loss{' per cost' if has_costs else ''}"
    say(console, f"Measure next, by {by}: {', then '.join(words)}{more}.")


def _show_similar(console: Console, found: pd.DataFrame) -> None:
    """Lists training patients, the most similar first, with what happened to them."""
    say(console, f"Most similar of the training patients, {counted(len(found), 'patient')}:", 0, "bold")
    outcomes = [str(name) for name in found.columns if str(name).startswith("outcome_")]
    for row in found.to_dict("records"):
        known = [f"{name.removeprefix('outcome_')}: {row[name]}" for name in outcomes if row[name] not in ("", None)]
        who = f" {row['similar']}," if "similar" in found else ""
        shared = f"{row['shared']} of its {counted(int(row['n_modalities']), 'modality')} shared"
        what = "; ".join(known) or "no outcome known"
        say(console, f"{row['rank']}.{who} distance {row['distance']:.2f}, {shared}. {what}.")
    say(console, PRIVACY, style="dim")
