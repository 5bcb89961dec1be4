"""Tables for people, on the terminal."""

from __future__ import annotations

import pandas as pd
from rich.console import Console
from rich.table import Table

from multimodn.terminal_explain import show_patient

__all__ = ["show_patient", "show_scores"]


def show_scores(console: Console, scores: pd.DataFrame, title: str) -> None:
    """Prints scores, one task a line."""
    table = Table(title=title, title_justify="left")
    for column in ("task", "n", "scores"):
        table.add_column(column)
    for task, part in scores.groupby("task", sort=False):
        line = ", ".join(f"{row.metric} {row.value:.3f}" for row in part.itertuples())
        table.add_row(str(task), str(part["n"].iloc[0]), line)
    console.print(table)
