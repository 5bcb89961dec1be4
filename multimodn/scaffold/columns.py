"""Lines of a study file about the columns of a table: which are inputs, and which may follow the outcome."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from multimodn.data.follow_up import is_time, is_time_name
from multimodn.data.leaks import telling_columns
from multimodn.errors import shown
from multimodn.scaffold.infer_task import FEW
from multimodn.scaffold.yaml_lines import comment, listed, scalar

EVENT = re.compile(r"(status|event|death|died|dead|recurrence|progression)", re.IGNORECASE)


def column_lines(frame: pd.DataFrame, targets: Sequence[str], labels: Sequence[pd.Series[Any]] = ()) -> list[str]:
    """Returns the ``columns`` of a table's modality, with comments on each of them.

    Args:
        frame: The table.
        targets: Its columns that are targets.
        labels: All targets; columns that (nearly) tell one are left out.
    """
    telling = dict[str, str]()
    for label in labels:
        telling |= telling_columns(frame.drop(columns=[*targets]), label)
    inputs = [str(column) for column in frame.columns if column not in targets and column not in telling]
    times = [name for name in inputs if is_time(name, frame[name], alone=bool(targets))]
    inputs = [name for name in inputs if name not in times]
    numbers = [name for name in inputs if pd.api.types.is_numeric_dtype(frame[name].dtype)]
    identifiers = _identifiers(frame, [name for name in inputs if name not in set(numbers)])
    texts = [name for name in inputs if name not in {*numbers, *identifiers}]
    lines = ["    columns: all"]
    if targets or identifiers or times or telling:
        lines = ["    # no inputs: targets, and columns that follow the outcome, which you must add"]
        lines.append(f"    columns: {{all_but: {listed([*targets, *telling, *times, *identifiers])}}}")
    lines.append(f"    # numeric ({len(numbers)}): {comment(shown(numbers))}")
    if telling:
        said = shown([f"{name} ({how})" for name, how in telling.items()])
        lines.append(f"    # left out, as they nearly tell a target by themselves: {comment(said)}")
    if times:
        lines.append(f"    # left out, as times until an outcome or the end of observation: {comment(shown(times))}")
    if identifiers:
        lines.append(f"    # left out, as nearly every patient has another text: {comment(shown(identifiers))}")
    if texts:
        lines.append(f"    # categorical ({len(texts)}): {comment(shown(texts))}")
    suspects = [name for name in inputs if EVENT.search(name) or is_time(name, frame[name])]
    if suspects:
        lines.append(f"    # known before the outcome? if not, add to all_but: {comment(shown(suspects))}")
    return lines


def left_out_table(name: str, frame: pd.DataFrame, targets: Sequence[str]) -> list[str]:
    """Returns the comment on a table of targets, which is no modality unless the reader of the file makes it one."""
    others = [str(column) for column in frame.columns if column not in targets]
    if not others:
        return [f"  # source {comment(name)} holds targets only"]
    lines = [
        f"  # source {comment(name)} holds targets; its other columns are no inputs, as they may follow the outcome:"
    ]
    lines.append(f"  # {comment(shown(others, 20))}")
    times = [column for column in others if is_time(column, frame[column])]
    texts = [column for column in others if not pd.api.types.is_numeric_dtype(frame[column].dtype)]
    left_out = {*times, *_identifiers(frame, texts)}
    known = [c for c in others if c not in left_out and not EVENT.search(c) and not is_time_name(c)]
    if known:
        lines.append("  # Columns that are known before the outcome may be inputs; remove the others from this list:")
        keys = f"name: {scalar(name)}, kind: table, source: {scalar(name)}, columns: {listed(known)}"
        lines.append(f"  # - {{{comment(keys)}}}")
    return lines


def _identifiers(frame: pd.DataFrame, texts: Sequence[str]) -> list[str]:
    """Returns the columns in which nearly every patient has another text."""
    cells = {name: frame[name].dropna() for name in texts}
    return [name for name in texts if len(cells[name]) > FEW and cells[name].nunique() > 0.9 * len(cells[name])]
