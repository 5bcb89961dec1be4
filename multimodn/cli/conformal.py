"""The command `multimodn conformal`; nothing heavy is imported before it runs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from multimodn.data.splits import Split

console = Console()


def conformal(
    run: Annotated[Path, typer.Argument(help="A run folder that `multimodn fit` wrote, or a bundle.")],
    source: Annotated[
        list[str] | None,
        typer.Option("--source", "-s", help="NAME=PATH: read this source of the study from another file."),
    ] = None,
    patient: Annotated[list[str] | None, typer.Option(help="One of the patients; may be given several times.")] = None,
    level: Annotated[float, typer.Option(help="The promised chance that the truth is in the set.")] = 0.9,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Count how often the sets of labelled patients held the truth instead.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="CSV or Parquet file; default: the terminal.")] = None,
) -> None:
    """Predict sets that hold the truth with a promised probability, or count how often they did."""
    from multimodn.cli.terminal.tables import write_frame
    from multimodn.data.cohort import Cohort
    from multimodn.data.sources import replaced_sources
    from multimodn.evaluate.performance.conformal_coverage import coverage as counted
    from multimodn.model.multimodn import MultiModN

    model = MultiModN.load(run)
    if source is None and coverage and model.split is not None and len(model.split.test):
        _check_tested(patient, list(model.split.test))
        cohort = model.test_cohort()
    else:
        cohort = Cohort.load(model.study, labelled=coverage, sources=replaced_sources(source))
    cohort = cohort.subset(patient) if patient else cohort
    if coverage and source is not None:
        _warn_of_trained(cohort.patients, model.split)
    found = counted(model, cohort, level) if coverage else model.conformal.predict(cohort, level=level)
    if coverage and out is None:
        _show(found, level)
        return
    write_frame(console, found, out)


def _check_tested(wanted: list[str] | None, tested: Sequence[str]) -> None:
    from multimodn.errors import DataError, shown

    others = [name for name in wanted or [] if name not in tested]
    if others:
        raise DataError(
            f"--coverage looks at the test patients alone, and {shown(others)} is none of them. Leave out --coverage "
            "to see the sets of any patient."
        )


def _warn_of_trained(patients: pd.Index, split: Split | None) -> None:
    from multimodn.errors import DataWarning

    known = [] if split is None else [*split.train, *split.validation]
    n = int(patients.isin(known).sum())
    if n:
        text = (
            f"{n} patient(s) have identifiers of patients whom the sets were calibrated on or the model was trained on"
        )
        warnings.warn(f"{text}: if they are these, coverage is too good.", DataWarning, stacklevel=2)


def _show(found: pd.DataFrame, level: float) -> None:
    table = Table(title=f"How often sets at {level:.0%} held the truth", title_justify="left")
    for column in ("task", "pattern", "n", "coverage", "95 % interval", "size", "tells nothing", "method"):
        table.add_column(column, justify="right" if column in ("n", "coverage", "size", "tells nothing") else "left")
    for row in found.to_dict("records"):
        task = f"{row['task']}: {row['output']}" if row["output"] else row["task"]
        share = f"{row['coverage']:.3f}" if row["reached"] else f"[red]{row['coverage']:.3f}[/]"
        texts = (f"{row['low']:.3f} to {row['high']:.3f}", f"{row['size']:.3g}", f"{row['abstained']:.0%}")
        table.add_row(task, row["pattern"], str(row["n"]), share, *texts, row["method"])
    console.print(table)
    how = "Red: the interval lies below the level. Promised only while modalities go missing as in calibration."
    console.print(how, style="dim", highlight=False)
