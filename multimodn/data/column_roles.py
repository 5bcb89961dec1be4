"""Which columns of a source are labels, and which sources have several rows a patient."""

from __future__ import annotations

from multimodn.study.study import ColumnSplit, Study


def has_several_rows(study: Study, source: str) -> bool:
    """Says whether a patient may have several rows of a source: everything that reads it has to know what they mean."""
    if any(task.source == source for task in study.tasks):
        return False
    if isinstance(study.split, ColumnSplit) and study.split.source == source:
        return False
    readers = [modality for modality in study.modalities if modality.source == source]
    return all(modality.has_several_rows for modality in readers)


def label_columns(study: Study, source: str) -> dict[str, str]:
    """Returns the columns of a source that are no inputs, and what each of them is."""
    columns: dict[str, str] = {}
    first = study.tasks[0].source
    if study.cohort.group is not None and source == first:
        columns[study.cohort.group] = "the grouping key"
    if isinstance(study.split, ColumnSplit) and source == (study.split.source or first):
        columns[study.split.column] = "the split"
    for task in study.tasks:
        if task.source == source:
            columns |= dict.fromkeys(task.target_columns, f"a target of task '{task.name}'")
    return columns
