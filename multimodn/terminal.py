"""Tables for people, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from multimodn.data.cohort import Cohort
    from multimodn.estimator import MultiModN

BAR = 8
"""Characters for the largest contribution of a table."""


def show_scores(console: Console, scores: pd.DataFrame, title: str) -> None:
    """Prints scores, one task a line."""
    table = Table(title=title, title_justify="left")
    for column in ("task", "n", "scores"):
        table.add_column(column)
    for task, part in scores.groupby("task", sort=False):
        line = ", ".join(f"{row.metric} {row.value:.3f}" for row in part.itertuples())
        table.add_row(str(task), str(part["n"].iloc[0]), line)
    console.print(table)


def show_patient(console: Console, model: MultiModN, cohort: Cohort, order: Sequence[str] | None = None) -> None:
    """Prints one patient's trajectory and contributions.

    Args:
        console: Where to print.
        model: A trained model.
        cohort: One patient.
        order: Modality names in the order of the steps; default: the study's.
    """
    patients = model.prepare(cohort)
    name = patients.patients[0]
    presence = cohort.presence.iloc[0]
    has = ", ".join(presence.index[presence]) or "nothing: every prediction is the prior"
    console.rule(f"Patient {name} has {has}")
    _show_trajectory(console, model.trajectory(patients, order=order))
    _show_contributions(console, model.contributions(patients))


def _show_trajectory(console: Console, steps: pd.DataFrame) -> None:
    taken = steps.groupby("step", sort=True)["modality"].first()
    table = Table(title="Prediction after each step", title_justify="left")
    table.add_column("task")
    table.add_column("output")
    for step, modality in taken.items():
        table.add_column(f"+ {modality}" if step else "prior", justify="right")
    for (task, output), part in steps.groupby(["task", "output"], sort=False):
        values = part.sort_values("step")["value"]
        table.add_row(str(task), str(output), *(f"{value:.3f}" for value in values))
    console.print(table)


def _show_contributions(console: Console, shares: pd.DataFrame) -> None:
    if shares.empty:
        return
    table = Table(
        title="What each modality contributed (Shapley values on the link scale: log-odds, units, log-risk)",
        title_justify="left",
    )
    for column in ("task", "output", "modality", ""):
        table.add_column(column)
    table.add_column("value", justify="right")
    for (task, output), part in shares.groupby(["task", "output"], sort=False):
        largest = part["contribution"].abs().max() or 1.0
        first = part.iloc[0]
        table.add_row(str(task), str(output), "[dim]prior[/]", "", f"[dim]{first['prior']:+.3f}[/]")
        for modality, share, error in zip(part["modality"], part["contribution"], part["standard_error"], strict=True):
            table.add_row("", "", modality, _bar(share / largest), _signed(share, error))
        table.add_row("", "", "[bold]prediction[/]", "", f"[bold]{first['prediction']:+.3f}[/]", end_section=True)
    console.print(table)


def _signed(share: float, error: float) -> str:
    return f"{share:+.3f} ± {error:.3f}" if error else f"{share:+.3f}"


def _bar(share: float) -> str:
    """A bar to the left or right of a middle line; the sign is also in the number, not in a colour alone."""
    length = round(abs(share) * BAR)
    left = "█" * length if share < 0 else ""
    right = "█" * length if share > 0 else ""
    return f"[magenta]{left:>{BAR}}[/]│[cyan]{right:<{BAR}}[/]"
