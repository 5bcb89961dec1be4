"""The command `multimodn next`; nothing heavy is imported before it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from multimodn.cli.new_patients import chosen_cohort
from multimodn.cli.options import New, Out, Patients, Run, Sources, console, load_model

FEW = 5  # patients who are shown one by one; of more there is a table


def next_modality(
    run: Run,
    new: New = None,
    source: Sources = None,
    patient: Patients = None,
    task: Annotated[str, typer.Option(help="For which task; all: the mean over tasks.")] = "all",
    cost: Annotated[list[str] | None, typer.Option(help="NAME=NUMBER: what measuring a modality costs.")] = None,
    out: Out = None,
) -> None:
    """Say which absent modality is expected to help each patient most."""
    from multimodn.cli.terminal.tables import show_next, write_frame
    from multimodn.errors import StudyError, did_you_mean

    model = load_model(run)
    cohort = chosen_cohort(model, new, source)
    cohort = cohort.subset(patient) if patient else cohort
    found = model.explain.next(cohort, costs=_costs(cost))
    tasks = ["all", *(spec.name for spec in model.study.tasks)]
    if task not in tasks:
        raise StudyError(f"Unknown task '{task}'.{did_you_mean(task, tasks)}")
    of_task = found[found["task"] == task]
    if out is not None or len(cohort) > FEW:
        write_frame(console, found if task == "all" else of_task, out)
        return
    for one in cohort.patients:
        show_next(console, str(one), of_task[of_task.index == one], task)


def _costs(given: list[str] | None) -> dict[str, float]:
    from multimodn.errors import StudyError

    costs = {}
    for pair in given or []:
        name, _, number = pair.partition("=")
        try:
            costs[name] = float(number)
        except ValueError:
            raise StudyError(f"--cost {pair}: expected NAME=NUMBER.") from None
    return costs
