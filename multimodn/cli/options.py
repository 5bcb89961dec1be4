"""Arguments and options that several commands share, and where they print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multimodn.cli.terminal.console import plain_console

if TYPE_CHECKING:
    from multimodn.model.multimodn import MultiModN

console, errors = plain_console(), plain_console(stderr=True)

Run = Annotated[Path, typer.Argument(help="A run folder of `multimodn fit`, or a bundle.")]
New = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NEW]...",
        help="Files of new patients, such as new/*.csv: exactly they, and nobody has anything of a source not given. "
        "A file is known by its name or its columns; NAME=PATH says which source it is. Or the study file of another "
        "cohort. Default: the patients of the run's own study.",
    ),
]
Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source", "-s", help="NAME=PATH: a file of new patients; nobody has anything of a source not given."
    ),
]
Patients = Annotated[list[str] | None, typer.Option(help="One of the patients; may be given several times.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="CSV or Parquet file; default: the terminal.")]


def load_model(run: Path) -> MultiModN:
    """Loads the model of a run."""
    from multimodn.model.multimodn import MultiModN

    return MultiModN.load(run)
