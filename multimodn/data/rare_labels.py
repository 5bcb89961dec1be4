"""Labels that too few patients have for every part of a split."""

from __future__ import annotations

import pandas as pd

from multimodn.data.cohort import Cohort
from multimodn.data.splits import PARTS, Split
from multimodn.errors import DataError, raise_all


def check_rare_labels(cohort: Cohort, split: Split, learned_from: pd.Index) -> None:
    """Refuses a split that leaves one of two labels out of training.

    Args:
        cohort: Its targets, in one spelling.
        split: The parts.
        learned_from: The patients whose labels are learned from: those of training, or of training and validation.

    Raises:
        DataError: With the counts of the rarer label in each part.
    """
    problems = []
    for task, table in cohort.targets.items():
        for column in table.columns:
            labels = table[column]
            counts = labels.value_counts()
            if len(counts) != 2 or labels.reindex(learned_from).nunique() == 2:
                continue
            rare = counts.idxmin()
            parts = {part: labels.reindex(getattr(split, part)).dropna() for part in PARTS}
            listed = ", ".join(f"{part} {int((own == rare).sum())} of {len(own)}" for part, own in parts.items())
            problems.append(
                f"task '{task}', column '{column}': {int(counts.min())} of {int(counts.sum())} labelled patients have "
                f"'{rare}': {listed}. Nothing can be learned without it: add patients, use `validation: 0` and `test: "
                f"0` to keep these for training, or leave the task out."
            )
    raise_all(problems, DataError, "The split leaves a label out of training")
