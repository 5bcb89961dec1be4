"""The command `multimodn next`; nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from multimodn.cli.options import Out, Patients, Run, Sources, console, load_model

if TYPE_CHECKING:
    from multimodn.data.cohort import Cohort
    from multimodn.model.multimodn import MultiModN

FEW = 5  # patients who are shown one by one; of more there is a table


def next_modality(
    run: Run,
    patients: Annotated[
        Path | None, typer.Argument(help="A table of new patients, instead of the source whose columns it has.")
    ] = None,
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
    cohort = _cohort(model, patients, source)
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


def _cohort(model: MultiModN, table: Path | None, source: list[str] | None) -> Cohort:
    """Loads the patients; those of a table alone have nothing of the other sources."""
    from multimodn.data.cohort import Cohort
    from multimodn.data.sources import replaced_sources

    replaced: dict[str, Path | None] = dict(replaced_sources(source) or {})
    if table is not None:
        inputs = list(dict.fromkeys(spec.source for spec in model.study.modalities))
        own = _source_of(model, table, [name for name in inputs if name not in replaced])
        replaced = dict.fromkeys(inputs) | replaced | {own: table}
    return Cohort.load(model.study, labelled=False, sources=replaced or None)


def _source_of(model: MultiModN, table: Path, sources: list[str]) -> str:
    """Returns the only source all of whose columns that the model reads stand in a table."""
    from multimodn.base.encoder import Encoder
    from multimodn.data.sources import read_source
    from multimodn.errors import StudyError
    from multimodn.study.study import SourceSpec

    columns = set(read_source(SourceSpec(path=str(table)), Path(), model.study.cohort.patient).columns)
    encoders = model.trained.ensemble.first.encoders
    lacking = {  # sources, of whose columns the model reads some that the table lacks
        spec.source
        for step, spec in model.study.steps.items()
        if spec.source in sources and not columns.issuperset(cast(Encoder, encoders[step]).columns)
    }
    fitting = [name for name in sources if name not in lacking]
    if len(fitting) != 1:
        which = "several sources" if fitting else "no source"
        text = f"{table} has the columns of {which} of the study ({', '.join(fitting or sources)})."
        raise StudyError(f"{text} Say which it is: --source NAME={table}.")
    return fitting[0]
