"""The command `multimodn drift`; nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multimodn.cli.new_patients import STUDIES, chosen_cohort
from multimodn.cli.options import New, Sources, console, errors, load_model

if TYPE_CHECKING:
    from multimodn.findings.frames import DriftFrame

MOST_ROWS, BAR = 15, 12
FULL = 1.0  # the PSI, or difference of shares, that fills a bar


def drift(
    run: Annotated[Path, typer.Argument(help="A run folder that `multimodn fit` wrote.")],
    new: New = None,
    source: Sources = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="CSV or Parquet file with all comparisons.")] = None,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit with status 0 even where something drifted.")
    ] = False,
) -> None:
    """Compare new patients with those that a model was trained on; exit status 1 where something drifted."""
    from multimodn.cli.terminal.tables import write_frame
    from multimodn.errors import StudyError
    from multimodn.monitor.drift import drift as compare
    from multimodn.monitor.drift import has_drifted
    from multimodn.monitor.reference import Reference

    model = load_model(run)
    reference = Reference.load(run)
    if not new and not source:
        raise StudyError(f"Name the files of new patients: multimodn drift {run} new/*.csv.")
    is_study = any(text.endswith(STUDIES) for text in new or [])  # its outcomes are compared too
    cohort = chosen_cohort(model, new, source, labelled=is_study)
    with errors.status("Comparing patients ..."):
        found = compare(model, reference, cohort)
    _show(found, model.study.name)
    if out:
        write_frame(console, found, out)
    if has_drifted(found) and not exit_zero:
        raise typer.Exit(1)


def _show(found: DriftFrame, name: str) -> None:
    """Prints what drifted, then what to watch, and a summary."""
    from rich.table import Table
    from rich.text import Text

    from multimodn.findings.numbers import p_value
    from multimodn.monitor.drift import trust

    changed = found[found["verdict"] != "stable"]
    changed = changed.sort_values(["verdict", "p_adjusted", "p_value"], kind="stable")
    table = Table(title=f"Drift: {found.n_patients} patients, model {name}", title_justify="left")
    for column in ("what", "", "size", "p", "verdict", "in words"):
        table.add_column(column, justify="right" if column in ("size", "p") else "left")
    for row in changed.head(MOST_ROWS).to_dict("records"):
        style = "red" if row["verdict"] == "drifted" else "yellow"
        bar = "█" * max(1, round(BAR * min(abs(row["value"]) / FULL, 1)))
        about = ".".join(part for part in (row["modality"], row["column"]) if part and part != row["kind"])
        what = f"{row['kind']}: {about}" if about else str(row["kind"])
        size = f"{row['value']:+.2f}" if row["statistic"] == "difference" else f"{row['value']:.2f}"
        words = (Text(row["verdict"], style), Text(str(row["note"])))
        table.add_row(Text(what), Text(bar, style), size, p_value(row["p_adjusted"]), *words)
    if len(changed):
        console.print(table)
    if len(changed) > MOST_ROWS:
        console.print(f"{len(changed) - MOST_ROWS} more: --out writes all.", style="dim")
    console.print(trust(found), markup=False, highlight=False)
    size = "Size: population stability index beyond chance (.1 to watch, .25 large), or difference in shares."
    console.print(f"{size} p: adjusted.", style="dim", highlight=False)
