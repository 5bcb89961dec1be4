"""New patients: the cohort of some files alone, whatever the study's own sources hold."""

from __future__ import annotations

from collections.abc import Mapping

from multimodn.data.cohort import Cohort
from multimodn.data.sources import Given
from multimodn.errors import StudyError, did_you_mean, raise_all
from multimodn.study.study import ColumnSplit, RandomSplit, Study


def new_cohort(study: Study, given: Mapping[str, Given], *, labelled: bool = False) -> Cohort:
    """Reads exactly the patients of the sources given; nobody has anything of the others.

    Identifiers of another hospital may be those of patients of the study, so its own files are not looked at.

    Args:
        study: Names the sources, modalities and tasks.
        given: For some sources a path, a source or a DataFrame, as for `Cohort.load`.
        labelled: Whether to read targets and groups too; the sources of all tasks must then be given.

    Raises:
        StudyError: If a source is unknown, or one with targets is not given.
        DataError: Listing every problem found in all sources.
    """
    problems = [
        f"unknown source '{name}'.{did_you_mean(name, study.cohort.sources)}"
        for name in given
        if name not in study.cohort.sources
    ]
    if labelled:
        targets = {task.source: task.name for task in study.tasks}
        problems += [
            f"the targets of task '{task}' are in source '{source}', of which no file is given: add {source}=PATH."
            for source, task in targets.items()
            if given.get(source) is None
        ]
    raise_all(problems, StudyError, "The files of new patients do not fit the study")
    if isinstance(study.split, ColumnSplit):
        study = study.model_copy(update={"split": RandomSplit()})  # new patients are in no part of it
    return Cohort.load(study, labelled=labelled, sources=dict.fromkeys(study.cohort.sources) | dict(given))
