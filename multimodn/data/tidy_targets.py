"""Target columns in one spelling, as the kinds of the tasks write them."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from multimodn.base.kinds import load_kind
from multimodn.data.checks import Note
from multimodn.errors import DataError, raise_all
from multimodn.study.study import Study


def tidy_targets(study: Study, targets: Mapping[str, pd.DataFrame], notes: list[Note]) -> dict[str, pd.DataFrame]:
    """Returns the target columns of each task in one spelling; adds to ``notes`` what was decided or is in doubt."""
    tidy, problems = {}, []
    for task in study.tasks:
        if task.name in targets:
            try:
                tidy[task.name], found = load_kind("tasks", task.kind).tidied(targets[task.name], task.options)
            except DataError as error:
                problems.append(f"task '{task.name}', {error}")
                continue
            notes += [Note(f"task '{task.name}', {text}") for text in found]
    raise_all(problems, DataError, "The labels cannot be used")
    return tidy
