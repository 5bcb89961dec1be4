"""The command `multimodn report`; nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from multimodn.cli.options import Run, Sources, console, errors, load_model
from multimodn.cli.terminal.console import working


def report(
    run: Run,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The HTML file; default: report.html in the run folder.")
    ] = None,
    source: Sources = None,
    everyone: Annotated[bool, typer.Option("--all", help="All patients, those trained on too.")] = False,
    patient: Annotated[
        list[str] | None,
        typer.Option(help="A patient to show, by name; may be given several times. Default: a few chosen by a rule."),
    ] = None,
    slides: Annotated[Path | None, typer.Option(help="Folder with the slides, to draw the model's attention.")] = None,
    patients_by_name: Annotated[
        bool, typer.Option("--patients-by-name", help="Write identifiers of patients into the report.")
    ] = False,
    baselines: Annotated[
        bool, typer.Option(help="Train simple models to compare with, unless the run folder has the comparison.")
    ] = True,
    task_gains: Annotated[
        bool,
        typer.Option("--task-gains", help="Train a model of each task alone, to see what it gains from the others."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of whatever is drawn at random.")] = 0,
) -> None:
    """Write what a model predicts, how well and why, as one HTML file; default: about the test patients."""
    from multimodn.data.sources import replaced_sources
    from multimodn.report.content import Wishes
    from multimodn.report.write import write_report

    wishes = Wishes(
        replaced_sources(source) or {}, everyone, tuple(patient or ()), slides, patients_by_name,
        arms=None if baselines else (), task_gains=task_gains, seed=seed,
    )  # fmt: skip
    problems: list[str] = []
    with working(errors, "Reading the model ...") as show:
        model = load_model(run)
        title = f"Report on {model.study.name}"
        written = write_report(
            model, run, out, wishes,
            on_step=lambda name: show(f"{title}: {name} ..."), on_problem=problems.append,
        )  # fmt: skip
    for problem in problems:
        errors.print(Text.assemble(("Left out:", "yellow"), " ", problem))
    figures = f"{written.n_figures} figures to {written.folder}"
    console.print(f"Wrote {written.file} ({written.n_bytes / 1e6:.1f} MB) and {figures}.", soft_wrap=True)
    if written.documents:
        names = ", ".join(file.name for file in written.documents)
        console.print(f"Wrote the comparison with simple models into {names}.", soft_wrap=True)
