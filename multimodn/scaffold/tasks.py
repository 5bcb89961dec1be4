"""Lines of a study file about its tasks; a time and an event together become survival."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from multimodn.data.follow_up import ENDPOINTS, is_time, words_of
from multimodn.data.label_texts import as_text
from multimodn.errors import DataError, raise_all, shown
from multimodn.scaffold.columns import EVENT
from multimodn.scaffold.infer_task import Inferred, infer_task
from multimodn.scaffold.times import FOLLOW_UP, times_of, unit_of
from multimodn.scaffold.yaml_lines import comment, listed, scalar, valid_name


def tasks(frames: dict[str, pd.DataFrame], homes: dict[str, str]) -> tuple[list[str], str]:
    """Returns the lines of all tasks, and the name of the first, by whose labels patients are spread evenly.

    Args:
        frames: The tables.
        homes: For each target its table.

    Raises:
        DataError: If no task fits a target.
    """
    problems, inferred = [], dict[str, Inferred]()
    for target, home in homes.items():
        try:
            inferred[target] = infer_task(frames[home][target])
        except DataError as error:
            problems.append(str(error))
    raise_all(problems, DataError, "The targets cannot be used")
    times = {target: home for target, home in homes.items() if is_time(target, frames[home][target])}
    pairs = _pairs(frames, homes, inferred, list(times))
    used = {time for some in pairs.values() for time in some}
    lines, names = list[str](), list[str]()
    for target, home in homes.items():
        if target in used:
            continue
        names.append(valid_name(target, names))
        if target in pairs:
            lines += _survival(names[-1], target, home, inferred[target], pairs[target])
        else:
            lines += _task(names[-1], target, home, inferred[target], frames[home], is_a_time=target in times)
    return lines, names[0]


def _pairs(
    frames: dict[str, pd.DataFrame], homes: dict[str, str], inferred: dict[str, Inferred], times: Sequence[str]
) -> dict[str, list[str]]:
    """Returns for each target that is an event of two values its times, also targets of the same table."""
    pairs = dict[str, list[str]]()
    for target in sorted(homes, key=lambda event: -max((_shared(event, time) for time in times), default=0)):
        if inferred[target].kind != "binary" or target in times:
            continue
        taken = {time for some in pairs.values() for time in some}
        here = [time for time in times if homes[time] == homes[target] and time not in taken]
        same = [time for time in here if _shared(target, time)]
        if same or here:
            frame = frames[homes[target]]
            others = [str(column) for column in frame.columns if column not in homes and FOLLOW_UP.search(str(column))]
            ends = [column for column in others if is_time(column, frame[column])]
            pairs[target] = times_of(target, _happened(frame[target], inferred[target]), frame, same or here, ends)
    return pairs


def _shared(event: str, time: str) -> int:
    general = {"status", "event", "time", "day", "days", "month", "months", "year", "years", "to", "vital"}
    return len((set(words_of(event)) & set(words_of(time))) - general)


def _happened(values: pd.Series[Any], inferred: Inferred) -> pd.Series[Any]:
    """Returns whether a label is the positive one, None where there is none."""
    positive = as_text(inferred.options["positive"]).casefold()
    return values.map(lambda label: None if pd.isna(label) else as_text(label).casefold() == positive).astype(object)


def _survival(name: str, event: str, home: str, inferred: Inferred, times: Sequence[str]) -> list[str]:
    unit, why = unit_of(times), f"a time and an event, {inferred.reason}"
    return [
        f"  - name: {scalar(name)}",
        f"    kind: survival   # inferred: {comment(why)}",
        f"    source: {scalar(home)}",
        f"    time: {_times(times)}",
        f"    unit: {unit}   # inferred from the names"
        if unit
        else "    # unit: days   # of the times; weeks, months, years",
        "    # horizons: [1y, 3y]   # predict survival at these times; they need the unit",
        f"    event: {scalar(event)}",
        f"    event_positive: {scalar(inferred.options['positive'])}   # inferred; check",
        *[f"    # {comment(note)}" for note in inferred.notes],
    ]


def _task(name: str, target: str, home: str, inferred: Inferred, frame: pd.DataFrame, *, is_a_time: bool) -> list[str]:
    why = comment(f"inferred: {inferred.reason}; alternatives: {inferred.alternatives}")
    lines = [f"  - name: {scalar(name)}", f"    kind: {inferred.kind}   # {why}", f"    source: {scalar(home)}"]
    lines.append(f"    target: {scalar(target)}")
    for key, value in inferred.options.items():
        lines.append(f"    {key}: {listed(value) if isinstance(value, list) else scalar(value)}   # inferred; check")
    lines += [f"    # {comment(note)}" for note in inferred.notes]
    if is_a_time and inferred.kind == "regression":
        lines.append("    # this looks like a time until an event or the end of observation (censored): name the")
        lines.append("    # column that says which as a second target, and it becomes survival")
    times = [str(column) for column in frame.columns if column != target and is_time(str(column), frame[column])]
    if inferred.kind == "binary" and times and (EVENT.search(target) or ENDPOINTS & set(words_of(target))):
        chosen = times_of(target, _happened(frame[target], inferred), frame, times)
        unit = unit_of(chosen)
        keys = f"kind: survival, time: {_times(chosen)}, event: {scalar(target)}, event_positive: "
        keys += scalar(inferred.options["positive"]) + (f", unit: {unit}" if unit else "")
        listing = f"; times here: {comment(shown(times))}"
        lines.append(f"    # with a time this may be survival: {{{comment(keys)}}}{listing}")
    return lines


def _times(times: Sequence[str]) -> str:
    return scalar(times[0]) if len(times) == 1 else listed(times)
