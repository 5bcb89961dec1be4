"""Arguments and options that several commands share, and where they print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from multimodn.data.cohort import Cohort
    from multimodn.model.multimodn import MultiModN

console = Console()
errors = Console(stderr=True)

Run = Annotated[Path, typer.Argument(help="A run folder of `multimodn fit`, or a bundle.")]
Sources = Annotated[
    list[str] | None, typer.Option("--source", "-s", help="NAME=PATH: read this source of the study from another file.")
]
Patients = Annotated[list[str] | None, typer.Option(help="One of the patients; may be given several times.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="CSV or Parquet file; default: the terminal.")]


def load_model(run: Path) -> MultiModN:
    """Loads the model of a run."""
    from multimodn.model.multimodn import MultiModN

    return MultiModN.load(run)


def load_cohort(model: MultiModN, source: list[str] | None, *, labelled: bool = False) -> Cohort:
    """Loads the patients of the study's sources, some of them replaced."""
    from multimodn.data.cohort import Cohort
    from multimodn.data.sources import replaced_sources

    return Cohort.load(model.study, labelled=labelled, sources=replaced_sources(source))
