"""Tables for people, on the terminal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from multimodn.files import replacing

BAR = 20  # characters of the longest bar


def show_scores(console: Console, scores: pd.DataFrame, title: str) -> None:
    """Prints scores, one task a line, with 95 % intervals where there are any."""
    table = Table(title=title, title_justify="left")
    for column in ("task", "n", "scores (95% interval)" if "low" in scores else "scores"):
        table.add_column(column)
    for task, part in scores.groupby("task", sort=False):
        texts = []
        for row in part.to_dict("records"):
            has_interval = not np.isnan(row.get("low", np.nan))
            ends = f" ({row['low']:.3f} to {row['high']:.3f})" if has_interval else ""
            texts.append(f"{row['metric']} {row['value']:.3f}{ends}")
        table.add_row(Text(str(task)), str(part["n"].iloc[0]), ", ".join(texts))
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
    """Prints which absent modality to measure first; ``rows`` of `MultiModN.next` are of one patient and task."""
    if rows.empty:
        console.print(f"Patient {patient} lacks no modality that could help.", highlight=False)
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
    what = "mean over tasks" if task == "all" else "0.05 nats: the true outcome becomes 5% more likely, on average"
    console.print(f"Gain: expected decrease of the loss ({what}).", style="dim", highlight=False)
