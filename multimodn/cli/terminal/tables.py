"""Tables for people, on the terminal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from multimodn.cli.terminal.patient import show_patient
from multimodn.files import replacing

__all__ = ["show_next", "show_patient", "show_scores", "write_frame"]

BAR = 20
"""Characters of the longest bar."""


def show_scores(console: Console, scores: pd.DataFrame, title: str) -> None:
    """Prints scores, one task a line."""
    table = Table(title=title, title_justify="left")
    for column in ("task", "n", "scores"):
        table.add_column(column)
    for task, part in scores.groupby("task", sort=False):
        line = ", ".join(f"{row.metric} {row.value:.3f}" for row in part.itertuples())
        table.add_row(str(task), str(part["n"].iloc[0]), line)
    console.print(table)


def write_frame(console: Console, frame: pd.DataFrame, out: Path | None) -> None:
    """Writes a table to a CSV or Parquet file, or as CSV to the terminal."""
    if out is None:
        console.print(frame.to_csv(), end="", markup=False, highlight=False, soft_wrap=True)
        return
    with replacing(out) as temporary:
        if out.suffix == ".parquet":
            frame.to_parquet(temporary)
        else:
            frame.to_csv(temporary)
    console.print(f"Wrote {len(frame)} rows to {out}.")


def show_next(console: Console, patient: str, rows: pd.DataFrame, task: str) -> None:
    """Prints which absent modality to measure first.

    Args:
        console: Where to print.
        patient: Whose.
        rows: Of `MultiModN.next`, of one patient and task.
        task: Its name, or ``all``.
    """
    if rows.empty:
        console.print(f"Patient {patient} lacks nothing that could help.", highlight=False)
        return
    table = Table(title=f"Patient {patient}: what to measure next, for {task}", title_justify="left")
    unit = "share of the loss without any data" if task == "all" else "nats of loss"
    for column in ("rank", "modality", "", f"expected gain, {unit}", "cost"):
        table.add_column(column, justify="right" if column in ("rank", "cost") else "left")
    ranked = rows.sort_values("rank").to_dict("records")
    largest = max(row["gain"] / row["cost"] for row in ranked) or 1.0
    for row in ranked:
        length = "█" * round(BAR * row["gain"] / row["cost"] / largest)
        table.add_row(str(row["rank"]), str(row["modality"]), length, f"{row['gain']:.4f}", f"{row['cost']:g}")
    console.print(table)
    what = "mean over tasks" if task == "all" else "0.05 nats: what is true becomes 5% more likely, on average"
    console.print(f"Gain: by how much the loss is expected to fall ({what}).", style="dim", highlight=False)
