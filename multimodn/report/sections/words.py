"""What several sections of a report share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec

import pandas as pd

from multimodn.errors import DataError
from multimodn.figures.picture import Picture
from multimodn.report.html.page import Block, Drawing, Prose
from multimodn.report.html.tables import MOST_ROWS

P = ParamSpec("P")

MOST_TASKS = 10  # tasks that have figures of their own in a section


def few_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Keeps of each task the first rows of a table, the same number of all, so that a page can hold them."""
    most = max(MOST_ROWS // max(frame["task"].nunique(), 1), 1)
    return frame.groupby("task", sort=False).head(most).head(MOST_ROWS)


def more_rows(every: pd.DataFrame, shown: pd.DataFrame) -> list[Block]:
    """Says how many rows `few_rows` left out."""
    more = len(every) - len(shown)
    return [Prose(f"{more:,} more rows are not shown: the first of each task are.", "absent")] if more else []


def drawn(make: Callable[P, Picture], *args: P.args, **options: P.kwargs) -> Block:
    """Makes a figure, or says why there is nothing to draw."""
    try:
        return Drawing(make(*args, **options))
    except DataError as error:
        return Prose(str(error).partition(". ")[0].rstrip(".") + ".", "absent")


def left_out(names: Sequence[str], most: int = MOST_TASKS) -> list[Block]:
    """Says which tasks have no figures of their own."""
    if len(names) <= most:
        return []
    return [Prose(f"Figures are drawn for the first {most} of {len(names)} tasks, in the study's order.", "absent")]
