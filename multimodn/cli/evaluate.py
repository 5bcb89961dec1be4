"""The command `multimodn evaluate`; nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    import pandas as pd

    from multimodn.external.result import External
    from multimodn.model.multimodn import MultiModN

console = Console()
errors = Console(stderr=True)


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder that `multimodn fit` wrote, or a bundle.")],
    other: Annotated[
        Path | None,
        typer.Argument(help="The study file of another hospital: external validation, nothing is trained."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", "-s", help="NAME=PATH: read this source of the study from another file."),
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="All patients, as of another cohort.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="CSV or Parquet file; of an external validation the folder to write."),
    ] = None,
    allow_overlap: Annotated[
        bool,
        typer.Option("--allow-overlap", help="Patients of the other study may have identifiers of training patients."),
    ] = False,
) -> None:
    """Score the test patients of the run's split, all patients of other sources, or those of another hospital."""
    from multimodn.model.multimodn import MultiModN

    model = MultiModN.load(run)
    if other is not None:
        _external(model, run, other, source, out, allow_overlap=allow_overlap)
        return
    _internal(model, source, out, everyone=everyone)


def _internal(model: MultiModN, source: list[str] | None, out: Path | None, *, everyone: bool) -> None:
    from multimodn.cli.terminal.tables import write_frame
    from multimodn.data.cohort import Cohort
    from multimodn.data.sources import replaced_sources
    from multimodn.external.tables import with_intervals

    cohort = Cohort.load(model.study, labelled=True, sources=replaced_sources(source))
    if model.split is not None and not everyone and not source:
        cohort = cohort.subset(model.split.test)
    patients = model.prepare(cohort, labelled=True)
    scores = with_intervals(model, patients, model.evaluate(patients))
    _show(scores, f"{len(cohort)} patients of {model.study.name}")
    if out:
        write_frame(console, scores, out)


def _external(
    model: MultiModN, run: Path, other: Path, source: list[str] | None, out: Path | None, *, allow_overlap: bool
) -> None:
    from multimodn.errors import StudyError
    from multimodn.external.validate import evaluate_external
    from multimodn.external.write import write_external
    from multimodn.monitor.reference import FILE, Reference
    from multimodn.study.study import Study

    if source:
        raise StudyError("--source replaces sources of the run's own study; the other study names its own.")
    study = Study.load(other)
    folder = out or (run if run.is_dir() else run.parent) / "external" / other.stem
    reference = Reference.load(run) if (run / FILE).is_file() else None
    with errors.status("External validation ...") as status:
        found = evaluate_external(
            model,
            study,
            reference=reference,
            allow_overlap=allow_overlap,
            on_step=lambda step: status.update(f"External validation: {step} ..."),
        )
        files = write_external(found, folder)
    _show_external(found)
    console.print(f"Wrote {', '.join(file.name for file in files)} to {folder}.", highlight=False, soft_wrap=True)


def _show(scores: pd.DataFrame, title: str) -> None:
    """Prints scores, one task a line, with intervals where there are any."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for column in ("task", "n", "scores (95 %)"):
        table.add_column(column)
    for task, part in scores.groupby("task", sort=False):
        texts = []
        for row in part.to_dict("records"):
            interval = f" ({row['low']:.3f} to {row['high']:.3f})" if row["low"] == row["low"] else ""
            texts.append(f"{row['metric']} {row['value']:.3f}{interval}")
        table.add_row(Text(str(task)), str(part["n"].iloc[0]), ", ".join(texts))
    console.print(table)


def _show_external(found: External) -> None:
    from multimodn.evaluate.performance.performance import RAISED
    from multimodn.monitor.drift import trust

    overall = found.performance[found.performance["by"] == "overall"]
    main = found.performance.main_metric
    shown = overall[[row["metric"] == main[row["task"]] for row in overall.to_dict("records")]]
    _show(shown[~shown["metric"].isin(RAISED)], f"{found.flow['n'].iloc[0]} patients of {found.name}")
    compared = found.comparison
    for row in compared[[r["metric"] == main[r["task"]] for r in compared.to_dict("records")]].to_dict("records"):
        interval = f" ({row['low']:+.3f} to {row['high']:+.3f})" if row["low"] == row["low"] else ""
        text = f"{row['task']}, {row['metric']}: {row['external']:.3f} here, {row['internal']:.3f} in the internal test"
        console.print(f"{text}, difference {row['difference']:+.3f}{interval}.", markup=False, highlight=False)
    for note in found.notes:
        console.print(f"Note: {note}", markup=False, highlight=False)
    if found.drift is not None:
        console.print(f"Drift: {trust(found.drift)}", markup=False, highlight=False)
